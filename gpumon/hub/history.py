"""The past, in bounded columns: what each GPU did over the last hour and the last day.

Each GPU has two rings of buckets, one of 10 s over an hour and one of 60 s over a day; a bucket holds the mean
of what was sampled in it, or a gap. The metrics are those of the catalogue that are marked for it. Nothing
here asks what time it is: samples say when they were taken, by the hub's clock, and those that come late
find their bucket as long as it still stands in a ring.

A GPU takes up to 54 kB, which it comes to need over a day, and there are at most :data:`MAX_SERIES` of them. When they
are all in use, the one not sampled for longest gives way, provided that it has been silent for an hour; else the
newcomer has no past, and :attr:`History.refused` counts it.
"""

import math
from array import array
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Sequence
from operator import attrgetter
from typing import Final

from gpumon.catalog import METRICS
from gpumon.model import MAX_GPUS, Gpu, Report

FIELDS: Final = tuple(metric.field for metric in METRICS if metric.in_history)
MAX_SERIES: Final = 8192
MOST_OF_ONE_NODE: Final = 2 * MAX_GPUS  # who names its GPUs anew all the time takes nobody else's room
FINE_SECONDS: Final = 10
COARSE_SECONDS: Final = 60
FINE_BUCKETS: Final = 3600 // FINE_SECONDS
COARSE_BUCKETS: Final = 86_400 // COARSE_SECONDS
MOST_AHEAD_SECONDS: Final = 60.0
WIDTH: Final = len(FIELDS)
NOTHING: Final = array("f", [math.nan]) * WIDTH
MOST_WAITING: Final = 1000 * WIDTH

Values = tuple[float | None, ...]
"""What one GPU showed at one moment, in the order of :data:`FIELDS`."""


class Ring:
    """The newest ``length`` buckets of ``step`` seconds each. Bucket ``b`` begins at ``b * step`` since the epoch.

    A bucket is a row of means, NaN where nothing is known, and the number of its samples. The ring grows with what
    there is to keep, until it is full: most hubs are younger than a day, and most GPUs too.
    """

    def __init__(self, step: int, length: int) -> None:
        self.step = step
        self.length = length
        self.newest: int | None = None
        self._first = 0  # the bucket of place 0, when it was made
        self._rows = array("f")
        self._samples = array("H")

    @property
    def oldest(self) -> int:
        """The first bucket that can be asked for."""
        return 0 if self.newest is None else self.newest - self.length + 1

    def add(self, bucket: int, values: Sequence[float], samples: int = 1) -> None:
        """Take ``values``, the mean of so many ``samples``; of what is older than the ring nothing is kept."""
        if self.newest is None:
            self._first, self.newest = bucket, bucket - 1
        if bucket > self.newest:
            self._advance(bucket)
        elif bucket < self.oldest:
            return
        elif bucket < self._first:
            self._begin_at(bucket)
        place = (bucket - self._first) % self.length
        start, end = place * WIDTH, (place + 1) * WIDTH
        before = self._samples[place]
        if before:
            share = samples / (before + samples)
            values = [_joined(old, new, share) for old, new in zip(self._rows[start:end], values, strict=True)]
        self._rows[start:end] = array("f", values)
        self._samples[place] = min(before + samples, 65_535)

    def mean(self, index: int, first: int, last: int) -> float | None:
        """The mean of what the buckets ``first`` to ``last`` hold of field number ``index``, or None."""
        if self.newest is None:
            return None
        total, count = 0.0, 0
        for bucket in range(max(first, self.oldest, self._first), min(last, self.newest) + 1):
            value = self._rows[(bucket - self._first) % self.length * WIDTH + index]
            if value == value:
                total += value
                count += 1
        return total / count if count else None

    def bucket(self, index: int, bucket: int) -> float | None:
        """What one bucket holds: the same as :meth:`mean` of it alone, and faster: pages ask for many thousands."""
        if self.newest is None or not max(self.oldest, self._first) <= bucket <= self.newest:
            return None
        value = self._rows[(bucket - self._first) % self.length * WIDTH + index]
        return value if value == value else None

    def _advance(self, bucket: int) -> None:
        """Begin ``bucket``, and those that were passed over."""
        assert self.newest is not None
        if bucket - self.newest >= self.length:  # nothing of what it holds can be asked for any longer
            self._first, self.newest = bucket, bucket - 1
            self._rows, self._samples = array("f"), array("H")
        for passed in range(self.newest + 1, bucket + 1):
            place = (passed - self._first) % self.length
            if place == len(self._samples):
                self._rows.extend(NOTHING)
                self._samples.append(0)
            else:
                self._rows[place * WIDTH : (place + 1) * WIDTH] = NOTHING
                self._samples[place] = 0
        self.newest = bucket

    def _begin_at(self, bucket: int) -> None:
        """Make room for what is older than all that was taken so far."""
        more = self._first - bucket
        self._rows = NOTHING * more + self._rows
        self._samples = array("H", [0]) * more + self._samples
        self._first = bucket


class Series:
    """One GPU's past. Samples of the bucket that is being filled wait, and go in together."""

    __slots__ = ("_filling", "_waiting", "coarse", "fine", "sampled_at")

    def __init__(self) -> None:
        self.sampled_at = 0.0
        self.fine = Ring(FINE_SECONDS, FINE_BUCKETS)
        self.coarse = Ring(COARSE_SECONDS, COARSE_BUCKETS)
        self._filling = 0
        self._waiting = array("f")

    def add(self, at: float, values: Values) -> None:
        """A sample that was taken ``at`` seconds since the epoch."""
        bucket = int(at // FINE_SECONDS)
        if bucket > self._filling:
            self.settle()
            self._filling = bucket
        known = values if None not in values else [math.nan if value is None else value for value in values]
        if bucket == self._filling and len(self._waiting) < MOST_WAITING:
            self._waiting.extend(known)  # type: ignore[arg-type]  # no None is left
        else:
            self._put(bucket, known, 1)  # type: ignore[arg-type]
        if at > self.sampled_at:
            self.sampled_at = at

    def settle(self) -> None:
        """Nothing more is waited for: what waits is part of the past."""
        if waiting := self._waiting:
            self._waiting = array("f")
            means = [_mean(waiting[index::WIDTH]) for index in range(WIDTH)]
            self._put(self._filling, means, len(waiting) // WIDTH)

    def _put(self, bucket: int, values: Sequence[float], samples: int) -> None:
        self.fine.add(bucket, values, samples)
        self.coarse.add(bucket * FINE_SECONDS // COARSE_SECONDS, values, samples)


class History:
    """The past of all GPUs: by node (whatever stands for it), then by what names the GPU there (:func:`key`)."""

    def __init__(self, max_series: int = MAX_SERIES) -> None:
        self.refused = 0
        """Samples of GPUs that there was no room for."""
        self._max_series = max_series
        self._nodes: dict[Hashable, dict[str, Series]] = {}
        self._count = 0
        self._busy_until = 0.0  # before then none can have been silent for an hour: not to look again for each newcomer

    def __len__(self) -> int:
        return self._count

    def take(self, node: Hashable, report: Report, at: float, now: float) -> None:
        """Take what ``report``, made ``at`` seconds since the epoch by our clock, says of ``node``.

        Nobody can have been sampled in the future: what says so counts as sampled ``now``.
        """
        at = min(at, now) if at < now + MOST_AHEAD_SECONDS else now
        gpus = self._nodes.get(node)
        if gpus is None:
            gpus = self._nodes[node] = {}
        for gpu in report.gpus:
            if gpu.status != "ok":
                continue
            name = key(gpu)
            series = gpus.get(name)
            if series is None:
                series = self._room(gpus, now)
                if series is None:
                    self.refused += 1
                    continue
                gpus[name] = series
            series.add(at, _values(gpu))

    def keep(self, nodes: Collection[Hashable]) -> None:
        """There are these nodes and no others: what is known of others is dropped."""
        for gone in [node for node in self._nodes if node not in nodes]:
            self._count -= len(self._nodes.pop(gone))

    def gpus(self, node: Hashable) -> list[str]:
        """The GPUs of ``node`` that have a past."""
        return list(self._nodes.get(node, ()))

    def ring(self, node: Hashable, gpu: str, step: int) -> Ring | None:
        """The ring of a GPU whose buckets are ``step`` seconds long."""
        series = self._nodes.get(node, {}).get(gpu)
        if series is None:
            return None
        series.settle()
        return series.fine if step == FINE_SECONDS else series.coarse

    def _room(self, gpus: dict[str, Series], now: float) -> Series | None:
        """A new series for the node of ``gpus``, in place of the one that was silent for longest if need be."""
        if len(gpus) >= MOST_OF_ONE_NODE:
            del gpus[min(gpus, key=lambda name: gpus[name].sampled_at)]
            self._count -= 1
        if self._count >= self._max_series and not self._drop_oldest(now):
            return None
        self._count += 1
        return Series()

    def _drop_oldest(self, now: float) -> bool:
        if now < self._busy_until:
            return False
        everyone = ((series.sampled_at, gpu, gpus) for gpus in self._nodes.values() for gpu, series in gpus.items())
        sampled_at, gpu, gpus = min(everyone, key=lambda one: one[0])
        self._busy_until = sampled_at + FINE_SECONDS * FINE_BUCKETS
        if now < self._busy_until:
            return False
        del gpus[gpu]
        self._count -= 1
        return True


def key(gpu: Gpu) -> str:
    """What names a GPU over time, as far as it tells."""
    return gpu.uuid or gpu.pci_bus_id or f"#{gpu.index}"


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


_values: Final[Callable[[Gpu], Values]] = attrgetter(*FIELDS)


def _joined(old: float, new: float, share: float) -> float:
    """The mean of ``old`` and ``new``, which has this ``share`` of it; of the other one, where one is NaN."""
    if new != new:
        return old
    return new if old != old else old + (new - old) * share


def _mean(values: Sequence[float]) -> float:
    """Of those that are known; NaN if none is."""
    total = sum(values)
    if total == total:
        return total / len(values)
    known = [value for value in values if value == value]
    return sum(known) / len(known) if known else math.nan
