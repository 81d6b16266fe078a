"""Requests that are valid and made to cost much: they are answered like others, by a hub that has nodes."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.hub.agents import hello, raw_agent, report
from tests.running import Site, running_hub

LONG = 15_000  # a head has room for no more
PATHS = ("/", "/api/nodes", "/api/nodes/n", "/api/history", "/api/catalog", "/health", "/openapi.json", "/none")
HEADERS = {
    "many ranges": "Range: bytes=" + ",".join(f"{at}-" for at in range(2500)),
    "ranges that overlap": "Range: bytes=" + "0-,-1," * 2000,
    "many codings": "Accept-Encoding: " + "gzip;q=0," * 1600,
    "codings without end": "Accept-Encoding: " + ";" * LONG,
    "a coding of blanks": "Accept-Encoding: gzip" + " \t" * 7000 + "x",
    "many tags": "If-None-Match: " + 'W/"x",' * 2400,
    "tags without end": "If-None-Match: " + '"' * LONG,
    "many media types": "Accept: " + "text/plain;q=0.1," * 900,
    "media types without end": "Accept: " + "/" * LONG,
    "parameters without end": "Accept: text/html;" + "q=;" * 5000,
    "many languages": "Accept-Language: " + "zh;q=0," * 2000,
    "languages without end": "Accept-Language: " + "-" * LONG,
    "many cookies": "Cookie: " + "a=b; " * 3000,
    "a cookie without end": "Cookie: " + "=" * LONG,
    "a form": "Content-Type: multipart/form-data; boundary=" + "-" * LONG,
    "a body of text": "Content-Type: text/plain; charset=" + "x" * LONG,
    "many before": "X-Forwarded-For: " + "10.0.0.1," * 1600,
    "nobody": "Authorization: Bearer " + "x" * LONG,
    "a program": "User-Agent: " + "curl/" * 3000,
}
QUERIES = (
    *(
        "from=" + "9" * LONG,
        "from=1e" + "9" * LONG,
        "points=" + "9" * LONG,
        "metric=" + "," * LONG,
        "gpu=" + "x" * LONG,
    ),
    *(
        "&" * LONG,
        "=" * LONG,
        "node=n&" * 2000,
        "%" * LONG,
        "%ff" * 5000,
        "from=2026-11-23T14:15:00" + "0" * LONG + "Z",
    ),
    *(
        "columns=" + "9" * LONG,
        "format=" + "x" * LONG,
        "lang=" + "-" * LONG,
        "pace=1e" + "9" * LONG,
        "view=" + "x" * LONG,
    ),
)


@pytest.fixture
async def hub() -> AsyncIterator[Site]:
    async with running_hub() as site, raw_agent(site) as agent:
        await agent.say(hello())
        await agent.hear()
        gpus = [{"index": index, "uuid": f"GPU-{index}", "utilization_percent": 1} for index in range(8)]
        await agent.say(report(1, gpus=gpus))
        await site.node_when("n", lambda node: node["report"])
        yield site


async def status(hub: Site, head: str, body: bytes = b"") -> int:
    reader, writer = await asyncio.open_connection("127.0.0.1", hub.port)
    writer.write(head.encode() + b"\r\nHost: localhost\r\nConnection: close\r\n\r\n" + body)
    said = await reader.read()
    writer.close()
    return int(said.split(b" ", 2)[1])


@pytest.mark.parametrize("case", HEADERS)
async def test_no_header_is_too_much_work(hub: Site, case: str) -> None:
    """That it ends within the time of a test, eight times over, is a part of what it shows."""
    for path in PATHS:
        assert await status(hub, f"GET {path} HTTP/1.1\r\n{HEADERS[case]}") in (200, 304, 401, 403, 404)
    for method in ("HEAD", "OPTIONS", "POST", "PUT", "DELETE", "TRACE", "PATCH", "BREW"):
        found = await status(hub, f"{method} /api/nodes HTTP/1.1\r\n{HEADERS[case]}")
        assert found in (200, 401) if method == "HEAD" else found in (401, 403, 405)


@pytest.mark.parametrize("query", QUERIES, ids=lambda query: query[:20])
async def test_no_query_is_too_much_work(hub: Site, query: str) -> None:
    for path in ("/", "/api/nodes", "/api/history", "/api/nodes/n/history", "/health"):
        assert await status(hub, f"GET {path}?{query} HTTP/1.1") in (200, 400, 404)


async def test_a_body_that_nobody_reads_is_let_go(hub: Site) -> None:
    part = b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\nb\r\n' * 1000 + b"--x--\r\n"
    head = f"POST /api/nodes HTTP/1.1\r\nContent-Type: multipart/form-data; boundary=x\r\nContent-Length: {len(part)}"
    assert await status(hub, head, part) in (401, 403, 405)
    assert await status(hub, f"GET /health HTTP/1.1\r\nContent-Length: {len(part)}", part) == 200
