"""The machine around the GPUs, from ``/proc``: what someone asks next when a GPU idles.

Read on the event loop, once a beat: the kernel answers these files from memory. A disk may not answer at all,
so how full the one under ``/`` is finds out a thread that nobody waits for, every :data:`DISK_SECONDS`.

Inside a container these are the machine's numbers, unless its runtime puts others in their place.
"""

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from gpumon.agent.machine import is_portable, platform
from gpumon.model import Host

PROC = Path("/proc")
ROOT = Path("/")
DISK_SECONDS = 10.0
DISK_PATIENCE_SECONDS = 60.0  # after which what was known is too old
KIBIBYTE = 1024
MOST = 2**53  # a report's bound
MEMORY = frozenset({"MemTotal", "MemAvailable", "SwapTotal", "SwapFree"})
IDLE = (3, 4)  # of the processor's times: idle, and waiting for a disk
COUNTED = 8  # the times of guests stand behind, and are in those of their hosts too

T = TypeVar("T")


class HostReader:
    """Reads what is told of a machine. Whatever cannot be read is null, and costs nothing else.

    ``portable`` is whether it is a laptop; this and the platform are looked at once.
    """

    def __init__(self, proc: Path = PROC, disk: Path = ROOT, machine: Path = ROOT) -> None:
        self.portable = is_portable(machine)
        self._platform = platform(machine)
        self._proc = proc
        self._disk = Disk(disk)
        self._times: tuple[int, int] | None = None

    def read(self) -> Host:
        """The present. How busy the processors were, since the last time that this was asked."""
        times, count = self._or_none(self._processors) or (None, None)
        loads = self._or_none(self._loads) or (None, None, None)
        memory = self._or_none(self._memory) or {}
        swap, swap_free = memory.get("SwapTotal"), memory.get("SwapFree")
        disk = self._disk.newest() or (None, None)
        before, self._times = self._times, times
        return Host(
            platform=self._platform,
            cpu_count=count,
            cpu_utilization_percent=busy_percent(before, times),
            load_average_1m=loads[0],
            load_average_5m=loads[1],
            load_average_15m=loads[2],
            memory_total_bytes=memory.get("MemTotal"),
            memory_available_bytes=memory.get("MemAvailable"),
            swap_total_bytes=swap,
            swap_used_bytes=None if swap is None or swap_free is None else max(swap - swap_free, 0),
            disk_total_bytes=disk[0],
            disk_free_bytes=disk[1],
            uptime_seconds=self._or_none(self._uptime),
        )

    def _or_none(self, read: Callable[[], T]) -> T | None:
        try:
            return read()
        except (OSError, ValueError, IndexError):
            return None

    def _text(self, name: str) -> str:
        return (self._proc / name).read_text(encoding="ascii")

    def _processors(self) -> tuple[tuple[int, int], int]:
        """Ticks that all of them spent since boot, and how many of these idle; how many they are."""
        every, *rest = self._text("stat").splitlines()
        name, *numbers = every.split()
        ticks = [int(number) for number in numbers[:COUNTED]]
        if name != "cpu" or len(ticks) < COUNTED:
            raise ValueError(every)
        count = sum(line[:3] == "cpu" for line in rest)
        return (sum(ticks), sum(ticks[place] for place in IDLE)), count

    def _loads(self) -> tuple[float, float, float]:
        one, five, fifteen = (_bounded(float(word)) for word in self._text("loadavg").split()[:3])
        return one, five, fifteen

    def _memory(self) -> dict[str, int]:
        """By the kernel's names, in bytes."""
        lines = [line.partition(":") for line in self._text("meminfo").splitlines()]
        told = {name: figure.removesuffix(" kB") for name, _, figure in lines if name in MEMORY}
        return {name: int(figure) * KIBIBYTE for name, figure in told.items() if 0 <= int(figure) <= MOST // KIBIBYTE}

    def _uptime(self) -> float:
        return _bounded(float(self._text("uptime").split()[0]))


def busy_percent(before: tuple[int, int] | None, now: tuple[int, int] | None) -> float | None:
    """The share of the ticks between two readings that were not idle; null without two that differ."""
    if before is None or now is None or now[0] <= before[0]:
        return None
    total, idle = now[0] - before[0], now[1] - before[1]
    return min(max(100.0 * (total - idle) / total, 0.0), 100.0)  # the kernel's own idle times can go back a little


def _bounded(number: float) -> float:
    if not 0 <= number <= MOST:
        raise ValueError(number)
    return number


class Disk:
    """How large a file system is, and how much of it a user may still fill. Asking never waits.

    ``measure`` tells both in bytes. While it hangs, no second one is started; what was known goes out of
    date, and then there is nothing to tell.
    """

    def __init__(self, path: Path, measure: Callable[[Path], tuple[int, int]] | None = None) -> None:
        self._path = path
        self._measure = measure or disk_bytes
        self._thread: threading.Thread | None = None
        self._due = 0.0
        self._found: tuple[float, tuple[int, int] | None] = (0.0, None)

    def newest(self) -> tuple[int, int] | None:
        """What the newest measurement gave, if that is not too long ago. Starts the next when it is due."""
        now = time.monotonic()
        if now >= self._due and (self._thread is None or not self._thread.is_alive()):
            self._due = now + DISK_SECONDS
            # A daemon: one that hangs must not keep the agent from ending.
            self._thread = threading.Thread(target=self._look, name="disk", daemon=True)
            self._thread.start()
        at, found = self._found
        return found if now - at <= DISK_PATIENCE_SECONDS else None

    def _look(self) -> None:
        try:
            found = self._measure(self._path)
        except OSError:
            self._found = (time.monotonic(), None)
        else:
            self._found = (time.monotonic(), found)


def disk_bytes(path: Path) -> tuple[int, int]:
    """Raises OSError."""
    told = os.statvfs(path)
    return told.f_blocks * told.f_frsize, told.f_bavail * told.f_frsize
