"""The hub's clocks, and the time in which the hub itself did not run.

Deadlines are for the silence of others. Who was stopped, suspended or held up cannot tell whether the others
were silent, so that time does not count.
"""

import time
from collections.abc import Callable
from typing import Protocol

BEAT_SECONDS = 0.5
TOLERATED_SECONDS = 1.0


class Clock(Protocol):
    """One clock that measures, one that dates; and the pulse of who reads them."""

    def monotonic(self) -> float: ...
    def time(self) -> float: ...
    def beat(self) -> float: ...


def _since_boot() -> float:
    """CLOCK_BOOTTIME, which goes on in a suspended machine, while CLOCK_MONOTONIC does not (clock_gettime(2))."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class ForgivingClock:
    """A monotonic clock that stands still while nobody beats.

    :meth:`beat` is called at least every :data:`BEAT_SECONDS` by a task of the loop. The clock runs on for
    :data:`TOLERATED_SECONDS` after the next beat is due and then stands until it comes. So a pause counts as
    those 1.5 s at most, whoever reads the clock first after it.
    """

    def __init__(
        self,
        monotonic: Callable[[], float] = time.monotonic,
        since_boot: Callable[[], float] = _since_boot,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._monotonic = monotonic
        self._since_boot = since_boot
        self.time = wall
        self._left_out = 0.0
        self._runs_until = float("inf")
        self._suspended = since_boot() - monotonic()

    def monotonic(self) -> float:
        """Seconds in which the hub ran, from an arbitrary start."""
        return min(self._monotonic(), self._runs_until) - self._left_out

    def beat(self) -> float:
        """Say that the hub runs. Returns for how many seconds it did not since the last beat, suspension included."""
        now = self._monotonic()
        paused = max(now - self._runs_until, 0.0)
        self._left_out += paused
        self._runs_until = now + BEAT_SECONDS + TOLERATED_SECONDS
        before, self._suspended = self._suspended, self._since_boot() - now
        suspended = self._suspended - before
        return paused + (suspended if suspended > TOLERATED_SECONDS else 0.0)
