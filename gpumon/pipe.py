"""The connection under an HTTP response or a WebSocket, as applications write to it past ASGI."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from starlette.types import Scope

from gpumon.limits import Visit
from gpumon.wire import MAX_MESSAGE_BYTES

PIECE_BYTES = 64 * 1024
LOOK_SECONDS = 1.0
LINGER_SECONDS = 1.0
STALLED_SECONDS = 10.0
BLOCKED_SECONDS = 120.0
"""A peer that takes nothing for so long, or is behind for so long, is cut off."""
MESSAGES = frozenset({0x1, 0x2})
FRAMES = MESSAGES | {0x8, 0x9, 0xA}
"""Opcodes of text and binary messages; those of close, ping and pong as well (RFC 6455 section 5.2)."""
TEXT = 0x81
"""The first byte of a text message in one frame."""


class _Gone(asyncio.Transport):
    """In the place of a transport whose connection has ended."""

    def get_extra_info(self, name: str, default: Any = None) -> Any:  # noqa: ANN401, ARG002
        return default

    def is_closing(self) -> bool:
        return True

    def get_write_buffer_size(self) -> int:
        return 0

    def write(self, data: bytes | bytearray | memoryview) -> None:
        pass

    def write_eof(self) -> None:
        pass

    def close(self) -> None:
        pass

    def abort(self) -> None:
        pass

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


_GONE = _Gone()


class Pipe:
    """The connection under a response or a WebSocket, for what is said so often that ASGI would cost more than it.

    An ASGI application finds its own with :func:`pipe_of`. What goes out here is framed already
    (:func:`chunk`, :func:`text_frame`), after ASGI's own start of the response and before its end.
    """

    __slots__ = (
        "_behind",
        "_is_ending",
        "_is_full",
        "_transport",
        "_waiting",
        "blocked",
        "lingers",
        "max_message_bytes",
        "on_message",
        "on_writable",
        "visit",
    )

    def __init__(self, visit: Visit) -> None:
        self.visit = visit
        self._transport: asyncio.Transport | None = None
        self._is_full = False
        self._is_ending = False
        self._behind: Behind | None = None
        self._waiting: deque[memoryview] = deque()
        self.max_message_bytes = MAX_MESSAGE_BYTES
        """Of a message of a WebSocket, in pieces or not: whoever expects less should say so."""
        self.lingers = False
        """Whether its end is told before it ends: a peer that is still talking would only see that it was reset."""
        self.blocked = False
        """Whether the peer takes less than it was sent: whoever can should wait for ``on_writable``."""
        self.on_writable: Callable[[], None] | None = None
        self.on_message: Callable[[bytes], None] | None = None
        """Gets each further message of a WebSocket as it arrives, instead of ASGI's ``receive``."""

    def made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.set_write_buffer_limits(PIECE_BYTES)  # what plain ones have; those of TLS keep eight times as much

    def lost(self) -> None:
        """The connection has ended: let go of it. By TLS it holds a quarter of a megabyte, and is one of a circle of
        objects that Python would find much later, when thousands of others have ended.
        """
        self._transport = _GONE
        self._waiting.clear()
        self.on_writable = self.on_message = None

    @property
    def transport(self) -> asyncio.Transport:
        """What it goes out by."""
        return self._transport or _GONE

    def write(self, data: bytes) -> None:
        """Send ``data``, or keep it until the peer takes it. Without effect once the connection ends.

        Large data goes in pieces: the transport would copy all that the kernel does not take at once, here everybody
        who is sent the same shares it.
        """
        if self._is_ending or self._transport is None or self._transport.is_closing():
            return
        if len(data) <= PIECE_BYTES and not self._waiting:
            self._transport.write(data)
            return
        self._waiting.append(memoryview(data))
        self._send()

    def waiting_bytes(self) -> int:
        """How much is kept that the kernel has not taken."""
        buffered = 0 if self._transport is None else self._transport.get_write_buffer_size()
        return buffered + sum(map(len, self._waiting))

    def _send(self) -> None:
        if self._transport is None or self._transport.is_closing():
            self._waiting.clear()
            self._behind = None
            return
        while self._waiting and not self._is_full:
            data = self._waiting.popleft()
            if len(data) > PIECE_BYTES:
                self._waiting.appendleft(data[PIECE_BYTES:])
            self._transport.write(data[:PIECE_BYTES])  # which may call pause()
        self.blocked = self._is_full or bool(self._waiting)
        if self._is_ending and not self._waiting:
            self._end()

    def hold_reading(self, seconds: float) -> None:
        """Read nothing for so long: what the peer says meanwhile waits in its own machine."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()
            asyncio.get_running_loop().call_later(seconds, self._transport.resume_reading)

    def close(self) -> None:
        """End the connection, once what is kept is sent."""
        if self.is_closing():
            return
        self._is_ending = True
        self.look_after()
        if not self._waiting:
            self._end()

    def _end(self) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        if self.lingers and self._transport.can_write_eof():
            self._transport.write_eof()
            asyncio.get_running_loop().call_later(LINGER_SECONDS, self._transport.close)
        else:
            self._transport.close()

    def is_closing(self) -> bool:
        return self._is_ending or self._transport is None or self._transport.is_closing()

    def abort(self) -> None:
        """End the connection now, and drop what was not sent."""
        self._waiting.clear()
        if self._transport is not None:
            self._transport.abort()

    def look_after(self) -> None:
        """From now on, until the peer has taken all, see to it that it goes on taking."""
        if self._behind is None and (waiting := self.waiting_bytes()):
            self._behind = Behind(waiting, asyncio.get_running_loop().time())
            self._look_again(self._behind)

    def _look_again(self, behind: "Behind") -> None:
        asyncio.get_running_loop().call_later(LOOK_SECONDS, self._look, behind)

    def _look(self, behind: "Behind") -> None:
        if behind is not self._behind:
            return
        waiting = self.waiting_bytes()
        if waiting and behind.is_moving(waiting, asyncio.get_running_loop().time()):
            self._look_again(behind)
            return
        self._behind = None
        if waiting:
            self.visit.refused("slow_reader", f"a peer that took nothing for {STALLED_SECONDS:g} s was cut off")
            self.abort()

    def pause(self) -> None:
        self.blocked = self._is_full = True
        self.look_after()

    def resume(self) -> None:
        self._is_full = False
        self._behind = None
        self._send()
        if not self.blocked and self.on_writable is not None:
            self.on_writable()


class InOrder:
    """The transport as a protocol writes to it: behind what ``pipe`` still keeps, never into the middle of it."""

    def __init__(self, pipe: Pipe) -> None:
        self._pipe = pipe
        self.write = pipe.write
        self.close = pipe.close
        self.is_closing = pipe.is_closing

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401  (whatever a transport has)
        return getattr(self._pipe.transport, name)


class Behind:
    """A peer that has not taken all that it was sent: how much waited when it last took something."""

    __slots__ = ("_began_at", "_moved_at", "_waiting")

    def __init__(self, waiting: int, now: float) -> None:
        self._waiting = waiting
        self._moved_at = self._began_at = now

    def is_moving(self, waiting: int, now: float) -> bool:
        """Whether it has read lately, and is not all too slow about it."""
        if waiting < self._waiting:
            self._moved_at = now
        self._waiting = waiting
        return now - self._moved_at < STALLED_SECONDS and now - self._began_at < BLOCKED_SECONDS


def pipe_of(scope: Scope) -> Pipe:
    """The connection that an ASGI application is called for."""
    pipe: Pipe = scope["state"]["pipe"]
    return pipe


def note_refusal(scope: Scope, reason: str, words: str, level: int = logging.WARNING) -> None:
    """Count what is refused of the request or WebSocket of ``scope`` (:data:`gpumon.refusals.REASONS`)."""
    pipe: Pipe | None = scope.get("state", {}).get("pipe")
    if pipe is not None:
        pipe.visit.refused(reason, words, level)


def chunk(pieces: Sequence[bytes]) -> bytes:
    """A part of a body as it travels by HTTP/1.1 where no length was told (RFC 9112 section 7.1)."""
    return b"".join([b"%x\r\n" % sum(map(len, pieces)), *pieces, b"\r\n"])


def text_frame(pieces: Sequence[bytes]) -> bytes:
    """A message of a server over WebSocket, whole and not masked (RFC 6455 section 5.2)."""
    size = sum(map(len, pieces))
    head = (
        bytes([size]) if size < 126 else b"\x7e%b" % size.to_bytes(2) if size < 65536 else b"\x7f%b" % size.to_bytes(8)
    )
    return b"".join([bytes([TEXT]), head, *pieces])


def frame_head(data: bytes | memoryview, start: int) -> tuple[int | None, int, int] | None:
    """Opcode, start and end of the payload of the frame at ``start`` (RFC 6455 section 5.2), once its head is there.

    The opcode is None where the frame is one of several, has bits of an extension, or is not masked.
    """
    if len(data) - start < 2:
        return None
    first, second = data[start], data[start + 1]
    if first & 0xF0 != 0x80 or first & 0x0F not in FRAMES or not second & 0x80:
        return None, start, start
    size, body = second & 0x7F, start + 6
    if size > 125:
        width = 2 if size == 126 else 8
        body += width
        size = int.from_bytes(data[start + 2 : start + 2 + width])
    if len(data) < body:
        return None
    return first & 0x0F, body, body + size
