"""Requests that nobody sends by accident: paths that climb, headers that split, ranges by the thousand."""

import gzip
import itertools
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gpumon.config import AuthSection, Config, NodeEntry
from gpumon.hub.page import FOLDER
from tests.hub.lock import LockedHub, locked_hub
from tests.hub.rawhttp import exchange, get, upgrade

UPS = (
    "..",
    "%2e%2e",
    "%2E%2E",
    ".%2e",
    "%2e.",
    "%252e%252e",
    "..%00",
    "..;",
    "....",
    "..%c0%af",
    "%c0%ae%c0%ae",
    "%e0%80%ae%e0%80%ae",
    "%uff0e%uff0e",
    "..%5c",
    "..\\",
    ".\\.",
)
BETWEEN = ("/", "%2f", "%2F", "%5c", "//", "/./", "%252f", "\\")
FROM = ("/", "/assets/", "/assets", "/api/nodes/", "/api/nodes/node/", "/api/", "/health/")
TARGETS = ("cli.py", "etc/passwd", "viewers.token", "config.json", "index.html", "sources.sha256")
HOPS = 3
LONGEST_LINE = 8000
"""More than about so much is no WebSocket's first line, and ends the connection."""
AMONG = (
    "/.",
    "/..",
    "//",
    "///etc/passwd",
    "/./index.html",
    "/index.html/",
    "/index.html%00",
    "/index.html%00.css",
    "/index.html;.css",
    "/index.html::$DATA",
    "/INDEX.HTML",
    "/.git/config",
    "/.env",
    "/assets",
    "/assets/",
    "/assets/.",
    "/assets/*",
    "/~root",
    "/file:///etc/passwd",
    "/http://evil.example/",
    "/api/nodes/..",
    "/api/nodes/.",
    "/api/nodes/%00",
    "/api/nodes/%2e%2e",
    "/api/nodes//history",
    "/api/nodes/node/history/",
    "/api/nodes/node/history/x",
    "/api//nodes",
    "/API/NODES",
    "/api/nodes;x=1",
    "/api/nodes%3Fx",
    "/api/nodes%20",
    "/api/nodes%0d%0aX-Evil:%201",
    "/api/nodes/%0d%0aSet-Cookie:%20evil=1",
    "/%0d%0aLocation:%20http://evil.example",
    "/%ff%fe",
    "/%",
    "/%zz",
    "/%d8%00",
    "/" + "a" * 8000,
    "/" + "%2e%2e%2f" * 1000,
    "/" + "../" * 2000,
)


def tricks() -> list[str]:
    """Some 300 paths that lead to no file of ours, each a different way."""
    climbs = [
        f"{start}{(up + between) * HOPS}{target}"
        for (start, up), between, target in zip(
            itertools.product(FROM, UPS), itertools.cycle(BETWEEN), itertools.cycle(TARGETS), strict=False
        )
    ]
    others = [
        f"/{(up + between) * HOPS}{target}" for up, between, target in itertools.product(UPS, BETWEEN, TARGETS[1:3])
    ]
    return list(dict.fromkeys([*climbs, *others, *AMONG]))


@pytest.fixture(params=["open", "token"])
async def hub(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[LockedHub]:
    config = Config(nodes=[NodeEntry(name="node", host="127.0.0.1", port=9)])
    async with locked_hub(tmp_path, AuthSection(viewers=request.param), config) as locked:
        yield locked


def test_there_are_three_hundred_and_no_two_alike() -> None:
    assert len(tricks()) >= 300


async def test_no_path_leads_to_a_file_that_is_not_the_pages(hub: LockedHub) -> None:
    ours = {path.read_bytes() for path in FOLDER.rglob("*") if path.is_file()}
    wrong = []
    for path in tricks():
        for headers in ((), (hub.bearer,)):
            answer = await exchange(hub.site, get(path, "Accept: text/html", *headers))
            refused = (
                400 <= answer.status < 500 and b"root:" not in answer.body and hub.token.encode() not in answer.body
            )
            if not refused and not (answer.status == 200 and answer.body in ours):
                wrong.append((path[:80], answer.status))
            if "evil" in answer.head.lower():
                wrong.append((path[:80], answer.status))
    assert wrong == []


async def test_over_websocket_they_lead_nowhere_either(hub: LockedHub) -> None:
    for path in tricks():
        answer = await exchange(hub.site, upgrade(path, hub.bearer))
        is_cut_off = len(path) > LONGEST_LINE and answer.status == 0
        assert (path[:80], answer.status in (400, 403, 404) or is_cut_off) == (path[:80], True), answer.status


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET /api/nodes HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET /api/nodes HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        b"GET /api/nodes HTTP/1.1\r\nHost: localhost\r\nContent-Length: +1\r\n\r\n",
        b"GET /api/nodes HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"GET /api/nodes HTTP/1.1\rHost: localhost\r\n\r\n",
        b"GET /api/nodes HTTP/1.1\r\nHost: localhost\r\nX: a\rb\r\n\r\n",
        b"GET /api/nodes HTTP/1.1\r\nHost: localhost\r\nX: a\x00b\r\n\r\n",
        b"GET /api/nodes HTTP/1.1\r\nHost: localhost\r\n X: folded into the host\r\n\r\n",
        b"GET /api/nodes HTTP/1.1\r\nHost : localhost\r\n\r\n",
        b"GET /api/nodes HTTP/1.1\r\nHost: localhost\r\nX Y: 1\r\n\r\n",
        b"GET /api/\x00nodes HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /api/nodes\x7f HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /api/nodes HTTP/1.1 \r\nHost: localhost\r\n\r\n",
        b"GET  /api/nodes HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /api/nodes HTTP/2.0\r\nHost: localhost\r\n\r\n",
        b"G\xe9T /api/nodes HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
)
async def test_what_two_servers_could_read_in_two_ways_is_refused(hub: LockedHub, request_bytes: bytes) -> None:
    answer = await exchange(hub.site, request_bytes)
    assert answer.status in (400, 501, 505)


async def test_nothing_that_is_asked_gets_into_a_header(hub: LockedHub) -> None:
    for target in (
        "/api/events?pace=%0d%0aX-Evil:1",
        "/api/history?node=%0d%0aX-Evil:1&nope=%0d%0aX-Evil:1",
        "/?lang=%0d%0aX-Evil:1&format=%0d%0aX-Evil:1",
        "/api/nodes/x%0d%0aX-Evil:1",
    ):
        answer = await exchange(hub.site, get(target, hub.bearer, "If-None-Match: x\tX-Evil:1"))
        assert answer.status in (400, 404)
        assert "x-evil" not in answer.head.lower()


async def test_ranges_are_not_served_however_many_are_asked_for(hub: LockedHub) -> None:
    whole = await exchange(hub.site, get("/index.html"))
    for ranges in (
        "bytes=0-1",
        "bytes=" + ",".join(f"{n}-{n}" for n in range(1000)),
        "bytes=-1,0-",
        "lines=1-2",
        "bytes=",
    ):
        answer = await exchange(hub.site, get("/index.html", f"Range: {ranges}", "If-Range: x"))
        assert (answer.status, answer.body) == (200, whole.body)


@pytest.mark.parametrize(
    "accepted",
    [
        "gzip;q=x",
        "gzip;q=",
        ";;;",
        ",,,",
        "gzip," * 1000,
        "*;q=0, gzip",
        "br;q=1.0, *;q=0.1",
        "x" * 4000,
        "gzip;q=1;q=0",
    ],
)
async def test_odd_encodings_get_an_answer_that_can_be_read(hub: LockedHub, accepted: str) -> None:
    for target in ("/api/nodes", "/api/history", "/index.html"):
        answer = await exchange(hub.site, get(target, hub.bearer, f"Accept-Encoding: {accepted}"))
        assert answer.status == 200
        body = gzip.decompress(answer.body) if "content-encoding: gzip" in answer.head else answer.body
        if target.startswith("/api"):
            json.loads(body)


async def test_bodies_that_nobody_asked_for_harm_nobody(hub: LockedHub) -> None:
    boundary = b"--x\r\nContent-Disposition: form-data; name=token\r\n\r\n"
    for content in ("multipart/form-data; boundary=x", "application/x-www-form-urlencoded", "text/plain", ""):
        for method, target in (("POST", "/api/login"), ("POST", "/api/nodes"), ("GET", "/api/nodes"), ("POST", "/")):
            body = boundary * 2000
            headers = (f"Content-Type: {content}", f"Content-Length: {len(body)}")
            answer = await exchange(hub.site, get(target, *headers, method=method) + body)
            assert 400 <= answer.status < 500 or (method, answer.status, hub.is_closed) == ("GET", 200, False)
    assert (await exchange(hub.site, get("/health"))).status == 200
