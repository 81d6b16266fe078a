"""Reports that no hub has acknowledged yet: bounded, in order, the newest always among them."""

import asyncio
import logging
from collections import deque
from typing import NamedTuple

log = logging.getLogger(__name__)

MAX_REPORTS = 1800
MAX_BYTES = 16 * 1024 * 1024


class Entry(NamedTuple):
    """A report that waits, encoded."""

    sequence: int
    report: bytes


class Outbox:
    """Holds what is not acknowledged: 30 minutes at one report a second, at most 16 MiB.

    When it is full the oldest are dropped and counted in :attr:`dropped`.
    """

    def __init__(self, max_reports: int = MAX_REPORTS, max_bytes: int = MAX_BYTES) -> None:
        self.dropped = 0
        self._max_reports = max_reports
        self._max_bytes = max_bytes
        self._entries: deque[Entry] = deque()
        self._bytes = 0
        self._filled = asyncio.Event()

    def __len__(self) -> int:
        return len(self._entries)

    def put(self, sequence: int, report: bytes) -> None:
        """Add the newest report."""
        self._entries.append(Entry(sequence, report))
        self._bytes += len(report)
        self._filled.set()
        while len(self._entries) > 1 and (len(self._entries) > self._max_reports or self._bytes > self._max_bytes):
            self._forget_oldest()
            self.dropped += 1
            if self.dropped.bit_count() == 1:  # 1, 2, 4, 8, ...
                log.warning("no hub takes the reports: %d of the oldest were dropped so far", self.dropped)

    def acknowledge(self, sequence: int) -> None:
        """Forget every report up to ``sequence``."""
        while self._entries and self._entries[0].sequence <= sequence:
            self._forget_oldest()

    async def after(self, sequence: int) -> tuple[Entry, bool]:
        """The first report after ``sequence``, as soon as there is one, and whether a newer one waits behind it."""
        while not self._entries or self._entries[-1].sequence <= sequence:
            self._filled.clear()
            await self._filled.wait()
        newest = self._entries[-1]
        # Sequences have no gaps between the ends, so the place follows from the number.
        place = max(sequence + 1 - self._entries[0].sequence, 0)
        entry = self._entries[place]
        return entry, entry.sequence < newest.sequence

    def _forget_oldest(self) -> None:
        self._bytes -= len(self._entries.popleft().report)
