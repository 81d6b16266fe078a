"""Serving an ASGI application by uvicorn: the one place that knows uvicorn.

Its own handling of signals is switched off (it raises SIGTERM again after serving, so that nothing behind
it would run): cancellation is the stop signal here, as everywhere in gpumon.
"""

import asyncio
import errno
import socket
from collections import deque
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import uvicorn
from starlette.types import ASGIApp, Scope
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import ServerState
from websockets.exceptions import InvalidState
from websockets.frames import Opcode, apply_mask  # type: ignore[attr-defined]  # not listed as its own

from gpumon.errors import ListenError
from gpumon.wire import MAX_MESSAGE_BYTES

GRACE_SECONDS = 2
MAX_HEAD_BYTES = 16 * 1024
PING_SECONDS = 10
UNACKNOWLEDGED_MILLISECONDS = 20_000
PIECE_BYTES = 64 * 1024
MESSAGES = frozenset({Opcode.TEXT, Opcode.BINARY})
FRAMES = MESSAGES | {Opcode.PING, Opcode.PONG, Opcode.CLOSE}


def listen(host: str, port: int, option: str) -> socket.socket:
    """A socket that listens on ``host`` and ``port`` (0: any free one). ``option`` names them for the user.

    Accepted connections inherit its options: a peer that is gone without a word is noticed after 20 s
    instead of the kernel's quarter of an hour.

    Raises:
        ListenError: the address is taken, forbidden, or not of this machine.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listener = socket.create_server(address[:2], family=family, backlog=1024)
    except UnicodeError:
        raise ListenError(f"{option}: cannot listen on {host} port {port}: this is no host name") from None
    except OSError as error:
        reasons = {
            errno.EADDRINUSE: "another program listens there already",
            errno.EACCES: "it is not allowed to this user (ports below 1024 need a privilege)",
            errno.EADDRNOTAVAIL: "this machine has no such address",
        }
        reason = reasons.get(error.errno or 0, error.strerror or str(error))
        raise ListenError(f"{option}: cannot listen on {host} port {port}: {reason}") from None
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    # asyncio sets it only where a socket names its protocol, which those of create_server do not: an answer of two
    # writes, or a letter soon after another, would wait 40 ms for the peer's acknowledgement.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNACKNOWLEDGED_MILLISECONDS)
    return listener


def url_of(listener: socket.socket) -> str:
    """Where ``listener`` is reached, as far as it knows: ``http://0.0.0.0:8080``."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class Pipe:
    """The connection under a response or a WebSocket, for what is said so often that ASGI would cost more than it.

    An ASGI application finds its own with :func:`pipe_of`. What goes out here is framed already
    (:func:`chunk`, :func:`text_frame`), after ASGI's own start of the response and before its end.
    """

    __slots__ = ("_is_full", "_transport", "_waiting", "blocked", "on_message", "on_writable")

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._is_full = False
        self._waiting: deque[memoryview] = deque()
        self.blocked = False
        """Whether the peer takes less than it was sent: whoever can should wait for ``on_writable``."""
        self.on_writable: Callable[[], None] | None = None
        self.on_message: Callable[[bytes], None] | None = None
        """Gets each further message of a WebSocket as it arrives, instead of ASGI's ``receive``."""

    def made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def write(self, data: bytes) -> None:
        """Send ``data``, or keep it until the peer takes it. Without effect once the connection ends.

        Large data goes in pieces: the transport would copy all that the kernel does not take at once, here everybody
        who is sent the same shares it.
        """
        if self._transport is None or self._transport.is_closing():
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
            return
        while self._waiting and not self._is_full:
            data = self._waiting.popleft()
            if len(data) > PIECE_BYTES:
                self._waiting.appendleft(data[PIECE_BYTES:])
            self._transport.write(data[:PIECE_BYTES])  # which may call pause()
        self.blocked = self._is_full or bool(self._waiting)

    def limit_buffer(self, size: int) -> None:
        """Have the kernel keep no more than ``size`` bytes (of payload, about) that the peer has not taken."""
        if self._transport is not None:
            self._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, size)

    def abort(self) -> None:
        """End the connection now, and drop what was not sent."""
        self._waiting.clear()
        if self._transport is not None:
            self._transport.abort()

    def pause(self) -> None:
        self.blocked = self._is_full = True

    def resume(self) -> None:
        self._is_full = False
        self._send()
        if not self.blocked and self.on_writable is not None:
            self.on_writable()


def pipe_of(scope: Scope) -> Pipe:
    """The connection that an ASGI application is called for."""
    pipe: Pipe = scope["state"]["pipe"]
    return pipe


def chunk(pieces: Sequence[bytes]) -> bytes:
    """A part of a body as it travels by HTTP/1.1 where no length was told (RFC 9112 section 7.1)."""
    return b"".join([b"%x\r\n" % sum(map(len, pieces)), *pieces, b"\r\n"])


def text_frame(pieces: Sequence[bytes]) -> bytes:
    """A message of a server over WebSocket, whole and not masked (RFC 6455 section 5.2)."""
    size = sum(map(len, pieces))
    head = (
        bytes([size]) if size < 126 else b"\x7e%b" % size.to_bytes(2) if size < 65536 else b"\x7f%b" % size.to_bytes(8)
    )
    return b"".join([bytes([0x80 | Opcode.TEXT]), head, *pieces])


def _frame_head(data: bytes | memoryview, start: int) -> tuple[int | None, int, int] | None:
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


class _InOrder:
    """The transport as a protocol writes to it: behind what ``pipe`` still keeps, never into the middle of it."""

    def __init__(self, transport: asyncio.Transport, pipe: Pipe) -> None:
        self._transport = transport
        self.write = pipe.write
        self.is_closing = transport.is_closing

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401  (whatever a transport has)
        return getattr(self._transport, name)


class _Http(H11Protocol):
    """uvicorn's, with a :class:`Pipe`."""

    def __init__(self, config: Config, server_state: ServerState, app_state: dict[str, Any], **more: Any) -> None:  # noqa: ANN401
        self._pipe = Pipe()
        super().__init__(config, server_state, app_state | {"pipe": self._pipe}, **more)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._pipe.made(transport)
        super().connection_made(transport)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._pipe.pause()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._pipe.resume()


_ARRIVALS = memoryview(bytearray(64 * 1024))
"""Where what arrives is read to, on every WebSocket: it is taken from there before the next one is read. The event loop
would make room for four times as much for each message, which costs more than decoding it."""


class _WebSocket(WebSocketsSansIOProtocol, asyncio.BufferedProtocol):
    """uvicorn's, with a :class:`Pipe`, and with the two ends that its version 0.54 leaves open.

    Who has spoken lately is not asked whether he is there, nor who is still reading what he was sent.
    """

    def __init__(self, config: Config, server_state: ServerState, app_state: dict[str, Any], **more: Any) -> None:  # noqa: ANN401
        self._pipe = Pipe()
        self._received = bytearray()
        self._wanted = 0
        self._is_odd = False
        self._heard_at = 0.0
        super().__init__(config, server_state, app_state | {"pipe": self._pipe}, **more)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._pipe.made(transport)
        # A pong must not land within a letter that is sent piece by piece.
        super().connection_made(cast("asyncio.Transport", _InOrder(cast("asyncio.Transport", transport), self._pipe)))

    def pause_writing(self) -> None:
        super().pause_writing()
        self._pipe.pause()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._pipe.resume()

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002  (how much is told by asyncio: as much as there is)
        return _ARRIVALS

    def buffer_updated(self, nbytes: int) -> None:
        self.data_received(_ARRIVALS[:nbytes])

    def data_received(self, data: bytes | memoryview) -> None:
        self._heard_at = self.loop.time()
        if not self.handshake_initiated:
            super().data_received(bytes(data))
            if self.conn.handshake_exc is not None:  # neither answered nor closed
                self.transport.close()
            return
        if self._received:
            self._received += data
            if len(self._received) < self._wanted:
                return
            data, self._received = memoryview(self._received), bytearray()
        if rest := self._take_frames(data):
            super().data_received(bytes(rest))

    def send_keepalive_ping(self) -> None:
        silent_seconds = 0.0 if self._pipe.blocked else self.loop.time() - self._heard_at
        if silent_seconds < PING_SECONDS:
            self.ping_timer = self.loop.call_later(PING_SECONDS - silent_seconds, self.send_keepalive_ping)
        else:
            super().send_keepalive_ping()

    def keepalive_timeout(self) -> None:
        if self._pipe.blocked:  # the answer waits behind what the peer is still reading
            self.stop_keepalive()
            self.start_keepalive()
        else:
            super().keepalive_timeout()

    def _take_frames(self, data: bytes | memoryview) -> bytes | memoryview:
        """Deal with the frames that are whole. Gives what only websockets can deal with, which is all from there on.

        A message in one frame goes straight to who listens; websockets would need as long again as decoding it, and
        would keep it until the next one comes.
        """
        start, self._wanted = 0, 0
        while start < len(data) and not self._is_odd and not self.transport.is_closing():
            if (head := _frame_head(data, start)) is None:
                break
            opcode, body, end = head
            if opcode is None or end - body > self.config.ws_max_size:
                self._is_odd = True
            elif end > len(data):
                self._wanted = end - start
                break
            elif opcode in MESSAGES and self._pipe.on_message and not self.close_sent and self.queue.empty():
                self._pipe.on_message(apply_mask(data[body:end], bytes(data[body - 4 : body])))
                start = end
            else:  # before somebody listens, whose message is received first; ping, pong, close
                super().data_received(bytes(data[start:end]))
                start = end
        if self._is_odd:
            return data[start:]
        if start < len(data):
            self._received += data[start:]
        return b""

    def shutdown(self) -> None:
        try:
            super().shutdown()
        except (InvalidState, AssertionError):  # the peer is closing already, or never got through its handshake
            self.transport.abort()


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


async def serve(app: ASGIApp, listener: socket.socket, end_streams: Callable[[], None] = lambda: None) -> None:
    """Serve ``app`` on ``listener`` until cancelled.

    Then ``end_streams`` is called, since an endless response would hold the server; requests under way have
    two seconds to end, WebSockets are closed with 1012 (going away), and what is left is cut.
    """
    server = _Server(
        uvicorn.Config(
            app,
            http=_Http,
            ws=_WebSocket,
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            h11_max_incomplete_event_size=MAX_HEAD_BYTES,
            ws_max_size=MAX_MESSAGE_BYTES,
            ws_ping_interval=PING_SECONDS,
            ws_ping_timeout=PING_SECONDS,
            ws_per_message_deflate=False,
            timeout_graceful_shutdown=GRACE_SECONDS,
        )
    )
    try:
        await server.serve(sockets=[listener])
    finally:
        end_streams()
        if server.started:
            await server.shutdown()
        listener.close()
