"""``gpumon probe``: one sample of this machine's GPUs, or one after the other, for a person or a script.

Nothing here knows a terminal: where the text goes, and how wide it may be, is the caller's to say.
"""

import asyncio
import os
import socket
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Final

import msgspec

from gpumon import __version__
from gpumon.agent.advice import advice
from gpumon.agent.host import HostReader
from gpumon.agent.reader import NvmlReader
from gpumon.agent.sample import Reader, Sample
from gpumon.agent.scenario import Scenario
from gpumon.agent.simulate import SimulatedReader
from gpumon.agent.table import table
from gpumon.agent.trouble import Deadlines
from gpumon.model import Report
from gpumon.terminal import cut
from gpumon.timestamp import rfc3339
from gpumon.wire import encode

DEADLINES: Final = Deadlines(hard=5.0, first_retry=0.2)
"""A person waits: a GPU that hangs is left out sooner than by an agent."""

PATIENCE_SECONDS: Final = {"starting": 20.0, "timeout": 20.0, "crash": 5.0, "protocol": 5.0}
"""For how long a first sample that tells only this is not good enough: it may not name every GPU yet."""

CLEAR: Final = "\x1b[2J"
HOME: Final = "\x1b[H"
CLEAR_LINE: Final = "\x1b[K"
CLEAR_BELOW: Final = "\x1b[J"


@dataclass(frozen=True)
class Screen:
    """Where the text goes. ``redraws``: a terminal, on which a new picture takes the place of the old one."""

    write: Callable[[str], None]
    size: Callable[[], os.terminal_size]
    color: bool
    redraws: bool


async def run(screen: Screen, scenario: Scenario | None, interval: float | None, *, as_json: bool) -> int:
    """Show one sample, or one each ``interval`` seconds until cancelled; the exit status."""
    async with AsyncExitStack() as stack:
        reader: Reader
        if scenario is None:
            reader = await stack.enter_async_context(NvmlReader(DEADLINES))
        else:
            reader = SimulatedReader(scenario)
        machine = None if reader.simulated else HostReader()
        try:
            if interval is not None:
                await _watch(reader, machine, screen, interval, as_json=as_json)
            report = _report(await settled(reader), machine)
            screen.write(_pretty(report) if as_json else _text(report, screen))
        except BrokenPipeError:  # as with "| head": whoever read has had enough
            return 0
    return 0 if any(gpu.status == "ok" for gpu in report.gpus) else 1


async def settled(reader: Reader) -> Sample:
    """A sample that tells of every GPU: a driver that is slow, hangs or kills its caller is waited for.

    It is in the nature of these that a first answer leaves out what has not been read yet.
    """
    loop = asyncio.get_running_loop()
    began = loop.time()
    while True:
        sample = await reader.read()
        patience = PATIENCE_SECONDS.get(sample.error.code, 0.0) if sample.error else 0.0
        if loop.time() - began >= patience:
            return sample
        await asyncio.sleep(0.05)


async def _watch(reader: Reader, machine: HostReader | None, screen: Screen, interval: float, *, as_json: bool) -> None:
    """Sample after sample, until cancelled."""
    loop = asyncio.get_running_loop()
    beat = loop.time()
    drawn = False
    while True:
        report = _report(await reader.read(), machine)
        if as_json:
            screen.write(encode(report).decode() + "\n")
        elif screen.redraws:
            screen.write(("" if drawn else CLEAR) + _picture(report, screen))
        else:
            screen.write(("\n" if drawn else "") + _text(report, screen))
        drawn = True
        beat = max(beat + interval, loop.time())
        await asyncio.sleep(beat - loop.time())


def _report(sample: Sample, machine: HostReader | None) -> Report:
    """The sample as what an agent here would report of it. Around simulated GPUs there is no machine."""
    hostname = socket.gethostname()
    host = machine.read() if machine else None
    return Report(
        node=hostname or "unnamed",
        hostname=hostname,
        agent_version=__version__,
        sampled_at=rfc3339(time.time()),
        simulated=machine is None,
        advice=advice(sample, host, portable=machine.portable) if machine and host else [],
        host=host,
        agent=sample.cost,
        **{field: getattr(sample, field) for field in sample.__struct_fields__ if field in Report.__struct_fields__},
    )


def _pretty(report: Report) -> str:
    return msgspec.json.format(encode(report), indent=2).decode() + "\n"


def _text(report: Report, screen: Screen) -> str:
    return "\n".join(table(report, screen.size().columns, color=screen.color, now=time.time())) + "\n"


def _picture(report: Report, screen: Screen) -> str:
    """The table over the one before: as many lines as the terminal has."""
    columns, lines = screen.size()
    rows = table(report, columns, color=screen.color, now=time.time())
    if len(rows) >= lines:
        rows = [*rows[: lines - 2], cut(f"… {len(rows) - lines + 2} more lines: make the window taller", columns)]
    return HOME + "".join(f"{row}{CLEAR_LINE}\n" for row in rows) + CLEAR_BELOW
