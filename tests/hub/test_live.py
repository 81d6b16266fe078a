"""Viewers' streams, by real sockets."""

import asyncio
import json
import socket
import zlib
from collections.abc import AsyncGenerator
from typing import Any

import aiohttp
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from gpumon import pipe
from tests.hub.agents import hello, raw_agent, report
from tests.running import Site, until


async def events(site: Site) -> AsyncGenerator[tuple[str, str, dict[str, Any]], None]:
    """Each event's name, id and data."""
    async with site.session.get(f"{site.url}/api/events", timeout=aiohttp.ClientTimeout(None)) as response:
        assert response.headers["Content-Type"].startswith("text/event-stream")
        assert response.headers["Cache-Control"] == "no-store"
        fields: dict[str, str] = {}
        async for line in response.content:
            text = line.decode().rstrip("\n")
            if text:
                name, _, value = text.partition(": ")
                fields[name] = value
            elif "data" in fields:
                yield fields.pop("event"), fields.pop("id"), json.loads(fields.pop("data"))


async def test_a_viewer_sees_everything_first_and_then_what_changes(hub: Site) -> None:
    async with raw_agent(hub) as agent:
        await agent.say(hello())
        await agent.hear()
        stream = events(hub)
        name, identity, data = await anext(stream)
        assert (name, data["type"], [node["report"] for node in data["nodes"]]) == ("snapshot", "snapshot", [None])
        await agent.say(report(1))
        name, later, data = await anext(stream)
        assert (name, data["nodes"][0]["report"]["sequence"]) == ("nodes", 1)
        assert later != identity
        await stream.aclose()


async def test_the_websocket_stream_says_the_same(hub: Site) -> None:
    async with raw_agent(hub) as agent, connect(hub.url.replace("http", "ws") + "/api/stream", proxy=None) as viewer:
        assert json.loads(await viewer.recv()) | {"sent_at": ""} == {
            "type": "snapshot",
            "sent_at": "",
            "hub_version": "0.1.0",
            "notices": [],
            "nodes": [],
        }
        await viewer.send("whatever a viewer says is ignored")
        await agent.say(hello())
        await agent.hear()
        await agent.say(report(1))
        seen: dict[str, Any] = {}
        while seen.get("report") is None:
            message = json.loads(await viewer.recv())
            assert message["type"] == "nodes"
            seen = message["nodes"][0]
        assert seen["status"] == "online"


async def test_viewers_who_leave_are_forgotten(hub: Site) -> None:
    stream = events(hub)
    await anext(stream)
    async with connect(hub.url.replace("http", "ws") + "/api/stream", proxy=None) as viewer:
        await viewer.recv()
        assert (await hub.get("/health"))["viewers"] == 2
    await stream.aclose()

    async def nobody() -> bool:
        return bool((await hub.get("/health"))["viewers"] == 0)

    await until(nobody)


async def test_a_viewer_that_does_not_read_delays_nobody(hub: Site) -> None:
    """Its socket is full within a few snapshots; the others go on seeing each change."""
    with socket.socket() as stuck:
        stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        stuck.connect(("127.0.0.1", hub.port))
        stuck.sendall(b"GET /api/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        async with raw_agent(hub) as agent:
            await agent.say(hello())
            await agent.hear()
            stream = events(hub)
            await anext(stream)
            padding = [{"index": n, "name": "x" * 250} for n in range(128)]
            for sequence in range(1, 9):
                await agent.say(report(sequence, gpus=padding))
                data: dict[str, Any] = {}
                while not data or data["nodes"][0]["report"]["sequence"] < sequence:
                    _, _, data = await asyncio.wait_for(anext(stream), 20)
            await stream.aclose()


async def test_the_head_of_a_stream_needs_no_stream(hub: Site) -> None:
    async with hub.session.head(f"{hub.url}/api/events") as response:
        assert response.status == 200
        assert response.headers["Content-Type"].startswith("text/event-stream")


async def test_a_browser_gets_its_stream_compressed_and_a_plain_program_as_it_is(hub: Site) -> None:
    session = aiohttp.ClientSession(auto_decompress=False)
    async with session, raw_agent(hub) as agent:
        await agent.say(hello())
        await agent.hear()
        early = await packed_stream(hub, session)
        async with hub.session.get(f"{hub.url}/api/events", headers={"Accept-Encoding": "identity"}) as plain:
            assert "Content-Encoding" not in plain.headers
            assert plain.headers["Vary"] == "Accept-Encoding"
            await agent.say(report(1))
            while b"event: nodes" not in await plain.content.readline():
                pass
        late = await packed_stream(hub, session)
        await agent.say(report(2, gpus=[{"index": 0, "name": "x" * 250}]))
        for stream in (early, late):
            while '"sequence":2' not in stream.text:
                await stream.read()
            assert stream.text.startswith("retry: 3000\n\nevent: snapshot\n")
            stream.close()


class PackedStream:
    """What a browser does with a compressed stream: it inflates whatever is there."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        assert response.headers["Content-Encoding"] == "gzip"
        self.text = ""
        self._response = response
        self._inflate = zlib.decompressobj(16 + zlib.MAX_WBITS)

    async def read(self) -> None:
        self.text += self._inflate.decompress(await self._response.content.readany()).decode()

    def close(self) -> None:
        self._response.close()


async def packed_stream(site: Site, session: aiohttp.ClientSession) -> PackedStream:
    return PackedStream(await session.get(f"{site.url}/api/events", headers={"Accept-Encoding": "gzip"}))


async def test_a_viewer_of_http_1_0_gets_events_without_chunks(hub: Site) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", hub.port)
    writer.write(b"GET /api/events HTTP/1.0\r\nHost: localhost\r\nAccept-Encoding: gzip\r\n\r\n")
    head = await reader.readuntil(b"\r\n\r\n")
    assert b"chunked" not in head.lower()
    assert b"gzip" not in head.lower()
    assert await reader.readuntil(b"\n\n") == b"retry: 3000\n\n"
    assert (await reader.readline()) == b"event: snapshot\n"
    writer.close()


@pytest.mark.parametrize("pace", ["-1", "61", "nan", "inf", "quick", ""])
async def test_a_pace_that_cannot_be_is_refused_in_words(hub: Site, pace: str) -> None:
    async with hub.session.get(f"{hub.url}/api/events", params={"pace": pace}) as response:
        assert response.status == 400
        assert "from 0 to 60" in (await response.json(content_type=None))["detail"]
    with pytest.raises(InvalidStatus) as refused:
        async with connect(f"{hub.url.replace('http', 'ws')}/api/stream?pace={pace}", proxy=None):
            pass
    assert refused.value.response.status_code == 400


async def test_who_asks_for_it_gets_every_change_at_once_and_others_few(hub: Site) -> None:
    url = hub.url.replace("http", "ws") + "/api/stream"
    async with (
        raw_agent(hub) as agent,
        connect(f"{url}?pace=0", proxy=None) as hasty,
        connect(f"{url}?pace=60", proxy=None) as calm,
    ):
        await agent.say(hello())
        await agent.hear()
        for sequence in range(1, 6):
            await agent.say(report(sequence))
            while f'"sequence":{sequence}' not in str(await asyncio.wait_for(hasty.recv(), 10)):
                pass
        heard = [json.loads(await calm.recv())["type"] for _ in range(2)]
        assert heard == ["snapshot", "nodes"]
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(calm.recv(), 0.05)


async def test_a_viewer_that_stops_reading_is_cut_off_and_freed(hub: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipe, "STALLED_SECONDS", 1.0)
    async with raw_agent(hub) as agent:
        await agent.say(hello())
        await agent.hear()
        with socket.socket() as stuck:
            stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            stuck.connect(("127.0.0.1", hub.port))
            stuck.sendall(b"GET /api/events?pace=0 HTTP/1.1\r\nHost: localhost\r\n\r\n")
            padding = [{"index": n, "name": "x" * 250} for n in range(128)]
            sequence = 0

            async def freed() -> bool:
                nonlocal sequence
                sequence += 1
                await agent.say(report(sequence, gpus=padding))
                return sequence > 20 and bool((await hub.get("/health"))["viewers"] == 0)

            await until(freed)


async def test_the_overview_and_single_nodes_are_told_to_who_asks_for_them(hub: Site) -> None:
    url = hub.url.replace("http", "ws") + "/api/stream"
    async with (
        raw_agent(hub) as agent,
        connect(f"{url}?view=overview&pace=0", proxy=None) as overview,
        connect(f"{url}?node=m&node=n&pace=0", proxy=None) as detail,
        connect(f"{url}?node=m&pace=0", proxy=None) as other,
    ):
        first = json.loads(await overview.recv())
        assert (first["type"], first["view"], first["cards"], first["numbers"]["names"]) == (
            *("snapshot", "overview", []),
            [],
        )
        await agent.say(hello())
        await agent.hear()
        processes = [{"pid": 7, "user": "alice", "memory_used_bytes": 3 * 2**30}]
        gpu = {"index": 0, "utilization_percent": 41.6, "sm_clock_megahertz": 1980, "processes": processes}
        await agent.say(report(1, gpus=[gpu]))
        told: dict[str, Any] = {}
        cards: dict[str, Any] = {}
        while told.get("utilization_percent") != [[42]]:
            message = json.loads(await overview.recv())
            told, cards = message["numbers"], cards | {card["name"]: card for card in message["cards"]}
        assert cards["n"]["report"]["gpus"][0]["holders"] == [
            {"pid": 7, "user": "alice", "memory_used_mebibytes": 3072}
        ]
        full: dict[str, Any] = {}
        while not full.get("report"):
            full = {node["name"]: node for node in json.loads(await detail.recv())["nodes"]}.get("n", {})
        assert full["report"]["gpus"][0]["sm_clock_megahertz"] == 1980
        assert json.loads(await other.recv())["nodes"] == []
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(other.recv(), 0.05)


@pytest.mark.parametrize(("few", "view"), [("0", "overview"), ("1", None)])
async def test_a_fleet_of_few_nodes_is_told_in_full_to_who_asks_for_that(hub: Site, few: str, view: str | None) -> None:
    async with raw_agent(hub) as agent:
        await agent.say(hello())
        await agent.hear()
        address = f"{hub.url.replace('http', 'ws')}/api/stream?view=overview&full_up_to={few}"
        async with connect(address, proxy=None) as viewer:
            assert json.loads(await viewer.recv()).get("view") == view


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("view=everything", "allowed: full, overview"),
        ("full_up_to=many", "a number"),
        ("&".join(f"node=n{number}" for number in range(17)), "at most 16"),
    ],
)
async def test_a_wish_that_cannot_be_is_refused_in_words(hub: Site, query: str, words: str) -> None:
    async with hub.session.get(f"{hub.url}/api/events?{query}") as response:
        assert response.status == 400
        assert words in (await response.json(content_type=None))["detail"]
