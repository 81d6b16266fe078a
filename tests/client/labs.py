"""A lab to look at: a real hub, agents that say what a test wants, and a page that keeps what was written."""

import asyncio
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from gpumon.client.listing import Page
from gpumon.client.stream import Hub
from gpumon.config import Config, HubSection
from gpumon.model import Gpu, Node, Process, Report
from tests.hub.agents import RawAgent, hello, raw_agent, report
from tests.running import Site, program, running_hub

GIB = 2**30
PATIENT = Config(hub=HubSection(stale_after_seconds=3600, offline_after_seconds=3600))
"""Agents of tests speak when they are told to, however long that takes on a machine that is busy."""
HOSTILE = "\x1b]0;owned\x07\u202e\x9b2J[red]<b>机器\n"


def gpu(index: int, used_gib: float = 0, *, user: str | None = None, **more: Any) -> dict[str, Any]:
    """A GPU that is free, or busy for ``user``."""
    process = {"pid": 100 + index, "user": user, "command": "python train.py", "type": "compute"}
    return {
        "index": index,
        "uuid": f"GPU-{index:08d}",
        "name": "NVIDIA H100",
        "memory_total_bytes": 80 * GIB,
        "memory_used_bytes": int(used_gib * GIB),
        "utilization_percent": 0 if user is None else 90,
        "processes": [] if user is None else [process | {"memory_used_bytes": int(used_gib * GIB)}],
    } | more


class Lab:
    """A hub, and the agents that report to it."""

    def __init__(self, site: Site, stack: AsyncExitStack) -> None:
        self.site = site
        self.hub = Hub(site.url)
        self._stack = stack
        self._agents: dict[str, RawAgent] = {}
        self._sequences: dict[str, int] = {}

    async def report(self, node: str, gpus: Sequence[Mapping[str, Any]], **more: Any) -> None:
        """Have the agent of ``node`` report, and see that the hub knows."""
        if node not in self._agents:
            self._agents[node] = await self._stack.enter_async_context(raw_agent(self.site))
            await self._agents[node].say(hello(node, boot=f"boot-{node}") | {"hostname": f"{node}.lab"})
        sequence = self._sequences[node] = self._sequences.get(node, 0) + 1
        said = report(sequence, node, f"boot-{node}", gpus=list(gpus), hostname=f"{node}.lab", **more)
        await self._agents[node].say(said)
        await self.site.node_when(node, lambda one: one["report"] and one["report"]["sequence"] == sequence)

    async def run(self, *arguments: str, **environment: str) -> tuple[int, str, str]:
        """What ``gpumon`` ends with, writes and says, asked of this hub."""

        def ask() -> tuple[int, str, str]:
            with program(*arguments, environment={"GPUMON_HUB": self.site.url} | environment) as command:
                status = command.status()
                return status, command.wrote, command.said

        return await asyncio.to_thread(ask)


@asynccontextmanager
async def lab(port: int = 0, **options: Any) -> AsyncIterator[Lab]:
    async with running_hub(PATIENT, port=port, **options) as site, AsyncExitStack() as stack:
        yield Lab(site, stack)


@asynccontextmanager
async def silent_server() -> AsyncIterator[tuple[str, asyncio.Event]]:
    """Something that takes a connection and says nothing: its URL, and that somebody asked."""
    came, ends = asyncio.Event(), asyncio.Event()

    async def wait(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        came.set()
        await ends.wait()
        writer.close()

    async with await asyncio.start_server(wait, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", came
        ends.set()


class Sheet:
    """A page whose text stays."""

    def __init__(self, columns: int = 100) -> None:
        self.text = ""
        self.said: list[str] = []
        self._columns = columns

    @property
    def page(self) -> Page:
        return Page(self._write, self.said.append, lambda: os.terminal_size((self._columns, 24)), color=False)

    def _write(self, text: str) -> None:
        self.text += text


def node(name: str, *gpus: Gpu, **more: Any) -> Node:
    """A node that is online, as a hub tells of it."""
    values: dict[str, Any] = {
        "name": name,
        "alias": name,
        "host": f"{name}.lab",
        "port": None,
        "configured": False,
        "status": "online",
        "status_since": "2026-11-23T14:00:00.000Z",
        "report": Report(node=name, gpus=list(gpus)),
    }
    return Node(**(values | more))


def free_gpu(index: int, memory_gib: float = 80, **more: Any) -> Gpu:
    total = int(memory_gib * GIB)
    values: dict[str, Any] = {
        "index": index,
        "uuid": f"GPU-{index:08d}",
        "name": "NVIDIA H100",
        "memory_total_bytes": total,
        "memory_used_bytes": 0,
        "processes": [],
    }
    return Gpu(**(values | more))


def busy_gpu(index: int, **more: Any) -> Gpu:
    process = Process(pid=1, user="alice", command="python train.py", type="compute", memory_used_bytes=70 * GIB)
    values: dict[str, Any] = {"memory_used_bytes": 70 * GIB, "processes": [process]}
    return free_gpu(index, **(values | more))
