"""What an agent says next on one connection: the order and the pace of :mod:`gpumon.wire`, without I/O or clock.

While reports wait that should have come earlier, the newest goes out at once, ``ahead``, and the others follow
in order, ``late`` and no faster than the hub allows. What has gone out is never said again on the connection,
except that a report told ahead comes again in its turn.
"""

from collections import deque
from math import inf

from gpumon import wire
from gpumon.agent.outbox import Outbox
from gpumon.errors import WireError
from gpumon.wire import Gap, Heartbeat, Welcome

UNACKNOWLEDGED_REPORTS = 256
UNACKNOWLEDGED_SECONDS = 30.0


class Delivery:
    """Chooses the frames of one connection, which began with ``welcome`` at ``now`` (monotonic seconds).

    With ``in_order`` nothing is told ahead while the backlog lasts, so that a hub's refusal names one report
    beyond doubt.
    """

    def __init__(self, outbox: Outbox, welcome: Welcome, now: float, *, in_order: bool = False) -> None:
        self.has_told_ahead = False
        self._outbox = outbox
        self._in_order = in_order
        self._sent = outbox.begin(welcome.last_sequence)
        self._ahead = 0
        self._told_gap: Gap | None = None
        self._late_seconds = 1 / welcome.late_reports_per_second if welcome.late_reports_per_second > 0 else inf
        self._late_at = now if self._late_seconds < inf else inf
        self._silent_until = now + wire.HEARTBEAT_SECONDS
        self._under_way: deque[int] = deque()
        self._full_since: float | None = None

    def next(self, now: float) -> bytes | float:
        """The frame to send at ``now``; or for how many seconds there is none, unless the outbox stirs.

        Raises:
            WireError: the hub has acknowledged nothing for 30 s of many reports that it was sent.
        """
        frame = self._news(now)
        if frame is None and now >= self._silent_until:
            frame = wire.encode(Heartbeat())
        if frame is None:
            return min(self._silent_until, self._due(now)) - now
        self._silent_until = now + wire.HEARTBEAT_SECONDS
        return frame

    def acknowledge(self, sequence: int) -> None:
        """The hub has every report up to ``sequence``."""
        while self._under_way and self._under_way[0] <= sequence:
            self._under_way.popleft()
            self._full_since = None
        self._outbox.acknowledge(sequence)

    def _news(self, now: float) -> bytes | None:
        entry, newest = self._outbox.first_after(self._sent), self._outbox.newest
        if entry is None or newest is None:
            return self._gap()
        has_backlog = entry.sequence < newest.sequence
        self._in_order = self._in_order and has_backlog
        if has_backlog and not self._in_order and newest.sequence > self._ahead:
            self._ahead = newest.sequence
            self.has_told_ahead = True
            return wire.report_frame(newest.report, ahead=True)
        if (gap := self._gap()) is not None:
            return gap
        is_late = has_backlog or entry.sequence <= self._ahead
        if self._is_full(now) or (is_late and now < self._late_at):
            return None
        if is_late:
            self._late_at = now + self._late_seconds
        self._sent = entry.sequence
        self._under_way.append(entry.sequence)
        self._outbox.sent(entry.sequence)
        return wire.report_frame(entry.report, late=is_late)

    def _due(self, now: float) -> float:
        """When a report that waits may go out, if nothing stirs before."""
        waits = self._outbox.first_after(self._sent) is not None
        return self._late_at if waits and self._late_at > now else inf

    def _gap(self) -> bytes | None:
        """What was dropped, if the hub has not heard of it as it is now."""
        if (gap := self._outbox.gap) is None or gap == self._told_gap:
            return None
        self._told_gap = gap
        return wire.encode(gap)

    def _is_full(self, now: float) -> bool:
        """Whether as much is under way as may be: a hub that acknowledges nothing gets nothing more."""
        if len(self._under_way) < UNACKNOWLEDGED_REPORTS:
            return False
        self._full_since = now if self._full_since is None else self._full_since
        if now - self._full_since >= UNACKNOWLEDGED_SECONDS:
            raise WireError(f"it acknowledges none of {len(self._under_way)} reports")
        return True
