"""The reader when its child hangs, dies, talks nonsense or cannot be had."""

import asyncio
import sys
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from gpumon.agent.reader import NvmlReader
from tests import fakenvml
from tests.agent.drivers import (
    FAST,
    IMPATIENT,
    ROOT,
    TEMPERATURE,
    Driver,
    children,
    gone,
    is_ok,
    states,
    temperatures,
    until,
)
from tests.fakenvml import HANDLE

# ---- a child that hangs, dies or talks nonsense ----


async def test_a_gpu_that_hangs_is_named_and_left_out_while_the_others_go_on(driver: Driver) -> None:
    scenario = fakenvml.datacentre()
    driver.start(scenario)
    expected = ["ok", "ok", "unresponsive", "ok", "ok", "ok", "ok", "ok"]
    async with NvmlReader(IMPATIENT) as reader:
        await until(reader, is_ok)
        scenario.gpus[2].does[TEMPERATURE] = "hang"
        scenario.write(driver.file)

        where = "while reading GPU 2 (GPU-8c1f0000-0000-4000-8000-000000000002)"
        sample = await until(reader, lambda sample: sample.error is not None and where in sample.error.message)
        assert sample.error is not None
        assert sample.error.code == "timeout"
        assert states(sample)[2] == "unresponsive"
        assert temperatures(sample)[2] == 52  # as last known

        scenario.gpus[7].temperature = 77
        scenario.write(driver.file)
        sample = await until(reader, lambda sample: temperatures(sample)[7] == 77 and states(sample) == expected)
        assert sample.status == "degraded"
        assert sample.gpus[2].error is not None
        assert "left out" in sample.gpus[2].error.message

        scenario.gpus[2].does.clear()
        scenario.gpus[2].temperature = 22
        scenario.write(driver.file)
        assert temperatures(await until(reader, is_ok))[2] == 22


@pytest.mark.parametrize("ends", ["hang", "segv"])
async def test_what_was_read_before_the_hang_or_the_crash_is_in_the_same_sample(driver: Driver, ends: str) -> None:
    scenario = fakenvml.datacentre(4)
    driver.start(scenario)
    async with NvmlReader(replace(IMPATIENT, soft=3.0, hard=10.0)) as reader:
        await until(reader, is_ok)
        scenario.gpus[0].temperature, scenario.gpus[1].temperature = 10, 11
        scenario.gpus[2].does[TEMPERATURE] = ends
        scenario.write(driver.file)
        sample = await reader.read()
        assert temperatures(sample) == [10, 11, 52, 53]
        assert states(sample)[2] == "unresponsive"


async def test_each_gpu_has_the_hard_deadline_for_itself(driver: Driver) -> None:
    scenario = fakenvml.datacentre(8)
    driver.start(scenario)
    async with NvmlReader(replace(FAST, hard=2.5)) as reader:
        await until(reader, is_ok)
        starts = driver.starts()
        for gpu in scenario.gpus:
            gpu.does[TEMPERATURE] = "slow 400"
            gpu.temperature = 66
        scenario.write(driver.file)
        await until(reader, lambda sample: temperatures(sample) == [66] * 8)  # after more than the deadline
        assert driver.starts() == starts


async def test_the_loop_is_never_held_by_a_driver_that_hangs(driver: Driver) -> None:
    driver.start(fakenvml.hanging())
    longest = 0.0

    async def heartbeat() -> None:
        nonlocal longest
        while True:
            before = time.monotonic()
            await asyncio.sleep(0.005)
            longest = max(longest, time.monotonic() - before)

    async with NvmlReader(IMPATIENT) as reader:
        heart = asyncio.create_task(heartbeat())
        await until(reader, lambda sample: states(sample).count("ok") == 7)
        heart.cancel()
    assert longest < 20  # the driver hangs for ever


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
    driver.start(replace(fakenvml.datacentre(2), init="slow 2500"))
    async with NvmlReader(replace(IMPATIENT, init=1.5)) as reader:
        sample = await until(reader, lambda sample: sample.error is not None and sample.error.code == "timeout")
        assert sample.error is not None
        assert "while starting" in sample.error.message
        await until(reader, is_ok)


async def test_a_slow_driver_is_waited_for_as_long_as_it_makes_progress(driver: Driver) -> None:
    scenario = fakenvml.datacentre(4)
    for gpu in scenario.gpus:
        gpu.does[TEMPERATURE] = "slow 400"
    driver.start(scenario)
    async with NvmlReader(replace(FAST, soft=1.0, hard=1.5)) as reader:
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
    async with NvmlReader(replace(IMPATIENT, hard=60)) as reader:
        await until(reader, is_ok)
        (child,) = children()
        child.suspend()
        sample = await reader.read()
        assert sample.error is not None
        assert sample.error.code == "timeout"
        began = time.monotonic()
    assert time.monotonic() - began < 20  # it would sleep for ever
    assert gone(child)


async def test_the_end_does_not_wait_for_a_hung_driver(driver: Driver) -> None:
    driver.start(fakenvml.hanging())
    async with NvmlReader(replace(IMPATIENT, hard=60)) as reader:
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


ASIDE = (
    "import json, os\n"
    "print(json.dumps({'type': 'ready'}), flush=True)\n"
    "aside = json.loads(sys.stdin.readline())['aside']\n"
)


@pytest.mark.parametrize(
    "words",
    [
        "print('x' * 2**21)",
        "print('{]')",
        'print(\'{"type": "gpu", "gpu": {"index": -1}}\')',
        "sys.stdout.buffer.write(bytes(range(128, 256)) + bytes([10]))",
        f"{ASIDE}os.write(aside, b'{{]' + bytes([10]))",
        f"{ASIDE}os.write(aside, bytes(2**21))",
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
        "sys.stdin.readline()\n"
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
    async with NvmlReader(replace(IMPATIENT, quarantine=60)) as reader:
        sample = await until(reader, is_ok)
    assert temperatures(sample) == [40]


def stand_in(folder: Path, monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    """``program`` takes the place of the children to come."""
    script = folder / "child"
    script.write_text(f"#!{sys.executable}\nimport sys\n{program}\n")
    script.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(script))
