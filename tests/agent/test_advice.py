"""What a report advises before it is a fault (rows 55 and 64), and what differs under WSL (row 49)."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from gpumon.agent.advice import DAY_SECONDS, advice
from gpumon.agent.driver import explained, is_open, loaded_version
from gpumon.agent.host import HostReader
from gpumon.agent.machine import is_portable, platform
from gpumon.agent.reader import NvmlReader
from gpumon.agent.sample import Sample
from gpumon.agent.sampler import Sampler
from gpumon.agent.table import table
from gpumon.model import Gpu, Host, Process, Report
from tests import fakenvml
from tests.agent import drivers, talks
from tests.agent.drivers import FAST
from tests.agent.machines import Machine
from tests.agent.talks import Talk
from tests.fakenvml import Scenario
from tests.running import until_true

OPEN = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.148.08  Release Build  (root@x)\n"
CLOSED = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.54.03  Tue Jun 13 20:39:43 UTC 2023\n"
WSL = "5.15.153.1-microsoft-standard-WSL2\n"

B200 = Gpu(index=0, name="NVIDIA B200", persistence_mode=True)
LONG = Host(platform="linux", uptime_seconds=60.0 * DAY_SECONDS)
HANGS = Sample(driver_version="570.148.08", open_kernel_module=True, gpus=[B200])


def codes(sample: Sample, host: Host = LONG, *, portable: bool = False) -> list[str]:
    return [fault.code for fault in advice(sample, host, portable=portable)]


# ---- row 55: a driver that hangs after 66 days ----


def test_row_55_from_the_sixtieth_day_on_there_is_a_warning_that_changes_once_a_day() -> None:
    assert codes(HANGS, replace(LONG, uptime_seconds=60.0 * DAY_SECONDS - 1)) == []
    (first,) = advice(HANGS, LONG, portable=False)
    assert first.code == "long_uptime"
    assert "60 days" in first.message
    assert first.hint
    assert advice(HANGS, replace(LONG, uptime_seconds=60.9 * DAY_SECONDS), portable=False) == [first]
    assert codes(HANGS, replace(LONG, uptime_seconds=400.0 * DAY_SECONDS)) == ["long_uptime"]


@pytest.mark.parametrize("version", ["570.133", "570.133.20", "575.57.08", "580.95.05", "580.105.08"])
def test_row_55_of_drivers_that_hang(version: str) -> None:
    assert codes(replace(HANGS, driver_version=version)) == ["long_uptime"]


@pytest.mark.parametrize(
    "other",
    [
        replace(HANGS, driver_version="570.124.06"),
        replace(HANGS, driver_version="580.126.09"),
        replace(HANGS, driver_version="590.44.01"),
        replace(HANGS, driver_version="nonsense"),
        replace(HANGS, driver_version=None),
        replace(HANGS, open_kernel_module=False),
        replace(HANGS, open_kernel_module=None),
        replace(HANGS, gpus=[replace(B200, name="NVIDIA H200")]),
        replace(HANGS, gpus=[replace(B200, name=None)]),
    ],
)
def test_row_55_not_of_another_board_driver_or_kernel_module(other: Sample) -> None:
    assert codes(other) == []
    assert codes(HANGS, Host()) == []


def test_row_55_the_kernel_says_whether_its_module_is_the_open_one() -> None:
    assert [is_open(text) for text in (OPEN, CLOSED, "", "junk")] == [True, False, None, None]
    assert [loaded_version(text) for text in (OPEN, CLOSED, "", "junk")] == ["570.148.08", "535.54.03", None, None]


async def test_row_55_from_the_machine_to_the_report(driver: drivers.Driver, tmp_path: Path) -> None:
    machine = Machine(tmp_path / "machine")
    machine.write("proc/driver/nvidia/version", OPEN)
    machine.write("proc/uptime", f"{61 * DAY_SECONDS}.5 1.0\n")
    scenario = fakenvml.datacentre(1)
    scenario.gpus[0].name, scenario.gpus[0].persistence_mode = "NVIDIA B200", 0
    scenario.driver_version = "570.148.08"
    driver.start(scenario)
    reports: list[bytes] = []
    async with NvmlReader(FAST, start=machine.start()) as reader:
        host = HostReader(machine.root / "proc", tmp_path, machine.root)
        sampler = Sampler(reader, "n", 0.02, host)
        task = asyncio.create_task(sampler.run(lambda _, report: reports.append(report)))
        await until_true(lambda: sampler.newest is not None and sampler.newest.gpus)
        task.cancel()
    report = sampler.newest
    assert report is not None
    assert [fault.code for fault in report.advice] == ["long_uptime"]  # something draws on it, which holds it started
    assert (report.status, report.error) == ("ok", None)
    lines = table(report, 120, color=False, now=0.0)
    assert any("up for 61 days" in line for line in lines)


# ---- row 64: persistence mode ----

OFF = Gpu(index=0, name="NVIDIA H100 80GB HBM3", persistence_mode=False)


def test_row_64_a_mode_that_is_off_is_advice_on_the_gpus_that_have_it() -> None:
    (every,) = advice(Sample(gpus=[OFF, replace(OFF, index=1)]), Host(), portable=False)
    assert (every.code, "on every GPU" in every.message, bool(every.hint)) == ("persistence_off", True, True)
    on = replace(OFF, index=1, persistence_mode=True)
    (some,) = advice(Sample(gpus=[OFF, on, replace(OFF, index=2)]), Host(), portable=False)
    assert "on GPU 0, 2:" in some.message
    assert codes(Sample(gpus=[on])) == []


def test_row_64_not_where_it_is_unknown_of_no_use_or_meant_to_be_so() -> None:
    assert codes(Sample(gpus=[replace(OFF, persistence_mode=None)])) == []
    assert codes(Sample(gpus=[OFF]), replace(LONG, platform="wsl")) == []
    assert codes(Sample(gpus=[OFF]), portable=True) == []
    assert codes(Sample(gpus=[replace(OFF, name="NVIDIA GeForce RTX 4090 Laptop GPU")])) == []
    assert codes(Sample(gpus=[replace(OFF, processes=[Process(pid=1, type="graphics")])])) == []
    assert codes(Sample(gpus=[replace(OFF, processes=[Process(pid=1, type="compute")])])) == ["persistence_off"]


def test_row_64_a_maker_says_whether_it_is_a_laptop(tmp_path: Path) -> None:
    machine = Machine(tmp_path / "machine")
    assert not is_portable(machine.root)
    for chassis, portable in (("10", True), ("31", True), ("3", False), ("23", False), ("junk", False)):
        machine.write("sys/class/dmi/id/chassis_type", f"{chassis}\n")
        assert HostReader(machine=machine.root).portable is portable


def test_advice_stands_below_what_is_wrong_and_changes_no_status() -> None:
    (fault,) = advice(Sample(gpus=[OFF]), Host(), portable=False)
    lines = table(Report(node="n", gpus=[OFF], advice=[fault]), 200, color=True, now=0.0)
    assert fault.message in lines
    assert f"  {fault.hint}" in lines


# ---- row 49: WSL ----


@pytest.fixture
def child(tmp_path: Path) -> Iterator[talks.Driver]:
    driver = talks.Driver(tmp_path)
    yield driver
    for talk in driver.talks:
        talk.close()


def windows(folder: Path) -> Machine:
    machine = Machine(folder)
    machine.write("proc/sys/kernel/osrelease", WSL)
    machine.write("dev/dxg", "")
    return machine


def test_row_49_wsl_is_told_from_linux(tmp_path: Path) -> None:
    machine = windows(tmp_path / "wsl")
    assert HostReader(machine=machine.root).read().platform == "wsl"
    (machine.root / "dev/dxg").unlink()
    assert platform(machine.root) == "linux"  # Hyper-V's kernels have Microsoft's name, too
    assert HostReader(machine=tmp_path / "nowhere").read().platform == "linux"


def test_row_49_what_windows_does_not_tell_is_null_and_its_versions_differ_without_alarm(
    child: talks.Driver, tmp_path: Path
) -> None:
    scenario = fakenvml.not_utf8()
    board = scenario.gpus[0]
    board.utilization = board.memory_utilization = board.fan_speed = None
    scenario.driver_version, scenario.nvml_version = "572.83", "12.570.124.06"
    scenario.write(child.file)
    child.talks.append(Talk(child.file, child.log, start=windows(tmp_path / "wsl").start()))
    done, (gpu,) = child.talks[-1].one_pass()
    assert (done.error, done.missing, gpu.status) == (None, None, "ok")
    assert (gpu.utilization_percent, gpu.unavailable["utilization_percent"]) == (None, "unsupported")
    assert gpu.temperature_celsius == 38
    assert child.talks[-1].ready.driver_version == "572.83"


@pytest.mark.parametrize("scenario", [fakenvml.driver_mismatch(), fakenvml.no_driver(), Scenario(init=999)])
def test_row_49_nobody_is_told_to_load_a_kernel_module_there(
    child: talks.Driver, tmp_path: Path, scenario: Scenario
) -> None:
    scenario.write(child.file)
    child.talks.append(Talk(child.file, child.log, start=windows(tmp_path / "wsl").start()))
    fault = child.talks[-1].ready.error
    assert fault is not None
    assert "wsl --shutdown" in str(fault.hint)
    for text in (fault.message, str(fault.hint)):
        assert "kernel" not in text
        assert "modprobe" not in text


def test_row_49_the_words_for_linux_stay_those_for_linux() -> None:
    assert "modprobe" in str(explained(9, "start", "linux")[1].hint)
    assert explained(18, "start", "wsl")[0] == "driver_mismatch"
