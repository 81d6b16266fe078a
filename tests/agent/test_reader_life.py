"""The reader over time: a driver that is reloaded, pauses, children that are renewed, Xids, what it costs."""

import asyncio
from dataclasses import replace

import pytest

from gpumon.agent.reader import NvmlReader
from gpumon.agent.sample import Sample
from gpumon.agent.trouble import Limits
from tests import fakenvml
from tests.agent.drivers import FAST, IMPATIENT, TEMPERATURE, Driver, children, gone, is_ok, states, temperatures, until
from tests.fakenvml import HANDLE

# ---- the driver is reloaded, and counts anew ----


@pytest.mark.parametrize("code", [1, 15, 999])
async def test_row_61_a_driver_that_is_reloaded_is_taken_up_by_a_fresh_child(driver: Driver, code: int) -> None:
    scenario = fakenvml.datacentre(2)
    driver.start(scenario)
    async with NvmlReader(FAST) as reader:
        before = await until(reader, is_ok)
        for gpu in scenario.gpus:  # the handles of before are worth nothing
            gpu.does = dict.fromkeys([HANDLE, "nvmlDeviceGetUUID", TEMPERATURE], code)
        scenario.write(driver.file)
        await until(reader, lambda sample: driver.starts() > 1 and "ok" not in states(sample))
        after = fakenvml.datacentre(2)
        after.driver_version = "590.1"
        after.gpus.reverse()  # row 40: another order
        after.write(driver.file)
        sample = await until(reader, is_ok)
        assert sample.driver_version == "590.1"
        assert [gpu.uuid for gpu in sample.gpus] == [gpu.uuid for gpu in reversed(before.gpus)]


# ---- pause, recycling, cost ----


async def test_row_62_a_paused_reader_lets_go_of_the_driver_and_takes_it_up_again(driver: Driver) -> None:
    driver.start(fakenvml.datacentre(2))
    async with NvmlReader(FAST) as reader:
        before = await until(reader, is_ok)
        (child,) = children()
        reader.pause()
        sample = await until(reader, lambda sample: sample.error is not None and not children())
        assert gone(child)
        assert (sample.status, sample.error and sample.error.code) == ("error", "paused")
        assert sample.error is not None
        assert sample.error.hint
        assert states(sample) == ["unresponsive", "unresponsive"]
        assert temperatures(sample) == temperatures(before)
        assert driver.log.read_text(encoding="utf-8").split()[-1] == "nvmlShutdown"
        starts = driver.starts()
        for _ in range(20):
            await reader.read()
        assert driver.starts() == starts
        reader.resume()
        await until(reader, is_ok)


async def test_row_62_a_pause_ends_by_itself(driver: Driver) -> None:
    driver.start(fakenvml.datacentre(1))
    async with NvmlReader(FAST) as reader:
        await until(reader, is_ok)
        reader.pause(4.0)
        await until(reader, lambda sample: sample.error is not None and sample.error.code == "paused")
        await until(reader, is_ok)


async def test_row_62_a_suspect_is_not_probed_while_paused(driver: Driver) -> None:
    driver.start(fakenvml.crashing(0, 2))
    async with NvmlReader(FAST) as reader:
        await until(reader, lambda sample: "unresponsive" in states(sample) and "ok" in states(sample))
        reader.toggle()
        await until(
            reader, lambda sample: sample.error is not None and sample.error.code == "paused" and not children()
        )
        starts = driver.starts()
        for _ in range(50):
            await reader.read()
            await asyncio.sleep(0.01)
        assert driver.starts() == starts
        reader.toggle()
        await until(reader, lambda sample: "ok" in states(sample))


async def test_row_68_a_child_that_grows_is_replaced_between_two_passes(driver: Driver) -> None:
    scenario = fakenvml.datacentre(2)
    driver.start(scenario)
    limits = Limits(growth_bytes=20_000_000, settled_passes=1, least_seconds=0.0)
    async with NvmlReader(FAST, limits) as reader:
        await until(reader, is_ok)
        (child,) = children()
        scenario.gpus[0].does["nvmlDeviceGetTemperature"] = "leak 1024"
        scenario.write(driver.file)
        seen = set()

        def shows_another(sample: Sample) -> bool:
            seen.update([sample.status, *states(sample)])
            return bool(children()) and child not in children()

        await until(reader, shows_another)
        assert seen == {"ok"}  # nobody has noticed
        assert driver.log.read_text(encoding="utf-8").split().count("nvmlShutdown") >= 1


async def test_row_65_a_child_that_is_old_is_replaced_and_one_that_is_fresh_is_not(driver: Driver) -> None:
    driver.start(fakenvml.datacentre(1))
    async with NvmlReader(FAST, Limits(seconds=0.3, least_seconds=0.0)) as reader:
        await until(reader, lambda _: driver.log.exists() and driver.starts() >= 3)
        assert is_ok(await reader.read())
    driver.log.unlink()
    async with NvmlReader(FAST, Limits(resident_bytes=1, seconds=0.0)) as reader:
        for _ in range(30):
            await until(reader, is_ok)
        assert driver.starts() == 1


async def test_a_sample_tells_what_it_has_cost_and_which_call_was_slowest(driver: Driver) -> None:
    scenario = fakenvml.datacentre(2)
    scenario.gpus[1].does["nvmlDeviceGetPowerUsage"] = "slow 30"
    driver.start(scenario)
    async with NvmlReader(FAST) as reader:
        slow = "nvmlDeviceGetPowerUsage"  # now and then, the machine may hold another longer
        sample = await until(reader, lambda sample: sample.cost is not None and sample.cost.slowest_call == slow)
        assert is_ok(sample)
        assert sample.cost is not None
        assert sample.cost.slowest_call_seconds is not None
        assert sample.cost.sample_seconds is not None
        assert sample.cost.sample_seconds >= sample.cost.slowest_call_seconds >= 0.03
        assert (sample.cost.resident_bytes or 0) > 1_000_000
        spent = sample.cost.cpu_seconds_total or 0
        assert spent > 0
        (child,) = children()
        child.kill()
        again = await until(reader, lambda sample: is_ok(sample) and child not in children())
        assert again.cost is not None
        assert (again.cost.cpu_seconds_total or 0) > spent  # of both children together


# ---- Xids ----


def xids(sample: Sample, index: int) -> list[tuple[int, int, str]]:
    return [(xid.code, xid.count, xid.gravity) for xid in sample.gpus[index].xids or []]


def calls_of_the_newest(driver: Driver) -> str:
    """What the youngest child has called."""
    return driver.log.read_text(encoding="utf-8").rpartition("nvmlInitWithFlags")[2] if driver.starts() > 1 else ""


async def test_row_69_every_xid_is_told_and_only_some_are_grave(driver: Driver) -> None:
    scenario = fakenvml.datacentre(3)
    scenario.xid(0, 31)  # before anybody listened
    driver.start(scenario)
    async with NvmlReader(FAST) as reader:
        sample = await until(reader, is_ok)
        assert [gpu.xids for gpu in sample.gpus] == [[], [], []]
        for gpu, code in ((1, 13), (1, 13), (2, 79), (1, 4242)):
            scenario.xid(gpu, code)
        scenario.write(driver.file)
        sample = await until(reader, lambda sample: len(xids(sample, 1)) == 2 and bool(xids(sample, 2)))
        assert xids(sample, 0) == []
        assert sorted(xids(sample, 1)) == [(13, 2, "warning"), (4242, 1, "warning")]
        assert xids(sample, 2) == [(79, 1, "critical")]
        assert sample.status == "ok"
        # Counted on by the children to come, and told also of a GPU that is lost.
        (child,) = children()
        child.kill()
        await until(reader, lambda _: "nvmlEventSetWait_v2" in calls_of_the_newest(driver))
        scenario.xid(1, 13)
        scenario.gpus[2].does["nvmlDeviceGetTemperature"] = 15
        scenario.write(driver.file)
        sample = await until(reader, lambda sample: (13, 3, "warning") in xids(sample, 1))
        sample = await until(reader, lambda sample: states(sample)[2] == "lost")
        assert xids(sample, 2) == [(79, 1, "critical")]
        assert "xids" not in sample.gpus[2].unavailable


async def test_row_70_a_gpu_that_does_not_report_xids_is_no_fault(driver: Driver) -> None:
    scenario = fakenvml.datacentre(2)
    scenario.gpus[0].does["nvmlDeviceRegisterEvents"] = 3
    driver.start(scenario)
    async with NvmlReader(FAST) as reader:
        sample = await until(reader, is_ok)
    assert (sample.gpus[0].xids, sample.gpus[0].unavailable["xids"]) == (None, "unsupported")
    assert sample.gpus[1].xids == []


async def test_row_71_while_the_stream_of_xids_is_dead_nothing_is_known_of_them(driver: Driver) -> None:
    scenario = fakenvml.datacentre(2)
    driver.start(scenario)
    async with NvmlReader(FAST) as reader:
        await until(reader, is_ok)
        scenario.does["nvmlEventSetWait_v2"] = 999
        scenario.write(driver.file)
        sample = await until(reader, lambda sample: sample.gpus[0].xids is None)
        assert sample.status == "ok"
        assert sample.gpus[0].unavailable["xids"] == "error"
        assert (await reader.read()).gpus[0].xids is None  # and not known for a moment, now and then
        scenario.does.clear()
        scenario.write(driver.file)
        await until(reader, lambda sample: sample.gpus[0].xids == [])
        scenario.xid(0, 48)
        scenario.write(driver.file)
        await until(reader, lambda sample: xids(sample, 0) == [(48, 1, "critical")])


async def test_row_72_a_stream_of_xids_that_hangs_costs_the_xids_alone(driver: Driver) -> None:
    scenario = fakenvml.datacentre(2)
    driver.start(scenario)
    async with NvmlReader(replace(IMPATIENT, quarantine=1.0)) as reader:
        await until(reader, is_ok)
        scenario.does["nvmlEventSetWait_v2"] = "hang"
        scenario.gpus[0].temperature = 66
        scenario.write(driver.file)
        sample = await until(reader, lambda sample: is_ok(sample) and sample.gpus[0].xids is None)
        assert temperatures(sample)[0] == 66
        assert sample.gpus[0].unavailable["xids"] == "timeout"
        scenario.does.clear()
        scenario.write(driver.file)
        await until(reader, lambda sample: is_ok(sample) and sample.gpus[0].xids == [])
