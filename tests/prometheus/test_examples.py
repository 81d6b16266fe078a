"""The examples for Prometheus and Grafana: each query of the board, at a real Prometheus that scrapes a real hub."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from gpumon.agent.xid import MEANINGS
from gpumon.config import AgentSection, Config, MetricsSection, NodeEntry
from tests.fakenvml import datacentre, environment
from tests.prometheus import Prometheus, needs_prometheus, prometheus, promtool
from tests.running import Site, free_port, running_agent, running_hub, until

pytestmark = [needs_prometheus, pytest.mark.timeout(120)]

EXAMPLES = Path(__file__).parents[2] / "examples"
BOARD = json.loads((EXAMPLES / "grafana-dashboard.json").read_text(encoding="utf-8"))
VARIABLES = {"$node": ".*", "$gpu": ".*", "$__rate_interval": "10s"}
SOONER = (("> 60", ">= 0"), ("> 900", ">= 0"))
"""No GPU idles for a minute in a test; for how long is what the board asks, and which series match is what we do."""


def queries() -> Iterator[str]:
    """Every query of the board, once, as Grafana would send it."""
    found = [target["expr"] for panel in BOARD["panels"] for target in panel.get("targets", ())]
    for query in dict.fromkeys(found):
        for name, value in VARIABLES.items():
            query = query.replace(name, value)
        assert "$" not in query
        yield query


def test_the_board_is_whole() -> None:
    panels = [panel for panel in BOARD["panels"] if panel["type"] != "row"]
    assert len(panels) > 30
    assert len({panel["id"] for panel in BOARD["panels"]}) == len(BOARD["panels"])
    places = [panel["gridPos"] for panel in BOARD["panels"]]
    cells = [
        (x, y)
        for place in places
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(cells) == len(set(cells)), "panels lie one upon the other"
    assert max(x for x, _ in cells) < 24
    variables = {variable["name"] for variable in BOARD["templating"]["list"]}
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(BOARD))) - {"__rate_interval", "__all"}
    assert used == variables
    assert all(panel["targets"] for panel in panels)


def test_the_example_configuration_and_the_alerts_are_right() -> None:
    promtool("check", "config", str(EXAMPLES / "prometheus.yml"))
    assert "18 rules found" in promtool("check", "rules", str(EXAMPLES / "prometheus-rules.yml"))
    trifles = {str(code) for code, (gravity, _) in MEANINGS.items() if gravity == "info"}
    told = re.findall(r'xid!~"([0-9|]+)"', (EXAMPLES / "prometheus-rules.yml").read_text())
    assert [set(codes.split("|")) for codes in told] == [trifles] * 2
    assert "SUCCESS" in promtool("test", "rules", "rules.yml", folder=Path(__file__).parent)


class Scraped(NamedTuple):
    """A Prometheus, and the hub that it scrapes."""

    server: Prometheus
    hub: Site


def configuration(folder: Path, hub: Site, agent: Site) -> Path:
    """That of the examples, for these two, who are asked twice a second."""
    text = (EXAMPLES / "prometheus.yml").read_text()
    for before, after in (
        ("scrape_interval: 15s", "scrape_interval: 500ms"),
        ("localhost:8080", f"127.0.0.1:{hub.port}"),
        ("localhost:8081", f"127.0.0.1:{agent.port}"),
        ("prometheus-rules.yml", str(EXAMPLES / "prometheus-rules.yml")),
    ):
        assert text.count(before) == 1
        text = text.replace(before, after)
    file = folder / "prometheus.yml"
    file.write_text(text)
    return file


@pytest.fixture
async def scraped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Scraped]:
    """A Prometheus that scrapes a hub and an agent; one node is well, others are not."""
    scenario = tmp_path / "scenario"
    datacentre(gpus=2).write(scenario)
    for name, value in environment(scenario).items():
        monkeypatch.setenv(name, value)
    nobody = NodeEntry(name="nobody", host="127.0.0.1", port=free_port())
    async with AsyncExitStack() as stack:
        hub = await stack.enter_async_context(
            running_hub(Config(nodes=[nobody], metrics=MetricsSection(dcgm_names=True)))
        )

        async def agent(name: str, simulate: str | None) -> Any:
            settings = AgentSection(name=name, hub=[hub.url], interval_seconds=0.2)
            return await stack.enter_async_context(running_agent(settings, simulate=simulate))

        real = await agent("real", None)
        await agent("busy", "h200:8,fault=throttled:1")
        await agent("broken", "a100:2,gb10:1,fault=xid79:1")
        async with running_agent(AgentSection(name="gone", hub=[hub.url], interval_seconds=0.2)):
            await hub.node_when("gone", lambda node: node["report"])
        with prometheus(configuration(tmp_path, hub, real), hub.session) as server:
            await until(server.is_ready)
            yield Scraped(server, hub)


async def be_refused(site: Site) -> None:
    """Ask for what is counted."""
    _, writer = await asyncio.open_connection("127.0.0.1", site.port)
    writer.write(b"no HTTP\r\n\r\n")
    await writer.drain()
    writer.close()


async def become(server: Prometheus, expected: dict[str, float | None]) -> None:
    """Wait until each of these queries has this value, or none."""

    async def are_so() -> bool:
        return {query: await server.value(query) for query in expected} == expected

    await until(are_so)


async def test_every_query_of_the_board_has_an_answer(scraped: Scraped) -> None:
    silent = dict.fromkeys(queries())

    async def all_answered() -> bool:
        await be_refused(scraped.hub)  # between one scrape and another, so that the count is seen to grow
        for query in list(silent):
            asked = query
            for late, soon in SOONER:
                asked = asked.replace(late, soon)
            if await scraped.server.query(asked):
                del silent[query]
        return not silent

    try:
        await until(all_answered)
    except AssertionError:
        raise AssertionError(f"no answer to: {list(silent)}") from None


async def test_prometheus_takes_what_hub_and_agent_say(scraped: Scraped) -> None:
    async def is_up() -> bool:
        faults = [target["lastError"] for target in await scraped.server.targets()]
        return faults == ["", ""] and await scraped.server.value("min(up)") == 1

    await until(is_up)

    await become(
        scraped.server,
        {
            "sum(gpumon_node_up)": 3,
            'gpumon_node_status{node="nobody",status="pending"}': 1,
            'gpumon_node_status{node="gone",status="offline"}': 1,
            'count(gpumon_gpu_utilization_ratio{node="gone"})': None,
            'count(gpumon_gpu_utilization_ratio{node="busy"})': 8,
            'gpumon_gpu_status{node="broken",gpu="1",status="lost"}': 1,
            'gpumon_gpu_temperature_celsius{node="broken",gpu="1"}': None,
            'gpumon_gpu_utilization_ratio{node="real",gpu="1"}': 0.91,
            'gpumon_gpu_sm_clock_hertz{node="real",gpu="1"}': 1_980_000_000,
            'gpumon_gpu_power_draw_watts{node="real",gpu="1"}': 512.345,
            "gpumon_agent_link_up": 1,
        },
    )
    assert await scraped.server.query("{pid!=''}") == []


async def test_boards_of_dcgm_exporter_find_each_machine_by_its_instance(scraped: Scraped) -> None:
    await become(
        scraped.server,
        {
            'DCGM_FI_DEV_GPU_UTIL{instance="real",gpu="1"}': 91,
            "count(count by (instance) (DCGM_FI_DEV_FB_USED))": 3,
            "count(count by (instance) (gpumon_gpu_info))": 1,
        },
    )
