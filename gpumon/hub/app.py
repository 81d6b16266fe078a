"""The hub put together: rooms wired, background work and server side by side in one task group."""

import asyncio
import contextlib
import gc
import logging
import socket
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.types import ASGIApp

from gpumon import __version__
from gpumon.certificates import Shown, pinned
from gpumon.config import Config, name_server
from gpumon.hosts import Hosts
from gpumon.hub.agents import AgentsApi
from gpumon.hub.api import Api
from gpumon.hub.auth import Auth
from gpumon.hub.clock import BEAT_SECONDS
from gpumon.hub.core import Hub
from gpumon.hub.enrolment import Enrolment, hub_url
from gpumon.hub.gate import Gate
from gpumon.hub.ingest import Ingest
from gpumon.hub.live import Live
from gpumon.hub.login import LoginApi
from gpumon.hub.metrics import Metrics
from gpumon.hub.page import Page
from gpumon.hub.past import PastApi
from gpumon.hub.plain import STYLE, Plain
from gpumon.hub.poller import Poller
from gpumon.hub.proxies import Proxies
from gpumon.hub.reload import Reload
from gpumon.hub.roster import Roster, open_roster
from gpumon.hub.standing import look_after
from gpumon.lifecycle import on_reload, open_many_files
from gpumon.limits import Visits
from gpumon.listening import url_of
from gpumon.notify import NOBODY, Manager
from gpumon.problem import LoggedFaults, handlers, problem
from gpumon.resolver import Resolver
from gpumon.serve import serve
from gpumon.terminal import write
from gpumon.vitals import OwnDoor, Pulse

log = logging.getLogger(__name__)

LEAST_JUDGE_SECONDS = 0.05
STATE_SECONDS = 10.0
GARBAGE_THRESHOLDS = (5_000, 10, 10)
"""Reports live for a second and hold no cycles: to look for those as often as Python does by default takes a twentieth
of a busy hub's time and finds nothing.
"""


async def _upgrade_required(_: Request) -> Response:
    return problem(426, "a WebSocket is served here", {"Upgrade": "websocket"})


def routes(hub: Hub, ingest: Ingest, auth: Auth, page: Page) -> list[BaseRoute]:
    """Everything that the hub serves."""
    live = Live(hub, auth)
    return [
        *Plain(hub, page.index).routes,
        *page.routes,
        *LoginApi(auth).routes,
        *AgentsApi(ingest.door, ingest.address_of).routes,
        *PastApi(hub).routes,
        *Api(hub).routes,
        *Metrics(hub, ingest).routes,
        Route("/api/events", live.events, methods=["GET"]),
        WebSocketRoute("/api/stream", live.stream),
        WebSocketRoute("/api/push", ingest.__call__),
        Route("/api/stream", _upgrade_required, methods=["GET"]),
        Route("/api/push", _upgrade_required, methods=["GET"]),
    ]


class Entrance:
    """What the gate goes by."""

    def __init__(self, config: Config, state_folder: Path | None) -> None:
        self.hosts = Hosts(_names(config))
        self.proxies = Proxies(config.hub.proxies)
        self.auth = Auth(config.auth, state_folder)

    async def open(self) -> None:
        """Learn what others know; what they do not tell at once is not waited for."""
        threading.Thread(target=self.hosts.learn, daemon=True).start()
        try:
            async with asyncio.timeout(STATE_SECONDS):
                await asyncio.to_thread(self.auth.read)
        except TimeoutError:
            log.warning("%s does not answer: the token to log in with is for this run only", self.auth.token_file)
        self.auth.configure(self.auth.settings)

    def configure(self, config: Config) -> None:
        """Follow another configuration."""
        self.hosts.configure(_names(config))
        self.proxies.configure(config.hub.proxies)
        self.auth.configure(config.auth)


def application(hub: Hub, ingest: Ingest, entrance: Entrance) -> ASGIApp:
    """The same, behind the gate."""
    page = Page()
    hosts, proxies, auth = entrance.hosts, entrance.proxies, entrance.auth
    starlette = Starlette(routes=routes(hub, ingest, auth, page), exception_handlers=handlers)
    starlette.router.redirect_slashes = False  # an address with one slash too many is unknown, as any other
    return LoggedFaults(Gate(starlette, hosts, auth, [*page.paths, STYLE], proxies))


async def run(
    config: Config,
    listener: socket.socket,
    read: Callable[[], Config] | None = None,
    state_folder: Path | None = None,
    *,
    shown: Shown | None = None,
    trusts_loopback: bool = True,
    manager: Manager = NOBODY,
) -> None:
    """Run a hub on ``listener`` until cancelled, by TLS if a certificate is to be ``shown``; ``read`` reads its
    configuration again, at each SIGHUP. What it knows in secret lies in ``state_folder``; without one it is for this
    run only. ``trusts_loopback``: agents of this machine need not join. ``manager`` is told how it goes.
    """
    gc.set_threshold(*GARBAGE_THRESHOLDS)
    open_many_files()
    url = hub_url(config.hub.hosts, *listener.getsockname()[:2], tls=shown is not None)
    known_by = url if shown is None else pinned(url, shown.certificate)
    hub = Hub(config.nodes, config.hub, url=known_by, privacy=config.auth.privacy, metrics=config.metrics)
    entrance = Entrance(config, state_folder)
    await entrance.open()
    roster = await _roster(state_folder)
    enrolment = Enrolment(hub, roster, config.auth.push, trusts_loopback=trusts_loopback)
    ingest = Ingest(hub, enrolment.door)
    resolver = _resolver(config)
    poller = Poller(hub, config.nodes, resolver, config.tls.ca)

    def reread() -> Config:
        assert read is not None
        entrance.auth.read()
        roster.read_token()
        return read()

    def apply(before: Config, after: Config) -> None:
        nonlocal resolver
        if after.dns != before.dns:
            resolver = _resolver(after)
        entrance.configure(after)
        hub.reconfigure(after)
        enrolment.configure(after.auth.push)
        poller.reconfigure(after.nodes, resolver, after.tls.ca)
        if shown is not None and after.tls.certificate is not None:
            shown.files = after.tls

    reload = Reload(hub, config, reread, apply, manager) if read else None
    if reload:
        on_reload(reload.ask)
    where = url_of(listener, tls=shown is not None)
    log.info("gpumon %s: hub on %s, %d nodes configured", __version__, where, len(config.nodes))
    _tell_viewers(entrance.auth, url)
    enrolment.say(listener.getsockname()[0])
    judged = Pulse()
    works = [enrolment.run(), hub.feed.run(), hub.veiled_feed.run(), _judge(hub, ingest, judged), poller.run()]
    works += [reload.run()] if reload else []
    works += [_keep_certificate(hub, shown, url)] if shown else []
    visits = Visits(hub.refusals, entrance.proxies.has, lambda: hub.settings.connections_per_address)
    served, tls = application(hub, ingest, entrance), shown.context if shown else None
    works += [serve(served, listener, hub.close_feeds, visits, tls)]
    works += [look_after(manager, hub, judged, OwnDoor(listener, visits.traffic, tls=tls is not None))]
    with contextlib.closing(roster):
        await _together(works)


async def _together(works: list[Coroutine[Any, Any, None]]) -> None:
    async with asyncio.TaskGroup() as group:
        for work in works:
            group.create_task(work)


async def _keep_certificate(hub: Hub, shown: Shown, url: str) -> None:
    """Follow its files, and tell viewers how it is."""

    def tell() -> None:
        hub.fleet.hub_url = pinned(url, shown.certificate)
        hub.notice("bad_certificate", shown.trouble)
        hub.notice("certificate_expires", shown.expiry("The hub's"))

    log.info("the certificate's fingerprint is %s", shown.certificate.fingerprint)
    await shown.watch(tell)


async def _roster(folder: Path | None) -> Roster:
    try:
        async with asyncio.timeout(STATE_SECONDS):
            return await asyncio.to_thread(open_roster, folder)
    except TimeoutError:
        log.warning("%s does not answer: who joins this hub does so for this run only", folder)
        return open_roster(None)


def _tell_viewers(auth: Auth, url: str) -> None:
    """Say how one logs in: to who has started the hub, and to no log."""
    if auth.is_closed:
        with contextlib.suppress(BrokenPipeError):
            write(f"Viewers log in at {url}/#token={auth.token}\n")
    if auth.token_file is not None:
        log.info("the token to log in with lies in %s", auth.token_file)


def _names(config: Config) -> list[str]:
    """What this hub may be called beside what its machine is."""
    return [*config.hub.hosts, config.hub.host]


def _resolver(config: Config) -> Resolver:
    return Resolver(name_server(config.dns.server) if config.dns.enabled else None)


async def _judge(hub: Hub, ingest: Ingest, judged: Pulse) -> None:
    """Judge when the next status falls due, and often enough for the pulse of the hub's clock."""
    loop = asyncio.get_running_loop()
    while True:
        due = hub.judge()
        ingest.end_silent()
        judged.beat()
        wake = loop.time() + min(max(due, LEAST_JUDGE_SECONDS), BEAT_SECONDS)
        await asyncio.sleep(wake - loop.time())
        hub.lag.note(loop.time() - wake)
