"""What an agent tells Prometheus: over the real binding and the fake driver, and of simulated GPUs."""

import asyncio
import gzip
import subprocess
import sys
import time
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gpumon.agent.metrics import answer
from gpumon.agent.sample import Sample
from gpumon.agent.sampler import Sampler
from gpumon.config import AgentSection, MetricsSection
from gpumon.refusals import Refusals
from tests.fakenvml import consumer, datacentre, environment, no_driver
from tests.hub.rawhttp import exchange, get
from tests.prometheus import needs_prometheus, promtool
from tests.prometheus.reading import Told, read, told
from tests.running import Site, free_port, program, running_agent, running_hub, until, until_true

OPENMETRICS_ASKED = {"accept": "application/openmetrics-text"}
QUICK = AgentSection(name="n", interval_seconds=0.2)


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that a fake driver obeys."""
    file = tmp_path / "scenario"
    for name, value in environment(file).items():
        monkeypatch.setenv(name, value)
    return file


@pytest.fixture
async def agent(driver: Path) -> AsyncIterator[Site]:
    """An agent of eight GPUs, that has read them."""
    scenario = datacentre(gpus=8)
    scenario.gpus[7].does["nvmlDeviceGetTemperatureV"] = scenario.gpus[7].does["nvmlDeviceGetTemperature"] = 3
    scenario.write(driver)
    async with running_agent(QUICK, simulate=None, metrics=MetricsSection(dcgm_names=False)) as site:
        await until(lambda: told_of_gpus(site, 8))
        yield site


async def told_of_gpus(site: Site, count: int) -> Told | None:
    said = await told(site)
    return said if len(said.samples.get("gpumon_gpu_utilization_ratio", ())) == count else None


@needs_prometheus
async def test_promtool_finds_no_fault_with_it(agent: Site) -> None:
    async with agent.session.get(f"{agent.url}/metrics") as response:
        assert response.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        assert response.headers["Cache-Control"] == "no-store"
        assert response.headers["Vary"] == "Accept, Accept-Encoding"
        text = await response.read()
    assert text.count(b"gpumon_gpu_info{") == 8
    assert promtool("check", "metrics", given=text) == ""


async def test_it_is_compressed_when_asked(agent: Site) -> None:
    plain = await exchange(agent, get("/metrics", "Accept-Encoding: identity"))
    packed = await exchange(agent, get("/metrics", "Accept-Encoding: gzip"))
    assert "content-encoding" not in plain.head
    assert "content-encoding: gzip" in packed.head
    assert len(packed.body) * 3 < len(plain.body)
    assert read(gzip.decompress(packed.body).decode(), "text").kinds == read(plain.body.decode(), "text").kinds


async def test_values_are_the_drivers_in_base_units(agent: Site) -> None:
    said = await told(agent)
    assert said.value("gpumon_gpu_utilization_ratio", gpu="3", node="n") == 0.93
    assert said.value("gpumon_gpu_memory_total_bytes", gpu="3") == 80 * 2**30
    assert said.value("gpumon_gpu_power_draw_watts", gpu="3") == 512.345
    assert said.value("gpumon_gpu_energy_joules_total", gpu="3") == 123_456.789
    assert said.value("gpumon_gpu_sm_clock_hertz", gpu="3") == 1_980_000_000
    assert said.value("gpumon_gpu_throttled", gpu="3", reason="sw_power_cap") == 1
    assert said.value("gpumon_gpu_temperature_celsius", gpu="3") == 53
    assert said.value("gpumon_gpu_temperature_celsius", gpu="7") is None
    assert "gpumon_gpu_fan_speed_ratio" not in said.samples
    assert said.value("gpumon_gpu_processes", gpu="0") == 2
    assert said.value("gpumon_report_status", status="ok") == 1
    assert said.value("gpumon_host_memory_total_bytes", node="n")
    assert said.value("gpumon_agent_up") == 1
    assert said.value("gpumon_agent_reports_total")
    assert "gpumon_agent_link_up" not in said.samples  # it has no hub to be linked to
    assert "DCGM_FI_DEV_GPU_UTIL" not in said.samples


async def test_nvidias_names_are_told_when_asked_for(driver: Path) -> None:
    consumer(gpus=1).write(driver)
    async with running_agent(QUICK, simulate=None, metrics=MetricsSection(dcgm_names=True)) as site:
        await until(lambda: told_of_gpus(site, 1))
        said = await told(site)
    assert said.value("DCGM_FI_DEV_FAN_SPEED", gpu="0", Hostname="n", modelName="NVIDIA GeForce RTX 4090") == 30
    assert said.value("DCGM_FI_DEV_FB_USED") == 1024
    assert said.value("gpumon_gpu_memory_used_bytes") == 2**30


async def test_without_a_driver_it_says_so_and_no_number(driver: Path) -> None:
    no_driver().write(driver)
    async with running_agent(QUICK, simulate=None) as site:

        async def is_told() -> bool:
            said = await told(site)
            restarts = said.values("gpumon_agent_reader_restarts_total", "reason")
            return said.value("gpumon_report_status", status="no_driver") == 1 and restarts["driver"] > 0

        await until(is_told)
        assert not [name for name in (await told(site)).samples if name.startswith("gpumon_gpu")]


async def test_a_reader_that_dies_is_counted(driver: Path) -> None:
    scenario = datacentre(gpus=1)
    scenario.write(driver)
    async with running_agent(QUICK, simulate=None) as site:
        await until(lambda: told_of_gpus(site, 1))
        scenario.gpus[0].does["nvmlDeviceGetUtilizationRates"] = "segv"
        scenario.write(driver)

        async def is_counted() -> bool:
            said = await told(site)
            counted = said.values("gpumon_agent_reader_restarts_total", "reason")["child"] >= 1
            return counted and said.value("gpumon_gpu_status", status="unresponsive") == 1

        await until(is_counted)
        assert "gpumon_gpu_utilization_ratio" not in (await told(site)).samples


async def test_who_does_not_know_the_token_is_told_nothing() -> None:
    closed = AgentSection(name="n", interval_seconds=0.2, token="0123456789")
    async with running_agent(closed) as site:
        async with site.session.get(f"{site.url}/metrics") as response:
            assert response.status == 401
            assert b"gpumon_" not in await response.read()
        assert (await told(site, {"Authorization": "Bearer 0123456789"})).value("gpumon_agent_info", node="n") == 1


async def test_the_link_is_told_as_it_is() -> None:
    port = free_port()
    settings = AgentSection(name="n", interval_seconds=0.2, hub=[f"http://127.0.0.1:{port}"])
    async with running_agent(settings) as site:

        async def waits() -> bool:
            said = await told(site)
            waiting = said.value("gpumon_agent_outbox_reports", state="waiting") or 0
            return said.value("gpumon_agent_link_up") == 0 and waiting >= 2

        async def is_linked() -> bool:
            said = await told(site)
            linked = said.value("gpumon_agent_link_up") == 1
            return linked and said.value("gpumon_agent_outbox_reports", state="waiting") == 0

        await until(waits)
        async with running_hub(port=port):
            await until(is_linked)
        async with running_hub(port=port):

            async def is_back() -> bool:
                return (await told(site)).value("gpumon_agent_link_reconnects_total") == 1

            await until(is_back, patience=40)


class Reader:
    """Takes as long as it is told to."""

    simulated = False

    def __init__(self) -> None:
        self.go_on = asyncio.Event()

    async def read(self) -> Sample:
        await self.go_on.wait()
        return Sample(restarts={"child": 2})


async def test_a_sample_that_takes_too_long_is_counted() -> None:
    reader = Reader()
    reader.go_on.set()
    made: list[int] = []
    sampler = Sampler(reader, "n", 0.02)
    beating = asyncio.create_task(sampler.run(lambda sequence, _: made.append(sequence)))
    await until_true(lambda: made)
    reader.go_on.clear()
    await asyncio.sleep(0.1)
    reader.go_on.set()

    def said() -> Told:
        return read(answer(sampler, None, Refusals(), OPENMETRICS_ASKED, dcgm_names=False)[0].decode())

    await until_true(lambda: (said().value("gpumon_agent_overruns_total") or 0) >= 1)
    beating.cancel()
    assert said().value("gpumon_agent_reader_restarts_total", reason="child") == 2
    assert said().value("gpumon_agent_loop_lag_seconds_count")


async def test_old_numbers_are_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gpumon.agent.sampler.LEAST_OVERDUE_SECONDS", 0.1)
    reader = Reader()
    reader.go_on.set()
    sampler = Sampler(reader, "n", 0.02)
    beating = asyncio.create_task(sampler.run(lambda _sequence, _report: None))

    def said() -> Told:
        return read(answer(sampler, None, Refusals(), OPENMETRICS_ASKED, dcgm_names=False)[0].decode())

    await until_true(lambda: said().value("gpumon_report_status", status="ok") == 1)
    reader.go_on.clear()
    await until_true(lambda: said().value("gpumon_agent_up") == 0)
    assert not [name for name in said().samples if name.startswith(("gpumon_gpu", "gpumon_host", "gpumon_report"))]
    beating.cancel()


def test_the_library_is_loaded_for_who_is_asked_only() -> None:
    code = "import gpumon.agent.app, sys; assert 'prometheus_client' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_command_line_has_the_switch(tmp_path: Path) -> None:
    for arguments, variables in (
        (("agent", "--simulate", "1", "--dcgm-names"), {}),
        (("agent", "--simulate", "1"), {"GPUMON_DCGM_NAMES": "1"}),
        (("agent", "--simulate", "1", "--config", str(tmp_path / "c.json")), {}),
    ):
        (tmp_path / "c.json").write_text('{"metrics": {"dcgm_names": true}}')
        with program(*arguments, "--port", "0", environment=variables) as running:
            url = f"http://127.0.0.1:{running.port('agent')}/metrics"
            patience = time.monotonic() + 20
            while b"DCGM_FI_DEV_GPU_UTIL{" not in (text := urllib.request.urlopen(url, timeout=30).read()):
                assert time.monotonic() < patience, text
                time.sleep(0.02)
