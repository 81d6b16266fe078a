"""When the GPUs of one node reported errors to their driver: moments of the past, not values of it.

A report tells of each number when it was last seen, and goes on telling it; here each such moment stands once. The
newest :data:`MOST_XIDS` of a node are kept, so a GPU that reports all the time takes the room of its own node alone.
"""

from collections import deque
from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from gpumon.model import MAX_GPUS, Gravity, LongText, Text, Xid
from gpumon.timestamp import seconds

MOST_XIDS: Final = 64
MOST_OF_ONE_GPU: Final = 16
"""So many of its numbers are looked at in a report; a GPU that is not about to be replaced has one or two."""
MOST_TOLD: Final = MAX_GPUS * MOST_OF_ONE_GPU


class XidAt(Struct, frozen=True, kw_only=True):
    """An Xid of the GPU that goes by the name ``gpu``, ``at`` seconds since the epoch by the hub's clock."""

    gpu: Text
    code: int
    gravity: Gravity
    meaning: LongText
    at: float


class Xids:
    """The newest Xids of one node."""

    __slots__ = ("_found", "_told")

    def __init__(self) -> None:
        self._found: deque[XidAt] = deque(maxlen=MOST_XIDS)
        self._told: dict[tuple[str, int, str], None] = {}  # each as it was told, the newest last

    def take(self, gpu: str, told: Sequence[Xid], shift: float, now: float) -> None:
        """Take what a report tells of ``gpu``. ``shift`` seconds added to the node's time make the hub's."""
        for xid in reversed(told[:MOST_OF_ONE_GPU]):  # the newest is told first
            as_told = (gpu, xid.code, xid.last_at)
            if as_told in self._told:
                continue
            if len(self._told) >= MOST_TOLD:
                del self._told[next(iter(self._told))]
            self._told[as_told] = None
            self._found.append(
                XidAt(gpu=gpu, code=xid.code, gravity=xid.gravity, meaning=xid.meaning, at=_moment(xid, shift, now))
            )

    def between(self, start: float, end: float) -> list[XidAt]:
        """Those of that time, oldest first."""
        return sorted((one for one in self._found if start <= one.at <= end), key=lambda one: one.at)


def _moment(xid: Xid, shift: float, now: float) -> float:
    """When it was; ``now`` at the latest, and where it does not tell, and never before 1970, whatever it tells."""
    try:
        return round(max(0.0, min(seconds(xid.last_at) + shift, now)), 3)
    except (ValueError, OverflowError):
        return round(now, 3)
