"""What adds up over all children: the Xids that were seen, and what reading has cost."""

import logging
import time
from collections import Counter

from msgspec.structs import replace

from gpumon.agent.pipe import Done
from gpumon.agent.xid import XidLog
from gpumon.model import Cost, Gpu
from gpumon.timestamp import rfc3339

log = logging.getLogger(__name__)


class Tally:
    """Counts that outlive a child."""

    def __init__(self) -> None:
        self.cost: Cost | None = None
        self.ended: Counter[str] = Counter()
        """Children that are gone, by what brought their end (:data:`gpumon.agent.reader.Outcome`)."""
        self._spent = 0.0  # seconds of processor time, by children that are gone
        self._xids = XidLog()

    def count(self, done: Done) -> None:
        """A pass is over."""
        at = rfc3339(time.time())
        for event in done.happened:
            xid = self._xids.note(event.uuid, event.xid, at)
            log.warning("GPU %s: Xid %d (%s): %s", event.uuid, xid.code, xid.gravity, xid.meaning)
        if done.cost is not None:
            self.cost = replace(done.cost, cpu_seconds_total=self._spent + (done.cost.cpu_seconds_total or 0.0))

    def count_child(self) -> None:
        """A child is gone: what it has used stays counted."""
        if self.cost is not None:
            self._spent = self.cost.cpu_seconds_total or 0.0

    @property
    def resident_bytes(self) -> int | None:
        return self.cost.resident_bytes if self.cost else None

    def with_xids(self, gpu: Gpu, key: str) -> Gpu:
        """The GPU with all Xids that any child has seen."""
        xids = self._xids.of(key)
        if not xids:
            return gpu
        reasons = {field: reason for field, reason in gpu.unavailable.items() if field != "xids"}
        return replace(gpu, xids=xids, unavailable=reasons)
