"""A WebSocket of a hub without a socket: what it is told, byte by byte, and what comes of it."""

import asyncio
import contextlib
import functools
from collections.abc import Sequence
from typing import Any

import uvicorn
from starlette.types import Receive, Scope, Send
from uvicorn.server import ServerState

from gpumon import serve
from gpumon.limits import Visit, Visits
from gpumon.pipe import Pipe, pipe_of
from gpumon.refusals import Refusals
from gpumon.wire import MAX_MESSAGE_BYTES

UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: hub\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
TURNS = 3
REFUSALS = frozenset({1002, 1007, 1008, 1009})


async def _nobody(scope: Scope, receive: Receive, send: Send) -> None:
    """In whose place every conversation puts its own application."""


@functools.cache
def _config() -> uvicorn.Config:
    return uvicorn.Config(
        _nobody,
        interface="asgi3",
        proxy_headers=False,
        log_config=None,
        ws_max_size=MAX_MESSAGE_BYTES,
        ws_per_message_deflate=False,
    )


class _Wire(asyncio.Transport):
    """A transport that notes what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.is_closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += data

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...
    def get_write_buffer_size(self) -> int:
        return 0

    def can_write_eof(self) -> bool:
        return False

    def is_closing(self) -> bool:
        return self.is_closed

    def close(self) -> None:
        self.is_closed = True

    abort = close

    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return ("192.0.2.1", 1) if name in ("peername", "sockname") else default


class Conversation:
    """One connection on ``loop``, whose application hears messages past ASGI, as an agent's does."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._wire = _Wire()
        self.heard: list[bytes] = []
        self.answers = b""
        """Pongs, and the end."""
        visit = Visit(Visits(Refusals()), lambda *_: None)
        self._state = ServerState()
        self._protocol = serve.WebSocketProtocol(_config(), self._state, {"pipe": Pipe(visit)}, _loop=loop)
        self._protocol.app = self._application
        loop.run_until_complete(self._open())

    async def _open(self) -> None:
        self._protocol.connection_made(self._wire)
        self._protocol.data_received(UPGRADE)
        await self._settle()

    async def _settle(self) -> None:
        for _ in range(TURNS):
            await asyncio.sleep(0)

    async def _application(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        pipe_of(scope).on_message = self.heard.append
        while (message := await receive())["type"] != "websocket.disconnect":
            self.heard.append(message.get("bytes") or message.get("text", "").encode())

    def say(self, pieces: Sequence[bytes]) -> None:
        """Say it, and end."""
        self._loop.run_until_complete(self._say(pieces))

    async def _say(self, pieces: Sequence[bytes]) -> None:
        for piece in pieces:
            if self._wire.is_closed:
                break
            self._protocol.data_received(piece)
            await self._settle()
        self.answers = self._wire.written.partition(b"\r\n\r\n")[2]
        self._wire.is_closed = True
        self._protocol.connection_lost(None)
        for task in list(self._state.tasks):
            with contextlib.suppress(asyncio.CancelledError):
                await task

    @property
    def is_refused(self) -> bool:
        """Whether the hub ended it since it broke the rules."""
        end = self._protocol.conn.close_sent
        return end is not None and end.code in REFUSALS
