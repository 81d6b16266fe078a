"""REST, by a real client against a real hub."""

import asyncio
import gzip
import json
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gpumon.catalog import METRICS
from gpumon.config import AuthSection, Config, NodeEntry
from gpumon.hub.openapi import document
from gpumon.model import Gpu, Node
from tests.hub.agents import hello, raw_agent, report
from tests.hub.lock import locked_hub
from tests.running import Site, running_hub, until

NODES = [NodeEntry(name=f"node-{n}", host="127.0.0.1", port=9) for n in range(12)]


@pytest.fixture
async def hub() -> AsyncIterator[Site]:
    async with running_hub(Config(nodes=NODES)) as site:
        yield site


async def test_nodes_come_in_the_order_of_the_configuration_and_match_the_schema(hub: Site) -> None:
    nodes = msgspec.convert(await hub.get("/api/nodes"), list[Node])
    assert [node.name for node in nodes] == [entry.name for entry in NODES]


async def test_an_unchanged_fleet_costs_a_304_and_a_changed_one_does_not() -> None:
    async with running_hub() as hub, raw_agent(hub) as agent:
        async with hub.session.get(f"{hub.url}/api/nodes") as response:
            tag = response.headers["ETag"]
        for known in (f'"x", {tag}', tag.removeprefix("W/"), "*"):
            async with hub.session.get(f"{hub.url}/api/nodes", headers={"If-None-Match": known}) as response:
                assert (response.status, await response.read()) == (304, b"")
        await agent.say(hello())
        await agent.hear()
        await agent.say(report(1))

        async def changed() -> list[dict[str, Any]] | None:
            async with hub.session.get(f"{hub.url}/api/nodes", headers={"If-None-Match": tag}) as response:
                assert (response.status == 304) is (response.headers["ETag"] == tag)
                nodes: list[dict[str, Any]] = [] if response.status == 304 else await response.json()
                return nodes if nodes and nodes[0]["report"] else None

        await until(changed)


async def test_the_etag_names_the_state_that_is_told_also_while_reports_arrive() -> None:
    async with running_hub() as hub, raw_agent(hub) as agent:
        await agent.say(hello())
        await agent.hear()
        told: dict[str, bytes] = {}
        for sequence in range(1, 60):
            await agent.say(report(sequence))
            async with hub.session.get(f"{hub.url}/api/nodes") as response:
                body = await response.read()
                assert told.setdefault(response.headers["ETag"], body) == body
        assert len(told) > 1


@pytest.mark.parametrize(
    ("accept", "compressed"),
    [("gzip", True), ("br, gzip;q=0.5", True), ("*", True), ("identity", False), ("gzip;q=0", False), ("", False)],
)
async def test_answers_are_compressed_when_asked(hub: Site, accept: str, compressed: bool) -> None:
    path = f"{hub.url}/api/nodes"
    async with hub.session.get(path, headers={"Accept-Encoding": accept}, auto_decompress=False) as response:
        body = await response.read()
        assert (response.headers.get("Content-Encoding") == "gzip") is compressed
        assert response.headers["Vary"] == "Accept-Encoding"
    assert len(json.loads(gzip.decompress(body) if compressed else body)) == len(NODES)


@pytest.mark.parametrize(
    "path", ["/nope", "/health/", "/api/nodes/nobody", "/api/nodes/a/b", "/assets/../cli.py", "/%2e%2e/cli.py"]
)
async def test_an_unknown_path_is_a_problem_in_words(hub: Site, path: str) -> None:
    async with hub.session.get(hub.url + path) as response:
        assert response.status == 404
        assert response.headers["Content-Type"] == "application/problem+json"
        problem = await response.json(content_type=None)
    assert (problem["title"], problem["status"]) == ("Not Found", 404)
    assert "there is no" in problem["detail"]


async def test_a_method_that_is_not_possible_says_which_are(tmp_path: Path) -> None:
    async with locked_hub(tmp_path, AuthSection()) as hub:
        headers = {"Authorization": f"Bearer {hub.token}"}
        async with hub.site.session.post(f"{hub.site.url}/api/nodes", headers=headers) as response:
            assert response.status == 405
            assert response.headers["Content-Type"] == "application/problem+json"
            assert "allowed: " in (await response.json(content_type=None))["detail"]


@pytest.mark.parametrize("path", ["/api/push", "/api/stream"])
async def test_a_plain_request_where_a_websocket_is_served_says_so(hub: Site, path: str) -> None:
    async with hub.session.get(hub.url + path) as response:
        assert response.status == 426
        assert "WebSocket" in (await response.json(content_type=None))["detail"]


async def test_an_upgrade_that_fails_leaves_no_connection_behind(hub: Site) -> None:
    head = b"GET /api/stream HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    head += b"".join(b"X-%d: y\r\n" % number for number in range(200))
    reader, writer = await asyncio.open_connection("127.0.0.1", hub.port)
    writer.write(head + b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n\r\n")
    await asyncio.wait_for(reader.read(), 10)
    writer.close()


async def test_every_answer_carries_the_security_headers(hub: Site) -> None:
    for path in ("/api/nodes", "/nope", "/health", "/openapi.json"):
        async with hub.session.get(hub.url + path) as response:
            assert "default-src 'none'" in response.headers["Content-Security-Policy"]
            assert response.headers["X-Content-Type-Options"] == "nosniff"


async def test_health_counts_the_nodes(hub: Site) -> None:
    health = await hub.get("/health")
    assert health["status"] == "ok"
    assert health["nodes"] == {"online": 0, "stale": 0, "offline": 0, "pending": len(NODES)}


async def test_the_catalog_and_the_schema_are_served(hub: Site) -> None:
    assert [row["field"] for row in await hub.get("/api/catalog")] == [metric.field for metric in METRICS]
    assert await hub.get("/openapi.json") == json.loads(json.dumps(document()))


def test_every_metric_of_the_catalog_is_a_field_of_a_gpu_with_its_unit_in_its_name() -> None:
    for metric in METRICS:
        assert (metric.field in Gpu.__struct_fields__) != metric.derived
        assert hasattr(Gpu, metric.field)
        assert metric.kind in ("gauge", "counter")
        assert (metric.kind == "counter") == metric.field.endswith("_total")


def test_every_reference_of_the_schema_leads_somewhere() -> None:
    text = json.dumps(document())
    names = document()["components"]["schemas"]
    referred = {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}
    assert referred == set(names) - {"Health", "Message", "Removed"} | (referred & {"Health", "Message"})
    assert {"Node", "Report", "Gpu", "Process", "Fault", "Problem"} <= referred


async def test_a_request_that_is_no_http_harms_nobody(hub: Site) -> None:
    for nonsense in (
        b"\x00\x01\x02\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n",
    ):
        with socket.create_connection(("127.0.0.1", hub.port), 5) as raw:
            raw.sendall(nonsense)
    assert (await hub.get("/health"))["status"] == "ok"
