"""One node as the hub knows it: who it is, what it said last, and how each way to it fares."""

from collections import deque
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from gpumon.config import Privacy
from gpumon.hub.activity import Activity
from gpumon.hub.card import Card
from gpumon.hub.gaps import Gaps
from gpumon.hub.overview import Glance, glance_of
from gpumon.hub.privacy import veiled
from gpumon.model import Evidence, Fault, Kind, Node, NodeStatus, Report, Resolution, Source
from gpumon.timestamp import rfc3339, seconds

LinkState = Literal["never", "open", "goodbye", "lost", "silent", "refused"]
"""An agent's connection: there was none yet; it is open; its agent said goodbye; it broke; nothing was heard
on it for so long that the hub ended it; the hub refused it."""

PollOutcome = Fault | Literal["answered"]

FLAPS = 6
"""This many changes within five minutes make a node one that flaps."""
MOST_POLLED = 4096
"""Two hours of polls, for which an agent keeps what it could not deliver."""
CLOCK_SECONDS = 60.0
"""A node's clock that differs by more from the hub's is wrong ..."""
CLOCK_CERTAIN_SECONDS = 3.0
"""... if it does so for so long: reports that waited while the hub was stopped only look old."""


class Moment(NamedTuple):
    """Now, by both clocks of the hub: the one that measures, and the one that dates."""

    tick: float
    wall: float

    @property
    def at(self) -> str:
        return rfc3339(self.wall)


def _changes() -> deque[float]:
    return deque(maxlen=FLAPS)


@dataclass(slots=True, kw_only=True, eq=False)
class Member:
    """One node of the fleet. Only :class:`gpumon.hub.fleet.Fleet` changes it, by what is told of it here.

    Times named ``_tick`` are of the clock that measures, those named ``_at`` are moments as text: since when
    something is as it is.
    """

    name: str
    alias: str
    host: str | None
    port: int | None
    configured: bool
    kind: Kind = "gpumon"
    tags: list[str] = field(default_factory=list)
    """Those of the configuration."""
    known_since: str
    status_since: str
    status: NodeStatus = "pending"
    due_tick: float = 0.0
    """Until then the status stays as it is if nothing is heard."""
    address: str | None = None
    source: Source | None = None
    error: Fault | None = None
    clock_offset_seconds: float | None = None
    agent_id: str | None = None
    resolution: Resolution | None = None
    flapping: bool = False
    encoded: bytes | None = None
    glance: Glance | None = None
    card: Card | None = None
    """The last card that was made of it."""
    veiled: bytes | None = None
    veiled_glance: Glance | None = None
    veiled_card: Card | None = None
    """The same as strangers see it, where they do not see all."""

    report: Report | None = None
    report_tick: float | None = None
    contact_tick: float | None = None
    seen_wall: float | None = None
    pushed_boot_id: str | None = None
    pushed_sequence: int = 0
    polled_boot_id: str | None = None
    polled_sequences: set[int] = field(default_factory=set)
    """Of that run: which were polled while no link of it was open, and may still come by one."""
    activity: Activity = field(default_factory=Activity)
    reports_late: int = 0
    gaps: Gaps = field(default_factory=Gaps)

    link: LinkState = "never"
    link_words: str = ""
    link_at: str | None = None
    link_tick: float = 0.0
    poll: PollOutcome | None = None
    """How the last poll went; None while nobody asks."""
    poll_at: str | None = None
    """Since when polls go like that ..."""
    poll_tick: float = 0.0
    """... and since the first of them after its last sign of life."""
    claim: Fault | None = None
    claim_at: str | None = None
    claim_tick: float = 0.0
    driver_at: str | None = None
    clock_is_wrong: bool = False
    clock_at: str | None = None
    clock_tick: float | None = None
    """Since when the clock has differed by much, wrong or not."""

    changes: deque[float] = field(default_factory=_changes)
    link_ends: deque[float] = field(default_factory=_changes)
    verdict: Fault | None = None
    evidence: list[Evidence] = field(default_factory=list)

    @property
    def last_seen_at(self) -> str | None:
        """When it gave its last sign of life."""
        return None if self.seen_wall is None else rfc3339(self.seen_wall)

    @property
    def all_tags(self) -> list[str]:
        """Those of the configuration, then those of its agent that are others."""
        told = self.report.tags if self.report is not None else ()
        return list(dict.fromkeys((*self.tags, *told)))

    def heard(self, now: Moment) -> None:
        """It gave a sign of life."""
        self.contact_tick, self.seen_wall = now

    def greeted(self, boot_id: str, agent_id: str | None) -> None:
        """Its agent says which run of which agent it is."""
        self.agent_id = agent_id
        if boot_id != self.pushed_boot_id:
            self.pushed_boot_id, self.pushed_sequence = boot_id, 0
            self.reports_late, self.gaps = 0, Gaps()

    def takes_polled(self, report: Report) -> bool:
        """Whether a new report that was polled counts now: not if its agent's link is open, for then it comes that way
        as well; and only once if a link comes later.
        """
        if report.boot_id is None or report.sequence is None:
            return True
        if report.boot_id == self.pushed_boot_id and (self.link == "open" or report.sequence <= self.pushed_sequence):
            return False
        if report.boot_id != self.polled_boot_id:
            self.polled_boot_id, self.polled_sequences = report.boot_id, set()
        if len(self.polled_sequences) >= MOST_POLLED:
            self.polled_sequences.discard(min(self.polled_sequences))
        self.polled_sequences.add(report.sequence)
        return True

    def link_is(self, state: LinkState, words: str, now: Moment) -> None:
        """Its agent's connection opened or ended; in ``words`` where the hub refused it."""
        if self.link == "open" and state != "open":
            self.link_ends.append(now.tick)
        if (state, words) != (self.link, self.link_words):
            self.link, self.link_words = state, words
            self.link_at, self.link_tick = now.at, now.tick

    def poll_went(self, outcome: PollOutcome, now: Moment) -> None:
        """It was asked."""
        is_other = self.poll is None or _code(outcome) != _code(self.poll)
        if is_other:
            self.poll_at = now.at
        if is_other or (self.contact_tick or 0.0) > self.poll_tick:
            self.poll_tick = now.tick
        self.poll = outcome

    def claimed(self, fault: Fault, now: Moment) -> None:
        """Another claims its name, or the identity of its agent."""
        if self.claim is None or self.claim.code != fault.code:
            self.claim_at = now.at
        self.claim, self.claim_tick = fault, now.tick

    def take_report(self, report: Report, source: Source, now: Moment) -> None:
        """It made a new report."""
        self.clock_offset_seconds = offset = _offset(report.sampled_at, now.wall)
        if abs(offset or 0.0) <= CLOCK_SECONDS:
            self.clock_tick, self.clock_is_wrong = None, False
        elif self.clock_tick is None:
            self.clock_tick, self.clock_at = now.tick, now.at
        else:
            self.clock_is_wrong = now.tick - self.clock_tick >= CLOCK_CERTAIN_SECONDS
        if report.status != "ok" and (self.report is None or _trouble(report) != _trouble(self.report)):
            self.driver_at = now.at
        self.report, self.report_tick, self.source, self.error = report, now.tick, source, None
        self.activity.take(report, now.wall)

    def sampled_wall(self, report: Report, now: float) -> float:
        """When a report of it was made, by our clock whatever its own shows; ``now`` where it does not tell, and never
        before 1970, whatever it tells.
        """
        try:
            return min(now, max(0.0, seconds(report.sampled_at or "") - (self.clock_offset_seconds or 0.0)))
        except (ValueError, OverflowError):
            return now

    def node(self) -> Node:
        """What the contract tells of a member."""
        return Node(
            name=self.name,
            alias=self.alias,
            tags=self.all_tags,
            host=self.host,
            port=self.port,
            address=self.address,
            configured=self.configured,
            kind=self.kind,
            status=self.status,
            status_since=self.status_since,
            last_seen_at=self.last_seen_at,
            source=self.source,
            error=self.error,
            clock_offset_seconds=self.clock_offset_seconds,
            agent_id=self.agent_id,
            flapping=self.flapping,
            verdict=self.verdict,
            evidence=self.evidence,
            resolution=self.resolution,
            reports_late=self.reports_late,
            reports_lost=self.gaps.total,
            idle_since=self.activity.idle_since(self.report),
            report=self.report,
        )

    def at_a_glance(self) -> Glance:
        """The same in short; made once for each change."""
        if self.glance is None:
            self.glance = glance_of(self.node(), self.seen_wall, self.card)
            self.card = self.glance.card
        return self.glance

    def veiled_at_a_glance(self, privacy: Privacy) -> Glance:
        """In short, as strangers see it; made once for each change."""
        if self.veiled_glance is None:
            self.veiled_glance = glance_of(veiled(self.node(), privacy), self.seen_wall, self.veiled_card)
            self.veiled_card = self.veiled_glance.card
        return self.veiled_glance


def _code(outcome: PollOutcome) -> str:
    return outcome if isinstance(outcome, str) else outcome.code


def _trouble(report: Report) -> tuple[str, str | None]:
    return report.status, report.error.code if report.error is not None else None


def _offset(sampled_at: str | None, now: float) -> float | None:
    """How far a node's clock is ahead of ours, as far as its reports tell."""
    try:
        return round(seconds(sampled_at) - now, 3) if sampled_at else None
    except (ValueError, OverflowError):
        return None
