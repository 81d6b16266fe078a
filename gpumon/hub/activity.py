"""Since when each GPU of one node has been idle, as far as the hub knows.

Reports may come in any order: what was sampled during a cut comes after the present. So a sample counts by when it was
taken, not by when it came, and taking it twice changes nothing. A time without samples does not end idleness, for
nothing is known of it; nor does it begin one.
"""

from typing import Final

from gpumon.model import MAX_GPUS, Report
from gpumon.timestamp import rfc3339

IDLE_BELOW_PERCENT: Final = 2.0
SET_BACK_SECONDS: Final = 60.0
MOST_KNOWN: Final = 2 * MAX_GPUS


class _Known:
    """What the samples of one GPU have shown: moments in seconds since the epoch, by the hub's clock."""

    __slots__ = ("busy_at", "idle_at", "idle_since")

    def __init__(self) -> None:
        self.busy_at = float("-inf")
        self.idle_at = float("-inf")
        self.idle_since: float | None = None

    def idle(self, at: float) -> None:
        if at <= self.busy_at:
            return
        if self.idle_since is None or at < self.idle_since:
            self.idle_since = at
        if at > self.idle_at:
            self.idle_at = at

    def busy(self, at: float) -> None:
        if at <= self.busy_at:
            return
        self.busy_at = at
        if self.idle_since is not None and self.idle_since <= at:
            # What was idle after it may be known of its newest moment only; older ones come again, if they are late.
            self.idle_since = self.idle_at if self.idle_at > at else None


class Activity:
    """The GPUs of one node, by what names them over time (:attr:`gpumon.model.Gpu.key`)."""

    def __init__(self) -> None:
        self._known: dict[str, _Known] = {}
        self._newest = float("-inf")

    def take(self, report: Report, at: float, *, is_late: bool = False) -> None:
        """Take what ``report``, made ``at`` seconds since the epoch by our clock, shows.

        Where our clock was set back, what it dated before is worth nothing.
        """
        if not is_late:
            if at < self._newest - SET_BACK_SECONDS:
                self._known.clear()
            self._newest = at
        for gpu in report.gpus:
            percent = gpu.utilization_percent
            if percent is None or gpu.status != "ok":
                continue
            name = gpu.key
            known = self._known.get(name)
            if known is None:
                known = self._room(name)
            if percent < IDLE_BELOW_PERCENT:
                known.idle(at)
            else:
                known.busy(at)

    def idle_since(self, report: Report | None) -> dict[str, str]:
        """Of the GPUs that ``report``, the newest, shows idle: since when, by name."""
        return {name: rfc3339(since) for name, since in self.idle_moments(report).items()}

    def idle_moments(self, report: Report | None) -> dict[str, float]:
        """The same in seconds since the epoch."""
        found = {}
        for gpu in report.gpus if report is not None else ():
            known = self._known.get(gpu.key)
            if known is None or known.idle_since is None or gpu.status != "ok" or gpu.utilization_percent is None:
                continue
            found[gpu.key] = known.idle_since
        return found

    def _room(self, name: str) -> _Known:
        """A place for a GPU not seen before; where there is none, the one not sampled for longest goes."""
        if len(self._known) >= MOST_KNOWN:
            del self._known[min(self._known, key=lambda one: max(self._known[one].busy_at, self._known[one].idle_at))]
        known = self._known[name] = _Known()
        return known
