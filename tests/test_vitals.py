"""Whether a process finds out that it is not well, and starves its watchdog then."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from starlette.types import ASGIApp, Receive, Scope, Send

from gpumon import limits, vitals
from gpumon.agent import sampler as beat
from gpumon.agent import standing as agent_standing
from gpumon.agent.identity import identity
from gpumon.agent.joining import Joining, TokenSource
from gpumon.agent.link import Link
from gpumon.agent.outbox import Outbox
from gpumon.agent.sampler import Sampler
from gpumon.agent.watchdog import Watchdog
from gpumon.certificates import Shown
from gpumon.config import DnsSection
from gpumon.hub import standing as hub_standing
from gpumon.limits import Visits
from gpumon.listening import listen
from gpumon.notify import Manager, Status, Trouble
from gpumon.refusals import Refusals
from gpumon.serve import serve
from gpumon.vitals import OwnDoor, Pulse, Traffic
from tests.agent.test_sampler import ScriptedReader
from tests.authority import Authority
from tests.hub.world import World
from tests.running import until, until_true


class Asked(Manager):
    """A manager that only remembers whom to ask."""

    def __init__(self) -> None:
        super().__init__()
        self.trouble: Trouble | None = None
        self.status: Status | None = None

    async def look_after(self, trouble: Trouble, status: Status) -> None:
        self.trouble, self.status = trouble, status


async def not_found(_: Scope, __: Receive, send: Send) -> None:
    """An application that knows nothing."""
    await send({"type": "http.response.start", "status": 404, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body", "body": b""})


@asynccontextmanager
async def serving(
    listener: socket.socket,
    tls: ssl.SSLContext | None = None,
    visits: Visits | None = None,
    application: ASGIApp = not_found,
) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as group:
        task = group.create_task(serve(application, listener, visits=visits, tls=tls))
        try:
            yield
        finally:
            task.cancel()


def says(check: Callable[[], Awaitable[str | None]], words: str) -> Callable[[], Awaitable[bool]]:
    async def does() -> bool:
        return words in (await check() or "nothing")

    return does


@pytest.mark.parametrize("host", ["0.0.0.0", "127.0.0.1", "::"])
async def test_a_server_that_no_longer_answers_is_found_out_and_any_answer_is_one(host: str) -> None:
    listener = listen(host, 0, "test")
    door = OwnDoor(listener, Traffic(), tls=False)
    async with serving(listener):
        assert await door.trouble() is None
    assert "our own server does not answer" in (await door.trouble() or "")


async def test_a_server_that_takes_connections_and_hangs_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vitals, "ANSWER_SECONDS", 0.2)
    listener = listen("127.0.0.1", 0, "test")
    twin = listener.dup()  # the kernel goes on taking connections for whom nobody is there
    door = OwnDoor(listener, Traffic(), tls=False)
    async with serving(listener):
        await until(says(door.trouble, "nothing"))
    assert await door.trouble() == "our own server does not answer within 0 s"
    twin.close()


async def test_a_server_with_no_room_for_us_is_well_as_long_as_it_serves_others(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(vitals, "ANSWER_SECONDS", 0.2)
    listener, traffic = listen("127.0.0.1", 0, "test"), Traffic()
    twin = listener.dup()  # the kernel goes on taking connections, as while the server has no more files
    door = OwnDoor(listener, traffic, tls=False)
    async with serving(listener):
        await until(says(door.trouble, "nothing"))
    traffic.answered.beat()  # our own question, it may be
    assert "our own server does not answer" in (await door.trouble() or "")
    traffic.answered.beat()
    assert await door.trouble() is None
    assert "but serves others" in caplog.text
    with monkeypatch.context() as patch:
        patch.setattr(vitals, "BESIEGED_SECONDS", 0.0)
        assert "our own server does not answer" in (await door.trouble() or "")
    traffic.answered = Pulse()
    assert "our own server does not answer" in (await door.trouble() or "")
    traffic.refused.beat()
    assert await door.trouble() is None
    twin.close()
    assert "our own server does not answer" in (await door.trouble() or "")  # for nobody listens any more


@pytest.mark.parametrize("is_secure", [False, True])
async def test_a_server_that_takes_our_question_and_answers_nobody_has_hung_whomever_it_turns_away(
    is_secure: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vitals, "ANSWER_SECONDS", 0.5)
    context = Shown(Authority(tmp_path).sign("one").files).context if is_secure else None
    listener, visits, may_answer = listen("127.0.0.1", 0, "test"), Visits(Refusals()), asyncio.Event()
    door = OwnDoor(listener, visits.traffic, tls=is_secure)
    may_answer.set()

    async def hanging(scope: Scope, receive: Receive, send: Send) -> None:
        await may_answer.wait()
        await not_found(scope, receive, send)

    async with serving(listener, context, visits, hanging):
        await until(says(door.trouble, "nothing"))
        may_answer.clear()
        for _ in range(3):
            visits.refused("silent_connection", "192.0.2.1", "one that said nothing")
            assert "our own server does not answer within" in (await door.trouble() or "")
        may_answer.set()
        await until(says(door.trouble, "nothing"))


@pytest.mark.parametrize("is_secure", [False, True])
async def test_it_is_known_who_is_answered_and_who_is_turned_away(
    is_secure: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = Shown(Authority(tmp_path).sign("one").files).context if is_secure else None
    listener, visits = listen("127.0.0.1", 0, "test"), Visits(Refusals())
    door, traffic = OwnDoor(listener, Traffic(), tls=is_secure), visits.traffic
    async with serving(listener, context, visits):
        await until(says(door.trouble, "nothing"))
        await until_true(lambda: traffic.answered.beats > 0)
        assert traffic.refused.beats == 0
        monkeypatch.setattr(limits, "SILENT_SECONDS", 0.1)
        _, writer = await asyncio.open_connection("127.0.0.1", listener.getsockname()[1])  # who says nothing
        if is_secure:
            writer.write(b"no TLS at all\n")
        await until_true(lambda: traffic.refused.beats > 0)
        writer.close()


async def test_a_server_that_was_never_reached_is_not_held_to_be_ill(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vitals, "ANSWER_SECONDS", 0.1)
    listener = listen("127.0.0.1", 0, "test")
    assert await OwnDoor(listener, Traffic(), tls=False).trouble() is None
    listener.close()
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        assert await OwnDoor(bound, Traffic(), tls=False).trouble() is None


async def test_behind_tls_the_own_certificate_may_be_for_any_name(tmp_path: Path) -> None:
    signed = Authority(tmp_path).sign("other", "elsewhere.example")
    listener = listen("127.0.0.1", 0, "test")
    door = OwnDoor(listener, Traffic(), tls=True)
    async with serving(listener, Shown(signed.files).context):
        await until(says(door.trouble, "nothing"))
        assert door._has_answered
    assert "does not answer" in (await door.trouble() or "")


async def test_an_agent_whose_beat_stands_still_is_not_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beat, "LEAST_OVERDUE_SECONDS", 0.1)
    reader = ScriptedReader()
    sampler = Sampler(reader, "n", 0.01)

    async def identify() -> Joining:
        return Joining(identity(None, "n"), TokenSource())

    link = Link([], sampler, Outbox(), None, DnsSection(), identify, Watchdog())
    manager = Asked()
    await agent_standing.look_after(manager, sampler, link)
    assert manager.trouble is not None
    assert manager.status is not None
    async with asyncio.TaskGroup() as group:
        task = group.create_task(sampler.run(lambda *_: None))
        await until(says(manager.trouble, "nothing"))
        reader.gate.clear()
        await until(says(manager.trouble, "no sample was made for"))
        reader.gate.set()
        await until(says(manager.trouble, "nothing"))
        assert manager.status() == "1 GPU; no hub to report to"
        task.cancel()


async def test_a_hub_that_judges_no_longer_is_not_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_standing, "MOST_SILENT_SECONDS", 0.1)
    listener = listen("127.0.0.1", 0, "test")
    judged, manager, world = Pulse(), Asked(), World()
    world.push()
    async with serving(listener):
        await hub_standing.look_after(manager, world.hub, judged, OwnDoor(listener, Traffic(), tls=False))
        assert manager.trouble is not None
        assert manager.status is not None
        trouble = manager.trouble

        async def is_well() -> bool:
            judged.beat()
            return await trouble() is None

        await until(is_well)
        await until(says(trouble, "the nodes were not judged for"))
        await until(is_well)
        assert manager.status() == "nodes: 1 online, 1 pending; viewers: 0"
