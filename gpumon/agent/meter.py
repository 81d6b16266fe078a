"""What reading costs the process that reads: its calls of the driver, its processor time, its memory.

A driver that gets slow is a sign of a GPU that gets sick, so the slowest call of each pass is told by name.
"""

import os
import time
from pathlib import Path

from gpumon.model import Cost

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
STATM = Path("/proc/self/statm")
LOOK_AT_MEMORY_EVERY = 10  # passes


class Meter:
    """The measure of one pass at a time."""

    def __init__(self) -> None:
        self.slowest = ""
        self.seconds = 0.0
        self._began = time.perf_counter()
        self._resident: int | None = None
        self._passes = 0

    def begin(self) -> None:
        """A pass begins."""
        self.slowest, self.seconds = "", 0.0
        self._began = time.perf_counter()

    def took(self, call: str, seconds: float) -> None:
        """One call of the driver took so long."""
        if seconds > self.seconds:
            self.slowest, self.seconds = call, seconds

    def cost(self) -> Cost:
        """Of the pass that ends now."""
        if self._passes % LOOK_AT_MEMORY_EVERY == 0:
            self._resident = resident_bytes()
        self._passes += 1
        return Cost(
            cpu_seconds_total=time.process_time(),
            resident_bytes=self._resident,
            sample_seconds=time.perf_counter() - self._began,
            slowest_call=self.slowest or None,
            slowest_call_seconds=self.seconds if self.slowest else None,
        )


def resident_bytes(statm: Path = STATM) -> int | None:
    """The memory that this process has in use, as the kernel counts it."""
    try:
        return int(statm.read_bytes().split()[1]) * PAGE_BYTES
    except (OSError, ValueError, IndexError):
        return None
