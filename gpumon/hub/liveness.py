"""Who is alive, judged on a clock that leaves out the hub's own pauses (:mod:`gpumon.hub.clock`).

A node's wrong clock shows as an offset and breaks nothing. The rules (a report is the heartbeat):

- *offline*: no sign of life for ``offline_after`` (at least three polls, where only polls can tell); 3 s after
  its agent said goodbye; 3 s after its machine was asked and refused
- *online*: a report within ``stale_after`` (three intervals of the node, at least 5 s, unless configured)
- *stale*: neither: the link speaks or polls are answered, only the numbers are old
- *pending*: never seen since the hub started
"""

from collections import deque
from dataclasses import dataclass

from gpumon.config import HubSection
from gpumon.hub.member import FLAPS, Member
from gpumon.model import Fault, NodeStatus

LEAST_STALE_SECONDS = 5.0
INTERVALS_UNTIL_STALE = 3
DEFAULT_INTERVAL_SECONDS = 1.0
MOST_INTERVAL_SECONDS = 60.0
CERTAIN_SECONDS = 3.0
FLAP_WINDOW_SECONDS = 300.0
QUIET_SECONDS = 600.0
CLAIM_SECONDS = 300.0
"""A claim is forgotten this long after it was last made: agents that are refused come back every 30 to 60 s."""
REFUSED = "refused"
"""The fault of a poll where the machine is up and nobody listens."""
ANSWERED_BADLY = frozenset({"bad_answer", "bad_status", "answer_too_long"})
"""The faults of a poll that something answered, so that the node is there."""

NEVER = float("inf")


@dataclass(slots=True)
class Liveness:
    """Judges members by ``settings``."""

    settings: HubSection

    def status(self, member: Member, tick: float) -> tuple[NodeStatus, float]:
        """How a member is at ``tick``, and the tick at which that changes if nothing more is heard."""
        if member.contact_tick is None:
            return "pending", NEVER
        gone = self._gone_at(member)
        if tick > gone:
            return "offline", NEVER
        if member.report_tick is not None:
            old = member.report_tick + self.stale_after(member)
            if tick <= old:
                return "online", min(old, gone)
        return "stale", gone

    def _gone_at(self, member: Member) -> float:
        """The last tick at which a member that is not heard again counts as there."""
        contact = member.contact_tick or 0.0
        gone = contact + self.offline_after(member)
        if member.link == "goodbye" and contact <= member.link_tick:
            gone = min(gone, member.link_tick + CERTAIN_SECONDS)
        if member.link != "open" and contact <= member.poll_tick and is_refused(member):
            gone = min(gone, member.poll_tick + CERTAIN_SECONDS)
        return gone

    def stale_after(self, member: Member) -> float:
        """Seconds after which a node without a new report is stale."""
        if self.settings.stale_after_seconds is not None:
            return self.settings.stale_after_seconds
        report = member.report
        told = report.interval_seconds if report else None
        interval = min(told or DEFAULT_INTERVAL_SECONDS, MOST_INTERVAL_SECONDS)
        if member.source == "poll":
            interval = max(interval, self.settings.poll_interval_seconds)
        return max(LEAST_STALE_SECONDS, INTERVALS_UNTIL_STALE * interval)

    def offline_after(self, member: Member) -> float:
        """Seconds after which a node without a sign of life is offline. An agent that pushes gives one every 5 s."""
        polls = INTERVALS_UNTIL_STALE * self.settings.poll_interval_seconds if member.source == "poll" else 0.0
        return max(self.settings.offline_after_seconds, polls)

    def push_is_healthy(self, member: Member, tick: float) -> bool:
        """Whether the node pushes, so that polling it would only cost."""
        if member.link != "open" or member.source != "push" or member.report_tick is None:
            return False
        return tick - member.report_tick <= self.stale_after(member)

    def flapping(self, member: Member, tick: float) -> bool:
        """Whether the node comes and goes: six times from or to online, or six ends of its link, within 5 minutes;
        until 10 minutes have passed without any.
        """
        if member.flapping:
            newest = max((changes[-1] for changes in (member.changes, member.link_ends) if changes), default=0.0)
            return tick - newest < QUIET_SECONDS
        return _is_many(member.changes) or _is_many(member.link_ends)


def is_refused(member: Member) -> bool:
    """Whether the member's machine answered that nobody listens there."""
    return isinstance(member.poll, Fault) and member.poll.code == REFUSED


def is_unheard(member: Member) -> bool:
    """Whether the silence of a member has no better reason than that nothing comes through to the hub."""
    speaks = member.link == "open" and member.contact_tick != member.report_tick
    return not speaks and member.link != "goodbye" and not is_refused(member)


def _is_many(changes: deque[float]) -> bool:
    return len(changes) == FLAPS and changes[-1] - changes[0] <= FLAP_WINDOW_SECONDS
