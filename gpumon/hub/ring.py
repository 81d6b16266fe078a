"""A bounded row of buckets: what one GPU showed, in means over equal spans of time."""

import math
from array import array
from collections.abc import Sequence
from typing import Final

from gpumon.catalog import METRICS

FIELDS: Final = tuple(metric.field for metric in METRICS if metric.in_history)
WIDTH: Final = len(FIELDS)
NOTHING: Final = array("f", [math.nan]) * WIDTH


class Ring:
    """The newest ``length`` buckets of ``step`` seconds each. Bucket ``b`` begins at ``b * step`` since the epoch.

    A bucket is a row of means, NaN where nothing is known, and the number of its samples. The ring grows with what
    there is to keep, until it is full: most hubs are younger than a day, and most GPUs too.
    """

    __slots__ = ("_first", "_rows", "_samples", "length", "newest", "step")

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

    def end_at(self, bucket: int) -> None:
        """Forget what lies after ``bucket``: the clock that dated it was ahead."""
        if self.newest is None or self.newest <= bucket:
            return
        if bucket < self._first:
            self.newest, self._rows, self._samples = None, array("f"), array("H")
            return
        for passed in range(max(bucket, self.newest - self.length) + 1, self.newest + 1):
            place = (passed - self._first) % self.length
            self._rows[place * WIDTH : (place + 1) * WIDTH] = NOTHING
            self._samples[place] = 0
        if self.newest - self._first < self.length:
            del self._rows[(bucket - self._first + 1) * WIDTH :]
            del self._samples[bucket - self._first + 1 :]
        self.newest = bucket

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


def _joined(old: float, new: float, share: float) -> float:
    """The mean of ``old`` and ``new``, which has this ``share`` of it; of the other one, where one is NaN."""
    if new != new:
        return old
    return new if old != old else old + (new - old) * share
