"""The REST side of the contract: ``/api/nodes``, ``/api/catalog``, ``/health``, ``/openapi.json``."""

import asyncio
import time
from collections import Counter

import msgspec
import orjson
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gpumon import __version__
from gpumon.catalog import METRICS
from gpumon.hub import openapi, packing
from gpumon.hub.auth import caller_of
from gpumon.hub.core import Hub
from gpumon.wire import encode

JSON = "application/json"
COMPRESS_FROM_BYTES = 1024
BUDGET = 0.1
MOST_SECONDS_BEHIND = 1.0


class _Body:
    """All nodes as of ``identity``. ``cost`` is what it took to make, in seconds."""

    def __init__(self, identity: str, data: bytes, cost: float) -> None:
        self.identity = identity
        self.data = data
        self._cost = cost
        self._made_at = time.monotonic()
        self._packed: bytes | None = None
        self._packing = asyncio.Lock()

    def is_fresh(self) -> bool:
        """Whether it is too soon to make another, although something has changed since."""
        return time.monotonic() - self._made_at < min(self._cost / BUDGET, MOST_SECONDS_BEHIND)

    async def packed(self) -> bytes:
        """:attr:`data` compressed: once, in a thread, whoever asks."""
        async with self._packing:
            if self._packed is None:
                began = time.perf_counter()
                self._packed = await asyncio.to_thread(packing.body, self.data)
                self._cost += time.perf_counter() - began
            return self._packed


class Api:
    """Answers questions about ``hub``."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._openapi = orjson.dumps(openapi.document())
        self._catalog = msgspec.json.encode(METRICS)
        self._bodies: dict[bool, _Body] = {}
        self.routes = [
            Route("/api/nodes", self.nodes, methods=["GET"]),
            Route("/api/nodes/{name}", self.node, methods=["GET"]),
            Route("/api/catalog", self.catalog, methods=["GET"]),
            Route("/health", self.health, methods=["GET"]),
            Route("/openapi.json", self.openapi, methods=["GET"]),
        ]

    async def nodes(self, request: Request) -> Response:
        """Every node, in order. The ETag is the state's version: no body is hashed."""
        body = self._recent(to_strangers=self._is_strange(request))
        headers = {"ETag": f'W/"{body.identity}"', "Vary": "Accept-Encoding"}
        if _is_known(body.identity, request.headers.get("if-none-match", "")):
            return Response(status_code=304, headers=headers)
        data = body.data
        if len(data) >= COMPRESS_FROM_BYTES and packing.accepts_gzip(request.headers.get("accept-encoding", "")):
            headers["Content-Encoding"] = "gzip"
            data = await body.packed()
        return Response(data, headers=headers, media_type=JSON)

    def _is_strange(self, request: Request) -> bool:
        """Whether who asks is told less than others."""
        return not caller_of(request.scope).is_admin and len(self._hub.feeds) > 1

    def _recent(self, *, to_strangers: bool) -> "_Body":
        """The present, or what it was a moment ago: making it anew may take a tenth of the hub's time, no more."""
        identity = self._hub.feed_for(strangers=to_strangers).identity
        body = self._bodies.get(to_strangers)
        if body is None or (body.identity != identity and not body.is_fresh()):
            began = time.perf_counter()
            nodes = self._hub.fleet.encoded_nodes(to_strangers=to_strangers)
            data = orjson.dumps([orjson.Fragment(node) for node in nodes])
            body = self._bodies[to_strangers] = _Body(identity, data, time.perf_counter() - began)
        return body

    async def node(self, request: Request) -> Response:
        """One node."""
        name = request.path_params["name"]
        if self._hub.fleet.get(name) is None:
            raise HTTPException(404, f"there is no node {name!r}; /api/nodes lists them")
        fleet = self._hub.fleet
        return Response(fleet.veiled(name) if self._is_strange(request) else fleet.encoded(name), media_type=JSON)

    async def catalog(self, _: Request) -> Response:
        """Every metric with its unit, kind and meaning."""
        return Response(self._catalog, media_type=JSON)

    async def health(self, request: Request) -> Response:
        """That the hub lives; the rest for those who may look."""
        if not caller_of(request.scope).may_look:
            return Response(encode(openapi.Life()), media_type=JSON)
        states = Counter(member.status for member in self._hub.fleet)
        health = openapi.Health(
            status="ok",
            hub_version=__version__,
            nodes={state: states[state] for state in ("online", "stale", "offline", "pending")},
            viewers=sum(len(feed.viewers) for feed in self._hub.feeds),
            notices=self._hub.notices,
            refused=self._hub.refusals.counts if "verbose" in request.query_params else msgspec.UNSET,
        )
        return Response(encode(health), media_type=JSON)

    async def openapi(self, _: Request) -> Response:
        """The schema of all this."""
        return Response(self._openapi, media_type=JSON)


def _is_known(identity: str, tags: str) -> bool:
    """Whether one of ``tags`` is this state's (weak comparison, RFC 9110 section 8.8.3.2)."""
    return any(tag.strip().removeprefix("W/") in (f'"{identity}"', "*") for tag in tags.split(","))
