"""A reader, a driver that obeys the test, and what to ask of the samples."""

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from gpumon.agent.pipe import EVERY_PASS
from gpumon.agent.sample import Reader, Sample
from gpumon.agent.trouble import Deadlines
from tests import fakenvml
from tests.fakenvml import Scenario

ROOT = Path(__file__).parents[2]
TEMPERATURE = "nvmlDeviceGetTemperature"
FAST = Deadlines(
    soft=10.0,
    hard=20.0,
    close=10.0,
    terminate=10.0,
    kill=5.0,
    first_retry=0.05,
    last_retry=0.2,
    driver_retry=0.1,
    quarantine=0.1,
    beats=EVERY_PASS,
)
"""Tries again at once. Its deadlines are for a machine so busy that nothing runs for seconds."""

IMPATIENT = replace(FAST, soft=0.5, hard=1.5, close=0.3, terminate=0.5)
"""For drivers that hang: what is waited for in vain. A machine that is busy may well seem to hang as long as that, so
tests wait for what they claim, and never take the next sample for it."""


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
