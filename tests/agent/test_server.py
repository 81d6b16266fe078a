"""What an agent serves by itself, over the fake driver and over the real binding."""

import asyncio
from pathlib import Path

import msgspec
import pytest

from gpumon.config import AgentSection
from gpumon.model import Report
from tests.fakenvml import Scenario, datacentre, environment, lost_gpu, no_driver, no_gpus
from tests.running import running_agent, until

QUICK = AgentSection(name="n", interval_seconds=0.2)


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that a fake driver obeys."""
    file = tmp_path / "scenario"
    for name, value in environment(file).items():
        monkeypatch.setenv(name, value)
    return file


async def test_gpu_info_is_a_report_of_the_driver(driver: Path) -> None:
    datacentre(gpus=8).write(driver)
    async with running_agent(QUICK, simulate=None) as agent:

        async def report() -> Report | None:
            async with agent.session.get(f"{agent.url}/gpu-info") as response:
                if response.status != 200:
                    return None
                told = msgspec.json.decode(await response.read(), type=Report)
                return told if told.status == "ok" else None  # on a busy machine, the driver's first answer may be late

        first = await until(report)
        assert first is not None
        assert (first.node, first.simulated, len(first.gpus)) == ("n", False, 8)
        gpu = first.gpus[0]
        assert gpu.uuid is not None
        assert gpu.memory_total_bytes
        assert gpu.power_draw_watts
        assert gpu.unavailable["fan_speed_percent"] == "unsupported"

        async def is_well() -> bool:
            health = await agent.get("/health")
            return (health["status"], health["error"], health["node"]) == ("ok", None, "n")

        await until(is_well)


@pytest.mark.parametrize(
    ("scenario", "status", "code"),
    [(no_driver(), "no_driver", 503), (no_gpus(), "no_gpus", 503), (lost_gpu(), "degraded", 200)],
    ids=["no driver", "no GPUs", "lost GPU"],
)
async def test_health_says_why_in_the_words_of_the_report(
    driver: Path, scenario: Scenario, status: str, code: int
) -> None:
    scenario.write(driver)
    async with running_agent(QUICK, simulate=None) as agent:

        async def health() -> bool:
            async with agent.session.get(f"{agent.url}/health") as response:
                body = await response.json()
                return bool(body["status"] == status and response.status == code)

        async def report() -> bool:
            told = await agent.get("/gpu-info")
            in_words = code == 200 or bool(told["error"] and told["error"]["message"] and told["error"]["hint"])
            return told["status"] == status and in_words

        await until(health)
        await until(report)


async def test_an_agent_without_a_driver_recovers_when_one_appears(driver: Path) -> None:
    no_driver().write(driver)
    async with running_agent(QUICK, simulate=None) as agent:

        async def status() -> str:
            async with agent.session.get(f"{agent.url}/gpu-info") as response:
                return str((await response.json(content_type=None)).get("status"))

        async def is_without() -> bool:
            return await status() == "no_driver"

        async def is_well() -> bool:
            return await status() == "ok"

        await until(is_without)
        datacentre(gpus=2).write(driver)
        await until(is_well)


async def test_an_unknown_path_is_a_problem_in_words() -> None:
    async with running_agent(QUICK) as agent:
        async with agent.session.get(f"{agent.url}/nope") as response:
            assert response.status == 404
            assert response.headers["Content-Type"] == "application/problem+json"


async def test_an_agent_bounds_what_is_asked_of_it_and_counts_what_it_refuses() -> None:
    async with running_agent(QUICK) as agent:
        for request, status in (
            (b"\x16\x03\x01 no HTTP\r\n\r\n", b"400"),
            (b"GET /health HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 101 + b"\r\n", b"431"),
        ):
            reader, writer = await asyncio.open_connection("127.0.0.1", agent.port)
            writer.write(request)
            assert (await reader.read()).startswith(b"HTTP/1.1 " + status)
            writer.close()
        health = await agent.get("/health?verbose")
        assert health["refused"] == {"bad_request": 1, "large_request": 1}
        assert "refused" not in await agent.get("/health")
