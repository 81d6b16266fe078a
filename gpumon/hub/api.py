"""The REST side of the contract: ``/api/nodes``, ``/api/catalog``, ``/health``, ``/openapi.json``."""

import asyncio
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
from gpumon.hub.core import Hub
from gpumon.wire import encode

JSON = "application/json"
COMPRESS_FROM_BYTES = 1024


class Api:
    """Answers questions about ``hub``."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._openapi = orjson.dumps(openapi.document())
        self._catalog = msgspec.json.encode(METRICS)
        self._body: tuple[str, bytes] = ("", b"")
        self._compressed: tuple[str, bytes] = ("", b"")
        self.routes = [
            Route("/api/nodes", self.nodes, methods=["GET"]),
            Route("/api/nodes/{name}", self.node, methods=["GET"]),
            Route("/api/catalog", self.catalog, methods=["GET"]),
            Route("/health", self.health, methods=["GET"]),
            Route("/openapi.json", self.openapi, methods=["GET"]),
        ]

    async def nodes(self, request: Request) -> Response:
        """Every node, in order. The ETag is the state's version: no body is hashed."""
        identity = self._hub.feed.identity
        headers = {"ETag": f'W/"{identity}"', "Cache-Control": "no-cache", "Vary": "Accept-Encoding"}
        if _is_known(identity, request.headers.get("if-none-match", "")):
            return Response(status_code=304, headers=headers)
        if self._body[0] != identity:
            self._body = identity, orjson.dumps([orjson.Fragment(node) for node in self._hub.fleet.encoded_nodes()])
        body = self._body[1]
        if len(body) >= COMPRESS_FROM_BYTES and packing.accepts_gzip(request.headers.get("accept-encoding", "")):
            headers["Content-Encoding"] = "gzip"
            if self._compressed[0] != identity:
                self._compressed = identity, await asyncio.to_thread(packing.body, body)
            body = self._compressed[1]
        return Response(body, headers=headers, media_type=JSON)

    async def node(self, request: Request) -> Response:
        """One node."""
        name = request.path_params["name"]
        if self._hub.fleet.get(name) is None:
            raise HTTPException(404, f"there is no node {name!r}; /api/nodes lists them")
        return Response(self._hub.fleet.encoded(name), headers={"Cache-Control": "no-store"}, media_type=JSON)

    async def catalog(self, _: Request) -> Response:
        """Every metric with its unit, kind and meaning."""
        return Response(self._catalog, media_type=JSON)

    async def health(self, _: Request) -> Response:
        """That the hub lives."""
        states = Counter(member.status for member in self._hub.fleet)
        health = openapi.Health(
            status="ok",
            hub_version=__version__,
            nodes={state: states[state] for state in ("online", "stale", "offline", "pending")},
            viewers=len(self._hub.feed.viewers),
            notices=self._hub.notices,
        )
        return Response(encode(health), headers={"Cache-Control": "no-store"}, media_type=JSON)

    async def openapi(self, _: Request) -> Response:
        """The schema of all this."""
        return Response(self._openapi, media_type=JSON)


def _is_known(identity: str, tags: str) -> bool:
    """Whether one of ``tags`` is this state's (weak comparison, RFC 9110 section 8.8.3.2)."""
    return any(tag.strip().removeprefix("W/") in (f'"{identity}"', "*") for tag in tags.split(","))
