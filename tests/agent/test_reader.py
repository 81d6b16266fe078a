"""The reader over a real child, the real binding and a driver that misbehaves in every known way.

Nothing here waits for a time: what is waited for is a sample that shows it.
"""

import asyncio
import contextlib
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from gpumon.agent.pipe import EVERY_PASS
from gpumon.agent.reader import NvmlReader
from gpumon.agent.sample import Reader, Sample
from gpumon.agent.trouble import Deadlines, Limits
from gpumon.agent.words import MEASURED
from gpumon.model import Gpu
from tests import fakenvml
from tests.fakenvml import HANDLE, Scenario

ROOT = Path(__file__).parents[2]
TEMPERATURE = "nvmlDeviceGetTemperature"
FAST = Deadlines(
    soft=0.3,
    hard=0.5,
    close=0.3,
    terminate=0.5,
    kill=0.5,
    first_retry=0.05,
    last_retry=0.2,
    driver_retry=0.1,
    quarantine=0.1,
    beats=EVERY_PASS,
)


class Driver:
    """The scenario under which every child of this test runs."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.file = folder / "scenario"
        self.log = folder / "calls"
        self._monkeypatch = monkeypatch

    def start(self, scenario: Scenario, *, library: bool = True) -> None:
        scenario.write(self.file)
        for name, value in fakenvml.environment(self.file, library=library, log=self.log).items():
            self._monkeypatch.setenv(name, value)

    def starts(self) -> int:
        return self.log.read_text(encoding="utf-8").split().count("nvmlInitWithFlags")


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Driver:
    return Driver(tmp_path, monkeypatch)


async def until(reader: Reader, shows: Callable[[Sample], bool]) -> Sample:
    """The first sample of which ``shows`` is true."""
    sample = None
    try:
        async with asyncio.timeout(30):
            while True:
                sample = await reader.read()
                if shows(sample):
                    return sample
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise AssertionError(f"not seen; the last sample was {sample}") from None


def is_ok(sample: Sample) -> bool:
    return sample.status == "ok"


def states(sample: Sample) -> list[str]:
    return [gpu.status for gpu in sample.gpus]


def temperatures(sample: Sample) -> list[float | None]:
    return [gpu.temperature_celsius for gpu in sample.gpus]


def children(of: psutil.Process | None = None) -> list[psutil.Process]:
    """The processes that read GPUs now."""
    found = []
    for child in (of or psutil.Process()).children():
        with contextlib.suppress(psutil.Error):
            if "gpumon.agent.nvml" in child.cmdline():
                found.append(child)
    return found


def gone(process: psutil.Process) -> bool:
    """Whether it ends soon."""
    deadline = time.monotonic() + 10
    while process.is_running() and process.status() != psutil.STATUS_ZOMBIE and time.monotonic() < deadline:
        time.sleep(0.01)
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


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


# ---- a child that hangs, dies or talks nonsense ----


async def test_a_gpu_that_hangs_is_named_and_left_out_while_the_others_go_on(driver: Driver) -> None:
    scenario = fakenvml.datacentre()
    driver.start(scenario)
    async with NvmlReader(FAST) as reader:
        await until(reader, is_ok)
        scenario.gpus[2].does[TEMPERATURE] = "hang"
        scenario.write(driver.file)

        began = time.monotonic()
        sample = await reader.read()
        assert time.monotonic() - began < 5  # of a hang without end
        assert states(sample)[2] == "unresponsive"
        assert temperatures(sample)[2] == 52  # as last known
        assert sample.error is not None
        assert sample.error.code == "timeout"
        assert "while reading GPU 2 (GPU-8c1f0000-0000-4000-8000-000000000002)" in sample.error.message

        scenario.gpus[7].temperature = 77
        scenario.write(driver.file)
        sample = await until(reader, lambda sample: temperatures(sample)[7] == 77)
        assert states(sample) == ["ok", "ok", "unresponsive", "ok", "ok", "ok", "ok", "ok"]
        assert sample.status == "degraded"
        assert sample.gpus[2].error is not None
        assert "left out" in sample.gpus[2].error.message

        scenario.gpus[2].does.clear()
        scenario.gpus[2].temperature = 22
        scenario.write(driver.file)
        assert temperatures(await until(reader, is_ok))[2] == 22


async def test_the_loop_is_never_held_by_a_driver_that_hangs(driver: Driver) -> None:
    driver.start(fakenvml.hanging())
    longest = 0.0

    async def heartbeat() -> None:
        nonlocal longest
        while True:
            before = time.monotonic()
            await asyncio.sleep(0.005)
            longest = max(longest, time.monotonic() - before)

    async with NvmlReader(FAST) as reader:
        heart = asyncio.create_task(heartbeat())
        await until(reader, lambda sample: states(sample).count("ok") == 7)
        heart.cancel()
    assert longest < 2  # the driver hangs for ever


@pytest.mark.parametrize("function", [TEMPERATURE, HANDLE])
async def test_a_gpu_that_kills_its_reader_is_left_out_while_the_others_go_on(driver: Driver, function: str) -> None:
    scenario = fakenvml.crashing(function=function)
    driver.start(scenario)
    async with NvmlReader(FAST) as reader:
        sample = await until(reader, lambda sample: states(sample).count("ok") == 7)
        assert states(sample)[2] == "unresponsive"
        assert sample.gpus[2].error is not None
        assert sample.gpus[2].error.code == "crash"
        before = children()
        # Tried again and again, by others: the child that serves us lives on.
        starts = driver.starts()
        await until(reader, lambda _: driver.starts() >= starts + 2)
        assert any(child.is_running() for child in before)
        assert states(await reader.read()).count("ok") == 7
        scenario.gpus[2].does.clear()
        scenario.write(driver.file)
        assert (await until(reader, is_ok)).gpus[2].uuid == scenario.gpus[2].uuid


async def test_a_driver_that_starts_slowly_is_given_more_time_each_time(driver: Driver) -> None:
    driver.start(replace(fakenvml.datacentre(2), init="slow 800"))
    async with NvmlReader(replace(FAST, init=0.4)) as reader:
        sample = await until(reader, lambda sample: sample.error is not None and sample.error.code == "timeout")
        assert sample.error is not None
        assert "while starting" in sample.error.message
        await until(reader, is_ok)


async def test_a_slow_driver_is_waited_for_as_long_as_it_makes_progress(driver: Driver) -> None:
    scenario = fakenvml.datacentre(4)
    for gpu in scenario.gpus:
        gpu.does[TEMPERATURE] = "slow 40"
    driver.start(scenario)
    async with NvmlReader(FAST) as reader:
        await until(reader, is_ok)
        scenario.gpus[3].temperature = 99
        scenario.write(driver.file)
        await until(reader, lambda sample: sample.gpus[3].temperature_celsius == 99)


async def test_a_child_that_is_killed_is_replaced_and_no_gpu_is_blamed(driver: Driver) -> None:
    driver.start(fakenvml.datacentre())
    async with NvmlReader(FAST) as reader:
        await until(reader, is_ok)
        (child,) = children()
        child.kill()
        sample = await reader.read()
        assert "unresponsive" not in states(sample)
        await until(reader, lambda sample: is_ok(sample) and child not in children())


async def test_a_stopped_child_holds_neither_read_nor_the_end(driver: Driver) -> None:
    driver.start(fakenvml.datacentre())
    async with NvmlReader(replace(FAST, hard=60)) as reader:
        await until(reader, is_ok)
        (child,) = children()
        child.suspend()
        sample = await reader.read()
        assert sample.error is not None
        assert sample.error.code == "timeout"
        began = time.monotonic()
    assert time.monotonic() - began < 3.5
    assert gone(child)


async def test_the_end_does_not_wait_for_a_hung_driver(driver: Driver) -> None:
    driver.start(fakenvml.hanging())
    async with NvmlReader(replace(FAST, hard=60)) as reader:
        await until(reader, lambda sample: "unresponsive" in states(sample))
        (child,) = children()
    assert gone(child)  # long before the hard deadline of a minute


async def test_in_the_normal_case_the_child_ends_by_itself(driver: Driver) -> None:
    driver.start(fakenvml.datacentre())
    async with NvmlReader(FAST) as reader:
        await until(reader, is_ok)
    assert driver.log.read_text(encoding="utf-8").split()[-1] == "nvmlShutdown"
    assert not children()


@pytest.mark.parametrize("hangs", [False, True])
async def test_the_child_does_not_outlive_an_agent_that_is_killed(driver: Driver, hangs: bool) -> None:
    driver.start(fakenvml.hanging() if hangs else fakenvml.datacentre())
    program = (
        "import asyncio\n"
        "from gpumon.agent.reader import NvmlReader\n"
        "from gpumon.agent.trouble import Deadlines\n"
        "async def main():\n"
        "    async with NvmlReader(Deadlines(soft=0.1)) as reader:\n"
        "        while not (await reader.read()).gpus: await asyncio.sleep(0.01)\n"
        "        print(flush=True)\n"
        "        await asyncio.sleep(600)\n"
        "asyncio.run(main())\n"
    )
    agent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert agent.stdout is not None
        await agent.stdout.readline()
        (child,) = children(psutil.Process(agent.pid))
    finally:
        agent.kill()
        await agent.wait()
    assert gone(child)


@pytest.mark.parametrize(
    "words",
    [
        "print('x' * 2**21)",
        "print('{]')",
        'print(\'{"type": "gpu", "gpu": {"index": -1}}\')',
        "sys.stdout.buffer.write(bytes(range(128, 256)) + bytes([10]))",
    ],
)
async def test_a_child_that_talks_nonsense_is_replaced(
    driver: Driver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: str
) -> None:
    driver.start(fakenvml.datacentre())
    with monkeypatch.context() as patch:
        stand_in(tmp_path, patch, f"{words}\nsys.stdout.flush()\nsys.stdin.read()")
        async with NvmlReader(FAST) as reader:
            sample = await until(reader, lambda sample: sample.error is not None and sample.error.code == "protocol")
            assert sample.status == "error"
            patch.undo()
            driver.start(fakenvml.datacentre())
            await until(reader, is_ok)


async def test_a_program_that_cannot_be_started_is_a_state_like_any_other(
    driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver.start(fakenvml.datacentre())
    real = sys.executable
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")
    async with NvmlReader(FAST) as reader:
        sample = await until(reader, lambda sample: sample.error is not None and sample.error.code == "spawn")
        assert sample.status == "error"
        monkeypatch.setattr(sys, "executable", real)
        await until(reader, is_ok)


async def test_where_the_names_of_processes_hang_the_figures_come_without_them(
    driver: Driver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver.start(fakenvml.datacentre())
    says = (
        "import json\n"
        "def say(**message): print(json.dumps(message), flush=True)\n"
        "say(type='ready')\n"
        "for request in sys.stdin:\n"
        "    say(type='doing', step='gpu', index=0)\n"
        "    if json.loads(request)['describe_processes']:\n"
        "        say(type='doing', step='processes', index=0)\n"
        "        sys.stdin.read()\n"
        "    say(type='gpu', gpu={'index': 0, 'uuid': 'GPU-0', 'temperature_celsius': 40})\n"
        "    say(type='done')\n"
    )
    stand_in(tmp_path, monkeypatch, says)
    async with NvmlReader(replace(FAST, quarantine=60)) as reader:
        sample = await until(reader, is_ok)
    assert temperatures(sample) == [40]


def stand_in(folder: Path, monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    """``program`` takes the place of the children to come."""
    script = folder / "child"
    script.write_text(f"#!{sys.executable}\nimport sys\n{program}\n")
    script.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(script))


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
        reader.pause(0.2)
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
        sample = await until(reader, is_ok)
        assert sample.cost is not None
        assert sample.cost.slowest_call == "nvmlDeviceGetPowerUsage"
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
    async with NvmlReader(replace(FAST, quarantine=1.0)) as reader:
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
