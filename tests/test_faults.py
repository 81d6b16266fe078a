"""Hubs that are killed, links that are cut, delayed and swallowed: nothing is lost, nothing counts twice."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import aiohttp
import pytest

from gpumon.agent.backoff import Pace
from gpumon.agent.outbox import Outbox
from gpumon.config import AgentSection, Config, HubSection
from tests.agent.hubs import QUICK
from tests.badlink import BadLink, Weather, bad_link
from tests.ledgerhub import Ledger
from tests.running import Site, free_port, running_agent, running_hub, until, until_true

ROOT = Path(__file__).parents[1]
PATIENT = replace(QUICK, upgrade=5.0, welcome=5.0)


class HubProcess:
    """A hub with a ledger, killed and started again on one port."""

    def __init__(self, file: Path, session: aiohttp.ClientSession) -> None:
        self.port = free_port()
        self.ledger = Ledger(file)
        self.site = Site(self.port, session)
        self._file = file
        self._process: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        command = [sys.executable, "-m", "tests.ledgerhub", str(self.port), str(self._file)]
        self._process = await asyncio.to_thread(subprocess.Popen, command, cwd=ROOT, stderr=subprocess.DEVNULL)
        await until(self._answers)

    async def _answers(self) -> bool:
        with contextlib.suppress(aiohttp.ClientError):
            return bool(await self.site.get("/health"))
        return False

    def send(self, number: int) -> None:
        assert self._process is not None
        os.kill(self._process.pid, number)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()


@asynccontextmanager
async def hub_process(folder: Path) -> AsyncIterator[HubProcess]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(30)) as session:
        hub = HubProcess(folder / "ledger", session)
        await hub.start()
        try:
            yield hub
        finally:
            hub.kill()


@asynccontextmanager
async def fleet(url: str, count: int, pace: Pace = PATIENT) -> AsyncIterator[list[Site]]:
    """Agents ``n0``, ``n1``... that report five times a second."""
    async with contextlib.AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(
                running_agent(AgentSection(hub=[url], name=f"n{place}", interval_seconds=0.2), pace=pace)
            )
            for place in range(count)
        ]


async def all_online(hub: Site, count: int) -> bool:
    nodes = await hub.get("/api/nodes")
    return len(nodes) == count and all(node["status"] == "online" for node in nodes)


async def all_is_taken(agents: list[Site], ledger: Ledger) -> bool:
    """Whether the ledger has every report of each agent up to one that was made after this was asked first."""
    for agent in agents:
        report = await agent.get("/gpu-info")
        if not set(range(1, report["sequence"] - 2)) <= ledger.taken().get(report["boot_id"], set()):
            return False
    return True


async def test_a_hub_killed_again_and_again_misses_nothing_and_takes_nothing_twice(tmp_path: Path) -> None:
    async with hub_process(tmp_path) as hub, fleet(hub.site.url, 6) as agents:
        for _ in range(3):
            await until(lambda: all_online(hub.site, 6))
            await until_true(lambda: sum(map(len, hub.ledger.lives()[-1].values())) > 30)
            hub.kill()
            await hub.start()
        await until(lambda: all_online(hub.site, 6))
        await until(lambda: all_is_taken(agents, hub.ledger))
        assert len(hub.ledger.lives()) == 4
        assert hub.ledger.repeated() == []
        assert hub.ledger.missing() == {}
        assert [node["reports_lost"] for node in await hub.site.get("/api/nodes")] == [0] * 6


async def test_a_hub_that_stands_still_for_a_while_misses_nothing(tmp_path: Path) -> None:
    async with hub_process(tmp_path) as hub, fleet(hub.site.url, 3) as agents:
        await until(lambda: all_online(hub.site, 3))
        before = [(await agent.get("/gpu-info"))["sequence"] for agent in agents]
        hub.send(signal.SIGSTOP)

        async def has_gone_on() -> bool:
            now = [(await agent.get("/gpu-info"))["sequence"] for agent in agents]
            return all(later > sooner + 15 for later, sooner in zip(now, before, strict=True))

        try:
            await until(has_gone_on)
        finally:
            hub.send(signal.SIGCONT)
        await until(lambda: all_is_taken(agents, hub.ledger))
        assert (hub.ledger.repeated(), hub.ledger.missing()) == ([], {})


async def cuts_through(link: BadLink, ways: list[str], hub: Site, count: int) -> None:
    for way in ways:
        await until(lambda: all_online(hub, count))
        if way == "reset":
            link.reset()
        elif way == "half close":
            link.half_close()
        elif way == "refused for a while":
            accepted = link.accepted
            await link.refuse()
            link.reset()
            await asyncio.sleep(0.5)
            assert link.accepted == accepted
            await link.open()
        else:
            link.lose()
            await asyncio.sleep(0.5)
            link.mend()
            link.reset()


async def test_links_that_are_cut_in_every_way_lose_nothing_and_repeat_nothing(tmp_path: Path) -> None:
    async with hub_process(tmp_path) as hub, bad_link(hub.port) as link, fleet(link.url, 4) as agents:
        await cuts_through(link, ["reset", "half close", "refused for a while", "swallowed"] * 2, hub.site, 4)
        await until(lambda: all_is_taken(agents, hub.ledger))
        assert (hub.ledger.repeated(), hub.ledger.missing()) == ([], {})


async def test_what_does_not_fit_into_an_agents_outbox_is_told_lost_to_the_last_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hub goes on, so that it knows exactly what it has; what the outbox keeps is scaled down."""
    monkeypatch.setattr("gpumon.agent.app.Outbox", partial(Outbox, full_seconds=1.0, thinned_seconds=2.0))
    async with hub_process(tmp_path) as hub, bad_link(hub.port) as link, fleet(link.url, 2) as agents:
        await until(lambda: all_online(hub.site, 2))
        await link.refuse()
        link.reset()

        async def have_dropped() -> bool:
            states = [(await agent.get("/health?verbose"))["link"] for agent in agents]
            return all(state["reports_dropped"] > 10 for state in states)

        await until(have_dropped)
        await link.open()

        async def is_settled() -> bool:
            nodes, missing = await hub.site.get("/api/nodes"), hub.ledger.missing()
            return all(node["reports_lost"] == len(missing.get(node["report"]["boot_id"], ())) > 10 for node in nodes)

        await until(is_settled)
        assert hub.ledger.repeated() == []


async def test_a_long_and_uneven_way_makes_nobody_stale() -> None:
    slow = Weather(delay_seconds=0.3, jitter_seconds=0.2)
    async with running_hub() as hub, bad_link(hub.port) as link:
        link.up = link.down = slow
        async with fleet(link.url, 3):
            await until(lambda: all_online(hub, 3))
            seen: set[str] = set()
            before = await hub.node("n0")

            async def has_reported() -> bool:
                nodes = await hub.get("/api/nodes")
                seen.update(node["status"] for node in nodes)
                return bool(nodes[0]["report"]["sequence"] > before["report"]["sequence"] + 20)

            await until(has_reported)
            assert seen == {"online"}
            assert link.accepted == 3


async def test_a_host_that_falls_silent_is_stale_then_offline_and_its_connection_is_let_go() -> None:
    settings = HubSection(stale_after_seconds=1, offline_after_seconds=2)
    async with running_hub(Config(hub=settings)) as hub, bad_link(hub.port) as link, fleet(link.url, 1):
        await until(lambda: all_online(hub, 1))
        link.up.lost = True  # the other way is open
        await hub.node_when("n0", lambda node: node["status"] == "stale")
        node = await hub.node_when("n0", lambda node: node["status"] == "offline")
        assert node["report"] is not None
        assert node["verdict"] is not None
        assert node["evidence"][0]["channel"] == "push"
        link.mend()
        link.reset()
        node = await hub.node_when("n0", lambda node: node["status"] == "online")
        assert (node["verdict"], node["evidence"]) == (None, [])


async def test_a_port_that_accepts_and_says_nothing_is_left_and_tried_again_without_haste() -> None:
    async with running_hub() as hub, bad_link(hub.port) as link:
        link.silent = True
        pace = replace(PATIENT, upgrade=0.5, lost_most=0.2)
        async with fleet(link.url, 1, pace):
            await until_true(lambda: link.accepted >= 3)
            link.mend()
            link.reset()
            await until(lambda: all_online(hub, 1))


@pytest.mark.parametrize("bytes_per_second", [3000])
async def test_a_link_that_trickles_delays_its_own_node_alone(bytes_per_second: int) -> None:
    async with running_hub() as hub, bad_link(hub.port) as link:
        link.up = Weather(bytes_per_second=bytes_per_second)
        async with fleet(hub.url, 2), running_agent(AgentSection(hub=[link.url], name="slow"), pace=PATIENT):
            await hub.node_when("n1", lambda node: node["report"] and node["report"]["sequence"] > 10)
            statuses = {node["name"]: node["status"] for node in await hub.get("/api/nodes")}
            assert (statuses["n0"], statuses["n1"]) == ("online", "online")
