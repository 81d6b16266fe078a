"""Serving an ASGI application by uvicorn: the one place that knows uvicorn.

Its own handling of signals is switched off (it raises SIGTERM again after serving, so that nothing behind
it would run): cancellation is the stop signal here, as everywhere in gpumon.
"""

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import Callable, Generator
from functools import partial
from typing import Any, cast

import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import ServerState
from websockets.exceptions import InvalidState
from websockets.frames import Frame, apply_mask  # type: ignore[attr-defined]  # not listed as its own

from gpumon.limits import MAX_UNFINISHED, BoundedRequests, Visit, Visits, refusal
from gpumon.listening import BACKLOG
from gpumon.pipe import MESSAGES, InOrder, Pipe, frame_head
from gpumon.refusals import Refusals
from gpumon.securing import Securing
from gpumon.text import one_line
from gpumon.wire import MAX_MESSAGE_BYTES, MAX_SAID

GRACE_SECONDS = 2
PING_SECONDS = 10
ODD_FRAMES_PER_SECOND = 200
ODD_FRAMES_IN_MESSAGE = 1000
SLICE_BYTES = 1024
"""Pings, pongs, fragments, and messages that nobody listens to yet cost more than others, and nobody who means well
sends many.
"""


class _Http(H11Protocol):
    """uvicorn's, with a :class:`Pipe`, and with bounds and deadlines for what comes in."""

    def __init__(
        self,
        visits: Visits,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        **more: Any,  # noqa: ANN401
    ) -> None:
        self._visits = visits
        self._visit = Visit(visits, self._end)
        self._pipe = Pipe(self._visit)
        super().__init__(config, server_state, app_state | {"pipe": self._pipe}, **more)
        self.conn = self._requests = BoundedRequests()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._pipe.made(transport)
        super().connection_made(cast("asyncio.Transport", InOrder(self._pipe)))
        if not self._visit.begin(transport.get_extra_info("peername")):
            most = self._visits.most_connections()
            self._end(429, "too_many_connections", f"allowed: {most} connections from one address")

    def data_received(self, data: bytes) -> None:
        if not self._pipe.is_closing():
            super().data_received(data)
            self._look_at_request()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._visit.answered()
        self._pipe.look_after()
        self._look_at_request()

    def _look_at_request(self) -> None:
        """Whether a part of a request waits for its rest, now that all is worked off that has come."""
        if self.transport.is_closing():
            return
        if not self._requests.has_part_of_request:
            self._visit.request_finished()
        elif not self._visit.request_begun(in_body=self._requests.is_in_body):
            self._end(429, "too_many_unfinished", f"allowed: {MAX_UNFINISHED} unfinished requests from one address")

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        self._visit.request_finished()
        self._requests.is_in_body = False
        self.transport = self._pipe.transport
        super().handle_websocket_upgrade(event)
        self._pipe.lost()  # the WebSocket has one of its own
        self.transport = self._pipe.transport

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002  (uvicorn's, and always the same)
        status, words = self._requests.fault
        self._end(status, "large_request" if status in (413, 431) else "bad_request", words)

    def _end(self, status: int, reason: str, words: str) -> None:
        """Refuse what came, with an answer if none has begun; 0: without one."""
        self._visit.refused(reason, words, logging.WARNING if status else logging.INFO)
        is_unanswered = self._requests.our_state in (h11.IDLE, h11.SEND_RESPONSE) and self._pipe.waiting_bytes() == 0
        if status and is_unanswered and not self.transport.is_closing():
            self._pipe.write(refusal(status, words))
        if self.cycle is not None:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self._pipe.lingers = status > 0
        self._pipe.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._visit.end()
        super().connection_lost(exc)
        self._pipe.lost()

    def shutdown(self) -> None:
        try:
            super().shutdown()
        except h11.LocalProtocolError:  # the peer broke the rules, and is being told so
            self._pipe.abort()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._pipe.pause()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._pipe.resume()


_ARRIVALS = memoryview(bytearray(64 * 1024))
"""Where what arrives is read to, on every WebSocket: it is taken from there before the next one is read. The event loop
would make room for four times as much for each message, which costs more than decoding it."""


class WebSocketProtocol(WebSocketsSansIOProtocol, asyncio.BufferedProtocol):
    """uvicorn's, with a :class:`Pipe`, and with the ends that its version 0.54 leaves open.

    Who has spoken lately is not asked whether he is there, nor who is still reading what he was sent.
    """

    def __init__(self, config: Config, server_state: ServerState, app_state: dict[str, Any], **more: Any) -> None:  # noqa: ANN401
        self._visit: Visit = app_state["pipe"].visit
        self._pipe = Pipe(self._visit)
        self._received = bytearray()
        self._wanted = 0
        self._is_odd = False
        self._heard_at = 0.0
        self._odd_frames = 0
        self._odd_since = 0.0
        self._is_deaf = False
        self._owed_pong = b""
        super().__init__(config, server_state, app_state | {"pipe": self._pipe}, **more)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._pipe.made(transport)
        # A pong must not land within a letter that is sent piece by piece.
        super().connection_made(cast("asyncio.Transport", InOrder(self._pipe)))

    def connection_lost(self, exc: Exception | None) -> None:
        self._visit.end()
        super().connection_lost(exc)
        self._pipe.lost()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._pipe.pause()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._pipe.resume()
        if self._owed_pong and not self._pipe.blocked:
            self._pipe.write(self._owed_pong)
            self._owed_pong = b""

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002  (how much is told by asyncio: as much as there is)
        return _ARRIVALS

    def buffer_updated(self, nbytes: int) -> None:
        self.data_received(_ARRIVALS[:nbytes])

    def data_received(self, data: bytes | memoryview) -> None:
        if self._is_deaf or self._pipe.is_closing():
            return
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
        rest = self._take_frames(data)
        self.conn.max_message_size = self._pipe.max_message_bytes
        for start in range(0, len(rest), SLICE_BYTES):
            if not (self._is_deaf or self.transport.is_closing()):
                super().data_received(bytes(rest[start : start + SLICE_BYTES]))

    def send_keepalive_ping(self) -> None:
        silent_seconds = 0.0 if self._pipe.blocked else self.loop.time() - self._heard_at
        if silent_seconds < PING_SECONDS:
            self.ping_timer = self.loop.call_later(PING_SECONDS - silent_seconds, self.send_keepalive_ping)
        else:
            super().send_keepalive_ping()

    def keepalive_timeout(self) -> None:
        has_spoken = self.loop.time() - self._heard_at < PING_SECONDS
        if has_spoken or self._pipe.blocked:  # or the answer waits behind what the peer is still reading
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
        while start < len(data) and not (self._is_odd or self._is_deaf or self.transport.is_closing()):
            if (head := frame_head(data, start)) is None:
                break
            opcode, body, end = head
            if opcode is None or end - body > self._pipe.max_message_bytes:
                self._is_odd = True
            elif end > len(data):
                self._wanted = end - start
                break
            elif opcode in MESSAGES and self.close_sent:  # only the peer's own end is of interest
                self._count_odd_frame()
                start = end
            elif opcode in MESSAGES and self._pipe.on_message and self.queue.empty():
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

    def handle_text(self, event: Frame) -> None:
        super().handle_text(event)
        self._count_odd_frame()

    def handle_bytes(self, event: Frame) -> None:
        super().handle_bytes(event)
        self._count_odd_frame()

    def handle_ping(self) -> None:
        if self._pipe.blocked:  # else pongs would pile up; to answer the newest ping is enough (RFC 6455 section 5.5.3)
            self._owed_pong = b"".join(self.conn.data_to_send())
        else:
            super().handle_ping()
        self._count_odd_frame()

    def handle_pong(self, event: Frame) -> None:
        super().handle_pong(event)
        self._count_odd_frame()

    def handle_cont(self, event: Frame) -> None:
        super().handle_cont(event)
        self._count_odd_frame()

    def send_receive_event_to_app(self) -> None:
        with contextlib.suppress(InvalidState):  # no text, and its end came along with it: that is answered next
            super().send_receive_event_to_app()

    def _count_odd_frame(self) -> None:
        if self._heard_at - self._odd_since >= 1.0:
            self._odd_frames, self._odd_since = 0, self._heard_at
        self._odd_frames += 1
        is_too_much = self._odd_frames > ODD_FRAMES_PER_SECOND or len(self.frames) > ODD_FRAMES_IN_MESSAGE
        if not is_too_much or self._is_deaf or self.transport.is_closing():
            return
        self._is_deaf = True
        if not self.close_sent:
            self.conn.fail(1008, "too many control frames, fragments or early messages")
            self.handle_parser_exception()

    def handle_parser_exception(self) -> None:
        if self.conn.close_sent is None:  # its handshake is not answered yet, so no end can be told
            self._visit.refused("bad_frame", "no WebSocket: frames before the answer to its handshake")
            self._pipe.abort()
            return
        words = f"no WebSocket: {self.conn.close_sent.reason or 'broken frames'} ({self.conn.close_sent.code})"
        self._visit.refused("bad_frame", one_line(words, MAX_SAID))
        self._pipe.lingers = True
        super().handle_parser_exception()

    def shutdown(self) -> None:
        try:
            super().shutdown()
        except (InvalidState, AssertionError):  # the peer is closing already, or never got through its handshake
            self.transport.abort()


class _Server(uvicorn.Server):
    """uvicorn's, without its signals. By TLS ``takes_connections`` is false: :class:`gpumon.securing.Securing` does."""

    def __init__(self, config: Config, *, takes_connections: bool) -> None:
        super().__init__(config)
        self._takes_connections = takes_connections

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        loop, taken = asyncio.get_running_loop(), sockets if self._takes_connections else None
        self.servers = [await loop.create_server(self.protocol, sock=one, backlog=BACKLOG) for one in taken or ()]
        self.started = True

    def protocol(self) -> asyncio.Protocol:
        """What serves one connection."""
        made = cast("Callable[..., asyncio.Protocol]", self.config.http_protocol_class)
        return made(config=self.config, server_state=self.server_state, app_state=self.lifespan.state)


async def serve(
    app: ASGIApp,
    listener: socket.socket,
    end_streams: Callable[[], None] = lambda: None,
    visits: Visits | None = None,
    tls: ssl.SSLContext | None = None,
) -> None:
    """Serve ``app`` on ``listener`` until cancelled, by ``tls`` if given; ``visits`` count who comes. Then
    ``end_streams`` is called, for an endless response holds the server; requests have 2 s, WebSockets end with 1012.
    """
    visits = visits or Visits(Refusals())
    config = uvicorn.Config(
        app,
        http=cast("type[asyncio.Protocol]", partial(_Http, visits)),
        ws=WebSocketProtocol,
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        ws_max_size=MAX_MESSAGE_BYTES,
        ws_ping_interval=PING_SECONDS,
        ws_ping_timeout=PING_SECONDS,
        ws_per_message_deflate=False,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
    server = _Server(config, takes_connections=tls is None)
    try:
        async with asyncio.TaskGroup() as group:
            if tls is not None:
                group.create_task(Securing(listener, tls, visits, server.protocol).run())
            await server.serve(sockets=[listener])
    finally:
        end_streams()
        if server.started:
            await server.shutdown()
        listener.close()
