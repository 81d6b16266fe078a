"""Letting go of the driver for a while, so that it can be unloaded."""

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Final

from gpumon.errors import UsageError

log = logging.getLogger(__name__)

LONGEST_SECONDS: Final = 600.0


class Pause:
    """Whether reading is paused, and the wait for its end. Nobody's pause is for ever."""

    def __init__(self) -> None:
        self._until: float | None = None
        self._over = asyncio.Event()

    def begin(self, seconds: float) -> None:
        if not self:
            log.info("reading the GPUs is paused")
        self._over.clear()
        self._until = asyncio.get_running_loop().time() + min(seconds, LONGEST_SECONDS)

    def end(self) -> None:
        self._until = None
        self._over.set()

    def __bool__(self) -> bool:
        return self._until is not None and asyncio.get_running_loop().time() < self._until

    async def wait(self) -> None:
        """Until it is over."""
        while self:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(self._until):
                    await self._over.wait()
        log.info("reading the GPUs is resumed")


SIGNAL: Final = signal.SIGUSR1
"""An agent that gets it pauses; a paused one resumes."""

PROC: Final = Path("/proc")


def running_agents(proc: Path = PROC) -> list[int]:
    """The agents on this machine, by process id: those that read real GPUs, and so answer the signal."""
    found = [int(entry.name) for entry in proc.iterdir() if entry.name.isdecimal()]
    return sorted(pid for pid in found if pid != os.getpid() and is_agent(pid, proc) and answers(pid, proc))


def is_agent(pid: int, proc: Path = PROC) -> bool:
    """Whether this is ``gpumon agent``, or the form of it that the older program had."""
    try:
        words = (proc / str(pid) / "cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return False
    names = [PurePosixPath(word).name for word in words[:4]]
    if "gpumon" not in names:
        return False
    rest = words[names.index("gpumon") + 1 :]
    return "agent" in rest or any(word.lstrip("-") == "mode=server" for word in rest)


def answers(pid: int, proc: Path = PROC) -> bool:
    """Whether the process has a handler for the signal, which would else end it."""
    try:
        status = (proc / str(pid) / "status").read_text(errors="replace")
        caught = next(int(line.split()[1], 16) for line in status.splitlines() if line.startswith("SigCgt:"))
    except (OSError, StopIteration, ValueError, IndexError):
        return False
    return bool(caught & 1 << (SIGNAL - 1))


def tell(pid: int | None) -> Iterator[int]:
    """Tell the agent ``pid``, or every agent of this machine, to pause or to resume; gives each that was told.

    Raises:
        UsageError: there is none, or it is not ours to tell.
    """
    if pid is not None and not (is_agent(pid) and answers(pid)):
        raise UsageError(f"--pid {pid}: no agent that reads this machine's GPUs")
    pids = running_agents() if pid is None else [pid]
    if not pids:
        raise UsageError("no agent that reads this machine's GPUs is running here")
    for one in pids:
        try:
            os.kill(one, SIGNAL)
        except PermissionError:
            raise UsageError(f"agent {one} is another user's: ask as root or as that user") from None
        except ProcessLookupError:
            raise UsageError(f"agent {one} has just ended") from None
        yield one
