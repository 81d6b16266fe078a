"""The one gate: every request passes it, HTTP and WebSocket alike, before anything else looks at it.

It refuses who asks by a name that is not the hub's, and pages that are not the hub's (:mod:`gpumon.hub.hosts`), and
puts the headers on every answer that keep browsers from doing more with it than showing it.
"""

from typing import Final

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gpumon.hub.hosts import Hosts
from gpumon.problem import problem

SECURITY_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
"""On every answer over HTTP."""
_HEADERS: Final = [(name.lower().encode(), value.encode()) for name, value in SECURITY_HEADERS.items()]
_API_HEADERS: Final = [*_HEADERS, (b"cache-control", b"no-store")]
"""What is told of nodes is kept by no cache and on no disk of a browser."""

LOOKED_AT: Final = frozenset({b"host", b"origin", b"sec-fetch-site", b"sec-fetch-mode"})
PUSH: Final = "/api/push"


class Gate:
    """Lets through to ``app`` what may pass."""

    def __init__(self, app: ASGIApp, hosts: Hosts) -> None:
        self._app = app
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            send = _with_headers(scope["path"], send)
        refused = self._refused(scope)
        await (self._app if refused is None else refused)(scope, receive, send)

    def _refused(self, scope: Scope) -> Response | None:
        """The answer to who may not pass."""
        path: str = scope["path"]
        if not path.startswith("/"):
            return problem(400, "the target of a request must be a path; this is no proxy")
        found: dict[bytes, bytes] = {}
        for name, value in scope["headers"]:
            if name in LOOKED_AT:
                if name in found:
                    return problem(400, f"{name.decode().title()}: stands twice; allowed: once")
                found[name] = value
        origin = found.get(b"origin")
        # Agents know the hub by names that it need not know itself. No browser opens a WebSocket without an Origin.
        is_agent = path == PUSH and origin is None and scope["type"] == "websocket"
        if not is_agent and (fault := self._hosts.fault(found.get(b"host"), origin, scope["scheme"])):
            return problem(*fault)
        if (
            found.get(b"sec-fetch-site") == b"cross-site"
            and found.get(b"sec-fetch-mode") != b"navigate"
            and path.startswith("/api/")
        ):
            return problem(403, "Sec-Fetch-Site: a page of another site asks; allowed: the hub's own page")
        return None


def _with_headers(path: str, send: Send) -> Send:
    headers = _API_HEADERS if path.startswith("/api/") or path == "/health" else _HEADERS

    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message["headers"], *headers]
        await send(message)

    return send_with_headers
