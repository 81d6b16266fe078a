"""The hub put together: rooms wired, background work and server side by side in one task group."""

import asyncio
import gc
import ipaddress
import logging
import socket
from collections.abc import Callable

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, WebSocketRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gpumon import __version__
from gpumon.certificates import Shown, pinned
from gpumon.config import Config, name_server
from gpumon.hub.api import Api
from gpumon.hub.clock import BEAT_SECONDS
from gpumon.hub.core import Hub
from gpumon.hub.ingest import Ingest
from gpumon.hub.live import Live
from gpumon.hub.page import Page
from gpumon.hub.past import PastApi
from gpumon.hub.plain import Plain
from gpumon.hub.poller import Poller
from gpumon.hub.reload import Reload
from gpumon.lifecycle import on_reload, open_many_files
from gpumon.problem import LoggedFaults, handlers, problem
from gpumon.resolver import Resolver
from gpumon.serve import serve, url_of

log = logging.getLogger(__name__)

LEAST_JUDGE_SECONDS = 0.05
GARBAGE_THRESHOLDS = (5_000, 10, 10)
"""Reports live for a second and hold no cycles: to look for those as often as Python does by default takes a twentieth
of a busy hub's time and finds nothing.
"""

SECURITY_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_RAW_SECURITY_HEADERS = [(name.lower().encode(), value.encode()) for name, value in SECURITY_HEADERS.items()]


class SecurityHeaders:
    """Puts :data:`SECURITY_HEADERS` on every HTTP answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *_RAW_SECURITY_HEADERS]
            await send(message)

        await self._app(scope, receive, send_with_headers if scope["type"] == "http" else send)


async def _upgrade_required(_: Request) -> Response:
    return problem(426, "a WebSocket is served here", {"Upgrade": "websocket"})


def application(hub: Hub, ingest: Ingest) -> ASGIApp:
    """Everything that the hub serves."""
    live = Live(hub.feed)
    page = Page()
    starlette = Starlette(
        routes=[
            *Plain(hub, page.index).routes,
            *page.routes,
            *PastApi(hub).routes,
            *Api(hub).routes,
            Route("/api/events", live.events, methods=["GET"]),
            WebSocketRoute("/api/stream", live.stream),
            WebSocketRoute("/api/push", ingest.__call__),
            Route("/api/stream", _upgrade_required, methods=["GET"]),
            Route("/api/push", _upgrade_required, methods=["GET"]),
        ],
        exception_handlers=handlers,
    )
    starlette.router.redirect_slashes = False  # an address with one slash too many is unknown, as any other
    return LoggedFaults(SecurityHeaders(starlette))


async def run(
    config: Config,
    listener: socket.socket,
    read: Callable[[], Config] | None = None,
    shown: Shown | None = None,
) -> None:
    """Run a hub on ``listener`` until cancelled, by TLS if it has a certificate to be ``shown``; ``read`` reads its
    configuration again, at each SIGHUP.
    """
    gc.set_threshold(*GARBAGE_THRESHOLDS)
    open_many_files()
    hub = Hub(config.nodes, config.hub, url=join_url(listener, shown))
    ingest = Ingest(hub)
    resolver = _resolver(config)
    poller = Poller(hub, config.nodes, resolver, config.tls.ca)

    def apply(before: Config, after: Config) -> None:
        nonlocal resolver
        if after.dns != before.dns:
            resolver = _resolver(after)
        hub.reconfigure(after)
        poller.reconfigure(after.nodes, resolver, after.tls.ca)
        if shown is not None and after.tls.certificate is not None:
            shown.files = after.tls

    reload = Reload(hub, config, read, apply) if read is not None else None
    if reload is not None:
        on_reload(reload.ask)
    log.info(
        "gpumon %s: hub on %s, %d nodes configured",
        __version__,
        url_of(listener, tls=shown is not None),
        len(config.nodes),
    )
    if shown is not None:
        log.info("its certificate's fingerprint is %s", shown.certificate.fingerprint)
    async with asyncio.TaskGroup() as group:
        group.create_task(hub.feed.run(), name="feed")
        group.create_task(_judge(hub, ingest), name="judge")
        group.create_task(poller.run(), name="poller")
        if reload is not None:
            group.create_task(reload.run(), name="reload")
        if shown is not None:
            group.create_task(_keep_certificate(hub, shown, listener), name="certificate")
        tls = shown.context if shown is not None else None
        served = serve(application(hub, ingest), listener, hub.feed.close, hub.refusals, tls)
        group.create_task(served, name="server")


def join_url(listener: socket.socket, shown: Shown | None) -> str:
    """Where agents find the hub, as far as it knows; one that listens on this machine only says so. With the
    fingerprint of a certificate that they could believe in no other way.
    """
    host, port = listener.getsockname()[:2]
    address = ipaddress.ip_address(host.partition("%")[0])
    name = "localhost" if address.is_loopback else socket.gethostname() if address.is_unspecified else host
    where = f"[{name}]:{port}" if ":" in name else f"{name}:{port}"
    return f"http://{where}" if shown is None else pinned(f"https://{where}", shown.certificate)


async def _keep_certificate(hub: Hub, shown: Shown, listener: socket.socket) -> None:
    def tell() -> None:
        hub.fleet.hub_url = join_url(listener, shown)
        hub.notice("bad_certificate", shown.trouble)
        hub.notice("certificate_expires", shown.expiry("The hub's"))

    await shown.watch(tell)


def _resolver(config: Config) -> Resolver:
    return Resolver(name_server(config.dns.server) if config.dns.enabled else None)


async def _judge(hub: Hub, ingest: Ingest) -> None:
    """Judge when the next status falls due, and often enough for the pulse of the hub's clock."""
    while True:
        due = hub.judge()
        ingest.end_silent()
        await asyncio.sleep(min(max(due, LEAST_JUDGE_SECONDS), BEAT_SECONDS))
