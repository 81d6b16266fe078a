"""What the agent serves by itself: ``GET /gpu-info``, ``GET /health`` and ``GET /metrics``."""

import asyncio
import hashlib
import hmac
from collections.abc import Callable, Mapping

import orjson
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from gpumon import __version__
from gpumon.agent.browsers import NoStrangersPages
from gpumon.agent.linkstate import LinkState
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
    link: Callable[[], LinkState | None] = lambda: None,
    refusals: Refusals | None = None,
    token: str | None = None,
    *,
    dcgm_names: bool = False,
) -> ASGIApp:
    """The agent's own answers, from what ``sampler`` made last: no question waits for the driver. ``link`` tells how
    the link to the hub is, and ``refusals`` what was refused, for those who ask ``/health?verbose``. With a ``token``,
    who asks must know it; without, what a browser asks must be asked by one of ``hosts``. ``/metrics`` has NVIDIA's
    names as well if ``dcgm_names``.
    """
    refused = refusals or Refusals()

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
            state = link()
            body["link"] = orjson.Fragment(encode(state)) if state else None
            body["refused"] = refused.counts
        return Response(orjson.dumps(body), 200 if status in WELL else 503, headers=NO_STORE, media_type=JSON)

    making = asyncio.Lock()

    async def metrics(request: Request) -> Response:
        async with making:  # one at a time: whoever asks and asks must not crowd out the sampler
            body, headers = await asyncio.to_thread(_metrics, sampler, link(), refused, request.headers, dcgm_names)
        return Response(body, headers=NO_STORE | headers)

    routes = (("/gpu-info", gpu_info), ("/health", health), ("/metrics", metrics))
    starlette = Starlette(
        routes=[Route(path, endpoint, methods=["GET"]) for path, endpoint in routes], exception_handlers=handlers
    )
    starlette.router.redirect_slashes = False
    return LoggedFaults(NoStrangersPages(starlette, hosts) if token is None else Closed(starlette, token))


def _metrics(
    sampler: Sampler, link: LinkState | None, refusals: Refusals, asked: Mapping[str, str], dcgm_names: bool
) -> tuple[bytes, dict[str, str]]:
    from gpumon.agent import metrics  # 2 MB that an agent needs only where it is scraped

    return metrics.answer(sampler, link, refusals, asked, dcgm_names=dcgm_names)
