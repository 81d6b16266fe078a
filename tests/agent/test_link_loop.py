"""Whatever is raised wherever the link waits, it goes on: one test for each wait, and kind of exception."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection

from gpumon import wire
from gpumon.agent import dial, link
from gpumon.agent.delivery import Delivery
from gpumon.agent.identity import Identity
from gpumon.agent.joining import Joining, TokenSource
from gpumon.agent.link import Link
from gpumon.agent.outbox import Outbox
from gpumon.agent.sampler import Sampler
from gpumon.agent.watchdog import Watchdog
from gpumon.config import DnsSection
from gpumon.errors import WireError
from gpumon.resolver import Resolver
from tests.agent.hubs import QUICK, FakeHub, fake_hub, hear_in_order, welcome
from tests.agent.test_link import Still
from tests.running import until_true

KINDS: list[Callable[[], BaseException]] = [
    lambda: RuntimeError("a fault of gpumon's own"),
    lambda: OSError(113, "No route to host"),
    lambda: TimeoutError(),
    lambda: ssl.SSLError("tls"),
    lambda: UnicodeDecodeError("utf-8", b"\xff", 0, 1, "no text"),
    lambda: WireError("not as agreed"),
    lambda: MemoryError(),
    lambda: RecursionError(),
    lambda: EOFError(),
    lambda: asyncio.CancelledError("nobody asked for it"),
    lambda: ExceptionGroup("several", [ValueError("one"), OSError("two")]),
    lambda: StopAsyncIteration(),
]

PLACES: list[tuple[object, str]] = [
    (Resolver, "addresses"),
    (dial, "_connected"),
    (link, "dial"),
    (link._Connect, "connect"),
    (ClientConnection, "send"),
    (ClientConnection, "recv"),
    (ClientConnection, "close"),
    (Link, "_due_hub"),
    (Link, "_open"),
    (Link, "_greet"),
    (Link, "_report"),
    (Link, "_send"),
    (Link, "_listen"),
    (Link, "_stay"),
    (asyncio.Event, "wait"),
    (asyncio, "wait"),
]


class Trap:
    """Raises once in a while where it is set: at the first, third, fifth ... call."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, place: object, name: str, kind: Callable[[], BaseException]
    ) -> None:
        self.calls = 0
        self.raised = 0
        original = getattr(place, name)
        trap = self

        async def sprung(*arguments: Any, **options: Any) -> Any:
            trap.calls += 1
            if trap.calls % 2 and trap.raised < 3:
                trap.raised += 1
                raise kind()
            return await original(*arguments, **options)

        monkeypatch.setattr(place, name, sprung)


async def nobody() -> Joining:
    return Joining(Identity("a" * 32, None), TokenSource())


@asynccontextmanager
async def ledger() -> AsyncIterator[tuple[FakeHub, list[int]]]:
    """A hub that closes now and then, and what it has taken."""
    taken: list[int] = []

    async def listen(connection: Any) -> None:
        await welcome(connection, last=taken[-1] if taken else 0, rate=1000)
        for _ in range(4):
            taken.append(await hear_in_order(connection))
            await connection.send(wire.encode(wire.Ack(sequence=taken[-1])).decode())
        await connection.close(1012)

    async with fake_hub(listen) as hub:
        yield hub, taken


def kinds() -> Iterator[Any]:
    for place, name in PLACES:
        for kind in KINDS:
            owner = getattr(place, "__name__", "").rpartition(".")[2]
            yield pytest.param(place, name, kind, id=f"{owner}.{name} {type(kind()).__name__}")


@pytest.mark.parametrize(("place", "name", "kind"), list(kinds()))
async def test_an_exception_ends_one_try_and_never_the_link(
    place: object, name: str, kind: Callable[[], BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    outbox, sampler = Outbox(), Sampler(Still(), "n", 60)
    for sequence in range(1, 21):
        outbox.put(sequence, b'{"sequence": %d}' % sequence)
    async with ledger() as (hub, taken):
        with monkeypatch.context() as patch:
            trap = Trap(patch, place, name, kind)
            arguments = (sampler, outbox, None, DnsSection(), nobody, Watchdog(), QUICK)
            task = asyncio.create_task(Link([hub.url], *arguments).run())
            await until_true(lambda: trap.raised >= 1 and taken[-1:] == [20])
            assert not task.done()
            task.cancel()
            await asyncio.wait({task}, timeout=30)
            assert task.cancelled()
    assert taken == list(range(1, 21))


async def test_no_connection_is_left_open_whatever_becomes_of_the_goodbye(monkeypatch: pytest.MonkeyPatch) -> None:
    is_there, is_gone = asyncio.Event(), asyncio.Event()

    async def listen(connection: Any) -> None:
        await welcome(connection)
        is_there.set()
        await connection.wait_closed()
        is_gone.set()

    async def end(*_: object) -> None:
        raise asyncio.CancelledError

    async with fake_hub(listen) as hub:
        arguments = (Sampler(Still(), "n", 60), Outbox(), None, DnsSection(), nobody, Watchdog(), QUICK)
        task = asyncio.create_task(Link([hub.url], *arguments).run())
        await until_true(is_there.is_set)
        monkeypatch.setattr(ClientConnection, "close", end)
        task.cancel()
        await until_true(is_gone.is_set)
        await asyncio.wait({task})


async def test_an_agent_that_is_told_to_end_does_whatever_its_hub_has_done_wrong(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    outbox, sampler = Outbox(), Sampler(Still(), "n", 60)
    outbox.put(1, b'{"sequence": 1}')
    async with ledger() as (hub, taken):
        arguments = (sampler, outbox, None, DnsSection(), nobody, Watchdog(), QUICK)
        task = asyncio.create_task(Link([hub.url], *arguments).run())
        await until_true(lambda: taken == [1])

        def complain(*_: object) -> bytes:
            raise WireError("it acknowledges nothing")

        monkeypatch.setattr(Delivery, "next", complain)
        task.cancel()
        await asyncio.wait({task}, timeout=30)
        is_ended = task.done()
        task.cancel()
        await asyncio.wait({task})
        assert is_ended
