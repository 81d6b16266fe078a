"""Reports that no hub has acknowledged yet: in order, bounded in time and bytes, the newest always among them.

The last 30 minutes are kept whole, one in five of the 90 minutes before, and at most 16 MiB of all. What had to
go is counted in one growing :class:`gpumon.wire.Gap`, until a hub has acknowledged a report behind it. Time is
that of the beat: each report stands for one interval, so that an agent that was halted loses nothing by it.
"""

import asyncio
import logging
import zlib
from bisect import bisect_right
from collections import deque
from typing import NamedTuple

from gpumon.wire import Gap

log = logging.getLogger(__name__)

FULL_SECONDS = 1800.0
THINNED_SECONDS = 7200.0
KEPT_ONE_IN = 5
MAX_BYTES = 16 * 1024 * 1024
PLAIN_REPORTS = 64  # twice as many as a hub leaves unacknowledged: an undisturbed link compresses nothing
PLAIN_BYTES = 4 * 1024 * 1024
ENTRY_BYTES = 200  # what Python needs around the bytes of one report


class Entry(NamedTuple):
    """A report that waits. ``beat_seconds`` is where it stands on the time of the beat."""

    sequence: int
    beat_seconds: float
    data: bytes
    is_packed: bool

    @property
    def report(self) -> bytes:
        """The report, encoded."""
        return zlib.decompress(self.data) if self.is_packed else self.data

    def packed(self) -> "Entry":
        """The same report in fewer bytes."""
        return self if self.is_packed else self._replace(data=zlib.compress(self.data, 1), is_packed=True)


class Outbox:
    """Holds what is not acknowledged.

    The hub's word decides what was lost: a report that was under way on a connection when it had to go counts
    only once the next welcome shows that it did not arrive.
    """

    def __init__(
        self, full_seconds: float = FULL_SECONDS, thinned_seconds: float = THINNED_SECONDS, max_bytes: int = MAX_BYTES
    ) -> None:
        self.gap: Gap | None = None
        self.dropped = 0  # of this boot, in all gaps
        self.bytes = 0
        self.stirred = asyncio.Event()  # set whenever there may be something new to say to a hub
        self._full_seconds = full_seconds
        self._thinned_seconds = thinned_seconds
        self._max_bytes = max_bytes
        self._thinned: deque[Entry] = deque()
        self._full: deque[Entry] = deque()  # its right end is plain, the rest packed
        self._plain_reports = 0
        self._plain_bytes = 0
        self._beat_seconds = 0.0
        self._newest = 0
        self._sent = 0
        self._doubtful: set[int] = set()  # gone while under way: no more than a connection leaves unacknowledged

    def __len__(self) -> int:
        return len(self._thinned) + len(self._full)

    @property
    def unsent(self) -> int:
        """How many were not sent on the present connection, or the last one."""
        return sum(len(queue) - bisect_right(queue, self._sent, key=_sequence) for queue in (self._thinned, self._full))

    @property
    def newest(self) -> Entry | None:
        """The newest report, unless it is acknowledged."""
        return self._full[-1] if self._full else None

    def first_after(self, sequence: int) -> Entry | None:
        """The first report after ``sequence`` that is still here."""
        for queue in (self._thinned, self._full):
            if queue and queue[-1].sequence > sequence:
                return queue[bisect_right(queue, sequence, key=_sequence)]
        return None

    def put(self, sequence: int, report: bytes, interval_seconds: float = 1.0) -> None:
        """Add the newest report, which stands for ``interval_seconds``. Sequences ascend."""
        self._newest = sequence
        self._beat_seconds += interval_seconds
        self._add(self._full, Entry(sequence, self._beat_seconds, report, is_packed=False))
        self._pack()
        while self._beat_seconds - self._full[0].beat_seconds >= self._full_seconds:
            entry = self._take(self._full)
            if entry.sequence % KEPT_ONE_IN:
                self._drop(entry)
            else:
                self._add(self._thinned, entry.packed())
        while self._thinned and self._beat_seconds - self._thinned[0].beat_seconds >= self._thinned_seconds:
            self._drop(self._take(self._thinned))
        while self.bytes > self._max_bytes and len(self) > 1:
            self._drop(self._take(self._thinned or self._full))
        self.stirred.set()

    def begin(self, last_sequence: int) -> int:
        """A connection begins: its hub has every report up to ``last_sequence``, and nothing else of what was
        under way. Gives the sequence that it goes on from: new reports go out also to a hub that claims to have
        more than there are.
        """
        last_sequence = min(last_sequence, self._newest)
        self.acknowledge(last_sequence)
        for sequence in sorted(self._doubtful):
            self._count(sequence)
        self._doubtful.clear()
        self._sent = last_sequence
        return last_sequence

    def sent(self, sequence: int) -> None:
        """Every report up to ``sequence`` is under way."""
        self._sent = sequence

    def acknowledge(self, sequence: int) -> None:
        """Forget every report up to ``sequence``, and the gap if it ends there."""
        for queue in (self._thinned, self._full):
            while queue and queue[0].sequence <= sequence:
                self._take(queue)
        self._doubtful = {doubtful for doubtful in self._doubtful if doubtful > sequence}
        if self.gap is not None and self.gap.last <= sequence:
            self.gap = None
        self.stirred.set()

    def lose_oldest(self) -> int | None:
        """The oldest report can never be delivered: count it as lost. Gives its sequence."""
        if not len(self):
            return None
        sequence = self._take(self._thinned or self._full).sequence
        self._count(sequence)
        return sequence

    def clear(self) -> None:
        """Forget everything: nobody is to be told any longer."""
        self._thinned.clear()
        self._full.clear()
        self._doubtful.clear()
        self.gap = None
        self.bytes = self._plain_reports = self._plain_bytes = 0

    def _add(self, queue: deque[Entry], entry: Entry) -> None:
        queue.append(entry)
        self.bytes += len(entry.data) + ENTRY_BYTES
        if not entry.is_packed:
            self._plain_reports += 1
            self._plain_bytes += len(entry.data)

    def _take(self, queue: deque[Entry]) -> Entry:
        entry = queue.popleft()
        self._leaves(entry)
        return entry

    def _leaves(self, entry: Entry) -> None:
        self.bytes -= len(entry.data) + ENTRY_BYTES
        if not entry.is_packed:
            self._plain_reports -= 1
            self._plain_bytes -= len(entry.data)

    def _pack(self) -> None:
        """Compress what waits long enough to be more than what a hub is about to acknowledge."""
        while self._plain_reports > PLAIN_REPORTS or (self._plain_bytes > PLAIN_BYTES and self._plain_reports > 1):
            place = len(self._full) - self._plain_reports
            entry = self._full[place]
            self._leaves(entry)
            self._full[place] = entry.packed()
            self.bytes += len(self._full[place].data) + ENTRY_BYTES

    def _drop(self, entry: Entry) -> None:
        if entry.sequence <= self._sent:
            self._doubtful.add(entry.sequence)
        else:
            self._count(entry.sequence)

    def _count(self, sequence: int) -> None:
        """Make the gap grow. It begins at the oldest report that could still be lost, so that its name, which is
        its beginning, stays.
        """
        oldest = self.first_after(0)
        gap = self.gap or Gap(
            first=min(sequence, *self._doubtful, oldest.sequence if oldest else sequence), last=0, count=0
        )
        self.gap = Gap(first=gap.first, last=max(gap.last, sequence), count=gap.count + 1)
        self.dropped += 1
        if self.dropped.bit_count() == 1:  # 1, 2, 4, 8, ...
            log.warning("no hub takes the reports: %d were dropped so far for want of room", self.dropped)


def _sequence(entry: Entry) -> int:
    return entry.sequence
