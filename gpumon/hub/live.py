"""Streams to viewers: Server-Sent Events on ``/api/events``, the same over WebSocket on ``/api/stream``.

The SSE framing is our own on plain ASGI (docs/performance.md: twice as cheap as the usual wrappers), the
letters are rendered once for all (:mod:`gpumon.hub.feed`).
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect

from gpumon.hub.feed import Feed, Mailbox, Message
from gpumon.problem import problem
from gpumon.wire import Close

log = logging.getLogger(__name__)

COMMENT_SECONDS = 15.0
SEND_SECONDS = 10.0
MAX_VIEWERS = 2000


class Live:
    """Serves viewers of ``feed``."""

    def __init__(self, feed: Feed) -> None:
        self._feed = feed

    async def events(self, request: Request) -> Response:
        """``GET /api/events``."""
        if len(self._feed.viewers) >= MAX_VIEWERS:
            return _too_many()
        return _EventStream(self._feed) if request.method == "GET" else Response(headers=_EventStream.HEADERS)

    async def stream(self, websocket: WebSocket) -> None:
        """``GET /api/stream``: letters go out, whatever comes in is ignored."""
        if len(self._feed.viewers) >= MAX_VIEWERS:
            await websocket.send_denial_response(_too_many())
            return
        await websocket.accept()

        async def send(letter: Message) -> None:
            with contextlib.suppress(WebSocketDisconnect):  # gone() notices it as well
                await websocket.send({"type": "websocket.send", "text": letter.text})

        async def gone() -> None:
            while (await websocket.receive())["type"] != "websocket.disconnect":
                pass

        if await _deliver(self._feed, send, gone):
            with contextlib.suppress(WebSocketDisconnect, RuntimeError):  # the server may have said so already
                await websocket.close(Close.GOING_AWAY, "the hub ends")


class _EventStream(Response):
    """An endless response."""

    HEADERS = {  # noqa: RUF012  (never changed)
        "Content-Type": "text/event-stream; charset=utf-8",
        "Cache-Control": "no-store",
        "X-Accel-Buffering": "no",
    }

    def __init__(self, feed: Feed) -> None:
        super().__init__(headers=self.HEADERS)
        self._feed = feed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        del scope
        headers = [(name.lower().encode(), value.encode()) for name, value in self.HEADERS.items()]
        await send({"type": "http.response.start", "status": 200, "headers": headers})

        async def body(data: bytes, more: bool = True) -> None:
            await send({"type": "http.response.body", "body": data, "more_body": more})

        async def send_letter(letter: Message) -> None:
            await body(letter.event)

        async def comment() -> None:
            await body(b": still here\n\n")

        async def gone() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass

        await body(b"retry: 3000\n\n")
        if await _deliver(self._feed, send_letter, gone, comment):
            await body(b"", more=False)


async def _nothing() -> None:
    """Say nothing: a WebSocket has pings of its own."""


async def _deliver(
    feed: Feed,
    send: Callable[[Message], Awaitable[None]],
    gone: Callable[[], Awaitable[None]],
    comment: Callable[[], Awaitable[None]] = _nothing,
) -> bool:
    """Send letters until the viewer leaves, stops reading for 10 s, or the feed ends (then: true)."""
    mailbox = feed.open()

    async def watch() -> None:
        await gone()
        feed.leave(mailbox)
        mailbox.close()

    try:
        async with asyncio.TaskGroup() as group:
            watcher = group.create_task(watch())
            in_time = await _send_all(mailbox, send, comment)
            ended = in_time and not watcher.done()
            watcher.cancel()
    finally:
        feed.leave(mailbox)
    return ended


async def _send_all(
    mailbox: Mailbox, send: Callable[[Message], Awaitable[None]], comment: Callable[[], Awaitable[None]]
) -> bool:
    """Send until the mailbox is closed (true) or the viewer takes nothing for 10 s (false)."""
    while True:
        try:
            async with asyncio.timeout(COMMENT_SECONDS):
                letter = await mailbox.get()
        except TimeoutError:
            sending: Awaitable[None] = comment()
        else:
            if letter is None:
                return True
            sending = send(letter)
        try:
            async with asyncio.timeout(SEND_SECONDS):
                await sending
        except TimeoutError:
            log.warning("a viewer that took nothing for %g s was cut off", SEND_SECONDS)
            return False


def _too_many() -> Response:
    return problem(503, f"{MAX_VIEWERS} viewers are watching already", {"Retry-After": "10"})
