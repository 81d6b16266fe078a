"""Hubs that misbehave as a test says, and an agent's link that is impatient enough for tests."""

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from websockets.asyncio.server import ServerConnection, serve

from gpumon import wire
from gpumon.agent.backoff import Pace
from gpumon.config import AgentSection

Conversation = Callable[[ServerConnection], Awaitable[None]]
Stream = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

QUICK = Pace(
    name=5.0,
    tcp=5.0,
    upgrade=5.0,
    welcome=5.0,
    goodbye=5.0,
    first=0.005,
    lost_most=0.05,
    unwelcome_most=0.1,
    refused=0.6,
    hint_least=0.01,
    hint_most=0.6,
)
"""A hundred times faster back; the deadlines leave a busy machine its time."""

HURRIED = replace(QUICK, name=0.1, tcp=0.1, upgrade=0.1, welcome=0.1)
"""For hubs that do not answer at all."""


class FakeHub:
    """Where it is, and how often it was visited."""

    def __init__(self) -> None:
        self.visits = 0
        self.url = ""


@asynccontextmanager
async def fake_hub(talk: Conversation) -> AsyncIterator[FakeHub]:
    """A hub that shakes hands and then talks as ``talk`` does."""
    hub = FakeHub()

    async def meet(connection: ServerConnection) -> None:
        hub.visits += 1
        with contextlib.suppress(Exception):
            await talk(connection)
            async for _ in connection:
                pass

    async with serve(meet, "127.0.0.1", 0, subprotocols=[wire.SUBPROTOCOL]) as server:  # type: ignore[list-item]
        hub.url = f"http://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}"
        yield hub


@asynccontextmanager
async def raw_hub(
    talk: Stream, address: str = "127.0.0.1", port: int = 0, tls: ssl.SSLContext | None = None
) -> AsyncIterator[FakeHub]:
    """Something that listens, and does with each connection what ``talk`` does."""
    hub = FakeHub()
    talks: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    async def meet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, EOFError):
            await talk(reader, writer)

    def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:  # at once, so that none is left
        hub.visits += 1
        talks[asyncio.create_task(meet(reader, writer))] = writer

    async with await asyncio.start_server(take, address, port, ssl=tls) as server:
        hub.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield hub
        finally:
            for task, writer in talks.items():
                task.cancel()
                writer.transport.abort()
            await asyncio.gather(*talks, return_exceptions=True)


def answering(head: str, body: str = "no") -> Stream:
    """Answers each request with one status and the header lines of ``head``."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(f"HTTP/1.1 {head}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n{body}".encode())
        await writer.drain()
        writer.close()

    return talk


async def welcome(connection: ServerConnection, last: int = 0, rate: float = 50) -> dict[str, Any]:
    """Hear hello and answer it. Gives the hello."""
    hello = json.loads(await connection.recv())
    words = {"hub_version": "0", "last_sequence": last, "late_reports_per_second": rate}
    await connection.send(json.dumps({"type": "welcome", **words}))
    assert isinstance(hello, dict)
    return hello


async def hear(connection: ServerConnection) -> dict[str, Any]:
    """The next message."""
    message = json.loads(await connection.recv())
    assert isinstance(message, dict)
    return message


async def hear_in_order(connection: ServerConnection) -> int:
    """The sequence of the next report that comes in order."""
    while (message := await hear(connection))["type"] != "report" or message["ahead"]:
        pass
    return int(message["report"]["sequence"])


def reporting_to(*hubs: str, name: str = "n") -> AgentSection:
    return AgentSection(name=name, hub=list(hubs), interval_seconds=0.2)
