"""What systemd says of a service, in words for people."""

import asyncio
import contextlib
import socket
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import ClassVar

import pytest

from gpumon.config import AgentSection, Config
from gpumon.errors import UsageError
from gpumon.service import health
from gpumon.service.health import Complaint, ask
from gpumon.service.place import Place, of_machine, of_user
from gpumon.service.state import State, look, words
from gpumon.service.systemd import Systemd
from tests.running import free_port, running_agent, running_hub


class Saying(Systemd):
    """systemd as it was when it said this."""

    def __init__(self, *log: str, **properties: str) -> None:
        super().__init__(of_user=False)
        self._log = list(log)
        self._properties = {"LoadState": "loaded", "UnitFileState": "enabled", "Result": "success"} | properties

    def show(self, _: str, /) -> dict[str, str]:
        return self._properties

    def last_lines(self, _: str, /) -> list[str]:
        return self._log


RESTARTING = {"ActiveState": "activating", "SubState": "auto-restart"}
RUNNING = {"ActiveState": "active", "SubState": "running", "ActiveEnterTimestamp": "Thu 2026-11-26 21:40:23 UTC"}


def seen(systemd: Systemd, place: Place | None = None) -> State:
    return look(place or of_machine("agent"), systemd, None)


@pytest.mark.parametrize(
    ("systemd", "status", "said"),
    [
        (Saying(LoadState="not-found"), 4, "not installed\n  Next: gpumon service install agent"),
        (Saying(ActiveState="inactive", SubState="dead"), 3, "It is stopped.\n  Next: systemctl start gpumon-agent"),
        (
            Saying(**RESTARTING, Result="watchdog"),
            3,
            "was ended by the watchdog, since it had not said for long that it is well, and is started again and again",
        ),
        (Saying(**RESTARTING, Result="signal", ExecMainStatus="9"), 3, "It was ended by SIGKILL"),
        (Saying(**RESTARTING, Result="oom-kill"), 3, "it used more memory than a service of it may"),
        (
            Saying(**RESTARTING, Result="exit-code", ExecMainStatus="203"),
            3,
            "ended at its start, since its program cannot be started: it was moved or deleted",
        ),
        (
            Saying(
                "gpumon: agent.host, agent.port: cannot listen on 0.0.0.0 port 8081",
                "gpumon-agent.service: Main process exited, code=exited, status=2/INVALIDARGUMENT",
                "gpumon-agent.service: Failed with result 'exit-code'.",
                ActiveState="activating",
                SubState="start",
                ExecMainStatus="0",
            ),
            3,
            "ended with status 2, and is started again and again; it said: agent.host, agent.port: cannot listen on",
        ),
        (
            Saying(
                "gpumon-agent.service: Main process exited, code=killed, status=9/KILL",
                "gpumon-agent.service: Failed with result 'signal'.",
                ActiveState="activating",
                SubState="start",
                ExecMainStatus="0",
            ),
            3,
            "It was ended by SIGKILL, and is started again and again",
        ),
        (
            Saying("2026-11-26 21:40:23,295 CRITICAL gpumon.x: \x1b[31mno\x07", **RESTARTING, Result="exit-code"),
            3,
            "it said: [31mno.",
        ),
        (Saying(ActiveState="activating", SubState="start"), 3, "It is starting."),
        (
            Saying(**RUNNING, StatusText="not well: no sample was made for 9 s"),
            1,
            "not well: no sample was made for 9 s",
        ),
        (Saying(**RUNNING, StatusText="2 GPUs; no hub to report to"), 0, "well, running since Thu 2026-11-26 21:40:23"),
        (Saying(**RUNNING, NRestarts="3"), 0, "started again 3 times"),
        (
            Saying(**RUNNING, UnitFileState="disabled"),
            1,
            "It does not start at boot.\n  Next: systemctl enable",
        ),
        (
            Saying(LoadState="masked", UnitFileState="masked", ActiveState="inactive"),
            3,
            "It is masked, so it cannot be started.\n  Next: systemctl unmask gpumon-agent.service\n",
        ),
        (Saying(**RUNNING, NeedDaemonReload="yes"), 1, "Its unit was changed, and systemd has not read it yet."),
    ],
)
def test_what_systemd_knows_is_said_in_words_with_what_to_do(systemd: Systemd, status: int, said: str) -> None:
    state = seen(systemd)
    assert said in words(state)
    assert words(state).startswith("gpumon-agent: ")
    assert state.exit_status == status


@pytest.mark.parametrize(("path", "is_meant"), [("/usr/lib/systemd/system/x", False), ("/etc/systemd/system/x", True)])
def test_a_packages_service_that_nobody_uses_is_not_meant(path: str, is_meant: bool) -> None:
    unused = {"ActiveState": "inactive", "UnitFileState": "disabled", "FragmentPath": path}
    assert seen(Saying(**unused)).is_meant is is_meant
    assert seen(Saying(**unused | {"UnitFileState": "enabled"})).is_meant
    assert seen(Saying(**unused | {"ActiveState": "failed"})).is_meant


def test_settings_that_are_wrong_are_told_of_a_service_that_runs_as_well() -> None:
    state = look(of_machine("hub"), Saying(**RUNNING), UsageError("hub.json: a", "hub.json: b"))
    assert "not well" in words(state)
    assert "  Its settings are wrong: hub.json: a\n  Its settings are wrong: hub.json: b\n" in words(state)


def test_of_a_user_it_is_the_users_own_systemd_that_is_named(tmp_path: Path) -> None:
    said = words(seen(Saying(ActiveState="inactive"), of_user("hub", tmp_path, tmp_path)))
    assert "systemctl --user start gpumon-hub" in said


async def test_a_service_that_runs_is_asked_how_it_is() -> None:
    async def asked(settings: Config, variables: dict[str, str] | None = None, role: str = "agent") -> State:
        place = of_machine("hub" if role == "hub" else "agent")
        return await asyncio.to_thread(look, place, Saying(**RUNNING), (variables or {}, settings))

    async with running_agent(AgentSection(token="12345678"), simulate="2,fault=no_driver") as site:
        there = AgentSection(port=site.port, host="127.0.0.1", token="12345678", hub=["http://h:1"])
        while "starting" in str((found := await asked(Config(agent=there))).complaints):
            pass
        first, second = found.complaints
        assert "driver" in first.message
        assert second.message.startswith("It is not connected to a hub")
        (found_token,) = (await asked(Config(agent=AgentSection(port=site.port)))).complaints
        assert found_token.message.endswith("refuses with status 401")
    (gone,) = (await asked(Config(), {"GPUMON_AGENT_PORT": str(free_port())})).complaints
    assert "does not answer: Connection refused" in gone.message
    async with running_hub() as site:
        assert (await asked(Config(), {"GPUMON_HUB_PORT": str(site.port)}, "hub")).complaints == []


class Elsewhere(BaseHTTPRequestHandler):
    """Sends everybody to another place of its own."""

    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.asked.append(self.path)
        self.send_response(302)
        self.send_header("Location", "/elsewhere")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def test_a_token_goes_nowhere_but_to_the_service_itself() -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Elsewhere) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            said = ask("127.0.0.1", server.server_port, "12345678", tls=False)
        finally:
            server.shutdown()
            thread.join()
    assert isinstance(said, Complaint)
    assert said.message.endswith("refuses with status 302")
    assert Elsewhere.asked == ["/health?verbose"]


@pytest.mark.parametrize("begun", [b"HTTP/1.1 200 OK\r\nX: ", b"\x16\x03\x03\x3f\xff"], ids=["http", "tls"])
def test_who_answers_byte_by_byte_is_not_waited_for(begun: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "SECONDS", 0.5)
    has_given_up = Event()

    def trickle(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection, contextlib.suppress(OSError):
            connection.sendall(begun)
            while not has_given_up.wait(0.1):
                connection.sendall(b"x")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = Thread(target=trickle, args=(listener,))
        thread.start()
        try:
            said = ask("127.0.0.1", listener.getsockname()[1], None, tls=begun[0] == 0x16)
        finally:
            has_given_up.set()
            thread.join()
    assert isinstance(said, Complaint)
    assert said.message.endswith("does not answer within 0.5 s")
