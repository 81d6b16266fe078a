"""A real hub and real agents that are stopped, killed and continued."""

import asyncio
import signal
from pathlib import Path
from typing import Any

import aiohttp

from gpumon.config import Config, HubSection, NodeEntry
from tests.running import Program, Site, free_port, program, running_hub

QUICK = HubSection(poll_interval_seconds=0.5)
PATIENT = HubSection(poll_interval_seconds=0.5, offline_after_seconds=600)
"""Whoever is offline within a test is so for a better reason than silence."""


def agent(hub: Site, name: str = "n", port: int = 0, state: Path | None = None) -> Any:
    return program(
        *("agent", "--simulate", "1", "--host", "127.0.0.1", "--port", str(port)),
        *(() if state is None else ("--state-dir", str(state))),
        *("--name", name, "--hub", hub.url, "--interval", "0.5"),
    )


async def is_pushing(hub: Site, name: str = "n") -> dict[str, Any]:
    return await hub.node_when(name, lambda node: (node["status"], node["source"]) == ("online", "push"))


async def test_a_killed_agent_is_offline_as_soon_as_its_machine_refuses() -> None:
    port = free_port()
    config = Config(nodes=[NodeEntry(name="n", host="127.0.0.1", port=port)], hub=PATIENT)
    async with running_hub(config) as hub:
        with agent(hub, port=port) as victim:
            await is_pushing(hub)
            victim.process.kill()
            node = await hub.node_when("n", lambda node: node["verdict"])
            assert node["verdict"]["code"] in ("link_lost", "agent_died")
            node = await hub.node_when("n", lambda node: node["status"] == "offline")
            assert node["verdict"]["code"] == "agent_died"
            assert [piece["code"] for piece in node["evidence"]] == ["lost", "refused"]
            assert node["report"]["gpus"]


async def test_an_agent_that_is_told_to_stop_says_goodbye() -> None:
    async with running_hub(Config(hub=PATIENT)) as hub:
        with agent(hub) as leaver:
            await is_pushing(hub)
            await asyncio.to_thread(leaver.end)
            node = await hub.node_when("n", lambda node: node["verdict"])
            assert node["verdict"]["code"] == "agent_stopped"
            node = await hub.node_when("n", lambda node: node["status"] == "offline")
            assert (node["verdict"]["code"], node["evidence"][0]["code"]) == ("agent_stopped", "goodbye")


async def test_an_agent_restarted_again_and_again_keeps_one_row_and_one_identity(tmp_path: Path) -> None:
    ids = set()
    async with running_hub() as hub:
        for _ in range(4):
            with agent(hub, state=tmp_path) as victim:
                ids.add((await is_pushing(hub))["agent_id"])
                victim.process.kill()
        with agent(hub, state=tmp_path):
            ids.add((await is_pushing(hub))["agent_id"])
            assert len(await hub.get("/api/nodes")) == 1
    assert len(ids) == 1


async def test_an_agent_that_is_suspended_is_told_from_one_that_is_gone() -> None:
    port = free_port()
    config = Config(nodes=[NodeEntry(name="n", host="127.0.0.1", port=port)], hub=QUICK)
    async with running_hub(config) as hub:
        with agent(hub, port=port) as sleeper:
            await is_pushing(hub)
            sleeper.process.send_signal(signal.SIGSTOP)
            try:
                node = await hub.node_when("n", lambda node: node["status"] == "stale")
                assert node["evidence"][0]["code"] == "open"
                await hub.node_when("n", lambda node: node["verdict"]["code"] == "agent_hangs")
            finally:
                sleeper.process.send_signal(signal.SIGCONT)
            node = await is_pushing(hub)
            assert (node["verdict"], node["evidence"]) == (None, [])


async def test_a_hub_that_was_stopped_blames_nobody_for_it() -> None:
    with program("hub", "--host", "127.0.0.1", "--port", "0") as process:
        port = await asyncio.to_thread(process.port, "hub")
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(30)) as session:
            hub = Site(port, session)
            with agent(hub, "a"), agent(hub, "b"):
                before = [await is_pushing(hub, name) for name in ("a", "b")]
                await stop_for(process, 8)
                for _ in range(20):
                    nodes = await hub.get("/api/nodes")
                    assert [node["status"] for node in nodes] == ["online", "online"]
                    assert [node["status_since"] for node in nodes] == [node["status_since"] for node in before]
                    await asyncio.sleep(0.05)
                assert (await hub.get("/health"))["notices"] == []


async def stop_for(process: Program, seconds: float) -> None:
    """Let a process not run for so long: longer than it takes to call a silent node stale."""
    process.process.send_signal(signal.SIGSTOP)
    try:
        await asyncio.sleep(seconds)
    finally:
        process.process.send_signal(signal.SIGCONT)
