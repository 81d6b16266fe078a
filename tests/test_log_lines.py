"""Whatever strangers say: one line an event, each begun by the hub itself, and nothing in it that moves a terminal."""

import asyncio
import contextlib
import re
from pathlib import Path

import aiohttp
import pytest
import websockets

from tests.framing import TEXT, close_frame, frame
from tests.hub.agents import hello, raw_agent, report
from tests.running import Program, Site, program

LINE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} [A-Z]+ gpumon[\w.]*: .+")
FORGED = "x\r\n2026-01-01 00:00:00,000 INFO gpumon.hub: forged\x1b[31m\x00\u202e\u2028"
RAW = FORGED.encode()


async def say_everything(site: Site) -> None:
    """Put hostile text wherever a hub may quote it."""
    words = {"hostname": FORGED, "agent_version": FORGED}
    for message in (
        hello(**words, node="a"),
        hello(node=FORGED),
        hello(boot=FORGED, node="b", protocol=99, oldest_protocol=99),
        {"type": FORGED},
        {"type": "hello", FORGED: FORGED},
        FORGED,
    ):
        with contextlib.suppress(websockets.ConnectionClosed):
            async with raw_agent(site) as agent:
                await agent.say(message)
                await agent.hear()
                await agent.say(report(1, node="a", status=FORGED, gpus=[{"index": 0, "name": FORGED}]))
                await agent.closed()
    for head in (
        b"GET /" + RAW + b" HTTP/1.1\r\nHost: hub\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: " + RAW + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: hub\r\nX-" + RAW + b": y\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: hub\r\nX: a\rb\x1b[31m\r\n\r\n",
        b"\x1b[31m / HTTP/1.1\r\nHost: hub\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: hub\r\nTransfer-Encoding: \x1b[31m\r\n\r\n",
        b"GET /%0d%0a%1b[31m%e2%80%ae HTTP/1.1\r\nHost: hub\r\nConnection: close\r\n\r\n",
        b"GET /api/nodes/%0d%0a%1b[31m HTTP/1.1\r\nHost: hub\r\nConnection: close\r\n\r\n",
        b"GET /api/events?pace=%0d%0a%1b[31m HTTP/1.1\r\nHost: hub\r\nConnection: close\r\n\r\n",
    ):
        reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
        writer.write(head)
        await answer(reader, b"HTTP/1.1 ")
        writer.close()
    for end in (close_frame(1000, RAW[:120]), frame(TEXT, RAW), close_frame(4999, b"\xff\r\n")):
        reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
        writer.write(
            b"GET /api/push HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n"
            b"Sec-WebSocket-Protocol: gpumon.v1\r\n\r\n"
        )
        await answer(reader, b"\r\n\r\n")
        writer.write(end)
        await answer(reader, b"\x88")
        writer.close()


async def answer(reader: asyncio.StreamReader, beginning: bytes) -> None:
    """Read up to there, or to the end."""
    with contextlib.suppress(ConnectionResetError, asyncio.IncompleteReadError):
        await reader.readuntil(beginning)


async def everything(port: int) -> None:
    async with aiohttp.ClientSession() as session:
        await say_everything(Site(port, session))


@pytest.mark.parametrize("level", ["info", "debug"])
def test_nobody_forges_a_line_of_the_log(tmp_path: Path, level: str) -> None:
    with program("--log-level", level, "hub", "--port", "0", "--host", "127.0.0.1", folder=tmp_path) as hub:
        asyncio.run(everything(hub.port("hub")))
        assert hub.end() == 0
    ours = lines_of(hub)
    assert len(ours) > 5
    assert [line for line in ours if not LINE.fullmatch(line) or not line.isprintable()] == []
    assert "INFO gpumon.hub: forged" in hub.said  # quoted, within lines of the hub's own


def lines_of(hub: Program) -> list[str]:
    """The lines of the log, but those that other libraries say at the level ``debug``."""
    lines = hub.said.split("\n")
    return [line for line in lines if line and not re.match(r"\S+ \S+ [A-Z]+ (asyncio|uvicorn|websockets)", line)]
