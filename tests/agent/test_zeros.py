"""Row 8 of the catalogue: a utilisation of 0 that is no measurement, told by how the GPU behaves."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from gpumon.agent.reader import NvmlReader
from gpumon.agent.table import table
from gpumon.agent.zeros import SUSPECT_SECONDS, Zeros
from gpumon.model import Gpu, Process, Report
from tests import fakenvml
from tests.agent.drivers import FAST, Driver, is_ok, until

MIB = 2**20
BOTH = ["utilization_percent", "memory_utilization_percent"]
HOUR = SUSPECT_SECONDS

Story = Callable[[float], Gpu]


def idle(now: float, *, watts: float = 70.0, mib: int = 20_000) -> Gpu:
    """A GPU that holds memory and does nothing; a watt up, a watt down."""
    return Gpu(
        index=0,
        utilization_percent=0,
        memory_utilization_percent=0,
        power_draw_watts=watts + now % 3,
        memory_kind="dedicated",
        memory_used_bytes=mib * MIB,
        processes=[Process(pid=1, memory_used_bytes=mib * MIB)],
    )


def swinging(now: float) -> Gpu:
    return idle(now, watts=70 if now % 120 < 60 else 300)


def breathing(now: float) -> Gpu:
    """Its power is not told; a process takes memory and gives it back."""
    return Gpu(
        index=0,
        utilization_percent=0,
        memory_utilization_percent=0,
        processes=[Process(pid=1, memory_used_bytes=(1000 if now % 120 < 60 else 3000) * MIB)],
    )


def starting(now: float) -> Gpu:
    """A program comes, takes its memory and waits: one step up, and nothing else."""
    return idle(now) if now < HOUR / 2 else idle(now, watts=120, mib=60_000)


def daily(now: float) -> Gpu:
    """Every quarter of an hour somebody looks whether there is a GPU."""
    return idle(now, watts=120, mib=21_000) if 100 <= now % 900 < 110 else idle(now)


def without_traffic(now: float) -> Gpu:
    """The part of the memory is never measured; the other one is."""
    gpu = swinging(now)
    return Gpu(
        index=0,
        utilization_percent=0 if now % 120 < 60 else 95,
        memory_utilization_percent=0,
        power_draw_watts=gpu.power_draw_watts,
    )


def light(now: float) -> Gpu:
    """A desktop: so little traffic that it is rounded to nothing, and a clock that goes up and down."""
    return Gpu(
        index=0,
        utilization_percent=1 + now % 4,
        memory_utilization_percent=0,
        power_draw_watts=10 if now % 60 < 30 else 30,
    )


def steady(now: float) -> Gpu:
    """Work that keeps to the registers."""
    return Gpu(index=0, utilization_percent=100, memory_utilization_percent=0, power_draw_watts=400 + now % 10)


def told(story: Story, seconds: float, zeros: Zeros | None = None) -> Iterator[list[str]]:
    zeros = zeros or Zeros()
    now = 0.0
    while now <= seconds:
        yield zeros.judged(story(now), now).suspect
        now += 5.0


@pytest.mark.parametrize(
    ("story", "suspect"),
    [
        (swinging, BOTH),
        (breathing, BOTH),
        (without_traffic, ["memory_utilization_percent"]),
        (idle, []),
        (starting, []),
        (daily, []),
        (light, []),
        (steady, []),
    ],
)
def test_row_8_a_zero_is_suspect_where_the_gpu_moves_and_nowhere_else(story: Story, suspect: list[str]) -> None:
    *_, last = told(story, 3 * HOUR)
    assert last == suspect


def test_row_8_it_takes_an_hour_and_ends_with_the_first_other_value() -> None:
    zeros = Zeros()
    seen = list(told(swinging, HOUR + 600, zeros))
    assert not any(seen[: int(HOUR / 5)])
    assert seen[-1] == BOTH
    after = idle(0)  # what is not measured while the GPU works, is not measured while it does not
    assert zeros.judged(after, HOUR + 605).suspect == BOTH
    measured = Gpu(index=0, utilization_percent=1, memory_utilization_percent=0)
    assert zeros.judged(measured, HOUR + 610).suspect == ["memory_utilization_percent"]
    assert zeros.judged(idle(0), HOUR + 615).suspect == ["memory_utilization_percent"]


def test_row_8_a_value_that_is_missing_is_neither_doubted_nor_a_proof() -> None:
    zeros = Zeros()
    list(told(swinging, HOUR + 600, zeros))
    missing = Gpu(index=0)
    assert zeros.judged(missing, HOUR + 605).suspect == []
    assert zeros.judged(idle(0), HOUR + 610).suspect == BOTH


async def test_row_8_over_the_driver_the_value_is_kept_and_doubted(driver: Driver) -> None:
    scenario = fakenvml.datacentre(1)
    board = scenario.gpus[0]
    board.utilization = board.memory_utilization = 0
    driver.start(scenario)
    async with NvmlReader(replace(FAST, doubt=0.1)) as reader:
        sample = await until(reader, is_ok)
        assert sample.gpus[0].suspect == []
        for power in [200_000, 500_000] * 400:
            board.power_draw = board.power_instant = power
            scenario.write(driver.file)
            sample = await reader.read()
            if sample.gpus[0].suspect:
                break
    (gpu,) = sample.gpus
    assert (gpu.status, gpu.utilization_percent, gpu.suspect) == ("ok", 0, BOTH)
    lines = table(Report(node="n", gpus=[gpu]), 200, color=False, now=0.0)
    assert "0% ?" in lines[3]
    assert any("no measurement" in line and "utilization_percent" in line for line in lines)
