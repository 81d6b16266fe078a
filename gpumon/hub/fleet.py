"""The present: every node, what it said last, and whether it is alive.

Liveness is judged on the monotonic clock of the hub: a node's wrong clock shows as an offset and breaks
nothing. The rules (a report is the heartbeat):

- *offline*: no sign of life for ``offline_after`` (at least three polls, where only polls can tell)
- *online*: a report within ``stale_after`` (three intervals of the node, at least 5 s, unless configured)
- *stale*: neither: the link speaks or polls are answered, only the numbers are old
- *pending*: never seen since the hub started
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from gpumon.config import HubSection, NodeEntry
from gpumon.model import Fault, Node, NodeStatus, Report, Resolution, Source
from gpumon.timestamp import rfc3339, seconds
from gpumon.wire import encode

LEAST_STALE_SECONDS = 5.0
INTERVALS_UNTIL_STALE = 3
DEFAULT_INTERVAL_SECONDS = 1.0
MOST_INTERVAL_SECONDS = 60.0


class Clock(Protocol):
    """The two clocks: one that measures, one that dates."""

    def monotonic(self) -> float: ...
    def time(self) -> float: ...


@dataclass(slots=True, kw_only=True)
class Member:
    """One node of the fleet. Only :class:`Fleet` writes it. Times named ``_tick`` are monotonic."""

    name: str
    alias: str
    host: str | None
    port: int | None
    configured: bool
    status_since: str
    status: NodeStatus = "pending"
    address: str | None = None
    source: Source | None = None
    error: Fault | None = None
    clock_offset_seconds: float | None = None
    resolution: Resolution | None = None
    report: Report | None = None
    report_tick: float | None = None
    contact_tick: float | None = None
    last_seen_at: str | None = None
    link_open: bool = False
    pushed_boot_id: str | None = None
    pushed_sequence: int = 0
    encoded: bytes | None = None

    def node(self) -> Node:
        """What the contract tells of a member."""
        return Node(
            name=self.name,
            alias=self.alias,
            host=self.host,
            port=self.port,
            address=self.address,
            configured=self.configured,
            status=self.status,
            status_since=self.status_since,
            last_seen_at=self.last_seen_at,
            source=self.source,
            error=self.error,
            clock_offset_seconds=self.clock_offset_seconds,
            resolution=self.resolution,
            report=self.report,
        )


@dataclass(slots=True)
class Fleet:
    """All nodes, configured ones first in the order of the file, the others by name."""

    entries: Sequence[NodeEntry]
    settings: HubSection = field(default_factory=HubSection)
    clock: Clock = time
    on_change: Callable[[str], None] = lambda _: None
    version: int = 0
    """Counts the changes: equal versions mean equal contents."""
    _members: dict[str, Member] = field(default_factory=dict)

    def __post_init__(self) -> None:
        now = rfc3339(self.clock.time())
        for entry in self.entries:
            self._members[entry.name] = Member(
                name=entry.name,
                alias=entry.alias or entry.name,
                host=entry.host,
                port=entry.port,
                configured=True,
                status_since=now,
            )

    def __len__(self) -> int:
        return len(self._members)

    def __iter__(self) -> Iterator[Member]:
        return iter(self._members.values())

    def get(self, name: str) -> Member | None:
        return self._members.get(name)

    def admit(self, name: str, host: str | None, port: int | None) -> Member:
        """The member of this name; a node that does not stand in the configuration is made one."""
        if (member := self._members.get(name)) is not None:
            return member
        now = rfc3339(self.clock.time())
        member = Member(name=name, alias=name, host=host, port=port, configured=False, status_since=now)
        configured = {key: value for key, value in self._members.items() if value.configured}
        pushing = [value for value in self._members.values() if not value.configured]
        pushing = sorted([*pushing, member], key=lambda one: one.name)
        self._members = configured | {one.name: one for one in pushing}
        self._changed(member)
        return member

    def forget_one(self) -> str | None:
        """Make room: forget the node that is offline longest of those that nobody configured; its name."""
        silent = [one for one in self if not one.configured and not one.link_open and one.status == "offline"]
        oldest = min(silent, key=lambda one: one.contact_tick or 0.0, default=None)
        if oldest is None:
            return None
        del self._members[oldest.name]
        self.version += 1
        return oldest.name

    def link(self, member: Member, *, is_open: bool) -> None:
        """Note that an agent's connection opened or ended."""
        member.link_open = is_open

    def take_pushed(self, member: Member, report: Report, *, late: bool) -> None:
        """Take a pushed report: a newer one is the present, a late one only history, a repeated one nothing."""
        sequence = report.sequence or 0
        if report.boot_id != member.pushed_boot_id:
            member.pushed_boot_id, member.pushed_sequence = report.boot_id, 0
        repeated = sequence <= member.pushed_sequence
        member.pushed_sequence = max(sequence, member.pushed_sequence)
        if late or repeated:
            self.contact(member)
        else:
            self.record(member, report, "push")

    def record(self, member: Member, report: Report, source: Source) -> None:
        """Take the newest report of a node.

        A report that was taken before (a polled agent that makes no new ones) is a sign of life, no more.
        """
        if _is_repeated(report, member.report):
            self.contact(member)
            return
        now = self.clock.time()
        member.report = report
        member.report_tick = self.clock.monotonic()
        member.source = source
        member.error = None
        member.clock_offset_seconds = _offset(report.sampled_at, now)
        self.contact(member)

    def contact(self, member: Member) -> None:
        """Note a sign of life."""
        member.contact_tick = self.clock.monotonic()
        member.last_seen_at = rfc3339(self.clock.time())
        self._judge(member)
        self._changed(member)

    def located(self, member: Member, address: str | None) -> None:
        """Note at which IP address a node is."""
        if address is not None and address != member.address:
            member.address = address
            self._changed(member)

    def resolved(self, member: Member, resolution: Resolution | None) -> None:
        """Note how a node's host became addresses; None where it is an address, or has none."""
        if resolution != member.resolution:
            member.resolution = resolution
            self._changed(member)

    def fault(self, member: Member, fault: Fault) -> None:
        """Note what went wrong with a node; its numbers stay."""
        if fault != member.error:
            member.error = fault
            self._changed(member)

    def judge(self) -> None:
        """Judge every node by the clock."""
        for member in self:
            if self._judge(member):
                self._changed(member)

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

    def push_is_healthy(self, member: Member) -> bool:
        """Whether the node pushes, so that polling it would only cost."""
        if not member.link_open or member.source != "push" or member.report_tick is None:
            return False
        return self.clock.monotonic() - member.report_tick <= self.stale_after(member)

    def encoded(self, name: str) -> bytes:
        """The newest state of a node as JSON."""
        member = self._members[name]
        if member.encoded is None:
            member.encoded = encode(member.node())
        return member.encoded

    def encoded_nodes(self) -> Iterable[bytes]:
        """Every node as JSON, in order."""
        return [self.encoded(name) for name in self._members]

    def _judge(self, member: Member) -> bool:
        if member.contact_tick is None:
            return False
        tick = self.clock.monotonic()
        if tick - member.contact_tick > self.offline_after(member):
            status: NodeStatus = "offline"
        elif member.report_tick is not None and tick - member.report_tick <= self.stale_after(member):
            status = "online"
        else:
            status = "stale"
        if status == member.status:
            return False
        member.status = status
        member.status_since = rfc3339(self.clock.time())
        return True

    def _changed(self, member: Member) -> None:
        member.encoded = None
        self.version += 1
        self.on_change(member.name)


def _is_repeated(report: Report, before: Report | None) -> bool:
    """Whether ``report`` is no newer than ``before``, as far as both can be told apart."""
    if before is None or report.boot_id is None or report.boot_id != before.boot_id:
        return False
    return report.sequence is not None and before.sequence is not None and report.sequence <= before.sequence


def _offset(sampled_at: str | None, now: float) -> float | None:
    """How far a node's clock is ahead of ours, as far as its reports tell."""
    try:
        return round(seconds(sampled_at) - now, 3) if sampled_at else None
    except (ValueError, OverflowError):
        return None
