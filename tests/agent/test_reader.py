"""The reader over a real child, the real binding and drivers in every state that they have been seen in.

Nothing here waits for a time: what is waited for is a sample that shows it.
"""

import asyncio
import subprocess
import sys

import pytest

from gpumon.agent.reader import NvmlReader
from gpumon.agent.trouble import Deadlines
from gpumon.agent.words import MEASURED
from gpumon.model import Gpu
from tests import fakenvml
from tests.agent.drivers import FAST, ROOT, TEMPERATURE, Driver, children, is_ok, states, temperatures, until
from tests.fakenvml import HANDLE, Scenario

# ---- what a sample says ----


async def test_eight_datacentre_gpus(driver: Driver) -> None:
    driver.start(fakenvml.datacentre())
    async with NvmlReader() as reader:
        sample = await until(reader, is_ok)
    assert reader.simulated is False
    assert (sample.error, sample.driver_version, sample.cuda_version) == (None, "580.95.05", "13.0")
    assert [gpu.index for gpu in sample.gpus] == list(range(8))
    assert [gpu.utilization_percent for gpu in sample.gpus] == list(range(90, 98))
    assert sample.gpus[0].processes is not None
    assert [(one.pid, one.type) for one in sample.gpus[0].processes] == [(2, "compute"), (1, "compute+graphics")]


async def test_two_consumer_gpus(driver: Driver) -> None:
    driver.start(fakenvml.consumer())
    async with NvmlReader() as reader:
        sample = await until(reader, is_ok)
    assert [gpu.fan_speed_percent for gpu in sample.gpus] == [30, 30]
    assert sample.gpus[0].ecc_uncorrected_total is None
    assert sample.gpus[0].unavailable["ecc_uncorrected_total"] == "unsupported"
    assert sample.gpus[0].processes is not None
    assert sample.gpus[0].processes[0].memory_used_bytes is None


async def test_a_changed_value_is_in_the_next_sample(driver: Driver) -> None:
    scenario = fakenvml.datacentre()
    driver.start(scenario)
    async with NvmlReader() as reader:
        await until(reader, is_ok)
        scenario.gpus[2].temperature = 91
        scenario.write(driver.file)
        assert (await reader.read()).gpus[2].temperature_celsius == 91


@pytest.mark.parametrize(
    ("scenario", "library", "status", "says"),
    [
        (fakenvml.no_driver(), True, "no_driver", "not loaded"),
        (fakenvml.datacentre(), False, "no_driver", "libnvidia-ml.so.1"),
        (fakenvml.driver_mismatch(), True, "driver_mismatch", "updated"),
        (fakenvml.no_gpus(), True, "no_gpus", "no GPU"),
        (Scenario(init=999), True, "error", "999"),
    ],
)
async def test_a_machine_without_a_working_driver_says_what_to_do_and_recovers_by_itself(
    driver: Driver, scenario: Scenario, library: bool, status: str, says: str
) -> None:
    driver.start(scenario, library=library)
    async with NvmlReader(FAST) as reader:
        sample = await until(
            reader, lambda sample: sample.status == status and says in str(sample.error and sample.error.message)
        )
        assert sample.gpus == []
        assert sample.error is not None
        assert says in sample.error.message
        assert sample.error.hint
        # The driver appears.
        fakenvml.datacentre().write(driver.file)
        if not library:
            fakenvml.install_library(driver.file)
        assert len((await until(reader, is_ok)).gpus) == 8


async def test_a_driver_that_goes_leaves_the_gpus_as_last_known(driver: Driver) -> None:
    scenario = fakenvml.datacentre(2)
    driver.start(scenario)
    async with NvmlReader(FAST) as reader:
        before = await until(reader, is_ok)
        scenario.init = 9
        scenario.does["nvmlDeviceGetCount"] = 1
        scenario.write(driver.file)
        sample = await until(reader, lambda sample: sample.status == "no_driver")
        assert states(sample) == ["unresponsive", "unresponsive"]
        assert temperatures(sample) == temperatures(before)
        assert sample.gpus[0].error == sample.error
        fakenvml.datacentre(2).write(driver.file)
        await until(reader, is_ok)


async def test_before_the_driver_has_answered_a_sample_says_so(driver: Driver) -> None:
    driver.start(Scenario(init="hang"))
    async with NvmlReader(Deadlines(soft=0.0)) as reader:
        sample = await reader.read()
    assert sample.status == "error"
    assert sample.error is not None
    assert sample.gpus == []


# ---- lost GPUs ----


async def test_a_gpu_that_is_lost_from_the_start_costs_no_other(driver: Driver) -> None:
    driver.start(fakenvml.lost_gpu(3))
    async with NvmlReader(FAST) as reader:
        sample = await until(reader, lambda sample: sample.status == "degraded")
    assert states(sample) == ["ok", "ok", "ok", "lost", "ok", "ok", "ok", "ok"]
    assert sample.gpus[3].uuid is None
    assert sample.gpus[3].error is not None
    assert sample.gpus[3].error.code == "lost"
    assert sample.gpus[3].unavailable == dict.fromkeys(MEASURED, "lost")


@pytest.mark.parametrize("function", [HANDLE, "nvmlDeviceGetUUID", TEMPERATURE])
async def test_a_gpu_that_is_lost_later_is_still_itself_and_may_come_back(driver: Driver, function: str) -> None:
    scenario = fakenvml.datacentre()
    driver.start(scenario)
    async with NvmlReader(FAST) as reader:
        before = await until(reader, is_ok)
        scenario.gpus[3].does[function] = 15
        scenario.write(driver.file)
        sample = await until(reader, lambda sample: sample.status == "degraded")
        assert states(sample) == ["ok", "ok", "ok", "lost", "ok", "ok", "ok", "ok"]
        assert identity(sample.gpus[3]) == identity(before.gpus[3])
        assert sample.gpus[3].temperature_celsius is None
        scenario.gpus[3].does.clear()
        scenario.write(driver.file)
        assert len((await until(reader, is_ok)).gpus) == 8


def identity(gpu: Gpu) -> tuple[str | None, ...]:
    return (gpu.uuid, gpu.name, gpu.pci_bus_id)


async def test_a_gpu_that_vanishes_from_the_list_stays_listed_as_lost(driver: Driver) -> None:
    scenario = fakenvml.datacentre(3)
    driver.start(scenario)
    async with NvmlReader(FAST) as reader:
        before = await until(reader, is_ok)
        vanished = scenario.gpus.pop(1)
        scenario.write(driver.file)
        sample = await until(reader, lambda sample: "lost" in states(sample))
        lost = next(gpu for gpu in sample.gpus if gpu.status == "lost")
        assert identity(lost) == identity(before.gpus[1])
        assert len(sample.gpus) == 3
        assert [gpu.uuid for gpu in sample.gpus if gpu.status == "ok"] == [gpu.uuid for gpu in scenario.gpus]
        # Another board is put in its place.
        vanished.uuid = "GPU-another"
        scenario.gpus.insert(1, vanished)
        scenario.write(driver.file)
        assert (await until(reader, is_ok)).gpus[1].uuid == "GPU-another"


async def test_where_no_gpu_is_well_a_fresh_child_is_tried(driver: Driver) -> None:
    scenario = fakenvml.datacentre(2)
    for gpu in scenario.gpus:
        gpu.does[HANDLE] = 999
    driver.start(scenario)
    async with NvmlReader(FAST) as reader:
        sample = await until(reader, lambda _: driver.log.exists() and driver.starts() > 1)
        assert states(sample) == ["error", "error"]
        fakenvml.datacentre(2).write(driver.file)
        await until(reader, is_ok)


async def test_an_error_of_the_caller_passes_through_unchanged(driver: Driver) -> None:
    driver.start(fakenvml.datacentre())

    async def fail() -> None:
        async with NvmlReader(FAST) as reader:
            await reader.read()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()


async def test_a_caller_that_is_cancelled_is_cancelled(driver: Driver) -> None:
    driver.start(fakenvml.datacentre())
    inside = asyncio.Event()

    async def read_for_ever() -> None:
        async with NvmlReader(FAST) as reader:
            inside.set()
            while True:
                await reader.read()

    task = asyncio.create_task(read_for_ever())
    await inside.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not children()


def test_the_agent_itself_never_loads_the_binding() -> None:
    program = "import sys, gpumon.agent.reader; sys.exit('pynvml' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=False).returncode == 0


def test_the_default_deadlines_keep_what_is_promised() -> None:
    times = Deadlines()
    assert 1.2 * times.soft <= 2.5  # read()
    assert times.terminate + times.kill < 3  # the end
