"""An agent made of single words, for tests of how a hub listens."""

import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import websockets
from websockets.asyncio.client import ClientConnection, connect

from gpumon import wire
from tests.running import Site


class RawAgent:
    """An agent that says exactly what a test tells it to."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection

    async def say(self, message: object) -> None:
        await self.connection.send(message if isinstance(message, str | bytes) else json.dumps(message))

    async def hear(self) -> dict[str, Any]:
        answer = json.loads(await self.connection.recv())
        assert isinstance(answer, dict)
        return answer

    async def closed(self) -> tuple[int, str]:
        """The close code and reason, once the hub has closed."""
        with contextlib.suppress(websockets.ConnectionClosed):
            while True:
                await self.connection.recv()
        await self.connection.wait_closed()
        return self.connection.close_code or 0, self.connection.close_reason or ""


@asynccontextmanager
async def raw_agent(hub: Site, headers: Mapping[str, str] | None = None) -> AsyncIterator[RawAgent]:
    url = hub.url.replace("http", "ws") + "/api/push"
    subprotocols = [websockets.Subprotocol(wire.SUBPROTOCOL)]
    async with connect(
        url, subprotocols=subprotocols, proxy=None, close_timeout=2, additional_headers=headers
    ) as connection:
        yield RawAgent(connection)


def hello(node: str = "n", boot: str = "boot-1", **more: object) -> dict[str, object]:
    words = {"agent_version": "0", "node": node, "hostname": "h", "boot_id": boot, "interval_seconds": 1}
    return {"type": "hello", "protocol": 1, **words, **more}


def report(
    sequence: int, node: str = "n", boot: str = "boot-1", late: bool = False, **more: object
) -> dict[str, object]:
    inner = {"node": node, "boot_id": boot, "sequence": sequence, "interval_seconds": 1, **more}
    return {"type": "report", "late": late, "report": inner}
