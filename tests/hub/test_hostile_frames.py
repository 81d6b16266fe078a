"""Frames that break the rules of the WebSocket (RFC 6455), on every socket of a hub and at every moment of it."""

import asyncio
import contextlib
import json
import logging
import struct
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from gpumon import serve
from gpumon.hub import ingest
from gpumon.wire import MAX_MESSAGE_BYTES, Close
from tests.framing import CLOSE, CONTINUED, LAST, MASK, NOT_LAST, PING, PONG, TEXT, close_frame, frame
from tests.hub.agents import hello, report
from tests.running import Site, running_hub

BINARY = 2
PROTOCOL, BAD_TEXT, POLICY, TOO_BIG, NORMAL = 1002, 1007, 1008, 1009, 1000
PLACES = ("push", "welcomed", "stream")


def heard(data: bytes) -> list[tuple[int, bytes]]:
    """Opcode and payload of each frame that a server sent, as far as it is there."""
    frames = []
    while len(data) >= 2:
        size, body = data[1] & 0x7F, 2
        if size > 125:
            width = 2 if size == 126 else 8
            size, body = int.from_bytes(data[2 : 2 + width]), 2 + width
        if len(data) < body + size:
            break
        frames.append((data[0] & 0x0F, data[body : body + size]))
        data = data[body + size :]
    return frames


class Peer:
    """A client that has shaken hands, and says what it likes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._data = b""

    async def say(self, data: bytes) -> None:
        for start in range(0, len(data), 64 * 1024):
            self._writer.write(data[start : start + 64 * 1024])
            await asyncio.sleep(0)

    async def hear(self, opcode: int) -> bytes:
        """The payload of the first frame with that opcode; empty where the connection ends before."""
        while not (found := [body for kind, body in heard(self._data) if kind == opcode]):
            try:
                data = await self._reader.read(64 * 1024)
            except ConnectionResetError:
                return b""
            if not data:
                return b""
            self._data += data
        return found[0]

    async def end(self) -> tuple[int, str]:
        """The code and the reason with which the server closes."""
        body = await self.hear(CLOSE)
        return (int.from_bytes(body[:2]) if body else 0), body[2:].decode()

    def leave(self) -> None:
        self._writer.close()


@asynccontextmanager
async def peer(hub: Site, place: str) -> AsyncIterator[Peer]:
    """A connection to the socket of agents, before or after hello, or to that of viewers."""
    path = "stream" if place == "stream" else "push"
    reader, writer = await asyncio.open_connection("127.0.0.1", hub.port)
    writer.write(
        b"GET /api/%b HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n"
        b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n"
        b"Sec-WebSocket-Protocol: gpumon.v1\r\n\r\n" % path.encode()
    )
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    assert b" 101 " in head
    assert b"extensions" not in head  # compression is offered, and declined: there is nothing that could unpack
    one = Peer(reader, writer)
    if place == "welcomed":
        await one.say(frame(TEXT, json.dumps(hello()).encode()))
        assert b'"welcome"' in await one.hear(TEXT)
    try:
        yield one
    finally:
        one.leave()


@pytest.fixture(autouse=True)
def nothing_is_wrong_with_the_hub(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    yield
    wrong = [
        record
        for record in caplog.records
        if (record.exc_info and record.name != "uvicorn.error") or record.levelno > logging.WARNING
    ]
    assert [record.getMessage() for record in wrong if record.name != "uvicorn.error"] == []


async def is_well(hub: Site) -> None:
    """An agent and a viewer are served as ever."""
    async with peer(hub, "stream") as viewer:
        assert b'"snapshot"' in await viewer.hear(TEXT)
    assert (await hub.get("/health"))["status"] == "ok"


BROKEN = {
    "a message without a mask": (frame(TEXT, b"{}", mask=False), PROTOCOL),
    "a binary message without a mask": (frame(BINARY, b"{}", mask=False), PROTOCOL),
    "a ping without a mask": (frame(PING, b"x", mask=False), PROTOCOL),
    "an end without a mask": (frame(CLOSE, b"\x03\xe8", mask=False), PROTOCOL),
    "the first reserved bit, as of compression": (frame(TEXT, b"\xaa\x56\x2a\x05\x00", 0xC0), PROTOCOL),
    "the second reserved bit": (frame(TEXT, b"{}", 0xA0), PROTOCOL),
    "the third reserved bit": (frame(TEXT, b"{}", 0x90), PROTOCOL),
    "all reserved bits": (frame(TEXT, b"{}", 0xF0), PROTOCOL),
    "a reserved bit on a ping": (frame(PING, b"x", 0xC0), PROTOCOL),
    "a reserved bit on an end": (frame(CLOSE, b"\x03\xe8", 0xC0), PROTOCOL),
    "a reserved bit on a later piece": (
        frame(TEXT, b"{", NOT_LAST) + frame(CONTINUED, b"}", 0xC0),
        PROTOCOL,
    ),
    **{f"the reserved opcode {code}": (frame(code, b"{}"), PROTOCOL) for code in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)},
    "a ping in pieces": (frame(PING, b"x", NOT_LAST), PROTOCOL),
    "a pong in pieces": (frame(PONG, b"x", NOT_LAST), PROTOCOL),
    "an end in pieces": (frame(CLOSE, b"\x03\xe8", NOT_LAST), PROTOCOL),
    "a ping of 126 bytes": (frame(PING, b"x" * 126), PROTOCOL),
    "a pong of 126 bytes": (frame(PONG, b"x" * 126), PROTOCOL),
    "an end of 126 bytes": (close_frame(1000, b"x" * 124), PROTOCOL),
    "a ping of 4 KiB": (frame(PING, b"x" * 4096), PROTOCOL),
    "a ping that says it has 2^63 bytes": (frame(PING, size=2**63), TOO_BIG),
    "a last piece without a first": (frame(CONTINUED, b"x"), PROTOCOL),
    "a piece without a first": (frame(CONTINUED, b"x", NOT_LAST), PROTOCOL),
    "a message within a message": (frame(TEXT, b"{", NOT_LAST) + frame(TEXT, b"{}"), PROTOCOL),
    "a binary message within a message": (frame(TEXT, b"{", NOT_LAST) + frame(BINARY, b"{}"), PROTOCOL),
    "a second first piece": (frame(TEXT, b"{", NOT_LAST) + frame(TEXT, b"{", NOT_LAST), PROTOCOL),
    "a ping of 126 bytes between pieces": (frame(TEXT, b"{", NOT_LAST) + frame(PING, b"x" * 126), PROTOCOL),
    "a message of a byte too much": (frame(TEXT, size=MAX_MESSAGE_BYTES + 1), TOO_BIG),
    "a message of 4 GiB": (frame(BINARY, size=2**32), TOO_BIG),
    "a message of 2^63 bytes": (frame(TEXT, size=2**63), TOO_BIG),
    "a message of 2^64 - 1 bytes": (frame(TEXT, size=2**64 - 1), TOO_BIG),
    "pieces that are too much together": (
        frame(TEXT, b"x" * 4000, NOT_LAST) + frame(CONTINUED, size=MAX_MESSAGE_BYTES - 3999),
        TOO_BIG,
    ),
    "pieces without end": (
        frame(TEXT, b"x", NOT_LAST) + frame(CONTINUED, b"", NOT_LAST) * 5000,
        POLICY,
    ),
    "pings without end": (frame(PING) * 5000, POLICY),
    "pongs without end": (frame(PONG) * 5000, POLICY),
    "text that is none right before an end": (
        frame(TEXT, b"\xff", NOT_LAST) + frame(CONTINUED, b"\xff") + close_frame(NORMAL),
        NORMAL,
    ),
    "an end between pieces": (frame(TEXT, b"{", NOT_LAST) + close_frame(1000), PROTOCOL),
    "an end of one byte": (frame(CLOSE, b"\x03"), PROTOCOL),
    "an end with a reason that is no text": (close_frame(1000, b"\xff\xfe"), BAD_TEXT),
    **{
        f"an end with the code {code}": (close_frame(code), PROTOCOL)
        for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535)
    },
    "text in pieces that is none": (
        frame(TEXT, b"\xce\xba\xe1", NOT_LAST) + frame(CONTINUED, b"\xff"),
        BAD_TEXT,
    ),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("case", BROKEN)
async def test_what_breaks_the_rules_ends_that_connection_with_the_code_for_it(
    hub: Site, case: str, place: str
) -> None:
    sent, code = BROKEN[case]
    async with peer(hub, place) as one:
        await one.say(sent)
        assert (await one.end())[0] == code
    await is_well(hub)


@pytest.mark.parametrize("place", PLACES)
async def test_who_is_still_talking_hears_why_it_was_ended(hub: Site, place: str) -> None:
    async with peer(hub, place) as one:
        await one.say(frame(TEXT, b"x" * (MAX_MESSAGE_BYTES + 1)))
        assert (await one.end())[0] == TOO_BIG
    await is_well(hub)


async def test_a_viewer_says_little(hub: Site) -> None:
    for sent in (frame(TEXT, size=4097), frame(TEXT, b"x" * 4000, NOT_LAST) + frame(CONTINUED, size=97)):
        async with peer(hub, "stream") as one:
            await one.hear(TEXT)
            await one.say(frame(TEXT, b"x" * 4096) + sent)
            assert (await one.end())[0] == TOO_BIG


async def test_a_viewer_that_talks_without_end_is_cut_off(hub: Site) -> None:
    async with peer(hub, "stream") as one:
        await one.hear(TEXT)
        await one.say(frame(TEXT, b"hello") * 200)
        await one.hear(CLOSE)
    assert (await hub.get("/health?verbose"))["refused"] == {"too_many_messages": 2}
    await is_well(hub)


async def test_tiny_messages_without_pause_keep_nobody_waiting(hub: Site) -> None:
    flood = frame(TEXT) * 10_000

    async def talk(place: str, first: bytes) -> None:
        with contextlib.suppress(ConnectionError):
            async with peer(hub, place) as one:
                await one.say(first)
                for _ in range(20):
                    await one.say(flood)
                await one.hear(CLOSE)

    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        pieces = frame(TEXT, b"a", NOT_LAST) + frame(CONTINUED, b"b")
        talking = [group.create_task(talk("stream", pieces)), *(group.create_task(talk("push", b"")) for _ in range(8))]
        most_work = 0.0  # of the processor, for whoever waits: whatever else a machine has to do does not count
        while not all(one.done() for one in talking):
            asked = time.process_time()
            assert (await hub.get("/health"))["status"] == "ok"
            most_work = max(most_work, time.process_time() - asked)
    assert most_work < 1
    await is_well(hub)


GOOD = {
    **{
        f"an end with the code {code}": (close_frame(code, b"bye"), code)
        for code in (1000, 1001, 1003, 1011, 3000, 4999)
    },
    "an end with a reason of 123 bytes": (close_frame(1000, b"x" * 123), NORMAL),
    "whatever comes after an end": (
        close_frame(1000) + frame(TEXT, b"{}") + frame(PING, b"x") + b"\xff" * 1000,
        NORMAL,
    ),
    "two ends": (close_frame(1000) + close_frame(1001), NORMAL),
    "pongs that nobody asked for": (frame(PONG) + frame(PONG, b"x" * 125) + close_frame(1000), NORMAL),
    "a ping of 125 bytes": (frame(PING, b"x" * 125) + close_frame(1000), NORMAL),
    "an empty end": (frame(CLOSE), 0),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("case", GOOD)
async def test_an_end_is_answered_with_its_own_code(hub: Site, case: str, place: str) -> None:
    sent, code = GOOD[case]
    async with peer(hub, place) as one:
        await one.say(sent)
        assert (await one.end())[0] == code
    await is_well(hub)


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
async def test_a_message_that_is_no_text_ends_an_agents_link_and_says_why(hub: Site, opcode: int) -> None:
    for place in ("push", "welcomed"):
        async with peer(hub, place) as one:
            await one.say(frame(opcode, b'{"type": "heartbeat", "more": "\xff"}'))
            code, reason = await one.end()
            assert code in (Close.BAD_MESSAGE, BAD_TEXT)
            assert code == BAD_TEXT or "UTF-8" in reason
    await is_well(hub)


@pytest.mark.parametrize(
    "head",
    [
        bytes([LAST | TEXT, 0x80 | 126]) + struct.pack("!H", 4) + MASK,
        bytes([LAST | TEXT, 0x80 | 127]) + struct.pack("!Q", 4) + MASK,
    ],
)
async def test_a_length_in_more_bytes_than_it_needs_is_read_all_the_same(hub: Site, head: bytes) -> None:
    """The protocol forbids it, no harm comes of it, and the library lets it pass."""
    async with peer(hub, "push") as one:
        await one.say(head + bytes(byte ^ MASK[place] for place, byte in enumerate(b"null")))
        code, reason = await one.end()
        assert (code, "Expected `object`, got `null`" in reason) == (Close.BAD_MESSAGE, True)


@pytest.mark.parametrize("half", [b"\x81", b"\x81\xfe\x01", frame(TEXT, b"{}")[:-1], frame(TEXT, b"{", NOT_LAST)])
@pytest.mark.parametrize(("place", "code"), [("push", Close.TOO_SLOW), ("welcomed", Close.TOO_SLOW), ("stream", 1011)])
async def test_half_a_frame_and_then_silence_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch, half: bytes, place: str, code: int
) -> None:
    monkeypatch.setattr(serve, "PING_SECONDS", 0.2 if place == "stream" else 60)
    monkeypatch.setattr(ingest, "HELLO_SECONDS", 1.0)
    monkeypatch.setattr(ingest, "SILENCE_SECONDS", 1.0)
    async with running_hub() as hub:
        async with peer(hub, place) as one:
            await one.say(half)
            assert (await one.end())[0] == code
        monkeypatch.undo()
        await is_well(hub)


async def test_a_hello_and_reports_byte_by_byte_are_taken(hub: Site) -> None:
    async with peer(hub, "push") as one:
        for byte in b"".join(frame(TEXT, json.dumps(word).encode()) for word in (hello(), report(1), report(2))):
            await one.say(bytes([byte]))
        await hub.node_when("n", lambda node: node["report"] and node["report"]["sequence"] == 2)
