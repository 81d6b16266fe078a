"""What the agent serves by itself: ``GET /gpu-info`` and ``GET /health``."""

import hashlib
import hmac
from collections.abc import Callable

import orjson
from msgspec import Struct
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from gpumon import __version__
from gpumon.agent.browsers import NoStrangersPages
from gpumon.agent.sampler import Sampler
from gpumon.hosts import Hosts
from gpumon.problem import LoggedFaults, handlers, problem
from gpumon.refusals import Refusals
from gpumon.wire import encode

JSON = "application/json"
NO_STORE = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
}
WELL = ("ok", "degraded")


class Closed:
    """Answers those only who know ``token``, and the others all alike, whatever they ask for."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app = app
        self._digest = _digest(token.encode())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        said = next((value for name, value in scope.get("headers", ()) if name == b"authorization"), b"")
        scheme, _, given = said.partition(b" ")
        knows = hmac.compare_digest(_digest(given.strip()), self._digest) and scheme.lower() == b"bearer"
        if scope["type"] != "http" or knows:  # nothing else is served
            await self._app(scope, receive, send)
            return
        refusal = problem(401, "this agent answers those only who know its token", {"WWW-Authenticate": "Bearer"})
        await refusal(scope, receive, send)


def _digest(text: bytes) -> bytes:
    return hashlib.sha256(text).digest()


def application(
    sampler: Sampler,
    hosts: Hosts,
    link: Callable[[], Struct] | None = None,
    refusals: Refusals | None = None,
    token: str | None = None,
) -> ASGIApp:
    """The agent's own answers, from what ``sampler`` made last: no question waits for the driver. ``link`` tells how
    the link to the hub is, and ``refusals`` what was refused, for those who ask ``/health?verbose``. With a ``token``,
    who asks must know it; without, what a browser asks must be asked by one of ``hosts``.
    """

    async def gpu_info(_: Request) -> Response:
        if sampler.newest_bytes is None:
            raise HTTPException(503, "the first sample is being made", {"Retry-After": "1"})
        return Response(sampler.newest_bytes, headers=NO_STORE, media_type=JSON)

    async def health(request: Request) -> Response:
        status, error = sampler.health()
        newest = sampler.newest
        body: dict[str, object] = {
            "status": status,
            "error": orjson.Fragment(encode(error)) if error else None,
            "node": sampler.node,
            "agent_version": __version__,
            "boot_id": sampler.boot_id,
            "sequence": newest.sequence if newest else None,
            "sampled_at": newest.sampled_at if newest else None,
            "simulated": sampler.simulated,
        }
        if "verbose" in request.query_params:
            body["link"] = orjson.Fragment(encode(link())) if link else None
            body["refused"] = refusals.counts if refusals else {}
        return Response(orjson.dumps(body), 200 if status in WELL else 503, headers=NO_STORE, media_type=JSON)

    starlette = Starlette(
        routes=[Route("/gpu-info", gpu_info, methods=["GET"]), Route("/health", health, methods=["GET"])],
        exception_handlers=handlers,
    )
    starlette.router.redirect_slashes = False
    return LoggedFaults(NoStrangersPages(starlette, hosts) if token is None else Closed(starlette, token))
