"""The present: every node, and what it said last.

What is heard of a node is noted here and judged at once (:mod:`gpumon.hub.liveness`); the rest is judged as time
passes. The sentence on what is wrong with it (:mod:`gpumon.hub.verdict`) is made when somebody is told.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from gpumon.config import HubSection, NodeEntry, Privacy
from gpumon.hub.clock import Clock
from gpumon.hub.liveness import ANSWERED_BADLY, CLAIM_SECONDS, NEVER, Liveness, is_unheard
from gpumon.hub.member import LinkState, Member, Moment
from gpumon.hub.outage import Outage
from gpumon.hub.overview import Glance
from gpumon.hub.privacy import EVERYTHING, veiled
from gpumon.hub.succession import predecessors, pushes
from gpumon.hub.verdict import evidence_of, is_well, verdict_of
from gpumon.model import Fault, Node, Report, Resolution, Source
from gpumon.wire import Gap, encode

_FORGETTABLE = ("offline", "pending")


@dataclass(slots=True)
class Fleet:
    """All nodes, configured ones first in the order of the file, the others by name.

    ``hub_url`` is where agents find this hub, for advice. ``privacy`` is what strangers see of processes.
    """

    settings: HubSection
    clock: Clock
    hub_url: str
    on_change: Callable[[str], None] = lambda _: None
    privacy: Privacy = EVERYTHING
    version: int = 0
    """Counts the changes: equal versions mean equal contents."""
    outage: Outage = field(default_factory=Outage)
    liveness: Liveness = field(init=False)
    _members: dict[str, Member] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.liveness = Liveness(self.settings)

    def __len__(self) -> int:
        return len(self._members)

    def __iter__(self) -> Iterator[Member]:
        return iter(self._members.values())

    def get(self, name: str) -> Member | None:
        return self._members.get(name)

    # ---- who belongs to it ----

    def reconfigure(self, entries: Sequence[NodeEntry], settings: HubSection) -> None:
        """Be the fleet of this configuration. Each node that stays keeps its state, also under another name; one that
        goes but pushes stays, as one that nobody configured.
        """
        self.settings = self.liveness.settings = settings
        continued = predecessors(self, entries)
        kept = {id(member) for member in continued.values()}
        names = {entry.name for entry in entries}
        left = [one for one in self if id(one) not in kept and one.name not in names]
        others = [one for one in left if not one.configured or pushes(one)]
        before = set(self._members)
        for member in others:
            if member.configured:
                member.configured, member.alias, member.tags, member.poll = False, member.name, [], None
                member.kind = "gpumon"
        self._members = {entry.name: self._configured(continued.get(entry.name), entry) for entry in entries}
        self._add_unconfigured(others)
        for name in before - self._members.keys():
            self.outage.is_heard(name)
        self.version += 1
        for member in self:
            member.due_tick = 0.0
            self._changed(member)

    def _configured(self, member: Member | None, entry: NodeEntry) -> Member:
        """``member`` as ``entry`` has it, or a new one."""
        if member is None:
            member = self._new(entry.name, entry.host, entry.port)
        elif (member.host, member.port) != (entry.host, entry.port):
            member.poll = member.resolution = None
            if member.source != "push":
                member.error = member.address = None
        member.name, member.alias, member.configured = entry.name, entry.alias or entry.name, True
        member.host, member.port, member.tags, member.kind = entry.host, entry.port, entry.tags, entry.kind
        return member

    def admit(self, name: str, host: str | None, port: int | None) -> Member:
        """The member of this name; a node that does not stand in the configuration is made one, where it says it is."""
        if (member := self._members.get(name)) is None:
            member = self._new(name, host, port)
            self._add_unconfigured([member])
            self._changed(member)
        elif not member.configured and host is not None and (member.host, member.port) != (host, port):
            member.host, member.port = host, port
            self._changed(member)
        return member

    def _new(self, name: str, host: str | None, port: int | None) -> Member:
        now = self._moment().at
        return Member(name=name, alias=name, host=host, port=port, configured=False, known_since=now, status_since=now)

    def _add_unconfigured(self, more: Sequence[Member]) -> None:
        configured = {key: value for key, value in self._members.items() if value.configured}
        pushing = [value for value in self._members.values() if not value.configured]
        pushing = sorted([*pushing, *more], key=lambda one: one.name)
        self._members = configured | {one.name: one for one in pushing}

    def forget_one(self) -> str | None:
        """Make room: forget the node that is silent longest of those that nobody configured; its name."""
        silent = [one for one in self if not one.configured and one.link != "open" and one.status in _FORGETTABLE]
        oldest = min(silent, key=lambda one: one.contact_tick or 0.0, default=None)
        if oldest is None:
            return None
        del self._members[oldest.name]
        self.outage.is_heard(oldest.name)
        self.version += 1
        return oldest.name

    # ---- what is heard of a node ----

    def link_opened(self, member: Member, boot_id: str, agent_id: str | None) -> None:
        """Note that an agent's connection is open, and which run of which agent speaks."""
        member.greeted(boot_id, agent_id)
        member.link_is("open", "", self._moment())
        self.contact(member)

    def link_ended(self, member: Member, how: LinkState, words: str = "") -> None:
        """Note how an agent's connection ended; in ``words`` where the hub refused it."""
        now = self._moment()
        member.link_is(how, words, now)
        self._judge(member, now)
        self._changed(member)

    def take_pushed(self, member: Member, report: Report, *, late: bool) -> bool:
        """Take a pushed report, once: in order it is the present if it is newer, a late one never is.

        Returns whether it is one that was not taken before.
        """
        sequence = report.sequence or 0
        is_new = sequence > member.pushed_sequence
        was_polled = report.boot_id == member.polled_boot_id and sequence in member.polled_sequences
        if is_new:
            member.pushed_sequence = sequence
            member.polled_sequences.discard(sequence)
            member.reports_late += late
            if late:
                wall = self.clock.time()
                member.activity.take(report, member.sampled_wall(report, wall), is_late=True)
        if is_new and not late:
            self.record(member, report, "push")
        else:
            self.contact(member)
        return is_new and not was_polled

    def take_gap(self, member: Member, gap: Gap) -> None:
        """Note that reports of a node will never come."""
        member.gaps.take(gap)
        self.contact(member)

    def record(self, member: Member, report: Report, source: Source) -> bool:
        """Take the newest report of a node; whether it is one.

        A report that was taken before (a polled agent that makes no new ones) is a sign of life, no more.
        """
        now = self._moment()
        if source == "poll":
            member.poll_went("answered", now)
        else:
            member.poll = None
        is_new = not _is_repeated(report, member.report)
        if is_new:
            member.take_report(report, source, now)
        elif member.link != "open":
            member.source, member.error = source, None
        self._heard(member, now)
        return is_new

    def contact(self, member: Member) -> None:
        """Note a sign of life."""
        self._heard(member, self._moment())

    def _heard(self, member: Member, now: Moment) -> None:
        member.heard(now)
        self._judge(member, now)
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

    def poll_failed(self, member: Member, fault: Fault) -> None:
        """Note why a poll of a node failed; its numbers stay."""
        member.poll_went(fault, self._moment())
        member.due_tick = 0.0
        if fault.code in ANSWERED_BADLY:
            self.contact(member)
        self.fault(member, fault)

    def fault(self, member: Member, fault: Fault) -> None:
        """Note what is wrong between the hub and a node; its numbers stay."""
        if fault != member.error:
            member.error = fault
            self._changed(member)

    def claimed(self, member: Member, fault: Fault) -> None:
        """Note that another claims to be this node, or this node's agent."""
        member.claimed(fault, self._moment())
        self._changed(member)

    # ---- what time does to it ----

    def start_anew(self) -> None:
        """Forgive every silence until now: it was the hub that could not hear."""
        tick = self.clock.monotonic()
        for member in self:
            member.due_tick = 0.0
            if member.status == "online":
                member.report_tick = tick
            if member.status in ("online", "stale"):
                member.contact_tick = tick

    def judge(self) -> float:
        """Judge every node by the clock; the seconds until the next change falls due if nothing is heard."""
        now = self._moment()
        due = NEVER
        for member in self:
            if member.due_tick <= now.tick:
                self._judge(member, now)
            due = min(due, member.due_tick)
            if member.claim is not None and now.tick - member.claim_tick > CLAIM_SECONDS:
                member.claim = None
            comes_and_goes = member.changes or member.link_ends
            if comes_and_goes and member.flapping != (flapping := self.liveness.flapping(member, now.tick)):
                member.flapping = flapping
                self._changed(member)
        self.outage.judge(now.tick, sum(member.status == "online" for member in self))
        for member in self:
            if member.verdict is None and is_well(member):
                continue
            before = member.verdict, member.evidence
            self._explain(member, now.tick)
            if (member.verdict, member.evidence) != before:
                self._changed(member)
        return due - now.tick

    def _judge(self, member: Member, now: Moment) -> None:
        """Judge one node."""
        status, member.due_tick = self.liveness.status(member, now.tick)
        if status != member.status:
            if member.status == "online" and is_unheard(member):
                self.outage.fell_silent(member.name, now.tick)
            elif status == "online":
                self.outage.is_heard(member.name)
            if member.status == "online" or (status == "online" and member.changes):  # else it has just appeared
                member.changes.append(now.tick)
            member.status, member.status_since = status, now.at
            self._changed(member)

    def push_is_healthy(self, member: Member) -> bool:
        """Whether the node pushes, so that polling it would only cost."""
        return self.liveness.push_is_healthy(member, self.clock.monotonic())

    # ---- what is told of it ----

    def encoded(self, name: str) -> bytes:
        """The newest state of a node as JSON."""
        member = self._told(self._members[name])
        if member.encoded is None:
            member.encoded = encode(member.node())
        return member.encoded

    def glance(self, name: str) -> Glance:
        """The newest state of a node in short."""
        return self._told(self._members[name]).at_a_glance()

    def veiled(self, name: str) -> bytes:
        """The newest state of a node as JSON, as strangers see it."""
        member = self._told(self._members[name])
        if member.veiled is None:
            member.veiled = encode(veiled(member.node(), self.privacy))
        return member.veiled

    def veiled_glance(self, name: str) -> Glance:
        """The newest state of a node in short, as strangers see it."""
        return self._told(self._members[name]).veiled_at_a_glance(self.privacy)

    def encoded_nodes(self, *, to_strangers: bool = False) -> Iterable[bytes]:
        """Every node as JSON, in order."""
        return [self.veiled(name) if to_strangers else self.encoded(name) for name in self._members]

    def nodes(self, *, to_strangers: bool = False) -> list[Node]:
        """The newest state of every node, in order."""
        members = [self._told(member) for member in self]
        return [veiled(member.node(), self.privacy) if to_strangers else member.node() for member in members]

    def _told(self, member: Member) -> Member:
        """``member``, explained: once for each change, whatever form of it is told first. What time makes of it later
        is the judge's to find, who then tells everybody.
        """
        in_full, at_a_glance = member.encoded or member.veiled, member.glance or member.veiled_glance
        if in_full is None and at_a_glance is None:
            self._explain(member, self.clock.monotonic())
        return member

    def _explain(self, member: Member, tick: float) -> None:
        in_outage = self.outage.holds(member.name)
        member.verdict = verdict_of(member, tick, self.hub_url, in_outage=in_outage)
        member.evidence = evidence_of(member, tick)

    def _changed(self, member: Member) -> None:
        if self._members.get(member.name) is member:  # else it is no longer one of the fleet
            member.encoded = member.glance = member.veiled = member.veiled_glance = None
            self.version += 1
            self.on_change(member.name)

    def _moment(self) -> Moment:
        return Moment(self.clock.monotonic(), self.clock.time())


def _is_repeated(report: Report, before: Report | None) -> bool:
    """Whether ``report`` is no newer than ``before``, as far as both can be told apart."""
    if before is None or report.boot_id is None or report.boot_id != before.boot_id:
        return False
    return report.sequence is not None and before.sequence is not None and report.sequence <= before.sequence
