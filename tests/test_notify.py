"""What a service tells its manager: real programs and a real socket, on which somebody listens as systemd does."""

import asyncio
import os
import resource
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gpumon.notify import Manager
from tests.fakenvml import environment, hanging
from tests.running import free_port, program

PATIENCE_SECONDS = 30.0


class Listener:
    """The manager's end of the socket."""

    def __init__(self, address: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(address.replace("@", "\0", 1) if address.startswith("@") else address)
        self._socket.settimeout(PATIENCE_SECONDS)
        self.address = address

    def next(self) -> dict[str, str]:
        """The next that is said; TimeoutError if nothing is."""
        return dict(line.split("=", 1) for line in self._socket.recv(4096).decode().splitlines())

    def until(self, name: str, part: str = "") -> dict[str, str]:
        """The next that sets this variable, to something with this in it."""
        while True:
            said = self.next()
            if name in said and part in said[name]:
                return said

    def heard_for(self, seconds: float) -> list[dict[str, str]]:
        """What is said from now on, for so long."""
        end, heard = time.monotonic() + seconds, []
        while (left := end - time.monotonic()) > 0:
            self._socket.settimeout(left)
            try:
                heard.append(self.next())
            except TimeoutError:
                break
        self._socket.settimeout(PATIENCE_SECONDS)
        return heard

    def drain(self) -> None:
        """Forget what was said until now."""
        self._socket.setblocking(False)
        try:
            while True:
                self._socket.recv(4096)
        except BlockingIOError:
            self._socket.settimeout(PATIENCE_SECONDS)

    def close(self) -> None:
        self._socket.close()


@contextmanager
def listener(address: str) -> Iterator[Listener]:
    one = Listener(address)
    try:
        yield one
    finally:
        one.close()


def told(one: Listener, watchdog_seconds: float = 1.5) -> dict[str, str]:
    return {"NOTIFY_SOCKET": one.address, "WATCHDOG_USEC": str(int(watchdog_seconds * 1e6))}


@pytest.mark.parametrize("kind", ["path", "abstract"])
def test_an_agent_is_ready_without_driver_and_hub_and_says_when_it_stops(kind: str, tmp_path: Path) -> None:
    address = str(tmp_path / "notify") if kind == "path" else f"@gpumon-test-{os.getpid()}"
    with listener(address) as manager:
        variables = environment(tmp_path / "none", library=False) | told(manager)
        hub = f"--hub=http://127.0.0.1:{free_port()}"
        with program("agent", "--host=127.0.0.1", "--port=0", hub, environment=variables) as agent:
            assert manager.next() == {"READY": "1"}
            assert "WATCHDOG" in manager.until("STATUS", "no_driver")
            assert "WATCHDOG" in manager.until("STATUS", "not connected to a hub: ")
            agent.process.send_signal(signal.SIGHUP)
            assert int(manager.until("RELOADING")["MONOTONIC_USEC"]) > 0
            manager.until("READY")
            assert agent.end() == 0
            manager.until("STOPPING")


def test_a_driver_that_hangs_is_reported_and_does_not_starve_the_watchdog(tmp_path: Path) -> None:
    scenario = tmp_path / "scenario"
    hanging(index=0, gpus=1).write(scenario)
    with listener(str(tmp_path / "notify")) as manager:
        variables = environment(scenario) | told(manager)
        with program("agent", "--host=127.0.0.1", "--port=0", environment=variables):
            said = manager.until("STATUS", "GPU 0")
            assert "WATCHDOG" in said
            assert not said["STATUS"].startswith("not well")


@pytest.mark.parametrize("role", ["agent", "hub"])
def test_who_is_stopped_says_no_more_that_he_is_well(role: str, tmp_path: Path) -> None:
    with listener(str(tmp_path / "notify")) as manager:
        variables = environment(tmp_path / "none", library=False) | told(manager, 0.3)
        with program(role, "--host=127.0.0.1", "--port=0", environment=variables) as one:
            manager.until("WATCHDOG")
            one.process.send_signal(signal.SIGSTOP)
            os.waitid(os.P_PID, one.process.pid, os.WSTOPPED | os.WNOWAIT)
            manager.drain()
            assert manager.heard_for(0.6) == []
            one.process.send_signal(signal.SIGCONT)
            manager.until("WATCHDOG")


def test_a_watchdogs_end_leaves_word_of_where_it_hung(tmp_path: Path) -> None:
    with listener(str(tmp_path / "notify")) as manager:
        with program("hub", "--host=127.0.0.1", "--port=0", environment=told(manager)) as hub:
            manager.until("WATCHDOG")
            assert "nodes: none yet; viewers: 0" in manager.until("STATUS")["STATUS"]
            hub.process.send_signal(signal.SIGABRT)
            assert hub.wait_for("Fatal Python error: Aborted")
            assert hub.wait_for("in run_forever")


async def test_while_there_is_trouble_the_watchdog_is_not_fed_and_the_manager_hears_why(tmp_path: Path) -> None:
    found: list[str | None] = [None]

    async def trouble() -> str | None:
        return found[0]

    with listener(str(tmp_path / "notify")) as listening:
        manager = Manager(listening.address, 0.03)
        async with asyncio.TaskGroup() as group:
            task = group.create_task(manager.look_after(trouble, lambda: "all is\nwell"))
            said = await asyncio.to_thread(listening.until, "WATCHDOG")
            assert said["STATUS"] == "all is well"
            found[0] = "no sample was made for 9 s"
            said = await asyncio.to_thread(listening.until, "STATUS", "not well: no sample was made for 9 s")
            assert "WATCHDOG" not in said
            assert not any("WATCHDOG" in one for one in await asyncio.to_thread(listening.heard_for, 0.3))
            found[0] = None
            await asyncio.to_thread(listening.until, "WATCHDOG")
            task.cancel()


async def test_the_manager_is_told_where_strangers_have_taken_every_file(tmp_path: Path) -> None:
    has_room = True

    async def trouble() -> str | None:
        return None

    with listener(str(tmp_path / "notify")) as listening:
        manager = Manager(listening.address, 0.03)
        before = resource.getrlimit(resource.RLIMIT_NOFILE)
        async with asyncio.TaskGroup() as group:
            task = group.create_task(manager.look_after(trouble, lambda: "room" if has_room else "no room"))
            await asyncio.to_thread(listening.until, "WATCHDOG")
            resource.setrlimit(resource.RLIMIT_NOFILE, (3, before[1]))
            try:
                with pytest.raises(OSError, match="Too many open files"):
                    socket.socket()
                has_room = False
                said = await asyncio.to_thread(listening.until, "STATUS", "no room")
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, before)
            assert "WATCHDOG" in said
            task.cancel()


def test_nobody_is_told_where_nobody_listens(tmp_path: Path) -> None:
    for address in (None, str(tmp_path / "nobody"), "@gpumon-nobody"):
        manager = Manager(address)
        manager.ready()
        with manager.reloading():
            pass


def test_a_hub_without_a_manager_runs_as_before() -> None:
    with program("hub", "--host=127.0.0.1", "--port=0", environment={"NOTIFY_SOCKET": "nonsense"}) as hub:
        hub.port("hub")
        assert hub.end() == 0
        assert "Traceback" not in hub.said
