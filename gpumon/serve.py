"""Serving an ASGI application by uvicorn: the one place that knows uvicorn.

Its own handling of signals is switched off (it raises SIGTERM again after serving, so that nothing behind
it would run): cancellation is the stop signal here, as everywhere in gpumon.
"""

import errno
import socket
from collections.abc import Callable, Generator
from contextlib import contextmanager

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.exceptions import InvalidState

from gpumon.errors import ListenError
from gpumon.wire import MAX_MESSAGE_BYTES

GRACE_SECONDS = 2
MAX_HEAD_BYTES = 16 * 1024
PING_SECONDS = 10
UNACKNOWLEDGED_MILLISECONDS = 20_000


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
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNACKNOWLEDGED_MILLISECONDS)
    return listener


def url_of(listener: socket.socket) -> str:
    """Where ``listener`` is reached, as far as it knows: ``http://0.0.0.0:8080``."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class _WebSocket(WebSocketsSansIOProtocol):
    """uvicorn's, with the two ends that its version 0.54 leaves open."""

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.conn.handshake_exc is not None:  # neither answered nor closed
            self.transport.close()

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
            http="h11",
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
