"""Keeps pages of strangers in somebody's browser from reading what an agent answers (:mod:`gpumon.hosts`).

Programs may call an agent by any name: the one that polls it may have a DNS server of its own, which this machine has
never heard of. So the names are asked of browsers only. That they are one they cannot hide: ``Accept-Encoding`` is
forbidden to scripts (Fetch standard, section 2.2.2), and every browser sends it, with more in it than ``gzip``, or with
``identity`` beside a ``Range``. ``Sec-Fetch-Site`` is not sent by plain HTTP, ``Referer`` and ``Origin`` not where the
page does not want it; they are marks as well.
"""

from typing import Final

from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from gpumon.hosts import Hosts
from gpumon.pipe import note_refusal
from gpumon.problem import problem

MARKS: Final = frozenset({b"origin", b"referer", b"cookie", b"accept-language", b"range", b"upgrade-insecure-requests"})
SECURE_MARKS: Final = b"sec-"
PROGRAMS_ENCODINGS: Final = (b"", b"gzip", b"identity")
"""What Go (the hub that gpumon replaces, Prometheus), curl, wget and gpumon send, or none at all."""


class NoStrangersPages:
    """Lets through to ``app`` programs, and those browsers that ask by a name that ``hosts`` knows."""

    def __init__(self, app: ASGIApp, hosts: Hosts) -> None:
        self._app = app
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusal = self._refusal(scope)
        if refusal is not None:
            note_refusal(scope, "foreign_request", "a request in a foreign name, or of a foreign page")
        await (self._app if refusal is None else refusal)(scope, receive, send)

    def _refusal(self, scope: Scope) -> Response | None:
        headers: dict[bytes, bytes] = dict(scope.get("headers", ()))
        if scope["type"] != "http" or not may_be_a_browser(headers):  # nothing else is served
            return None
        if fault := self._hosts.fault(headers.get(b"host"), headers.get(b"origin"), scope["scheme"]):
            return problem(*fault)
        if headers.get(b"sec-fetch-site") == b"cross-site" and headers.get(b"sec-fetch-mode") != b"navigate":
            return problem(403, "Sec-Fetch-Site: a page of another site asks; allowed: links, and programs")
        return None


def may_be_a_browser(headers: dict[bytes, bytes]) -> bool:
    """Whether a browser can have sent a request with these headers, whatever its page wished."""
    return (
        not MARKS.isdisjoint(headers)
        or any(name.startswith(SECURE_MARKS) for name in headers)
        or headers.get(b"user-agent", b"").lower().startswith(b"mozilla/")
        or headers.get(b"accept-encoding", b"").strip().lower() not in PROGRAMS_ENCODINGS
    )
