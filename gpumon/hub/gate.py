"""The one gate: every request passes it, HTTP and WebSocket alike, before anything else looks at it.

It refuses who asks by a name that is not the hub's, and pages that are not the hub's (:mod:`gpumon.hosts`); it
finds out who asks (:mod:`gpumon.hub.auth`), and lets through only what they may do; and it puts the headers on every
answer that keep browsers from doing more with it than showing it.
"""

import logging
import time
from collections.abc import Iterable
from http import HTTPStatus
from typing import Final, Literal

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gpumon.hosts import Hosts
from gpumon.hub.auth import CALLER, CHALLENGE, LOOKING, NOBODY, Auth
from gpumon.hub.failures import Failures
from gpumon.hub.proxies import Proxies
from gpumon.pipe import note_refusal
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

LOOKED_AT: Final = frozenset(
    {
        b"host",
        b"origin",
        b"authorization",
        b"cookie",
        b"content-length",
        b"transfer-encoding",
        b"sec-fetch-site",
        b"sec-fetch-mode",
    }
)
"""A request that has one of these twice could be read in two ways."""
SPOKEN: Final = ("1.1", "1.0")
PUSH: Final = "/api/push"
LOGIN: Final = "/api/login"
OPEN: Final = frozenset({"/", "/health", LOGIN, PUSH})
"""For everybody, whatever the mode. The page itself tells nothing, ``/`` and ``/health`` tell who may look, and agents
have rules of their own (:mod:`gpumon.hub.ingest`)."""
ADMINISTRATION: Final = ("/api/agents",)
"""What stands below is for who has the token, in every mode."""
READING: Final = frozenset({"GET", "HEAD"})
MOST_WRONG_TOKENS: Final = 20
"""From one address within a minute, each with 401; the next ones are told to wait. A right token always counts: others
come from the same address, and who guesses 256 bits needs more than time.
"""

Need = Literal["nothing", "looking", "token"]


class Gate:
    """Lets through to ``app`` what may pass. ``files`` are paths of the page's files, which tell nothing."""

    def __init__(
        self, app: ASGIApp, hosts: Hosts, auth: Auth, files: Iterable[str] = (), proxies: Proxies | None = None
    ) -> None:
        self._app = app
        self._hosts = hosts
        self._auth = auth
        self._proxies = proxies or Proxies()
        self._open = OPEN.union(files)
        self._failures = Failures(MOST_WRONG_TOKENS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            send = _with_headers(scope["path"], send)
        self._proxies.look_behind(scope)
        refused = self._refused(scope)
        if refused is not None:
            _count(scope, refused.status_code)
        await (self._app if refused is None else refused)(scope, receive, send)

    def _refused(self, scope: Scope) -> Response | None:
        """The answer to who may not pass; who may is noted in ``scope``."""
        path: str = scope["path"]
        if not path.startswith("/"):
            return problem(400, "the target of a request must be a path; this is no proxy")
        if scope["http_version"] not in SPOKEN:
            return problem(505, "HTTP/1.1 is spoken here", {"Connection": "close"})
        found: dict[bytes, bytes] = {}
        for name, value in scope["headers"]:
            if name in LOOKED_AT:
                if name in found:
                    return problem(400, f"{name.decode().title()}: stands twice; allowed: once")
                found[name] = value
        if b"transfer-encoding" in found and b"content-length" in found:
            return problem(400, "Content-Length and Transfer-Encoding: one of the two", {"Connection": "close"})
        origin = found.get(b"origin")
        # Agents know the hub by names that it need not know itself. No browser opens a WebSocket without an Origin.
        is_agent = path == PUSH and origin is None and scope["type"] == "websocket"
        if is_agent:
            return None
        if fault := self._hosts.fault(found.get(b"host"), origin, scope["scheme"]):
            return problem(*fault)
        if (
            found.get(b"sec-fetch-site") == b"cross-site"
            and found.get(b"sec-fetch-mode") != b"navigate"
            and path.startswith("/api/")
        ):
            return problem(403, "Sec-Fetch-Site: a page of another site asks; allowed: the hub's own page")
        return self._unauthorised(scope, self._need(scope), found)

    def _need(self, scope: Scope) -> Need:
        """What it takes to be let through. Nothing that changes anything is ever open."""
        path = scope["path"]
        if path in self._open and (_only_reads(scope) or (path, scope["method"]) == (LOGIN, "POST")):
            return "nothing"
        return "looking" if _only_reads(scope) and not path.startswith(ADMINISTRATION) else "token"

    def _unauthorised(self, scope: Scope, need: Need, found: dict[bytes, bytes]) -> Response | None:
        authorization, cookie = found.get(b"authorization"), found.get(b"cookie")
        caller = self._auth.caller(authorization, cookie)
        scope[CALLER] = caller or NOBODY
        if caller is None:
            return self._wrong_token(scope)
        if need == "looking" and not caller.may_look:
            return problem(401, LOOKING, CHALLENGE)
        if need == "token" and not caller.is_admin:
            return problem(
                401,
                "this takes the token of this hub: log in on its page, or send Authorization: Bearer TOKEN",
                CHALLENGE,
            )
        if need == "token" and caller.session is not None and b"origin" not in found and not _only_reads(scope):
            return problem(403, "Origin: missing; who is logged in by cookie changes things from the hub's page only")
        return None

    def _wrong_token(self, scope: Scope) -> Response:
        """The answer to a token that is not the hub's, shown by a program."""
        client = scope.get("client")
        address, now = client[0] if client else "", time.monotonic()
        if wait := self._failures.wait_seconds(address, now):
            seconds = str(int(wait) + 1)
            words = f"Authorization: this is not the token of this hub, after many that were not; again in {seconds} s"
            return problem(429, words, {"Retry-After": seconds})
        self._failures.add(address, now)
        return problem(401, "Authorization: this is not the token of this hub", CHALLENGE)


def _count(scope: Scope, status: int) -> None:
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        note_refusal(scope, "failed_login", "wrong tokens, again and again")
    elif status == HTTPStatus.UNAUTHORIZED:
        note_refusal(scope, "no_token", "a request without the token that it takes", logging.INFO)
    else:
        note_refusal(scope, "foreign_request", "a request in a foreign name, of a foreign page or of no meaning")


def _only_reads(scope: Scope) -> bool:
    return scope.get("method", "GET") in READING  # a WebSocket begins with GET


def _with_headers(path: str, send: Send) -> Send:
    headers = _API_HEADERS if path.startswith("/api/") or path == "/health" else _HEADERS

    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message["headers"], *headers]
        await send(message)

    return send_with_headers
