"""Who an agent is: kept over restarts, nobody else's, and never a reason not to start."""

import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gpumon import statefile
from gpumon.agent import identity as module
from gpumon.agent.identity import Identity, file_name, identity, machine_id


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statefile, "LOCK_SECONDS", 0.2)


@pytest.fixture
def agents() -> Iterator[list[Identity]]:
    """Agents that run; what they hold is let go of at the end."""
    running: list[Identity] = []
    yield running
    for agent in running:
        end(agent)


def end(agent: Identity) -> None:
    agent.close()


def restarted(folder: Path, node: str) -> str:
    """The id of an agent that starts and ends."""
    agent = identity(folder, node)
    end(agent)
    return agent.agent_id


def test_an_identity_is_random_kept_and_its_owners_alone(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    first = restarted(folder, "n")
    assert len(bytes.fromhex(first)) == 16
    assert restarted(folder, "n") == first
    assert restarted(folder, "other") != first
    (file,) = folder.glob("agent-n.json")
    assert file.stat().st_mode & 0o777 == 0o600
    assert folder.stat().st_mode & 0o777 == 0o700
    assert sorted(path.name for path in folder.iterdir()) == ["agent-n.json", "agent-other.json"]


def test_a_file_that_others_could_read_is_closed_to_them(tmp_path: Path) -> None:
    first = restarted(tmp_path, "n")
    (tmp_path / "agent-n.json").chmod(0o644)
    assert restarted(tmp_path, "n") == first
    assert (tmp_path / "agent-n.json").stat().st_mode & 0o777 == 0o600


def test_two_agents_of_one_name_are_two(
    tmp_path: Path, agents: list[Identity], caplog: pytest.LogCaptureFixture
) -> None:
    agents += [identity(tmp_path, "n"), identity(tmp_path, "n")]
    assert agents[0].agent_id != agents[1].agent_id
    assert agents[1].file is None
    assert "another agent uses" in caplog.text
    assert "--name" in caplog.text


def test_an_agent_that_follows_one_that_is_ending_waits_for_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, agents: list[Identity]
) -> None:
    first = identity(tmp_path, "n")
    monkeypatch.setattr("time.sleep", lambda _: end(first))
    agents.append(identity(tmp_path, "n"))
    assert agents[0].agent_id == first.agent_id


def test_the_file_is_free_when_an_agent_was_killed(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys, pathlib; from gpumon.agent.identity import identity;"
        "print(identity(pathlib.Path(sys.argv[1]), 'n').agent_id, flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    )
    told = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False)
    assert restarted(tmp_path, "n") == told.stdout.strip()


def test_many_that_start_at_once_share_nothing_and_one_of_them_keeps_the_file(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib; from gpumon import statefile; from gpumon.agent.identity import identity;"
        "statefile.LOCK_SECONDS = 0.2; sys.stdin.readline();"
        "print(identity(pathlib.Path(sys.argv[1]), 'n').agent_id, flush=True); sys.stdin.readline()"
    )
    started = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        for _ in range(6)
    ]
    found = []
    for process in started:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in started:
        assert process.stdout is not None
        found.append(process.stdout.readline().strip())
    for process in started:
        process.communicate("end\n", timeout=30)
    assert len(set(found)) == 6
    assert restarted(tmp_path, "n") in found


@pytest.mark.parametrize(
    "content",
    [b"", b"\0" * 50, b"{}", b"[1]", b'{"agent_id": 5, "node": "n"}', b'{"agent_id": "../x", "node": "n"}', b"\xff"],
    ids=["empty", "zeros", "no id", "a list", "a number", "no such id", "no text"],
)
def test_a_damaged_file_is_said_and_replaced(
    content: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture, agents: list[Identity]
) -> None:
    file = tmp_path / "agent-n.json"
    file.write_bytes(content)
    agents.append(identity(tmp_path, "n"))
    assert "agent-n.json is damaged" in caplog.text
    assert json.loads(file.read_bytes())["agent_id"] == agents[0].agent_id
    assert [path.name for path in tmp_path.iterdir()] == ["agent-n.json"]
    agents.append(identity(tmp_path, "n"))
    assert agents[1].file is None  # the new file is as locked as the old one was


def test_a_file_that_is_replaced_under_us_is_opened_anew(tmp_path: Path, agents: list[Identity]) -> None:
    """Between opening and locking, another agent repairs the file."""
    restarted(tmp_path, "n")
    original = statefile._lock
    replaced: list[Path] = []

    def lock(file: int, path: Path, owner: str) -> None:
        original(file, path, owner)
        if not replaced:
            other = path.with_name("other")
            other.write_text(json.dumps({"agent_id": "ab" * 16, "node": "n"}))
            replaced.append(other.rename(path))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(statefile, "_lock", lock)
        agents.append(identity(tmp_path, "n"))
    assert agents[0].agent_id == "ab" * 16


@pytest.mark.parametrize("kind", ["a file", "a folder for the file", "a link", "full"])
def test_where_nothing_can_be_kept_the_agent_starts_and_says_so_once(
    kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "state"
    if kind == "a file":
        folder.write_text("")
    elif kind == "a folder for the file":
        (folder / "agent-n.json").mkdir(parents=True)
    elif kind == "a link":
        folder.mkdir()
        (folder / "agent-n.json").symlink_to(tmp_path / "elsewhere")
    else:
        monkeypatch.setattr(os, "write", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with caplog.at_level(logging.WARNING):
        found = identity(folder, "n")
    assert len(found.agent_id) == 32
    assert len(caplog.records) == 1
    assert "cannot be kept" in caplog.text
    assert not (tmp_path / "elsewhere").exists()
    if kind == "full":
        assert not list(folder.iterdir())


def test_without_a_folder_nothing_is_written_nor_said(caplog: pytest.LogCaptureFixture) -> None:
    assert identity(None, "n").agent_id != identity(None, "n").agent_id
    assert caplog.text == ""


@pytest.mark.parametrize("node", ["n", "机器" * 100, "a b", "a_b", "a\\b", "x" * 256, "~", "-rf", "%s", "é"])
def test_every_name_of_a_node_gives_a_safe_file_name(node: str, tmp_path: Path) -> None:
    name = file_name(node)
    assert name.isascii()
    assert len(name) < 120
    assert Path(name).name == name
    assert restarted(tmp_path, node) == restarted(tmp_path, node)


def test_names_that_look_alike_have_files_of_their_own() -> None:
    names = ["a b", "a_b", "a\tb", "x" * 100, "x" * 101, "x" * 80]
    assert len({file_name(name) for name in names}) == len(names)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine of which nothing is known yet."""
    monkeypatch.setattr(module, "MACHINE_ID", tmp_path / "machine-id")
    monkeypatch.setattr(module, "SYSTEM_UUID", tmp_path / "product_uuid")
    monkeypatch.setattr(module, "NETWORK_CARDS", tmp_path / "net")
    return tmp_path


def test_a_machine_is_told_by_what_it_has_and_never_by_the_thing_itself(machine: Path) -> None:
    assert machine_id() is None
    for card, address in (("lo", "00:00:00:00:00:00"), ("eth1", "02:00:00:00:00:01"), ("bridge", "aa:bb:cc:00:00:01")):
        (machine / "net" / card).mkdir(parents=True)
        (machine / "net" / card / "address").write_text(address + "\n")
        if card != "bridge":
            (machine / "net" / card / "device").mkdir()
    by_card = machine_id()
    (machine / "product_uuid").write_text("4c4c4544-0042-3510-8052-b4c04f564432\n")
    by_board = machine_id()
    (machine / "machine-id").write_text("uninitialized\n")
    assert machine_id() == by_board
    (machine / "machine-id").write_text("0123456789abcdef0123456789abcdef\n")
    by_system = machine_id()
    found = {by_card, by_board, by_system}
    assert None not in found
    assert len(found) == 3
    assert all(len(one or "") == 32 for one in found)
    assert by_system == machine_id() != "0123456789abcdef0123456789abcdef"
