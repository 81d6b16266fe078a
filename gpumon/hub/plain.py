"""``GET /`` by what is asked for: the page for browsers, plain text for terminals, a plain table without scripts."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gpumon.hub.auth import caller_of, must_look
from gpumon.hub.core import Hub
from gpumon.hub.sheet import STYLE_SHEET, Language, as_html, as_text, sheet
from gpumon.model import Node

Endpoint = Callable[[Request], Awaitable[Response]]

DEFAULT_COLUMNS: Final = 160
TERMINAL_COLUMNS: Final = 80
"""The width that every terminal has: curl cannot say how wide its own is."""
MOST_COLUMNS: Final = 1000
LEAST_COLUMNS: Final = 40
MOST_DIGITS: Final = len(str(MOST_COLUMNS))
FRESH_SECONDS: Final = 0.5
MOST_KEPT: Final = 8
STYLE: Final = "/plain.css"
BROWSERS: Final = ("text/html", "application/xhtml+xml")
VARY: Final = "Accept, Accept-Language, User-Agent"
TERMINALS: Final = frozenset({"curl", "wget", "httpie", "xh"})
IN_COLOR: Final = "curl"
"""The one that shows what it gets to a person, as it is, unless told otherwise."""


class _Wish(NamedTuple):
    """What is asked for; ``format`` is ``page``, ``text`` or ``html``."""

    format: str
    language: Language
    columns: int
    color: bool
    to_strangers: bool = False


class Plain:
    """Tells what ``hub`` knows to those who run no scripts; ``page`` answers everybody else.

    A sheet of a large fleet takes a tenth of a second: it is made in a thread, one at a time, and serves everybody
    who asks for the same within :data:`FRESH_SECONDS`.
    """

    def __init__(self, hub: Hub, page: Endpoint) -> None:
        self._hub = hub
        self._page = page
        self._making = asyncio.Lock()
        self._made: dict[_Wish, tuple[float, str]] = {}
        self.routes = [
            Route("/", self.root, methods=["GET"]),
            Route(STYLE, self.style, methods=["GET"]),
        ]

    async def root(self, request: Request) -> Response:
        """The page, or what it would show."""
        wish = _wish(request)
        if wish.format == "page":
            answer = await self._page(request)
            answer.headers["Vary"] = VARY
            return answer
        must_look(request.scope)
        if len(self._hub.feeds) > 1 and not caller_of(request.scope).is_admin:
            wish = wish._replace(to_strangers=True)
        media_type = "text/html" if wish.format == "html" else "text/plain"
        return Response(
            await self._told(wish), headers={"Cache-Control": "no-store", "Vary": VARY}, media_type=media_type
        )

    async def style(self, _: Request) -> Response:
        """How the plain table looks."""
        return Response(STYLE_SHEET, headers={"Cache-Control": "no-cache"}, media_type="text/css")

    async def _told(self, wish: _Wish) -> str:
        async with self._making:
            made_at, body = self._made.get(wish, (0.0, ""))
            if not body or time.monotonic() - made_at > FRESH_SECONDS:
                nodes = self._hub.fleet.nodes(to_strangers=wish.to_strangers)
                body = await asyncio.to_thread(self._make, wish, nodes, self._hub.clock.time())
                self._made.pop(wish, None)
                self._made[wish] = (time.monotonic(), body)
                while len(self._made) > MOST_KEPT:
                    del self._made[next(iter(self._made))]
            return body

    @staticmethod
    def _make(wish: _Wish, nodes: list[Node], now: float) -> str:
        told = sheet(nodes, now, wish.language)
        return as_html(told) if wish.format == "html" else as_text(told, wish.columns, color=wish.color)


def _wish(request: Request) -> _Wish:
    query = request.query_params
    form = query.get("format") or ("page" if _is_browser(request.headers) else "text")
    if form not in ("page", "text", "html"):
        raise HTTPException(400, f"format: {form[:60]!r} is not allowed; allowed: page, text, html")
    if form == "page":
        return _Wish("page", "en", 0, color=False)
    to_person = form == "text" and _is_for_a_person(request.headers)
    columns = _columns(query.get("columns"), TERMINAL_COLUMNS if to_person else DEFAULT_COLUMNS)
    color = query.get("color", "1" if to_person else "0") not in ("", "0")
    return _Wish(form, _language(request), columns, color=color)


def _is_for_a_person(headers: Headers) -> bool:
    """Whether the text most likely goes to a terminal. Who asks for plain text by its name wants it plain."""
    return _program(headers) == IN_COLOR and "text/plain" not in _offers(headers)


def _is_browser(headers: Headers) -> bool:
    """Whether who asks is served the page: everybody but who names plain text and no HTML, and programs of the
    terminal, which say ``*/*`` as many others do and are known by their name.
    """
    offers = _offers(headers)
    if any(media_type in offers for media_type in BROWSERS):
        return True
    return "text/plain" not in offers and _program(headers) not in TERMINALS


def _offers(headers: Headers) -> list[str]:
    """The media types that are taken."""
    return [offer.partition(";")[0].strip().lower() for offer in headers.get("accept", "").split(",")]


def _program(headers: Headers) -> str:
    return headers.get("user-agent", "").partition("/")[0].lower()


def _language(request: Request) -> Language:
    """That of ``?lang=``, else the reader's first that we speak."""
    asked = [request.query_params.get("lang", ""), *request.headers.get("accept-language", "").split(",")]
    for tag in asked:
        match tag.strip().lower().replace(";", "-").split("-")[0]:
            case "zh":
                return "zh"
            case "en":
                return "en"
    return "en"


def _columns(text: str | None, default: int) -> int:
    if text is None:
        return default
    columns = int(text) if len(text) <= MOST_DIGITS and text.isascii() and text.isdigit() else 0
    if not LEAST_COLUMNS <= columns <= MOST_COLUMNS:
        raise HTTPException(
            400,
            f"columns: {text[:60]!r} is not allowed; allowed: a whole number from {LEAST_COLUMNS} to {MOST_COLUMNS}",
        )
    return columns
