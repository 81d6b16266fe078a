"""The past, in bounded columns: what each GPU did over the last hour and the last day.

Each GPU has two rings of buckets, one of 10 s over an hour and one of 60 s over a day; a bucket holds the mean
of what was sampled in it, or a gap. The metrics are those of the catalogue that are marked for it. Nothing
here asks what time it is: samples say when they were taken, by the hub's clock, and those that come late
find their bucket as long as it still stands in a ring. Beside the rings stand the moments of its Xids.

A GPU takes up to 61 kB, which it comes to need over a day, and there are at most :data:`MAX_SERIES` of them. When they
are all in use, the one not sampled for longest gives way, provided that it has been silent for an hour; else the
newcomer has no past, and :attr:`History.refused` counts it.
"""

import math
from array import array
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Sequence
from operator import attrgetter
from typing import Final

from gpumon.hub.ring import FIELDS, WIDTH, Ring
from gpumon.hub.xids import XidAt, Xids
from gpumon.model import MAX_GPUS, Gpu, Report
from gpumon.timestamp import seconds

MAX_SERIES: Final = 8192
MOST_OF_ONE_NODE: Final = 2 * MAX_GPUS  # who names its GPUs anew all the time takes nobody else's room
FINE_SECONDS: Final = 10
COARSE_SECONDS: Final = 60
FINE_BUCKETS: Final = 3600 // FINE_SECONDS
COARSE_BUCKETS: Final = 86_400 // COARSE_SECONDS
MOST_AHEAD_SECONDS: Final = 60.0
MOST_WAITING: Final = 100
"""Samples of a bucket that wait. An agent makes five a second at most."""


class Series:
    """One GPU's past."""

    __slots__ = ("coarse", "fine", "sampled_at")

    def __init__(self, made_at: float = 0.0) -> None:
        self.sampled_at = made_at
        self.fine = Ring(FINE_SECONDS, FINE_BUCKETS)
        self.coarse = Ring(COARSE_SECONDS, COARSE_BUCKETS)

    def put(self, at: float, bucket: int, values: Sequence[float], samples: int) -> None:
        """Take the mean of ``samples`` in a fine bucket, of which the newest was taken ``at`` that second."""
        self.fine.add(bucket, values, samples)
        self.coarse.add(bucket * FINE_SECONDS // COARSE_SECONDS, values, samples)
        self.sampled_at = max(self.sampled_at, at)

    def end_at(self, now: float) -> None:
        """Forget what was taken after ``now``."""
        self.fine.end_at(int(now // FINE_SECONDS))
        self.coarse.end_at(int(now // COARSE_SECONDS))
        self.sampled_at = min(self.sampled_at, now)


class _NodePast:
    """The GPUs of one node. Samples of the bucket that is being filled wait, of all GPUs together, and go in at once:
    so a report touches one place and not one for each GPU.
    """

    __slots__ = ("_at", "_filling", "_names", "_series", "_waiting", "series", "xids")

    def __init__(self) -> None:
        self.series: dict[str, Series] = {}
        self.xids = Xids()
        self._at = 0.0
        self._filling = 0
        self._names: list[str] = []
        self._series: list[Series | None] = []
        self._waiting = array("f")

    def take(self, at: float, now: float, names: list[str], values: list[float], room: "_Room") -> int:
        """Take a sample of the GPUs of these ``names``, a row of ``values`` each; how many there was no room for."""
        bucket = int(at // FINE_SECONDS)
        if self._filling * FINE_SECONDS > now + MOST_AHEAD_SECONDS:
            self._end_at(now)
        if bucket < self._filling:
            return self._take_late(at, bucket, names, values, room)
        if bucket > self._filling or names != self._names or None in self._series or self._is_full:
            self.settle()
            self._filling, self._names, self._series = bucket, names, []
            self._series = [self.series.get(name) or room(self, name) for name in names]
        self._waiting.extend(values)
        self._at = max(self._at, at)
        return self._series.count(None)

    def settle(self) -> None:
        """Nothing more is waited for: what waits is part of the past."""
        if not self._waiting:
            return
        waiting, self._waiting = self._waiting, array("f")
        stride = len(self._series) * WIDTH
        for start, series in zip(range(0, stride, WIDTH), self._series, strict=True):
            if series is not None:
                means = [_mean(waiting[place::stride]) for place in range(start, start + WIDTH)]
                series.put(self._at, self._filling, means, len(waiting) // stride)

    def look_anew(self) -> None:
        """Which series belongs to which name has changed, or may have."""
        self._names = []

    def _end_at(self, now: float) -> None:
        """Forget what was dated by a clock that was ahead, as the hub's is before it is set right."""
        self.settle()
        for series in self.series.values():
            series.end_at(now)
        self._filling, self._at = 0, min(self._at, now)
        self.look_anew()

    @property
    def _is_full(self) -> bool:
        return len(self._waiting) >= MOST_WAITING * WIDTH * len(self._series)

    def _take_late(self, at: float, bucket: int, names: list[str], values: list[float], room: "_Room") -> int:
        refused = 0
        for start, name in zip(range(0, len(values), WIDTH), names, strict=True):
            series = self.series.get(name) or room(self, name)
            if series is None:
                refused += 1
            else:
                series.put(at, bucket, values[start : start + WIDTH], 1)
        return refused


_Room = Callable[[_NodePast, str], Series | None]
"""A new series in a node, under that name; None where there is no room for one."""


class History:
    """The past of all GPUs: by node (whatever stands for it), then by what names the GPU there
    (:func:`gpumon.availability.key`).
    """

    def __init__(self, max_series: int = MAX_SERIES) -> None:
        self.refused = 0
        """Samples of GPUs that there was no room for."""
        self._max_series = max_series
        self._nodes: dict[Hashable, _NodePast] = {}
        self._count = 0
        self._busy_until = 0.0  # before then none can have been silent for an hour: not to look again for each newcomer

    def __len__(self) -> int:
        return self._count

    def take(self, node: Hashable, report: Report, at: float, now: float) -> None:
        """Take what ``report``, made ``at`` seconds since the epoch by our clock, says of ``node``.

        Nobody can have been sampled in the future: what says so counts as sampled ``now``.
        """
        at = min(at, now) if at < now + MOST_AHEAD_SECONDS else now
        past = self._nodes.get(node)
        if past is None:
            past = self._nodes[node] = _NodePast()
        names: list[str] = []
        values: list[float] = []
        for gpu in report.gpus:
            if gpu.xids:
                past.xids.take(gpu.key, gpu.xids, _shift(report, at), now)
            if gpu.status == "ok":
                names.append(gpu.key)
                values += [math.nan if value is None else value for value in _values(gpu)]
        self.refused += past.take(at, now, names, values, lambda past, name: self._room(past, name, now))

    def keep(self, nodes: Collection[Hashable]) -> None:
        """There are these nodes and no others: what is known of others is dropped."""
        for gone in [node for node in self._nodes if node not in nodes]:
            self._count -= len(self._nodes.pop(gone).series)

    def gpus(self, node: Hashable) -> list[str]:
        """The GPUs of ``node`` that have a past."""
        return list(self._nodes[node].series) if node in self._nodes else []

    def xids(self, node: Hashable, start: float, end: float) -> list[XidAt]:
        """The Xids of the GPUs of ``node`` in that time, oldest first."""
        return self._nodes[node].xids.between(start, end) if node in self._nodes else []

    def ring(self, node: Hashable, gpu: str, step: int) -> Ring | None:
        """The ring of a GPU whose buckets are ``step`` seconds long."""
        past = self._nodes.get(node)
        series = past.series.get(gpu) if past is not None else None
        if past is None or series is None:
            return None
        past.settle()
        return series.fine if step == FINE_SECONDS else series.coarse

    def _room(self, past: _NodePast, name: str, now: float) -> Series | None:
        """A new series in ``past``, in place of the one that was silent for longest if need be."""
        if len(past.series) >= MOST_OF_ONE_NODE:
            past.settle()
            past.look_anew()
            del past.series[min(past.series, key=lambda name: past.series[name].sampled_at)]
            self._count -= 1
        if self._count >= self._max_series and not self._drop_oldest(now):
            return None
        self._count += 1
        series = past.series[name] = Series(now)
        return series

    def _drop_oldest(self, now: float) -> bool:
        if now < self._busy_until:
            return False
        sampled_at, gpu, oldest = now, "", None
        for past in self._nodes.values():
            past.settle()
            for name, series in past.series.items():
                if series.sampled_at < sampled_at:
                    sampled_at, gpu, oldest = series.sampled_at, name, past
        self._busy_until = sampled_at + FINE_SECONDS * FINE_BUCKETS
        if oldest is None or now < self._busy_until:
            return False
        oldest.look_anew()
        del oldest.series[gpu]
        self._count -= 1
        return True


def _shift(report: Report, at: float) -> float:
    """What makes moments of the node's clock those of ours, for a report that was made ``at`` by ours."""
    try:
        return at - seconds(report.sampled_at or "")
    except (ValueError, OverflowError):
        return 0.0


def step_for(start: float, now: float) -> int:
    """The length of the buckets that answer for the time since ``start``: the short ones where they reach so far."""
    return FINE_SECONDS if start >= now - FINE_SECONDS * FINE_BUCKETS else COARSE_SECONDS


def grid(start: float, end: float, step: int, points: int) -> tuple[int, Sequence[int]]:
    """The time asked for in at most ``points`` equal spans, and one more where the first begins before it: how many
    buckets of ``step`` seconds each has, and the first of each.
    """
    first, last = int(start // step), max(int(start // step), math.ceil(end / step) - 1)
    width = max(1, math.ceil((last - first + 1) / points))
    first -= first % width  # so that the same moment falls into the same span in every answer
    return width, range(first, last + 1, width)


def column(ring: Ring | None, field: str, width: int, starts: Iterable[int]) -> Iterator[float | None]:
    """The means of ``field`` over the spans of :func:`grid`, None for gaps."""
    index = FIELDS.index(field)
    for start in starts:
        if ring is None:
            yield None
        else:
            value = ring.bucket(index, start) if width == 1 else ring.mean(index, start, start + width - 1)
            yield None if value is None else round(value, 3)  # no sensor tells more, and it is half as long


_values: Final[Callable[[Gpu], tuple[float | None, ...]]] = attrgetter(*FIELDS)


def _mean(values: Sequence[float]) -> float:
    """Of those that are known; NaN if none is."""
    total = sum(values)
    if total == total:
        return total / len(values)
    known = [value for value in values if value == value]
    return sum(known) / len(known) if known else math.nan
