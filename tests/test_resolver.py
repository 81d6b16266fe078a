"""Names, asked of a DNS server of our own that answers rightly, wrongly or not at all."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest

from gpumon import resolver as module
from gpumon.errors import ResolveError
from gpumon.resolver import Resolver

RECORDS = {
    ("both.lab.", "A"): ["10.0.0.1", "10.0.0.2"],
    ("both.lab.", "AAAA"): ["fd00::1"],
    ("six.lab.", "AAAA"): ["fd00::6"],
    ("large.lab.", "A"): [f"10.1.{n // 250}.{n % 250 + 1}" for n in range(60)],
}


class Server(asyncio.DatagramProtocol):
    """Answers from :data:`RECORDS`; truncates what UDP does not hold, so that TCP is asked."""

    def __init__(self, silent: Callable[[], bool]) -> None:
        self.asked: list[str] = []
        self.deaf = False
        self.empty = False
        self._silent = silent
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        assert self._transport is not None
        if not self._silent():
            self._transport.sendto(self.reply(data, limit=512, over="udp"), addr)

    async def stream(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        length = int.from_bytes(await reader.readexactly(2))
        query = await reader.readexactly(length)
        if self.deaf:
            writer.close()
            return
        reply = self.reply(query, limit=65535, over="tcp")
        writer.write(len(reply).to_bytes(2) + reply)
        await writer.drain()
        writer.close()

    def reply(self, data: bytes, limit: int, over: str) -> bytes:
        query = dns.message.from_wire(data)
        question = query.question[0]
        name, kind = question.name.to_text(), question.rdtype.name
        self.asked.append(f"{over} {name} {kind}")
        response = dns.message.make_response(query)
        records = {} if self.empty else RECORDS
        if rows := records.get((name, kind)):
            response.answer.append(dns.rrset.from_text_list(name, 60, "IN", kind, rows))
        elif not any(known == name for known, _ in records):
            response.set_rcode(dns.rcode.NXDOMAIN)
        wire = response.to_wire(max_size=65535)
        if len(wire) > limit:
            response.answer.clear()
            response.flags |= dns.flags.TC
            wire = response.to_wire()
        return wire


class World:
    def __init__(self) -> None:
        self.silent = False
        self.server = Server(lambda: self.silent)
        self.port = 0
        self.hosts = ""

    def resolver(self, tmp_path: Path) -> Resolver:
        hosts = tmp_path / "hosts"
        hosts.write_text(self.hosts)
        return Resolver(("127.0.0.1", self.port), hosts)


@asynccontextmanager
async def _serving(world: World) -> AsyncIterator[None]:
    loop = asyncio.get_running_loop()
    tcp = await asyncio.start_server(world.server.stream, "127.0.0.1", 0)
    world.port = tcp.sockets[0].getsockname()[1]
    transport, _ = await loop.create_datagram_endpoint(lambda: world.server, ("127.0.0.1", world.port))
    try:
        yield
    finally:
        transport.close()
        tcp.close()


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = World()
    async with _serving(world):
        yield world


async def test_both_families_are_asked_together(world: World, tmp_path: Path) -> None:
    assert await world.resolver(tmp_path).addresses("both.lab") == ("10.0.0.1", "10.0.0.2", "fd00::1")
    assert sorted(world.server.asked) == ["udp both.lab. A", "udp both.lab. AAAA"]


async def test_a_name_of_one_family_is_found(world: World, tmp_path: Path) -> None:
    assert await world.resolver(tmp_path).addresses("six.lab") == ("fd00::6",)


async def test_what_udp_does_not_hold_is_asked_over_tcp(world: World, tmp_path: Path) -> None:
    assert len(await world.resolver(tmp_path).addresses("large.lab")) == 60
    assert "tcp large.lab. A" in world.server.asked


async def test_addresses_and_the_hosts_file_come_first(world: World, tmp_path: Path) -> None:
    world.hosts = "# a comment\n10.9.9.9  Mine.lab other  # more\nnonsense mine.lab\n"
    resolver = world.resolver(tmp_path)
    assert await resolver.addresses("192.0.2.1") == ("192.0.2.1",)
    assert await resolver.addresses("[::1]") == ("::1",)
    assert await resolver.addresses("mine.lab") == ("10.9.9.9",)
    assert await resolver.addresses("localhost") == ("127.0.0.1", "::1")
    assert world.server.asked == []


async def test_an_answer_is_kept_for_its_time_to_live(world: World, tmp_path: Path) -> None:
    resolver = world.resolver(tmp_path)
    for _ in range(5):
        await resolver.addresses("both.lab")
    assert len(world.server.asked) == 2


async def test_many_who_ask_at_once_cost_one_question(world: World, tmp_path: Path) -> None:
    resolver = world.resolver(tmp_path)
    await asyncio.gather(*(resolver.addresses("both.lab") for _ in range(20)))
    assert len(world.server.asked) == 2


async def test_an_unknown_name_says_who_was_asked_and_what_they_said(world: World, tmp_path: Path) -> None:
    with pytest.raises(ResolveError, match=rf"port {world.port}: it knows no such name; the system's resolver: "):
        await world.resolver(tmp_path).addresses("nobody.invalid")


async def test_the_last_good_answer_outlives_a_dead_server(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LEAST_TTL_SECONDS", 0.0)
    monkeypatch.setattr(module, "MOST_TTL_SECONDS", 0.0)
    monkeypatch.setattr(module, "UDP_SECONDS", 0.1)
    monkeypatch.setattr(module, "TCP_SECONDS", 0.1)
    resolver = world.resolver(tmp_path)
    before = await resolver.addresses("both.lab")
    world.silent = True
    world.server.deaf = True
    assert await resolver.addresses("both.lab") == before


async def test_a_name_that_was_taken_away_is_not_remembered(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LEAST_TTL_SECONDS", 0.0)
    monkeypatch.setattr(module, "MOST_TTL_SECONDS", 0.0)
    resolver = world.resolver(tmp_path)
    await resolver.addresses("both.lab")
    world.server.empty = True
    with pytest.raises(ResolveError, match="no such name"):
        await resolver.addresses("both.lab")


async def test_a_silent_server_is_asked_over_tcp_and_delays_only_that_name(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "UDP_SECONDS", 0.1)
    world.silent = True
    assert await world.resolver(tmp_path).addresses("both.lab") == ("10.0.0.1", "10.0.0.2", "fd00::1")
    assert sorted(world.server.asked) == ["tcp both.lab. A", "tcp both.lab. AAAA"]


@pytest.mark.parametrize("name", ["a" * 300, "..", "x..y", "ü" * 100, "a b", "%"])
async def test_names_that_cannot_be_are_refused_in_words(world: World, tmp_path: Path, name: str) -> None:
    with pytest.raises(ResolveError):
        await world.resolver(tmp_path).addresses(name)


async def test_without_a_server_the_system_is_asked(tmp_path: Path) -> None:
    with pytest.raises(ResolveError, match="the system's resolver"):
        await Resolver(None, tmp_path / "no hosts").addresses("nobody.invalid")
