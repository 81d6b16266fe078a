"""How many connections and unfinished requests one address may have, and how long it may take over them."""

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from starlette.types import Receive, Scope, Send

from gpumon import limits, pipe
from gpumon.config import HubSection
from gpumon.limits import Visits, origin
from gpumon.listening import listen
from gpumon.logs import REPEATS, Unrepeated
from gpumon.refusals import MOST_ADDRESSES, REASONS, Refusals
from gpumon.serve import serve
from tests.running import until_true

LONG = b"x" * 4_000_000
HEAD = b"GET / HTTP/1.1\r\nHost: hub\r\n"


@dataclass
class Served:
    """An application that answers everything, and a server before it."""

    port: int
    refusals: Refusals
    bodies: list[bytes] = field(default_factory=list)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/body":
            body, more = b"", True
            while more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    return
                body, more = body + message["body"], message["more_body"]
            self.bodies.append(body)
        content = LONG if scope["path"] == "/long" else b"well"
        headers = [(b"content-length", b"%d" % len(content))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": content})

    async def connect(self) -> "Client":
        return Client(*await asyncio.open_connection("127.0.0.1", self.port, limit=64 * 1024))

    async def get(self, path: bytes = b"/") -> bytes:
        """The whole answer of a connection that is closed after it."""
        client = await self.connect()
        client.say(b"GET %b HTTP/1.1\r\nHost: hub\r\nConnection: close\r\n\r\n" % path)
        return await client.rest()


@dataclass
class Client:
    """A connection, byte by byte."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def say(self, data: bytes) -> None:
        self.writer.write(data)

    async def rest(self) -> bytes:
        """All that is said until the server closes."""
        try:
            return await self.reader.read()
        except ConnectionResetError:
            return b""
        finally:
            self.writer.close()

    async def answer(self) -> bytes:
        """One answer on a connection that goes on."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        return head + await self.reader.readexactly(int(length.partition(b":")[2]))


def is_told(record: logging.LogRecord) -> bool:
    """Whether it stands in gpumon's log: what uvicorn warns of does not."""
    return record.levelno >= (logging.WARNING if record.name.startswith("gpumon") else logging.ERROR)


@asynccontextmanager
async def serving(tls: ssl.SSLContext | None = None, **options: Any) -> AsyncIterator[Served]:
    listener = listen("127.0.0.1", 0, "test")
    served = Served(listener.getsockname()[1], Refusals())
    server = asyncio.create_task(serve(served, listener, visits=Visits(served.refusals, **options), tls=tls))
    try:
        yield served
    finally:
        server.cancel()
        await asyncio.gather(server, return_exceptions=True)


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    async with serving() as one:
        yield one


@pytest.fixture
def unspared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loopback is an address like any other."""
    monkeypatch.setattr(limits, "is_spared", lambda _: False)


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Deadlines that a test can wait for."""
    monkeypatch.setattr(limits, "SILENT_SECONDS", 0.3)
    monkeypatch.setattr(limits, "REQUEST_SECONDS", 0.3)


@pytest.mark.usefixtures("hasty")
async def test_connections_that_say_nothing_are_closed_without_a_word(served: Served) -> None:
    clients = [await served.connect() for _ in range(100)]
    assert await asyncio.gather(*(client.rest() for client in clients)) == [b""] * 100
    assert served.refusals.counts == {"silent_connection": 100}
    assert b"well" in await served.get()


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("part", [b"G", HEAD, HEAD + b"X-More: ", b"GET /"])
async def test_half_a_head_is_not_waited_for_and_the_reason_is_said(served: Served, part: bytes) -> None:
    client = await served.connect()
    client.say(part)
    said = await client.rest()
    assert said.startswith(b"HTTP/1.1 408 Request Timeout\r\n")
    assert b'"detail":"the head of the request was not complete within 0.3 s"' in said
    assert served.refusals.counts == {"slow_request": 1}


@pytest.mark.usefixtures("hasty")
async def test_a_head_that_trickles_in_is_ended_as_well(served: Served) -> None:
    client = await served.connect()
    client.say(HEAD)
    ended = asyncio.create_task(client.rest())
    while not ended.done():
        client.say(b"x")
        await asyncio.sleep(0.02)
    assert served.refusals.counts == {"slow_request": 1}


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("framing", [b"Content-Length: 100", b"Transfer-Encoding: chunked"])
@pytest.mark.parametrize("path", [b"/", b"/body"])
async def test_a_body_that_does_not_come_is_not_waited_for(served: Served, path: bytes, framing: bytes) -> None:
    client = await served.connect()
    client.say(b"POST %b HTTP/1.1\r\nHost: hub\r\n%b\r\n\r\n" % (path, framing))
    if path == b"/":  # which is answered without the body
        assert b"well" in await client.answer()
        assert await client.rest() == b""
    else:
        assert b"HTTP/1.1 408 " in await client.rest()
    assert served.refusals.counts == {"slow_request": 1}
    assert served.bodies == []


@pytest.mark.usefixtures("hasty")
async def test_the_next_head_on_a_connection_has_its_deadline_as_well(served: Served) -> None:
    client = await served.connect()
    client.say(HEAD + b"\r\n" + HEAD)
    assert b"well" in await client.answer()
    assert b"HTTP/1.1 408 " in await client.rest()


async def test_many_requests_on_one_connection_are_answered_in_order_however_they_are_cut(served: Served) -> None:
    client = await served.connect()
    requests = (HEAD + b"\r\n") * 20 + b"POST /body HTTP/1.1\r\nHost: hub\r\nContent-Length: 3\r\n\r\nabc"
    for start in range(0, len(requests), 7):
        client.say(requests[start : start + 7])
        await asyncio.sleep(0)
    for _ in range(21):
        assert (await client.answer()).endswith(b"well")
    assert served.bodies == [b"abc"]
    client.writer.close()


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (HEAD + b"X-Long: " + b"x" * limits.MAX_HEAD_BYTES + b"\r\n\r\n", b"431"),
        (b"GET /" + b"x" * limits.MAX_HEAD_BYTES + b" HTTP/1.1\r\nHost: hub\r\n\r\n", b"431"),
        (HEAD + b"X: y\r\n" * limits.MAX_HEAD_LINES + b"\r\n", b"431"),
        (HEAD + b"X: y\r\n" * 10_000, b"431"),
        (b"POST /body HTTP/1.1\r\nHost: hub\r\nContent-Length: 65537\r\n\r\n", b"413"),
        (b"POST /body HTTP/1.1\r\nHost: hub\r\nContent-Length: 99999999999999999999\r\n\r\n", b"413"),
        (b"POST /body HTTP/1.1\r\nHost: hub\r\nContent-Length: -1\r\n\r\n", b"400"),
        (b"POST /body HTTP/1.1\r\nHost: hub\r\nContent-Length: 1, 2\r\n\r\n", b"400"),
        (b"POST /body HTTP/1.1\r\nHost: hub\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", b"400"),
        (
            b"POST /body HTTP/1.1\r\nHost: hub\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            b"400",
        ),
        (b"POST /body HTTP/1.1\r\nHost: hub\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", b"501"),
        (
            b"POST /body HTTP/1.1\r\nHost: hub\r\nTransfer-Encoding: chunked\r\n\r\n"
            + b"8000\r\n%b\r\n" % (b"x" * 0x8000) * 3,
            b"413",
        ),
        (
            b"POST /body HTTP/1.1\r\nHost: hub\r\nTransfer-Encoding: chunked\r\n\r\n"
            + b"1\r\nx\r\n" * (limits.MAX_BODY_PIECES + 1),
            b"413",
        ),
        (b"POST /body HTTP/1.1\r\nHost: hub\r\nTransfer-Encoding: chunked\r\n\r\nwide\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nHost: hub\r\nX: a\rb\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nHost: hub\r\nX: a\x00b\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nHost: hub\r\nX : y\r\n\r\n", b"400"),
        (b"GET /\x00 HTTP/1.1\r\nHost: hub\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\n\r\n", b"400"),
        (b"GET / HTTP/2.0\r\nHost: hub\r\n\r\n", b"505"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"400"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"505"),
        (b"\r\n\r\n\r\n", b"400"),
    ],
    ids=lambda value: repr(value)[:50],
)
async def test_what_is_too_large_or_no_http_is_refused_in_words(
    served: Served, request_bytes: bytes, status: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    client = await served.connect()
    client.say(request_bytes)
    said = await client.rest()
    if said:  # else the reset that answers what is sent to a closed connection was faster
        assert said.startswith(b"HTTP/1.1 " + status)
        assert b"application/problem+json" in said
    assert sum(served.refusals.counts.values()) == 1
    assert served.bodies == []
    assert b"well" in await served.get()
    assert [record.name for record in caplog.records if is_told(record)] == ["gpumon.refusals"]


async def test_each_body_may_come_in_many_pieces(served: Served) -> None:
    client = await served.connect()
    for _ in range(2):
        client.say(b"POST /body HTTP/1.1\r\nHost: hub\r\nTransfer-Encoding: chunked\r\n\r\n")
        client.say(b"1\r\nx\r\n" * limits.MAX_BODY_PIECES + b"0\r\n\r\n")
        assert b"well" in await client.answer()
    assert served.bodies == [b"x" * limits.MAX_BODY_PIECES] * 2
    client.writer.close()


async def test_a_request_that_breaks_the_rules_in_the_middle_of_an_answer_ends_the_connection(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    client = await served.connect()
    client.say(b"POST /long HTTP/1.1\r\nHost: hub\r\nTransfer-Encoding: chunked\r\n\r\nno chunk at all\r\n")
    await client.rest()
    assert served.refusals.counts == {"bad_request": 1}
    assert [record.name for record in caplog.records if is_told(record)] == ["gpumon.refusals"]


@pytest.mark.usefixtures("unspared")
async def test_one_address_has_so_many_connections_and_gets_new_ones_when_old_ones_end(served: Served) -> None:
    clients = [await served.connect() for _ in range(limits.MAX_CONNECTIONS)]
    for client in clients:
        client.say(HEAD + b"\r\n")
        await client.answer()
    one_more = await served.connect()
    said = await one_more.rest()
    assert said.startswith(b"HTTP/1.1 429 Too Many Requests\r\n")
    assert b"\r\nRetry-After: 10\r\n" in said
    assert b"allowed: 64 connections from one address" in said
    assert served.refusals.counts == {"too_many_connections": 1}
    for client in clients:
        client.writer.close()
    while b"well" not in await served.get():
        pass


@pytest.mark.usefixtures("unspared")
async def test_who_runs_a_hub_says_how_many_and_may_say_otherwise_while_it_runs() -> None:
    settings = HubSection(connections_per_address=70)
    async with serving(most_connections=lambda: settings.connections_per_address) as served:
        clients = [await served.connect() for _ in range(70)]
        for client in clients:
            client.say(HEAD + b"\r\n")
            assert b"well" in await client.answer()
        assert b"allowed: 70 connections from one address" in await (await served.connect()).rest()
        settings = HubSection(connections_per_address=75)
        one_more = await served.connect()
        one_more.say(HEAD + b"\r\n")
        assert b"well" in await one_more.answer()
        for client in [*clients, one_more]:
            client.writer.close()


@pytest.mark.usefixtures("unspared")
async def test_a_proxy_that_is_known_may_have_more() -> None:
    async with serving(is_proxy=lambda address: address == "127.0.0.1") as served:
        clients = [await served.connect() for _ in range(limits.MAX_CONNECTIONS + 1)]
        for client in clients:
            client.say(HEAD)
        for client in clients:
            client.say(b"\r\n")
            assert b"well" in await client.answer()
            client.writer.close()
        assert served.refusals.counts == {}


@pytest.mark.usefixtures("unspared")
async def test_one_address_has_so_many_unfinished_requests(served: Served) -> None:
    clients = [await served.connect() for _ in range(limits.MAX_UNFINISHED)]
    for number, client in enumerate(clients):
        whole = b"POST /body HTTP/1.1\r\nHost: hub\r\nContent-Length: 10\r\n\r\n" if number % 2 else HEAD
        client.say(whole)
    said = b""
    while b" 429 " not in said:  # until the server has read those of before
        one_more = await served.connect()
        one_more.say(HEAD)
        await asyncio.sleep(0.01)
        one_more.say(b"\r\n")
        said = (await one_more.answer()) if not one_more.reader.at_eof() else b""
        one_more.writer.close()
    assert b"allowed: 10 unfinished requests from one address" in said
    assert b"well" in await served.get()  # which comes in one piece
    clients[0].say(b"\r\n")
    assert b"well" in await clients[0].answer()
    one_more = await served.connect()
    one_more.say(HEAD)
    await asyncio.sleep(0.01)
    one_more.say(b"\r\n")
    assert b"well" in await one_more.answer()
    for client in [*clients, one_more]:
        client.writer.close()


@pytest.mark.parametrize("closing", [b"", b"Connection: close\r\n"])
async def test_a_peer_that_stops_reading_an_answer_is_freed(
    monkeypatch: pytest.MonkeyPatch, served: Served, closing: bytes
) -> None:
    monkeypatch.setattr(pipe, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(pipe, "STALLED_SECONDS", 0.5)
    clients = [await served.connect() for _ in range(3)]
    for client in clients:
        client.say(b"GET /long HTTP/1.1\r\nHost: hub\r\n%b\r\n" % closing)
    await until_true(lambda: served.refusals.counts == {"slow_reader": 3})
    for client in clients:
        assert len(await client.rest()) < len(LONG)
    assert len(await served.get(b"/long")) > len(LONG)


async def test_a_peer_that_reads_slowly_gets_all_of_it(monkeypatch: pytest.MonkeyPatch, served: Served) -> None:
    monkeypatch.setattr(pipe, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(pipe, "STALLED_SECONDS", 1.0)
    client = await served.connect()
    client.say(b"GET /long HTTP/1.1\r\nHost: hub\r\nConnection: close\r\n\r\n")
    got = 0
    while data := await client.reader.read(64 * 1024):
        got += len(data)
        await asyncio.sleep(0.02)
    assert got > len(LONG)
    assert served.refusals.counts == {}
    client.writer.close()


def test_a_peer_that_takes_nothing_or_too_little_is_behind_for_good() -> None:
    stuck, trickling = pipe.Behind(100, 0.0), pipe.Behind(1000, 0.0)
    for second in range(1, int(pipe.STALLED_SECONDS)):
        assert stuck.is_moving(100 + second, second)  # what it is sent meanwhile, such as pings
        assert trickling.is_moving(1000 - second, second)
    assert not stuck.is_moving(110, pipe.STALLED_SECONDS)
    for second in range(int(pipe.STALLED_SECONDS), int(pipe.BLOCKED_SECONDS)):
        assert trickling.is_moving(1000 - second, second)
    assert not trickling.is_moving(1, pipe.BLOCKED_SECONDS)


@pytest.mark.parametrize(
    ("peer", "counts_for"),
    [
        (("192.0.2.7", 1), "192.0.2.7"),
        (("::ffff:192.0.2.7", 1, 0, 0), "192.0.2.7"),
        (("2001:db8:1:2:3:4:5:6", 1, 0, 0), "2001:db8:1:2::/64"),
        (("fe80::1%eth0", 1, 0, 2), "fe80::/64"),
        (("::1", 1, 0, 0), "::1"),
        ("/run/a.socket", None),
        (None, None),
    ],
)
def test_a_network_of_ipv6_counts_as_one_address(peer: object, counts_for: str | None) -> None:
    assert origin(peer) == counts_for


def test_loopback_is_spared_the_counts() -> None:
    assert [limits.is_spared(one) for one in ("127.0.0.1", "127.9.9.9", "::1", "192.0.2.7", "2001:db8::/64")] == [
        *(True, True, True),
        *(False, False),
    ]


def test_what_is_refused_is_counted_and_said_once_a_minute_for_each_address(caplog: pytest.LogCaptureFixture) -> None:
    now = 0.0
    refusals = Refusals(lambda: now)
    for _ in range(3):
        for address in ("192.0.2.1", "192.0.2.2"):
            refusals.note("bad_request", address, "a\r\nb")
    refusals.note("slow_request", "192.0.2.1", "slow")
    assert [record.getMessage() for record in caplog.records] == [
        "refused 192.0.2.1: a\r\nb",  # the log's formatter makes one line of it
        "refused 192.0.2.2: a\r\nb",
        "refused 192.0.2.1: slow",
    ]
    now = 60.0
    refusals.note("bad_request", "192.0.2.1", "c")
    assert caplog.records[-1].getMessage() == "refused 192.0.2.1: c (2 more since the last word of it)"
    assert refusals.counts == {"bad_request": 7, "slow_request": 1}
    assert refusals.counts.keys() <= REASONS.keys()


def test_of_many_addresses_a_reason_is_said_a_few_times(caplog: pytest.LogCaptureFixture) -> None:
    refusals = Refusals(lambda: 0.0)
    for number in range(5000):
        refusals.note("bad_request", f"192.0.{number >> 8}.{number & 255}", "words")
    assert len(caplog.records) == MOST_ADDRESSES + 1
    assert caplog.records[-1].getMessage() == "refused many addresses: words"
    assert refusals.counts == {"bad_request": 5000}


def test_an_identical_line_passes_a_few_times_a_minute() -> None:
    now = 0.0
    lines = Unrepeated(lambda: now)

    def passed(text: str, *arguments: object) -> str | None:
        record = logging.LogRecord("gpumon", logging.WARNING, "", 0, text, arguments, None)
        return record.getMessage() if lines.filter(record) else None

    said = [passed("agent at %s: closed", "h") for _ in range(100)]
    assert said[: REPEATS + 1] == [
        *["agent at h: closed"] * (REPEATS - 1),
        "agent at h: closed (and again: left out for a minute)",
        None,
    ]
    assert set(said[REPEATS:]) == {None}
    assert passed("agent at %s: closed", "i") == "agent at i: closed"
    now = 60.0
    assert passed("agent at %s: closed", "h") == "agent at h: closed"
    assert all(passed("line %s", number) for number in range(5000))
