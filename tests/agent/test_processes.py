"""Who is behind a process id: real processes, and a /proc of our own for what real ones do not do on request."""

import os
import pwd
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpumon import timestamp
from gpumon.agent import processes
from gpumon.agent.cgroup import Place, place
from gpumon.agent.processes import (
    UNKNOWN,
    Description,
    ProcessTable,
    always,
    holds_a_gpu,
    job_of,
    merge,
    sees_every_process,
    utilization,
)
from gpumon.model import MAX_PROCESSES, Process

SECRET = "hunter2"
ROOT = Path(__file__).parents[2]
WAITS = "import sys; print(flush=True); sys.stdin.read()"
# Writes over its arguments and its name, as setproctitle does.
RENAMES = (
    "import ctypes, sys; libc = ctypes.CDLL(None); print(flush=True); sys.stdin.readline();"
    "libc.prctl(15, b'ray::train \\xff', 0, 0, 0); print(flush=True); sys.stdin.read()"
)


@contextmanager
def running(*line: str | bytes, program: str | None = None, **env: str) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(
        line,
        executable=program,
        env=env or None,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        # Without it Python 3.13 starts programs by posix_spawn, which refuses an empty name.
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


@contextmanager
def cat(*line: str | bytes, **env: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process that is called as we like, and is itself by now: it has answered."""
    with running(*line, program="/bin/cat", **env) as process:
        say(process)
        hear(process)
        yield process


@pytest.fixture
def sleeper(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    script = tmp_path / "train.py"
    script.write_text(WAITS)
    with running(sys.executable, str(script), "--key", SECRET) as process:
        hear(process)
        yield process


def hear(process: subprocess.Popen[bytes]) -> None:
    assert process.stdout is not None
    process.stdout.readline()


def say(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin is not None
    process.stdin.write(b"\n")
    process.stdin.flush()


def described(pid: int) -> Description:
    return ProcessTable(always).describe(pid, time.time())


# ---- real processes ----


def test_a_living_process_is_described(sleeper: subprocess.Popen[bytes]) -> None:
    known, real = described(sleeper.pid), psutil.Process(sleeper.pid)
    assert known.command == f"{Path(sys.executable).name} train.py"
    assert (known.name, known.user) == (real.name(), real.username())
    assert known.started_at is not None
    assert abs(timestamp.seconds(known.started_at) - real.create_time()) < 2


def test_a_process_is_looked_up_once(sleeper: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    table = ProcessTable(always)
    known = table.describe(sleeper.pid, time.time())
    monkeypatch.setattr(ProcessTable, "_describe", lambda *_: pytest.fail("asked again"))
    assert table.describe(sleeper.pid, time.time()) is known


def test_a_process_that_has_gone_has_no_name(sleeper: subprocess.Popen[bytes]) -> None:
    table = ProcessTable(always)
    assert table.describe(sleeper.pid, time.time()).name is not None
    sleeper.kill()
    sleeper.wait()
    assert table.describe(sleeper.pid, time.time()) == UNKNOWN


def test_a_zombie_has_an_owner_and_no_command(sleeper: subprocess.Popen[bytes]) -> None:
    sleeper.kill()
    os.waitid(os.P_PID, sleeper.pid, os.WEXITED | os.WNOWAIT)  # dead, and not yet taken note of
    known = described(sleeper.pid)
    assert known.command is None
    assert known.user == psutil.Process().username()


def test_a_process_that_began_after_the_driver_listed_its_id_is_another_one(sleeper: subprocess.Popen[bytes]) -> None:
    assert ProcessTable(always).describe(sleeper.pid, time.time() - 60) == UNKNOWN


def test_a_process_that_gives_itself_a_title_is_looked_up_anew() -> None:
    table = ProcessTable(always)
    with running(sys.executable, "-c", RENAMES) as process:
        hear(process)
        before = table.describe(process.pid, time.time())
        say(process)
        hear(process)
        after = table.describe(process.pid, time.time())
    assert after.name == "ray::train \ufffd"
    assert (before.started_at, before.command) == (after.started_at, after.command)


def test_what_a_process_becomes_is_what_it_is() -> None:
    table = ProcessTable(always)
    with running("/bin/sh", "-c", "echo; read x; exec cat") as process:
        hear(process)
        assert table.describe(process.pid, time.time()).command == "sh -c"
        say(process)
        say(process)
        hear(process)
        assert table.describe(process.pid, time.time()).command == "cat"


@pytest.mark.parametrize(
    ("line", "command"),
    [
        ([b"\xff\xfe\x1b[31m"], "\ufffd\ufffd\ufffd[31m"),
        (["\u202egnp.exe"], "\ufffdgnp.exe"),
        (["vllm: worker 3"], "vllm"),
        (["hf_" + "a1" * 17], "***"),
        (["/opt/x/" + "trainer_" * 50], ("trainer_" * 50)[:200]),
        ([""], None),
    ],
)
def test_odd_names_can_be_shown(line: list[str | bytes], command: str | None) -> None:
    with cat(*line) as process:
        assert described(process.pid).command == command


# With names, for pytest puts that of a test into the environment, where one so long has no room.
@pytest.mark.parametrize(
    "argument",
    [b"\xff" * 300, b"x" * (128 * 1024 - 1), b"a\n,<b>\x1b[2J", b""],
    ids=["no text", "longest", "signs", "empty"],
)
def test_odd_arguments_stay_where_they_are(argument: bytes) -> None:
    with running(sys.executable.encode(), b"-c", WAITS.encode(), argument, SECRET.encode()) as process:
        hear(process)
        assert described(process.pid).command == f"{Path(sys.executable).name} -c"


def test_a_name_that_the_kernel_cuts_off_is_whole_again(tmp_path: Path) -> None:
    program = tmp_path / "a_name_that_is_rather_long"
    program.symlink_to("/bin/cat")
    with running(str(program)) as process:
        say(process)
        hear(process)
        assert described(process.pid).name == program.name


@pytest.mark.parametrize("variable", ["SLURM_JOB_ID", "JOB_ID"])
def test_the_job_is_found_in_the_environment_where_it_can_be_read(variable: str) -> None:
    with cat("cat", A=SECRET, **{variable: "77"}) as process:
        assert described(process.pid).job == {"SLURM_JOB_ID": "slurm:77", "JOB_ID": "job:77"}[variable]


def test_in_a_container_an_id_that_holds_no_gpu_is_not_believed(sleeper: subprocess.Popen[bytes]) -> None:
    assert not holds_a_gpu(sleeper.pid)
    assert not holds_a_gpu(2**22)
    assert ProcessTable(holds_a_gpu).describe(sleeper.pid, time.time()) == UNKNOWN


@pytest.mark.skipif(shutil.which("unshare") is None, reason="needs unshare (util-linux)")
def test_in_a_namespace_of_its_own_a_reader_knows_that_ids_are_not_the_machines() -> None:
    code = "from gpumon.agent.processes import sees_every_process; print(sees_every_process())"
    inside = ["unshare", "--pid", "--fork", "--mount-proc", sys.executable, "-c", code]
    found = subprocess.run(inside, capture_output=True, text=True, check=False, cwd=ROOT)
    if found.returncode and "unshare" in found.stderr:
        pytest.skip("may not make a namespace")
    assert found.stdout == "False\n", found.stderr


def test_processes_that_are_no_longer_on_a_gpu_are_forgotten(sleeper: subprocess.Popen[bytes]) -> None:
    table = ProcessTable(always)
    known = table.describe(sleeper.pid, time.time())
    table.keep([sleeper.pid])
    assert table.describe(sleeper.pid, time.time()) is known
    table.keep([])
    assert table.describe(sleeper.pid, time.time()) is not known


# ---- a /proc of our own ----


class Proc:
    """A folder that looks like ``/proc``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def process(self, pid: int, start: int = 100, name: bytes = b"python3", uid: int = 0, **files: bytes) -> None:
        place = self.folder / str(pid)
        place.mkdir(exist_ok=True)
        fields = b" ".join(b"%d" % number for number in range(4, 22))
        (place / "stat").write_bytes(b"%d (%s) S %s %d 0 0\n" % (pid, name, fields, start))
        (place / "status").write_bytes(b"Name:\tx\nUid:\t%d\t0\t0\t0\nNSpid:\t7\n" % uid)
        contents = {"cmdline": b"python3\0train.py\0", "cgroup": b"0::/\n", "environ": b""} | files
        for file, content in contents.items():
            (place / file).write_bytes(content)

    def table(self) -> ProcessTable:
        return ProcessTable(always, self.folder)


@pytest.fixture
def proc(tmp_path: Path) -> Proc:
    return Proc(tmp_path)


def test_container_and_job_come_from_the_cgroup(proc: Proc) -> None:
    inside = b"0::/system.slice/slurmstepd.scope/job_5/step_0/user/libpod-%s.scope\n" % (b"ab" * 32)
    proc.process(9, cgroup=inside, environ=b"SLURM_JOB_ID=6\0")
    known = proc.table().describe(9, time.time())
    assert (known.container, known.job) == ("podman:abababababab", "slurm:5.0")
    assert (known.name, known.command) == ("python3", "python3 train.py")


def test_an_id_that_was_given_away_is_another_process(proc: Proc) -> None:
    table = proc.table()
    proc.process(9)
    first = table.describe(9, time.time())
    proc.process(9, start=200, uid=4_000_000, cmdline=b"bash\0")
    second = table.describe(9, time.time())
    assert (first.command, second.command) == ("python3 train.py", "bash")
    assert (first.user, second.user) == (pwd.getpwuid(0).pw_name, "4000000")
    assert first.started_at != second.started_at


def test_an_id_that_is_given_away_while_it_is_looked_up_is_nobodys(proc: Proc, monkeypatch: pytest.MonkeyPatch) -> None:
    def given_away(text: str) -> Place:
        proc.process(9, start=200, uid=1)
        return place(text)

    proc.process(9)
    table = proc.table()
    monkeypatch.setattr(processes, "place", given_away)
    assert table.describe(9, time.time()) == UNKNOWN
    monkeypatch.undo()
    assert table.describe(9, time.time()).user == pwd.getpwuid(1).pw_name


@pytest.mark.parametrize(
    ("missing", "told"),
    [
        ("status", {"user": None}),
        ("cmdline", {"command": None}),
        ("cgroup", {"container": None, "job": "slurm:6"}),
        ("environ", {"job": None}),
    ],
)
def test_what_may_not_be_looked_at_stays_null(proc: Proc, missing: str, told: dict[str, str | None]) -> None:
    proc.process(9, environ=b"HOME=/x\0SLURM_JOB_ID=6\0")
    whole = proc.table().describe(9, time.time())
    assert whole.job == "slurm:6"
    (proc.folder / "9" / missing).unlink()
    known = proc.table().describe(9, time.time())
    assert {field: getattr(known, field) for field in told} == told
    assert (known.name, known.started_at) == ("python3", whole.started_at)


def test_a_process_that_is_just_being_started_is_looked_at_again(proc: Proc) -> None:
    table = proc.table()
    proc.process(9, cmdline=b"")
    assert table.describe(9, time.time()).command is None
    proc.process(9)
    assert table.describe(9, time.time()).command == "python3 train.py"


def test_where_processes_are_hidden_nothing_is_told(proc: Proc) -> None:
    proc.process(9)
    table = proc.table()
    assert table.describe(9, time.time()) != UNKNOWN
    (proc.folder / "9" / "stat").unlink()
    assert table.describe(9, time.time()) == UNKNOWN


@given(name=st.binary(max_size=64), junk=st.binary(max_size=300))
def test_nothing_that_a_process_is_called_breaks_the_table(
    tmp_path_factory: pytest.TempPathFactory, name: bytes, junk: bytes
) -> None:
    proc = Proc(tmp_path_factory.mktemp("proc"))
    proc.process(9, name=name, cmdline=junk, cgroup=junk, environ=junk)
    known = proc.table().describe(9, time.time())
    assert known != UNKNOWN
    for text in (known.name, known.command, known.container, known.job):
        assert text is None or (text.isprintable() and 0 < len(text) <= 200)
    (proc.folder / "9" / "stat").write_bytes(junk)
    proc.table().describe(9, time.time())


@pytest.mark.parametrize(("uid_map", "user"), [("0 0 4294967295", "nobody"), ("0 1000 1", None), (None, "nobody")])
def test_who_has_no_number_in_this_container_is_not_nobody(proc: Proc, uid_map: str | None, user: str | None) -> None:
    proc.process(9, uid=65534)
    if uid_map is not None:
        (proc.folder / "self").mkdir()
        (proc.folder / "self" / "uid_map").write_text(f"     {uid_map}\n")
    assert pwd.getpwuid(65534).pw_name == "nobody"
    assert proc.table().describe(9, time.time()).user == user


def test_users_are_looked_up_once_in_a_while(proc: Proc, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    real = pwd.getpwuid

    def ask(uid: int) -> pwd.struct_passwd:
        asked.append(uid)
        return real(uid)

    monkeypatch.setattr(pwd, "getpwuid", ask)
    table = proc.table()
    for pid in range(1, 20):
        proc.process(pid)
        table.describe(pid, time.time())
    assert asked == [0]
    monkeypatch.setattr(processes, "USER_NAMES_SECONDS", 0.0)
    proc.process(20)
    table.describe(20, time.time())
    assert asked == [0, 0]


@pytest.mark.parametrize(
    ("namespace", "is_own_proc", "is_ours"),
    [("pid:[4026531836]", True, True), ("pid:[4026532198]", True, False), ("pid:[4026531836]", False, False)],
)
def test_ids_are_the_machines_in_the_first_namespace_alone(
    tmp_path: Path, namespace: str, is_own_proc: bool, is_ours: bool
) -> None:
    myself = tmp_path / str(os.getpid() if is_own_proc else os.getpid() + 1)
    (myself / "ns").mkdir(parents=True)
    (myself / "ns" / "pid").symlink_to(namespace)
    assert not sees_every_process(tmp_path)
    (tmp_path / "self").symlink_to(myself.name)
    assert sees_every_process(tmp_path) == is_ours


def test_a_process_that_holds_a_device_of_the_driver_is_believed(tmp_path: Path) -> None:
    files = tmp_path / "9" / "fd"
    files.mkdir(parents=True)
    (files / "0").symlink_to("/dev/null")
    assert not holds_a_gpu(9, tmp_path)
    (files / "1").symlink_to("/dev/nvidia0")
    assert holds_a_gpu(9, tmp_path)


@pytest.mark.parametrize(
    ("environment", "job"),
    [
        (b"", None),
        (b"SLURM_JOB_ID=123456\0", "slurm:123456"),
        (b"HOME=/\0PBS_JOBID=77[3].server.lab\0", "pbs:77[3].server.lab"),
        (b"LSB_JOBID=42\0X=1\0", "lsf:42"),
        (b"SLURM_JOB_ID=\0JOB_ID=9\0", "job:9"),
        (b"SLURM_JOB_ID=5;rm\0", None),
        (b"SLURM_JOB_ID=5\n\0", None),
        (b"MY_SLURM_JOB_ID=5\0", None),
        (b"SLURM_JOB_ID=1234", None),  # cut off here: who knows what follows
        (b"JOB_ID=" + SECRET.encode() + b"\0", None),
        (b"PBS_JOBID=7." + b"a" * 65 + b"\0", None),
    ],
)
def test_of_an_environment_a_job_is_told_or_nothing(environment: bytes, job: str | None) -> None:
    assert job_of(environment) == job


# ---- what the driver lists ----


def test_the_list_is_bounded_and_keeps_the_largest() -> None:
    merged = merge({"compute": [(pid, pid) for pid in range(1, 10_001)]}, None)
    assert len(merged) == MAX_PROCESSES
    assert merged[0] == Process(pid=10_000, type="compute", memory_used_bytes=10_000)
    assert merged[-1].pid == 10_001 - MAX_PROCESSES


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
    figures = [-1 if one.memory_used_bytes is None else one.memory_used_bytes for one in merged]
    assert figures == sorted(figures, reverse=True)


def test_row_10_of_an_idle_gpu_there_are_no_shares() -> None:
    assert utilization([], 50, {7}) == ({}, 50)


def test_row_11_absurd_shares_are_left_out() -> None:
    samples = [(7, 100, 101), (7, 0, 50), (7, 90, 4_000_000_000), (8, 100, 30), (0, 100, 5), (9, 80, 60)]
    assert utilization(samples, 50, {7, 9}) == ({9: 60.0}, 80)


def test_row_13_what_was_known_before_is_not_told_again() -> None:
    samples = [(7, 100, 10), (7, 120, 20), (9, 60, 30)]
    assert utilization(samples, 60, {7, 9}) == ({7: 20.0}, 120)
    assert utilization(samples, 120, {7, 9}) == ({}, 120)


def test_a_clock_that_was_set_back_is_followed() -> None:
    assert utilization([(7, 40, 10)], 1000, {7}) == ({}, 40)
    assert utilization([(7, 50, 10)], 40, {7}) == ({7: 10.0}, 50)


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 2**64 - 1), st.integers(0, 2**32 - 1))), st.integers(0))
def test_no_sample_is_too_odd(samples: list[tuple[int, int, int]], newest: int) -> None:
    shares, _ = utilization(samples, newest, {1, 2, 3})
    assert set(shares) <= {1, 2, 3}
    assert all(0 <= share <= 100 for share in shares.values())
