"""``/metrics``: what the hub knows, for Prometheus.

It is made on the event loop, in turns of :data:`TURN_SECONDS`, and not in a thread: whoever computes in Python beside
the loop takes the interpreter from it for 5 ms each time that the loop has asked the system for something. It is
compressed in a thread, which needs no interpreter. One text is made at a time, and each serves a second for everybody
who asks for the same.
"""

import asyncio
import time
from collections.abc import Iterator
from typing import Final, NamedTuple

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from gpumon.config import Privacy
from gpumon.hub import packing
from gpumon.hub.auth import caller_of
from gpumon.hub.core import Hub
from gpumon.hub.gauges import NodeGauges, own_health
from gpumon.hub.ingest import Ingest
from gpumon.prometheus import Family, Format, document, format_for

FRESH_SECONDS: Final = 1.0
TURN_SECONDS: Final = 0.001
SHOW_USERS: Final[frozenset[Privacy]] = frozenset({"users", "commands"})


class _Made(NamedTuple):
    """What was made. It is kept compressed, as nearly everybody takes it; who takes nothing holds little then."""

    packed: bytes
    size: int


class Metrics:
    """Answers Prometheus about ``hub`` and its agents' ``ingest``."""

    def __init__(self, hub: Hub, ingest: Ingest) -> None:
        self._hub = hub
        self._ingest = ingest
        self._making = asyncio.Lock()
        self._recent: dict[tuple[str, bool], _Made] = {}
        self._took_seconds: float | None = None
        self.routes = [Route("/metrics", self.metrics, methods=["GET"])]

    async def metrics(self, request: Request) -> Response:
        """The whole fleet, in the format and compression that is asked for."""
        form = format_for(request.headers.get("accept", ""))
        shows_users = caller_of(request.scope).is_admin or self._hub.fleet.privacy in SHOW_USERS
        made = await self._made(form, shows_users=shows_users)
        headers = {"Vary": "Accept, Accept-Encoding", "Cache-Control": "no-store", "Content-Type": form.content_type}
        if packing.accepts_gzip(request.headers.get("accept-encoding", "")):
            return Response(made.packed, headers=headers | {"Content-Encoding": "gzip"})
        pieces = packing.unpacked(made.packed)
        return StreamingResponse(pieces, headers=headers | {"Content-Length": str(made.size)})

    async def _made(self, form: Format, *, shows_users: bool) -> _Made:
        key = form.content_type, shows_users
        async with self._making:
            if key not in self._recent:
                self._recent[key] = await self._make(form, shows_users=shows_users)
                asyncio.get_running_loop().call_later(FRESH_SECONDS, self._recent.pop, key)
            return self._recent[key]

    async def _make(self, form: Format, *, shows_users: bool) -> _Made:
        began = time.perf_counter()
        nodes = NodeGauges(self._hub.clock.time(), dcgm_names=self._hub.metrics.dcgm_names, shows_users=shows_users)
        turn_ends = began + TURN_SECONDS
        for member in list(self._hub.fleet):
            nodes.add(member)
            if time.perf_counter() > turn_ends:
                nodes.settle()
                await asyncio.sleep(0)
                turn_ends = time.perf_counter() + TURN_SECONDS
        families = [*own_health(self._hub, self._ingest, self._took_seconds), *nodes.families]
        made = await asyncio.to_thread(_packed, families, form)
        self._took_seconds = time.perf_counter() - began
        return made


def _packed(families: list[Family], form: Format) -> _Made:
    size = 0

    def counted() -> Iterator[bytes]:
        nonlocal size
        for piece in document(families, form):
            size += len(piece)
            yield piece

    packed = packing.whole(counted())
    return _Made(packed, size)
