"""Streams to viewers: Server-Sent Events on ``/api/events``, the same over WebSocket on ``/api/stream``.

ASGI opens and ends a stream. In between the feed writes to the connection itself, framed once for all viewers
(docs/performance.md says what that saves).
"""

import asyncio
import contextlib
import math
from collections.abc import Awaitable, Callable
from functools import partial
from typing import NamedTuple

from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect

from gpumon.hub import packing
from gpumon.hub.admission import Allowance
from gpumon.hub.auth import Auth, caller_of
from gpumon.hub.core import Hub
from gpumon.hub.feed import DEFAULT_PACE, PACES, VIEWS, Only, View
from gpumon.hub.letters import Form, Message
from gpumon.hub.mailbox import Mailbox
from gpumon.pipe import Pipe, chunk, pipe_of, text_frame
from gpumon.problem import problem
from gpumon.wire import Close

MAX_VIEWERS = 2000
SAID_PER_SECOND = 5.0
MOST_SAID_BYTES = 4096
"""What a viewer says is ignored: it has no reason to say much."""
MOST_NODES_NAMED = 16
RETRY = b"retry: 3000\n\n"
COMMENT = b": still here\n\n"


class _Wish(NamedTuple):
    """What a viewer wants to be told, and how often."""

    pace: float
    view: View
    only: Only | None


class Live:
    """Serves viewers of ``hub``, for as long as ``auth`` lets them look."""

    def __init__(self, hub: Hub, auth: Auth) -> None:
        self._hub = hub
        self._auth = auth

    async def events(self, request: Request) -> Response:
        """``GET /api/events``."""
        wish = self._wish(request.query_params)
        if isinstance(wish, Response):
            return wish
        packed = packing.accepts_gzip(request.headers.get("accept-encoding", ""))
        stream = _EventStream(self, wish, packed=packed and request.scope["http_version"] == "1.1")
        return stream if request.method == "GET" else Response(headers=stream.headers)

    async def stream(self, websocket: WebSocket) -> None:
        """``GET /api/stream``: letters go out, whatever comes in is ignored, and not read if it is much."""
        wish = self._wish(websocket.query_params)
        if isinstance(wish, Response):
            await websocket.send_denial_response(wish)
            return
        await websocket.accept()
        pipe = pipe_of(websocket.scope)
        pipe.max_message_bytes = MOST_SAID_BYTES
        pipe.on_message = partial(_ignore, pipe, Allowance(SAID_PER_SECOND))

        async def gone() -> None:
            while (await websocket.receive())["type"] != "websocket.disconnect":
                pass

        if await self.deliver(wish, websocket.scope, _message, b"", gone):
            code, reason = Close.UNAUTHORISED, "logged out"
            if self._hub.feed.closed:
                code, reason = Close.GOING_AWAY, "the hub ends"
            with contextlib.suppress(WebSocketDisconnect, RuntimeError):  # the server may have said so already
                await websocket.close(code, reason)

    async def deliver(
        self, wish: _Wish, scope: Scope, form: Form, comment: bytes, gone: Callable[[], Awaitable[None]]
    ) -> bool:
        """Serve a viewer until it leaves, is cut off since it takes nothing, or may look no longer, or the feed ends
        (in these two cases: true).
        """
        caller = caller_of(scope)
        if not self._auth.still_may_look(caller):  # things may have changed since the gate
            return True
        pipe = pipe_of(scope)
        mailbox = Mailbox(pipe, form, comment)

        async def watch() -> None:
            await gone()
            mailbox.close()

        feed = self._hub.feed_for(strangers=not caller.is_admin)
        snapshot = feed.open(mailbox, *wish)
        try:
            with self._auth.watch(caller, mailbox.close):
                async with asyncio.TaskGroup() as group:
                    watcher = group.create_task(watch())
                    await snapshot.render([form])
                    mailbox.begin(snapshot)
                    await mailbox.closed.wait()
                    here = not watcher.done()
                    watcher.cancel()
        finally:
            feed.leave(mailbox)
        if pipe.blocked:  # no room for a proper end
            pipe.abort()
            return False
        return here

    def _wish(self, query: QueryParams) -> _Wish | Response:
        """What is asked for, or why it is refused."""
        if (pace := _number(query, "pace", DEFAULT_PACE)) is None or pace > PACES[-1]:
            return problem(400, f"pace: the least seconds between two messages, a number from 0 to {PACES[-1]:g}")
        view = next((view for view in VIEWS if view == query.get("view", "full")), None)
        if view is None:
            return problem(400, f"view: allowed: {', '.join(VIEWS)}")
        if (few := _number(query, "full_up_to", -1.0)) is None:
            return problem(400, "full_up_to: the most nodes that are told in full, a number")
        names = query.getlist("node")
        if len(names) > MOST_NODES_NAMED:
            return problem(400, f"node: {len(names)} were named; allowed: at most {MOST_NODES_NAMED}")
        if sum(len(feed.viewers) for feed in self._hub.feeds) >= MAX_VIEWERS:
            return problem(503, f"{MAX_VIEWERS} viewers are watching already", {"Retry-After": "10"})
        if len(self._hub.fleet) <= few:
            view = "full"
        return _Wish(pace, view, frozenset(names) or None)


def _ignore(pipe: Pipe, allowance: Allowance, _: bytes) -> None:
    """What a viewer says."""
    allowance.left -= 1
    if allowance.left < 0 and (seconds := allowance.hold_seconds()):
        pipe.visit.refused("too_many_messages", f"a viewer says more than {allowance.rate:g} messages a second")
        if seconds == math.inf:
            pipe.abort()
        else:
            pipe.hold_reading(seconds)


class _EventStream(Response):
    """An endless response."""

    def __init__(self, live: Live, wish: _Wish, *, packed: bool) -> None:
        headers = {
            "Content-Type": "text/event-stream; charset=utf-8",
            "Vary": "Accept-Encoding",
            "X-Accel-Buffering": "no",
        }
        super().__init__(headers=headers | ({"Content-Encoding": "gzip"} if packed else {}))
        del self.headers["Content-Length"]
        self._live = live
        self._wish = wish
        self._packed = packed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        begin = packing.MEMBER_HEAD + packing.part([RETRY]) if self._packed else RETRY
        await send({"type": "http.response.body", "body": begin, "more_body": True})
        if self._packed:
            form, comment = _packed_chunk, chunk([packing.part([COMMENT])])
        elif scope["http_version"] == "1.1":
            form, comment = _chunk, chunk([COMMENT])
        else:
            form, comment = _event, COMMENT

        async def gone() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass

        if await self._live.deliver(self._wish, scope, form, comment, gone):
            await send({"type": "http.response.body", "body": b"", "more_body": False})


def _message(message: Message) -> bytes:
    return text_frame(message.json())


def _event(message: Message) -> bytes:
    return b"".join(message.event())


def _chunk(message: Message) -> bytes:
    return chunk(message.event())


def _packed_chunk(message: Message) -> bytes:
    return chunk([packing.part(message.event())])


def _number(query: QueryParams, name: str, default: float) -> float | None:
    """A number that is not negative, as asked for; None for nonsense."""
    if (text := query.get(name)) is None:
        return default
    try:
        number = float(text)
    except ValueError:
        return None
    return number if number >= 0 else None
