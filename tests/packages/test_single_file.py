"""The single file, on a machine that has nothing else: no C library, no Python, no shell."""

import fcntl
import json
import os
import re
import shutil
import signal
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import Popen, TimeoutExpired

import psutil
import pytest

from tests import fakenvml
from tests.packages.roots import BUILD_SECONDS, PATH, Root, Twin, empty, stdout_of
from tests.running import until

# In one process: what they build is built once.
pytestmark = [pytest.mark.xdist_group("packages"), pytest.mark.timeout(BUILD_SECONDS)]

Start = Callable[..., "Running"]


class Running:
    """The single file at work, and what it has said."""

    def __init__(self, process: Popen[str]) -> None:
        self.process = process
        self.said = ""
        self.url = self._url()

    def _url(self) -> str:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said += line
            if match := re.search(r" on (http://127\.0\.0\.1:\d+)", line):
                return match[1]
        raise AssertionError(f"it ended:\n{self.said}")

    def ask(self, path: str) -> bytes:
        with urllib.request.urlopen(self.url + path, timeout=20) as answer:
            body = answer.read()
        assert isinstance(body, bytes)
        return body

    def processes(self) -> list[psutil.Process]:
        first = psutil.Process(self.process.pid)
        return [first, *first.children(recursive=True)]

    def status(self) -> int:
        rest, _ = self.process.communicate(timeout=60)
        self.said += rest
        return self.process.returncode


@pytest.fixture
def machine(frozen: Path, tmp_path: Path) -> Root:
    return empty(tmp_path / "machine", frozen / "gpumon")


@pytest.fixture
def start(machine: Root) -> Iterator[Start]:
    """Starts the program, and sees to its end."""
    running: list[Running] = []

    def begin(*arguments: str, environment: dict[str, str] | None = None) -> Running:
        running.append(Running(machine.start("/gpumon", *arguments, environment=environment)))
        return running[-1]

    yield begin
    for one in running:
        if one.process.poll() is None:
            one.process.terminate()
            try:
                one.status()
            except TimeoutExpired:
                for process in one.processes():
                    process.kill()
                one.status()


@pytest.fixture
def driver(machine: Root) -> dict[str, str]:
    """A driver of two GPUs where the system's libraries are; the environment in which it finds its scenario."""
    environment = fakenvml.environment(Path("/scenario"))
    shutil.copy(Path(environment.pop("LD_LIBRARY_PATH"), fakenvml.LIBRARY), machine.path / "usr/lib")
    fakenvml.datacentre(gpus=2).write(machine.path / "scenario")
    return environment


AGENT = ("agent", "--host=127.0.0.1", "--port=0", "--name=node", "--state-dir=/state")
HUB = ("hub", "--host=127.0.0.1", "--port=0", "--state-dir=/state")


def test_it_needs_no_library_and_no_loader(frozen: Path) -> None:
    said = stdout_of("readelf", "--dynamic", "--program-headers", "--wide", frozen / "gpumon")
    assert "NEEDED" not in said
    assert "INTERP" not in said


def test_python_finds_what_it_needs_beside_itself(frozen: Path) -> None:
    """Debian's own needs more than the C library, and is loaded before any line of ours can help."""
    (library,) = (frozen / "folder").rglob("libpython*.so*")
    assert re.search(r"\(RPATH\).*\[\$ORIGIN\]", stdout_of("readelf", "--dynamic", "--wide", library))


def test_what_is_in_it_is_told_with_its_licences(frozen: Path) -> None:
    said = (frozen / "licences").read_text(encoding="utf-8")
    for name in ("Python", "gpumon-fleet", "nvidia-ml-py", "orjson"):
        assert re.search(rf"^{name} +[\d.]+ +\S", said, re.MULTILINE), name
    assert not re.search(r"^(pytest|pyinstaller|cryptography|pip) ", said, re.MULTILINE)
    of_the_file = (frozen / "licences-file").read_text(encoding="utf-8")
    assert of_the_file.startswith(said)
    for name in ("libc6", "zlib1g"):
        assert re.search(rf"^{name} +[\d.:]+", of_the_file.removeprefix(said), re.MULTILINE), name


async def test_an_agent_reads_the_driver_of_the_machine_and_a_hub_shows_it(
    start: Start, driver: dict[str, str]
) -> None:
    hub = start(*HUB)
    page = hub.ask("/").decode()
    parts = re.findall(r"""(?:src|href)=["'](?:\./|/)?(assets/[^"']+)""", page)
    assert any(part.endswith(".js") for part in parts)
    for part in parts:
        assert hub.ask(f"/{part}")
    agent = start(*AGENT, f"--hub={hub.url}", environment=driver)

    async def shown() -> dict[str, object] | None:
        nodes = json.loads(hub.ask("/api/nodes"))
        return next((one for one in nodes if one["status"] == "online" and one["report"]["status"] == "ok"), None)

    node = await until(shown)
    assert node is not None
    assert node["name"] == "node"
    assert [gpu["status"] for gpu in json.loads(agent.ask("/gpu-info"))["gpus"]] == ["ok", "ok"]


def test_a_signal_to_the_file_ends_it_and_nothing_is_left(machine: Root, start: Start, driver: dict[str, str]) -> None:
    agent = start(*AGENT, environment=driver)
    processes = agent.processes()
    agent.process.terminate()
    assert agent.status() == 0
    assert agent.said.count("stopping") == 1
    assert psutil.wait_procs(processes, timeout=30)[1] == []
    assert list((machine.path / "tmp").iterdir()) == []


def test_a_signal_to_all_its_processes_as_a_terminal_sends_it_ends_it_in_order(machine: Root, start: Start) -> None:
    hub = start(*HUB)
    processes = hub.processes()
    assert len(processes) > 1
    for process in processes:
        process.send_signal(signal.SIGINT)
    assert hub.status() == 0
    assert hub.said.count("stopping") == 1
    assert psutil.wait_procs(processes, timeout=30)[1] == []
    assert list((machine.path / "tmp").iterdir()) == []


def test_what_it_has_unpacked_is_locked_against_those_who_tidy_up(machine: Root, start: Start) -> None:
    start(*HUB)
    folders = list((machine.path / "tmp").iterdir())
    assert len(folders) == 2
    for folder in folders:
        number = os.open(folder, os.O_RDONLY)
        try:
            with pytest.raises(BlockingIOError):
                fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        finally:
            os.close(number)


def test_it_unpacks_elsewhere_where_it_may_run_nothing_from_tmp(machine: Root) -> None:
    (machine.path / "elsewhere").mkdir()
    locked = Root(machine.path, f"mount -t tmpfs -o noexec tmpfs {machine.path}/tmp")
    with locked.start("/gpumon", "--version") as refused:
        said, _ = refused.communicate(timeout=60)
    assert refused.returncode != 0
    assert "Permission denied" in said
    assert "version" in locked.run("/gpumon", "--version", environment={"TMPDIR": "/elsewhere"})


def test_no_other_module_is_run_through_it(machine: Root) -> None:
    with machine.start("/gpumon", "-P", "-m", "http.server") as refused:
        said, _ = refused.communicate(timeout=60)
    assert refused.returncode == 2, said


def test_programs_that_it_starts_load_the_machines_libraries(frozen: Path, tmp_path: Path) -> None:
    """What it brings is of another system, and would break theirs."""
    machine = Twin(tmp_path)
    said = machine.file("/tmp/said")
    said.parent.mkdir(mode=0o1777)
    shutil.copy(frozen / "gpumon", machine.file("/tmp/gpumon"))
    machine.file("/tmp/systemctl").write_text('#!/bin/sh\necho "<$LD_LIBRARY_PATH>" >>/tmp/said\n')
    machine.file("/tmp/systemctl").chmod(0o755)
    machine.file("/run/systemd/system").mkdir(parents=True)
    for before in ("", "/opt/driver"):
        environment = {"PATH": f"/tmp:{PATH}"} | ({"LD_LIBRARY_PATH": before} if before else {})
        with machine.start("/tmp/gpumon", "service", "status", environment=environment) as process:
            process.communicate(timeout=60)
        assert set(said.read_text().split()) == {f"<{before}>"}
        said.unlink()


def test_a_service_starts_the_file_that_a_person_has(machine: Root) -> None:
    """Not what it has unpacked, which is gone when it ends."""
    unit = machine.run("/gpumon", "service", "install", "agent", "--print")
    assert "\nExecStart=/gpumon agent\n" in unit
    assert "\nNotifyAccess=all\n" in unit
