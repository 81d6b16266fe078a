"""Frames of the WebSocket as strangers send them, byte by byte."""

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise

import pytest
from starlette.types import Receive, Scope, Send
from websockets.frames import Frame
from websockets.server import ServerProtocol

from gpumon import serve as serve_module
from gpumon.limits import Visits
from gpumon.listening import listen
from gpumon.pipe import Pipe, pipe_of, text_frame
from gpumon.refusals import Refusals
from gpumon.serve import serve
from gpumon.wire import MAX_MESSAGE_BYTES
from tests.framing import CLOSE, CONTINUED, LAST, NOT_LAST, PING, PONG, RESERVED, TEXT, frame
from tests.running import until, until_true

LETTER = b"x" * 3_000_000
UPGRADE = (
    b"GET %b HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
TURNS = 5  # of the loop, in which one piece is surely read and answered


class Talk:
    """An application that notes what it is told, by the way that ``path`` names."""

    def __init__(self) -> None:
        self.heard: list[bytes] = []
        self.ready = asyncio.Event()
        self.pipe: Pipe

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        pipe = self.pipe = pipe_of(scope)
        if scope["path"] == "/direct":
            pipe.on_message = self.heard.append
        if scope["path"] == "/letter":
            pipe.write(text_frame([LETTER]))
        self.ready.set()
        while (message := await receive())["type"] != "websocket.disconnect":
            self.heard.append(message.get("bytes") or message.get("text", "").encode())
            if scope["path"] == "/closing":
                await send({"type": "websocket.close", "code": NORMAL})


@asynccontextmanager
async def talking(path: bytes) -> AsyncIterator[tuple[Talk, asyncio.StreamReader, asyncio.StreamWriter]]:
    """A client that has shaken hands with a server."""
    talk, listener = Talk(), listen("127.0.0.1", 0, "test")
    server = asyncio.create_task(serve(talk, listener))
    client = socket.create_connection(listener.getsockname())
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
    reader, writer = await asyncio.open_connection(sock=client, limit=64 * 1024)
    try:
        writer.write(UPGRADE % path)
        await reader.readuntil(b"\r\n\r\n")
        await talk.ready.wait()
        yield talk, reader, writer
    finally:
        writer.close()
        server.cancel()
        await asyncio.gather(server, return_exceptions=True)


END = frame(CLOSE, struct.pack("!H", 1000))
PROTOCOL, POLICY, TOO_BIG, NORMAL = 1002, 1008, 1009, 1000
BINARY = 2


@pytest.mark.parametrize("piece_bytes", [1, 2**20])
@pytest.mark.parametrize("path", [b"/direct", b"/queue"])
@pytest.mark.parametrize(
    ("sent", "heard", "code"),
    [
        (frame(TEXT, b"a") + frame(TEXT, b"b" * 126) + END, [b"a", b"b" * 126], NORMAL),
        (frame(TEXT, b"a") + frame(PONG, b"?") + frame(TEXT, b"b") + END, [b"a", b"b"], NORMAL),
        (
            frame(TEXT, b"a")
            + frame(TEXT, b"b", NOT_LAST)
            + frame(PONG)
            + frame(CONTINUED, b"c", NOT_LAST)
            + frame(CONTINUED, b"d")
            + frame(TEXT, b"e")
            + END,
            [b"a", b"bcd", b"e"],
            NORMAL,
        ),
        (frame(TEXT, b"a") + frame(TEXT, b"b", mask=False), [b"a"], PROTOCOL),
        (frame(TEXT, b"a") + frame(TEXT, b"b", RESERVED), [b"a"], PROTOCOL),
        (frame(TEXT, b"a") + frame(3, b"b"), [b"a"], PROTOCOL),
        (frame(CONTINUED, b"a"), [], PROTOCOL),
        (frame(TEXT, b"a", NOT_LAST) + frame(TEXT, b"b"), [], PROTOCOL),
        (frame(PING, b"a", NOT_LAST), [], PROTOCOL),
        (frame(PING, b"a" * 126), [], PROTOCOL),
        (frame(TEXT, size=MAX_MESSAGE_BYTES + 1), [], TOO_BIG),
        (frame(TEXT, size=2**64 - 1), [], TOO_BIG),
        (frame(CLOSE, b"\x03"), [], PROTOCOL),
        (frame(CLOSE, struct.pack("!H", 1005)), [], PROTOCOL),
    ],
)
async def test_frames_mean_what_the_protocol_says_however_they_are_cut(
    sent: bytes, heard: list[bytes], code: int, path: bytes, piece_bytes: int
) -> None:
    async with talking(path) as (talk, reader, writer):
        answer = asyncio.create_task(reader.readexactly(4))
        for start in range(0, len(sent), piece_bytes):
            writer.write(sent[start : start + piece_bytes])
            for _ in range(TURNS):
                await asyncio.sleep(0)
            if answer.done():  # what came after it would be answered by a reset
                break
        first, _, *told = await answer
        assert first == LAST | CLOSE
        assert struct.unpack("!H", bytes(told)) == (code,)
        assert talk.heard == heard


async def _opcodes(reader: asyncio.StreamReader, found: list[int]) -> None:
    """The opcodes of what a server sends, as long as it is short."""
    while head := await reader.read(2):
        found.append(head[0] & 15)
        await reader.readexactly(head[1])


async def test_only_who_is_silent_is_asked_whether_he_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gpumon.serve.PING_SECONDS", 0.3)
    async with talking(b"/direct") as (talk, reader, writer), asyncio.TaskGroup() as group:
        found: list[int] = []
        listening = group.create_task(_opcodes(reader, found))
        now = asyncio.get_running_loop().time
        moments = [now()]
        while moments[-1] < moments[0] + 4 * 0.3:
            writer.write(frame(TEXT, b"a"))
            await asyncio.sleep(0.02)
            moments.append(now())
        longest = max(after - before for before, after in pairwise(moments))
        assert talk.heard
        assert PING not in found or longest > 0.2, "on a machine that slept meanwhile it may ask"
        await until(lambda: _is_in(found, PING))
        await until(lambda: _is_in(found, CLOSE))  # who does not answer either is gone
        listening.cancel()


async def _is_in(found: list[int], opcode: int) -> bool:
    return opcode in found


async def test_who_is_slow_to_read_a_letter_is_not_taken_for_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gpumon.serve.PING_SECONDS", 0.1)
    async with talking(b"/letter") as (_, reader, _writer):
        await reader.readexactly(10)
        for _ in range(12):  # six times as long as a ping and its answer may take
            await asyncio.sleep(0.1)
            await reader.readexactly(64 * 1024)
        rest = await reader.readexactly(len(LETTER) - 12 * 64 * 1024)
        assert set(rest) == {LETTER[0]}
        first, _ = await reader.readexactly(2)
        assert first == LAST | PING


async def test_a_pong_never_lands_within_a_letter_that_is_sent_piece_by_piece() -> None:
    async with talking(b"/letter") as (_, reader, writer):
        writer.write(frame(PING, b"here?"))
        await writer.drain()
        head = await reader.readexactly(10)
        assert struct.unpack("!Q", head[2:]) == (len(LETTER),)
        letter = await reader.readexactly(len(LETTER))
        assert letter == LETTER
        assert await reader.readexactly(7) == bytes([LAST | PONG, 5]) + b"here?"


async def test_pongs_that_nobody_takes_do_not_pile_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve_module, "ODD_FRAMES_PER_SECOND", 10**9)
    async with talking(b"/letter") as (talk, reader, writer):
        assert talk.pipe.blocked
        before = talk.pipe.waiting_bytes()
        writer.write(frame(PING, b"x" * 125) * 1000 + frame(PING, b"newest") + frame(TEXT, b"all"))
        await until_true(lambda: talk.heard == [b"all"])
        assert talk.pipe.waiting_bytes() <= before
        await reader.readexactly(10 + len(LETTER))
        assert await reader.readexactly(8) == bytes([LAST | PONG, 6]) + b"newest"


@pytest.mark.parametrize("kind", [PING, PONG])
async def test_floods_of_control_frames_end_the_connection(kind: int) -> None:
    async with talking(b"/direct") as (talk, reader, writer):
        writer.write(frame(kind) * 2000)
        while (data := await reader.read(64 * 1024)) and not data.startswith(b"\x88"):
            _, found, end = data.rpartition(b"\x88")
            if found and b"too many control frames" in end:
                break
        assert talk.heard == []


PIECES = frame(TEXT, b"a", NOT_LAST) + frame(CONTINUED, b"b")
"""From there on a connection is read by websockets."""


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The opcodes of the frames that were read by websockets."""
    found: list[int] = []
    take = ServerProtocol.recv_frame

    def note(self: ServerProtocol, one: Frame) -> None:
        found.append(one.opcode)
        take(self, one)

    monkeypatch.setattr(ServerProtocol, "recv_frame", note)
    return found


MOST_PARSED = serve_module.ODD_FRAMES_PER_SECOND + serve_module.SLICE_BYTES // len(frame(TEXT)) + 2


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
@pytest.mark.parametrize(("path", "before"), [(b"/queue", b""), (b"/queue", PIECES), (b"/direct", PIECES)])
async def test_floods_of_messages_off_the_short_way_end_the_connection(
    path: bytes, before: bytes, opcode: int, parsed: list[int]
) -> None:
    async with talking(path) as (talk, reader, writer):
        writer.write(before + frame(opcode) * 10_000)
        first, size = await reader.readexactly(2)
        code, words = struct.unpack(f"!H{size - 2}s", await reader.readexactly(size))
        assert (first, code, b"early messages" in words) == (LAST | CLOSE, POLICY, True)
        assert len(talk.heard) <= len(parsed) <= MOST_PARSED


@pytest.mark.parametrize("before", [frame(TEXT, b"a"), PIECES])
async def test_who_goes_on_talking_after_the_end_was_told_is_read_no_further(before: bytes, parsed: list[int]) -> None:
    async with talking(b"/closing") as (talk, reader, writer):
        writer.write(before)
        assert (await reader.readexactly(4))[0] == LAST | CLOSE
        for _ in range(20):
            writer.write(frame(TEXT) * 10_000)
            for _ in range(TURNS):
                await asyncio.sleep(0)
        assert len(talk.heard) == 1
        assert len(parsed) <= MOST_PARSED


@pytest.mark.parametrize("before", [frame(TEXT, b"a"), PIECES])
async def test_who_answers_the_end_after_what_he_had_still_to_say_is_let_go_at_once(before: bytes) -> None:
    async with talking(b"/closing") as (talk, reader, writer):
        writer.write(before)
        assert (await reader.readexactly(4))[0] == LAST | CLOSE
        writer.write(frame(TEXT, b"late") * 50 + frame(PONG) + END)
        async with asyncio.timeout(5):  # a half of what is waited for without it
            assert await reader.read() == b""
        assert len(talk.heard) == 1


@pytest.mark.parametrize("sent", [frame(TEXT) * 1000, frame(PING) * 1000, frame(TEXT, b"a", RESERVED)])
async def test_frames_that_break_the_rules_before_the_handshake_is_answered_end_the_connection(
    sent: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    asked, answered = asyncio.Event(), asyncio.Event()

    async def app(_: Scope, receive: Receive, send: Send) -> None:
        await receive()
        asked.set()
        await answered.wait()
        await send({"type": "websocket.accept"})

    refusals, listener = Refusals(), listen("127.0.0.1", 0, "test")
    server = asyncio.create_task(serve(app, listener, visits=Visits(refusals)))
    reader, writer = await asyncio.open_connection(*listener.getsockname())
    try:
        writer.write(UPGRADE % b"/")
        await asked.wait()
        writer.write(sent)
        await until_true(lambda: refusals.counts == {"bad_frame": 1})
        answered.set()
        with contextlib.suppress(ConnectionResetError):
            assert b"101" not in await reader.read()
        assert "Fatal error" not in caplog.text
    finally:
        writer.close()
        server.cancel()
        await asyncio.gather(server, return_exceptions=True)


async def test_letters_that_come_while_the_end_is_told_are_dropped() -> None:
    async with talking(b"/queue") as (talk, reader, writer):
        writer.write(frame(TEXT, b"x", RESERVED))
        assert (await reader.readexactly(2))[0] == LAST | CLOSE
        writer.write(b"more of the same" * 1000)
        for _ in range(100):
            talk.pipe.write(text_frame([b"a letter"]))
            await asyncio.sleep(0)
        assert b"a letter" not in await reader.read()
