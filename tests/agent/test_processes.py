"""Who is behind a process id, and what of it leaves the machine."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpumon.agent.processes import UNKNOWN, ProcessTable, always, holds_a_gpu, merge, short_command
from gpumon.model import MAX_PROCESSES, Process

SECRET = "hunter2"


@pytest.mark.parametrize(
    ("line", "short"),
    [
        (["/usr/bin/python3.11", "-u", "/home/me/train.py", "--key", SECRET], "python3.11 train.py"),
        (["python", "-m", "torch.distributed.run", f"--token={SECRET}"], "python -m torch.distributed.run"),
        (["python", "-W", "ignore", "-X", "dev", "train.py", SECRET], "python train.py"),
        (["python", "-c", f"login('{SECRET}')"], "python -c"),
        (["python", "/usr/local/bin/torchrun", "--nproc", "8", "train.py"], "python torchrun"),
        (["/bin/bash", "-lc", f"TOKEN={SECRET} python train.py"], "bash -c"),
        (["-bash"], "-bash"),
        (["perl", "-pe", SECRET], "perl -e"),
        (["node", f"--eval={SECRET}"], "node"),
        (["node", "--eval", SECRET], "node -e"),
        (["python"], "python"),
        (["/opt/ollama/bin/ollama", "serve", f"--key={SECRET}"], "ollama"),
        (["shotwell", SECRET], "shotwell"),
        ([f"python train.py --key /x/{SECRET}"], "kernelname"),
        (["ray::train hunter2"], "kernelname"),
        ([], None),
        ([""], None),
    ],
)
def test_of_a_command_only_program_and_script_are_told(line: list[str], short: str | None) -> None:
    assert short_command(line, "kernelname x") == short


@given(st.lists(st.text(), max_size=6), st.text())
def test_no_command_line_is_too_odd(line: list[str], name: str) -> None:
    short = short_command(line, name)
    assert short is None or isinstance(short, str)


@given(st.sampled_from(["python", "bash", "node", "prog"]), st.lists(st.sampled_from(["-u", "-lc", "--x", "a.py"])))
def test_nothing_behind_the_script_is_ever_told(program: str, options: list[str]) -> None:
    short = short_command([program, *options, "script.py", SECRET], program)
    assert short is not None
    assert SECRET not in short


@pytest.fixture
def sleeper(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    script = tmp_path / "train.py"
    script.write_text("import sys; print(flush=True); sys.stdin.read()")
    with subprocess.Popen(
        [sys.executable, str(script), "--key", SECRET], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()  # it is itself now, and no longer a copy of us
        yield process
        process.kill()


def test_a_living_process_is_described(sleeper: subprocess.Popen[bytes]) -> None:
    known = ProcessTable(always).describe(sleeper.pid, time.time())
    assert known.command == f"{Path(sys.executable).name} train.py"
    assert known.user == psutil.Process().username()
    assert known.name is not None
    assert known.name.startswith("python")
    assert known.started_at is not None
    assert known.started_at.endswith("Z")


def test_a_process_is_looked_up_once(sleeper: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    table = ProcessTable(always)
    known = table.describe(sleeper.pid, time.time())
    monkeypatch.setattr(psutil.Process, "cmdline", lambda _: pytest.fail("asked again"))
    assert table.describe(sleeper.pid, time.time()) is known


def test_a_process_that_has_gone_has_no_name(sleeper: subprocess.Popen[bytes]) -> None:
    table = ProcessTable(always)
    assert table.describe(sleeper.pid, time.time()).name is not None
    sleeper.kill()
    sleeper.wait()
    assert table.describe(sleeper.pid, time.time()) == UNKNOWN


def test_a_zombie_costs_nothing(sleeper: subprocess.Popen[bytes]) -> None:
    sleeper.kill()
    os.waitid(os.P_PID, sleeper.pid, os.WEXITED | os.WNOWAIT)  # dead, and not yet taken note of
    known = ProcessTable(always).describe(sleeper.pid, time.time())
    assert known.command is None


def test_a_process_that_began_after_the_driver_listed_its_id_is_another_one(sleeper: subprocess.Popen[bytes]) -> None:
    assert ProcessTable(always).describe(sleeper.pid, time.time() - 60) == UNKNOWN


def test_a_process_id_that_was_given_away_is_looked_up_anew(
    sleeper: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    table = ProcessTable(always)
    first = table.describe(sleeper.pid, time.time())
    monkeypatch.setattr(psutil.Process, "is_running", lambda _: False)
    assert table.describe(sleeper.pid, time.time()) == UNKNOWN
    monkeypatch.undo()
    assert table.describe(sleeper.pid, time.time()) == first


@pytest.mark.parametrize("error", [psutil.AccessDenied(1), psutil.NoSuchProcess(1), OSError(5, "?"), ValueError("?")])
def test_what_may_not_be_looked_at_stays_null(
    sleeper: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def refuse(_: psutil.Process) -> list[str]:
        raise error

    monkeypatch.setattr(psutil.Process, "cmdline", refuse)
    known = ProcessTable(always).describe(sleeper.pid, time.time())
    assert known.command is None
    assert known.user is not None


def test_in_a_container_an_id_that_holds_no_gpu_is_not_believed(sleeper: subprocess.Popen[bytes]) -> None:
    assert not holds_a_gpu(sleeper.pid)
    assert not holds_a_gpu(2**22)
    assert ProcessTable(holds_a_gpu).describe(sleeper.pid, time.time()) == UNKNOWN


def test_processes_that_are_no_longer_on_a_gpu_are_forgotten(sleeper: subprocess.Popen[bytes]) -> None:
    table = ProcessTable(always)
    known = table.describe(sleeper.pid, time.time())
    table.keep([sleeper.pid])
    assert table.describe(sleeper.pid, time.time()) is known
    table.keep([])
    assert table.describe(sleeper.pid, time.time()) is not known


def test_the_list_is_bounded_and_keeps_the_largest() -> None:
    merged = merge({"compute": [(pid, pid) for pid in range(1, 2000)]}, None)
    assert len(merged) == MAX_PROCESSES
    assert merged[0] == Process(pid=1999, type="compute", memory_used_bytes=1999)


entries = st.lists(st.tuples(st.integers(1, 20), st.none() | st.integers(0, 2**64 - 1)))


@given(entries, entries, st.none() | st.integers(1, 2**40))
def test_each_process_is_listed_once_with_a_figure_that_can_be(
    compute: list[tuple[int, int | None]], graphics: list[tuple[int, int | None]], total: int | None
) -> None:
    merged = merge({"compute": compute, "graphics": graphics}, total)
    assert sorted(one.pid for one in merged) == sorted({pid for pid, _ in compute + graphics})
    for one in merged:
        both = one.pid in dict(compute) and one.pid in dict(graphics)
        assert (one.type == "compute+graphics") == both
        assert one.memory_used_bytes is None or one.memory_used_bytes <= (2**53 if total is None else total * 1.05)
