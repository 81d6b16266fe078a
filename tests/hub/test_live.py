"""Viewers' streams, by real sockets."""

import asyncio
import json
import socket
from collections.abc import AsyncGenerator
from typing import Any

import aiohttp
from websockets.asyncio.client import connect

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
        stuck.sendall(b"GET /api/events HTTP/1.1\r\nHost: x\r\n\r\n")
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
                    _, _, data = await asyncio.wait_for(anext(stream), 5)
            await stream.aclose()


async def test_the_head_of_a_stream_needs_no_stream(hub: Site) -> None:
    async with hub.session.head(f"{hub.url}/api/events") as response:
        assert response.status == 200
        assert response.headers["Content-Type"].startswith("text/event-stream")
