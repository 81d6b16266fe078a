"""Names, asked of a DNS server of our own that answers rightly, wrongly or not at all."""

import asyncio
import contextlib
import socket
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest

from gpumon import nameserver
from gpumon import resolver as module
from gpumon.errors import ResolveError, SilenceError
from gpumon.resolver import Resolver
from tests.running import free_port, until

RECORDS = {
    ("both.lab.", "A"): ["10.0.0.1", "10.0.0.2"],
    ("both.lab.", "AAAA"): ["fd00::1"],
    ("six.lab.", "AAAA"): ["fd00::6"],
    ("large.lab.", "A"): [f"10.1.{n // 250}.{n % 250 + 1}" for n in range(60)],
    ("other.lab.", "CNAME"): ["real.lab."],
    ("real.lab.", "A"): ["10.0.0.8"],
    ("round.lab.", "CNAME"): ["about.lab."],
    ("about.lab.", "CNAME"): ["round.lab."],
    ("blocked.lab.", "A"): ["0.0.0.0"],
}
Spoil = Callable[[bytes], list[bytes]]


class Server(asyncio.DatagramProtocol):
    """Answers from :data:`RECORDS`; truncates what UDP does not hold, so that TCP is asked."""

    def __init__(self, silent: Callable[[], bool]) -> None:
        self.asked: list[str] = []
        self.deaf = False
        self.empty = False
        self.drips = False
        self.delay = 0.0
        self.spoil: Spoil = lambda reply: [reply]
        self._silent = silent
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        assert self._transport is not None
        if not self._silent():
            for reply in self.spoil(self.reply(data, limit=512, over="udp")):
                asyncio.get_running_loop().call_later(self.delay, self._transport.sendto, reply, addr)

    async def stream(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            length = int.from_bytes(await reader.readexactly(2))
            query = await reader.readexactly(length)
            if self.deaf:
                return
            reply = self.reply(query, limit=65535, over="tcp")
            while self.drips:
                writer.write(b"\xff")
                await asyncio.sleep(0.05)
            writer.write(len(reply).to_bytes(2) + reply)
            await writer.drain()
        finally:
            writer.close()

    def reply(self, data: bytes, limit: int, over: str) -> bytes:
        query = dns.message.from_wire(data)
        question = query.question[0]
        name, kind = question.name.to_text(), question.rdtype.name
        self.asked.append(f"{over} {name} {kind}")
        response = dns.message.make_response(query)
        records = {} if self.empty else RECORDS
        for _ in range(5):  # what an alias stands for is told with it
            if alias := records.get((name, "CNAME")):
                response.answer.append(dns.rrset.from_text_list(name, 60, "IN", "CNAME", alias))
                (name,) = alias
        if rows := records.get((name, kind)):
            ttl = 60 if name == question.name.to_text() else 20
            response.answer.append(dns.rrset.from_text_list(name, ttl, "IN", kind, rows))
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
    world.port = free_port(kinds=(socket.SOCK_STREAM, socket.SOCK_DGRAM))
    tcp = await asyncio.start_server(world.server.stream, "127.0.0.1", world.port)
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
    assert len(await world.resolver(tmp_path).addresses("large.lab")) == nameserver.MOST_ADDRESSES
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


async def test_addresses_at_which_nobody_is_are_asked_for_again_but_not_at_once(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolver = world.resolver(tmp_path)
    resolver.doubt("both.lab")  # whom nobody has asked for
    await resolver.addresses("both.lab")
    monkeypatch.setattr(module, "LEAST_TTL_SECONDS", 600.0)
    resolver.doubt("both.lab")
    await resolver.addresses("both.lab")
    assert len(world.server.asked) == 2
    monkeypatch.setattr(module, "LEAST_TTL_SECONDS", 0.0)
    resolver.doubt("both.lab")
    assert resolver.resolution("both.lab") is not None
    await resolver.addresses("both.lab")
    assert len(world.server.asked) == 4


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
    monkeypatch.setattr(module, "PATIENCE_SECONDS", 0.1)
    monkeypatch.setattr(module, "LIFETIME_SECONDS", 60.0)
    monkeypatch.setattr(nameserver, "UDP_SECONDS", 60.0)
    resolver = world.resolver(tmp_path)
    before = await resolver.addresses("both.lab")
    world.silent = True
    async with asyncio.timeout(20):  # whoever asks does not wait for the server's whole time
        assert await resolver.addresses("both.lab") == before
        asked = len(world.server.asked)
        assert await resolver.addresses("both.lab") == before
        assert len(world.server.asked) == asked  # nor is a silent server asked each time
    kept = resolver.resolution("both.lab")
    assert kept is not None
    assert kept.is_kept


async def test_a_server_that_is_slow_is_heard_all_the_same(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LEAST_TTL_SECONDS", 0.0)
    monkeypatch.setattr(module, "MOST_TTL_SECONDS", 0.0)
    monkeypatch.setattr(module, "RETRY_SECONDS", 0.0)
    monkeypatch.setattr(module, "PATIENCE_SECONDS", 0.05)
    resolver = world.resolver(tmp_path)
    await resolver.addresses("both.lab")
    world.server.delay = 0.2

    async def is_fresh(*, wanted: bool) -> bool:
        await resolver.addresses("both.lab")
        found = resolver.resolution("both.lab")
        return found is not None and found.is_kept is not wanted

    await until(lambda: is_fresh(wanted=False))
    await until(lambda: is_fresh(wanted=True))


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
    monkeypatch.setattr(nameserver, "UDP_SECONDS", 0.1)
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


def _wrong_id(reply: bytes) -> list[bytes]:
    return [bytes([reply[0] ^ 1]) + reply[1:]]


def _other_question(reply: bytes) -> list[bytes]:
    return [reply.replace(b"\x04both", b"\x04broth")]


def _nonsense(reply: bytes) -> list[bytes]:
    return [b"", reply[:7], reply[:-3], reply[:2] + b"\xff" * 200]


def _nothing_but_a_head(reply: bytes) -> list[bytes]:
    return [reply[:2] + b"\x81\x80" + bytes(8)]


@pytest.mark.parametrize("spoil", [_wrong_id, _other_question, _nonsense, _nothing_but_a_head])
async def test_what_is_no_answer_to_the_question_is_not_heard(world: World, tmp_path: Path, spoil: Spoil) -> None:
    world.server.spoil = lambda reply: [*spoil(reply), reply]
    assert await world.resolver(tmp_path).addresses("both.lab") == ("10.0.0.1", "10.0.0.2", "fd00::1")


@pytest.mark.parametrize("spoil", [_wrong_id, _other_question, _nonsense, _nothing_but_a_head])
async def test_a_server_that_talks_nonsense_is_as_good_as_silent(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spoil: Spoil
) -> None:
    monkeypatch.setattr(nameserver, "UDP_SECONDS", 0.2)
    world.server.spoil = spoil
    world.server.deaf = True
    with pytest.raises(SilenceError, match=f"port {world.port}"):
        await world.resolver(tmp_path).addresses("both.lab")


async def test_an_answer_that_drips_ends_in_time(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nameserver, "UDP_SECONDS", 0.1)
    world.silent = True
    world.server.drips = True
    async with asyncio.timeout(20):
        with pytest.raises(ResolveError):
            await world.resolver(tmp_path).addresses("both.lab")
    world.server.drips = False


async def test_aliases_are_followed_and_hold_as_long_as_the_shortest_of_them(world: World, tmp_path: Path) -> None:
    resolver = world.resolver(tmp_path)
    assert await resolver.addresses("other.lab") == ("10.0.0.8",)
    found = resolver.resolution("other.lab")
    assert found is not None
    assert found.ttl_seconds == 20


@pytest.mark.parametrize("name", ["round.lab", "blocked.lab"])
async def test_aliases_in_a_circle_and_addresses_that_no_host_has_are_no_answer(
    world: World, tmp_path: Path, name: str
) -> None:
    async with asyncio.timeout(20):
        with pytest.raises(ResolveError):
            await world.resolver(tmp_path).addresses(name)


async def test_who_answered_is_told_and_nothing_is_told_anew_while_nothing_was_asked(
    world: World, tmp_path: Path
) -> None:
    world.hosts = "10.9.9.9 mine.lab\n"
    resolver = world.resolver(tmp_path)
    for host in ("both.lab", "mine.lab", "192.0.2.1"):
        await resolver.addresses(host)
    both, mine = resolver.resolution("both.lab"), resolver.resolution("Mine.lab.")
    assert both is not None
    assert mine is not None
    assert (both.server, both.ttl_seconds, mine.server) == (f"127.0.0.1 port {world.port}", 60, "the hosts file")
    assert resolver.resolution("192.0.2.1") is None
    assert resolver.resolution("never.asked") is None
    await resolver.addresses("both.lab")
    assert resolver.resolution("both.lab") is both


async def test_that_there_is_no_address_is_kept_for_a_moment_too(world: World, tmp_path: Path) -> None:
    resolver = world.resolver(tmp_path)
    for _ in range(3):
        with pytest.raises(ResolveError):
            await resolver.addresses("nobody.invalid")
    assert len(world.server.asked) == 2


async def test_names_that_nobody_uses_are_forgotten(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_NAMES", 2)
    resolver = world.resolver(tmp_path)
    for host in ("both.lab", "six.lab", "both.lab", "large.lab"):
        await resolver.addresses(host)
    assert resolver.resolution("six.lab") is None
    assert resolver.resolution("both.lab") is not None


async def test_a_hosts_file_that_changes_is_read_again(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LEAST_TTL_SECONDS", 0.0)
    world.hosts = "10.9.9.9 mine.lab\n"
    resolver = world.resolver(tmp_path)
    assert await resolver.addresses("mine.lab") == ("10.9.9.9",)
    (tmp_path / "hosts").write_text("10.9.9.10 mine.lab\nfd00::9 mine.lab\n")
    assert await resolver.addresses("mine.lab") == ("10.9.9.10", "fd00::9")


async def test_the_system_is_asked_once_at_a_time_and_an_answer_that_comes_late_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    answering = threading.Event()

    def slow(host: str, *_: object, **__: object) -> list[tuple[object, ...]]:
        asked.append(host)
        answering.wait(20)
        return [(None, None, None, "", ("10.7.0.1", 0))]

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    monkeypatch.setattr(module, "LIFETIME_SECONDS", 0.1)
    monkeypatch.setattr(module, "NEGATIVE_SECONDS", 0.0)
    resolver = Resolver(None, tmp_path / "no hosts")
    for _ in range(3):
        with pytest.raises(SilenceError):
            await resolver.addresses("slow.lab")
    answering.set()

    async def is_known() -> bool:
        with contextlib.suppress(ResolveError):
            return await resolver.addresses("slow.lab") == ("10.7.0.1",)
        return False

    await until(is_known)
    assert asked == ["slow.lab"]
    found = resolver.resolution("slow.lab")
    assert found is not None
    assert found.server == "the system's resolver"


async def test_a_machine_that_allows_no_thread_now_is_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(module, "NEGATIVE_SECONDS", 0.0)
    resolver = Resolver(None, tmp_path / "no hosts")
    with monkeypatch.context() as crowded:
        crowded.setattr(threading.Thread, "start", refuse)
        with pytest.raises(SilenceError, match="no further thread"):
            await resolver.addresses("ip4only.lab")
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [(None, None, None, "", ("10.7.0.1", 0))])
    assert await resolver.addresses("ip4only.lab") == ("10.7.0.1",)
