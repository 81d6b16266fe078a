"""Where everything that is learnt about a node comes in: synchronous, so that no sample is half recorded.

Nothing here awaits or touches a disk or a socket. The order of events is the order of the calls, and a test
of it needs no event loop.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence

from gpumon.config import AuthSection, Config, HubSection, MetricsSection, NodeEntry, Privacy
from gpumon.hub.clock import Clock, ForgivingClock
from gpumon.hub.feed import Feed
from gpumon.hub.fleet import Fleet
from gpumon.hub.history import History
from gpumon.hub.member import LinkState, Member
from gpumon.hub.overview import Glance
from gpumon.hub.privacy import EVERYTHING
from gpumon.looplag import LoopLag
from gpumon.model import Fault, Report, Resolution, Source
from gpumon.refusals import Refusals
from gpumon.timestamp import rfc3339
from gpumon.wire import Gap

LONG_PAUSE_SECONDS = 5.0
"""After a pause of the hub that is longer, every node gets its whole time again: links may have been lost in it."""


OUTCOMES: tuple[tuple[Source, str], ...] = (
    ("push", "taken"),
    ("push", "late"),
    ("push", "ahead"),
    ("push", "duplicate"),
    ("poll", "taken"),
    ("poll", "duplicate"),
)
"""What becomes of a report; one that is ahead of late ones comes again, and counts then."""


class Hub:
    """The present (:attr:`fleet`), the past (:attr:`history`), who is told (:attr:`feed`; :attr:`veiled_feed` tells
    strangers, where they do not see all), which nodes want polling, and what was refused (:attr:`refusals`).
    :attr:`reports` counts what came, by its source and what became of it, :attr:`polls` how polls went; :attr:`lag` is
    that of the judge.

    ``url`` is where agents find it, as far as it knows.
    """

    def __init__(
        self,
        entries: Sequence[NodeEntry] = (),
        settings: HubSection | None = None,
        clock: Clock | None = None,
        url: str = "http://HUB:8080",
        privacy: Privacy = EVERYTHING,
        metrics: MetricsSection | None = None,
    ) -> None:
        self.settings = settings or HubSection()
        self.url = url
        self.clock = clock or ForgivingClock()
        self.history = History()
        self.refusals = Refusals()
        self.metrics = metrics or MetricsSection()
        self.reports: Counter[tuple[Source, str]] = Counter(dict.fromkeys(OUTCOMES, 0))
        self.polls: Counter[str] = Counter()
        self.lag = LoopLag()
        self.on_taken: Callable[[Member, Report], None] = self._remember
        """Told of each report once, in whatever order they come."""
        self._notices: dict[str, Fault] = {}
        self._notices_version = 0
        self.fleet = Fleet(self.settings, self.clock, url)
        self.feed = self._feed(self.fleet.encoded, self.fleet.glance)
        self.veiled_feed = self._feed(self.fleet.veiled, self.fleet.veiled_glance)
        self._polling: dict[str, asyncio.Event] = {}
        auth = AuthSection(privacy=privacy)
        self.reconfigure(Config(nodes=list(entries), hub=self.settings, auth=auth, metrics=self.metrics))

    def _feed(self, encoded: Callable[[str], bytes], glance: Callable[[str], Glance]) -> Feed:
        return Feed(
            encoded=encoded,
            glance=glance,
            names=lambda: [member.name for member in self.fleet],
            now=lambda: rfc3339(self.clock.time()),
            version=lambda: self.fleet.version + self._notices_version,
            notices=lambda: self.notices,
        )

    @property
    def feeds(self) -> tuple[Feed, ...]:
        """Those by which anybody is told."""
        return (self.feed,) if self.fleet.privacy == EVERYTHING else (self.feed, self.veiled_feed)

    def feed_for(self, *, strangers: bool) -> Feed:
        """The one that tells strangers, or those who have logged in."""
        return self.veiled_feed if strangers and self.fleet.privacy != EVERYTHING else self.feed

    def _changed_for_all(self, name: str) -> None:
        self.feed.changed(name)
        self.veiled_feed.changed(name)

    def close_feeds(self) -> None:
        """End every stream, present and future."""
        for feed in (self.feed, self.veiled_feed):
            feed.close()

    def reconfigure(self, config: Config) -> None:
        """Be the hub of this configuration, at once and as a whole; what nodes stay keep their state."""
        before = [member.name for member in self.fleet]
        self.settings = config.hub
        self.metrics = config.metrics
        self.fleet.privacy = config.auth.privacy
        self.fleet.on_change = self.feed.changed if len(self.feeds) == 1 else self._changed_for_all
        self.fleet.reconfigure(config.nodes, config.hub)  # which has every node told anew
        after = [member.name for member in self.fleet]
        gone = set(before).difference(after)
        for feed in self.feeds:
            feed.removed(gone)
        self.history.keep(set(self.fleet))
        if after != [name for name in before if name not in gone]:
            for feed in self.feeds:
                feed.reordered()
        self._polling = {entry.name: self._polling.get(entry.name) or asyncio.Event() for entry in config.nodes}
        for member in self.fleet:
            self._decide_polling(member)

    # ---- what is learnt ----

    def take_pushed(self, member: Member, report: Report, *, late: bool, ahead: bool = False) -> None:
        """Take a report that an agent pushed; what is ``ahead`` of late ones comes again, and counts then."""
        if ahead:
            outcome = "ahead"
            self.fleet.record(member, report, "push")
        elif self.fleet.take_pushed(member, report, late=late):
            outcome = "late" if late else "taken"
            self.on_taken(member, report)
        else:
            outcome = "duplicate"
        self.reports["push", outcome] += 1
        self._decide_polling(member)

    def take_gap(self, member: Member, gap: Gap) -> None:
        """Take word of reports that will never come."""
        self.fleet.take_gap(member, gap)

    def take_lost(self, member: Member, sequence: int) -> None:
        """Take word that a pushed report is not taken and will not come again."""
        if sequence > member.pushed_sequence:
            member.pushed_sequence = sequence
            self.fleet.take_gap(member, Gap(first=sequence, last=sequence, count=1))

    def record(self, member: Member, report: Report, source: Source) -> None:
        """Take a node's newest report; one of an agent whose link is open comes again that way, and counts then."""
        is_new = self.fleet.record(member, report, source)
        self.reports[source, "taken" if is_new else "duplicate"] += 1
        self.polls["answered"] += 1
        if is_new and member.takes_polled(report):
            self.on_taken(member, report)
        self._decide_polling(member)

    def contact(self, member: Member) -> None:
        """Note a sign of life without news."""
        self.fleet.contact(member)

    def located(self, member: Member, address: str | None) -> None:
        """Note at which IP address a node is."""
        self.fleet.located(member, address)

    def resolved(self, member: Member, resolution: Resolution | None) -> None:
        """Note how a node's host became addresses; None where it is an address, or has none."""
        self.fleet.resolved(member, resolution)

    def fault(self, member: Member, fault: Fault) -> None:
        """Note why a poll of a node failed."""
        self.polls["failed"] += 1
        self.fleet.poll_failed(member, fault)

    def refused_report(self, member: Member, fault: Fault) -> None:
        """Note what was wrong with what a node's agent said."""
        self.fleet.fault(member, fault)

    def claimed(self, member: Member, fault: Fault) -> None:
        """Note that another claims to be this node."""
        self.fleet.claimed(member, fault)

    def link_opened(self, member: Member, boot_id: str, agent_id: str | None) -> None:
        """Note that an agent's connection is open."""
        self.fleet.link_opened(member, boot_id, agent_id)
        self._decide_polling(member)

    def link_ended(self, member: Member, how: LinkState, words: str = "") -> None:
        """Note how an agent's connection ended."""
        self.fleet.link_ended(member, how, words)
        self._decide_polling(member)

    # ---- what follows from it ----

    def _remember(self, member: Member, report: Report) -> None:
        """Give the past what was sampled, dated by our clock whatever that of the node shows."""
        now = self.clock.time()
        at = now if report is member.report else member.sampled_wall(report, now)
        self.history.take(member, report, at, now)

    @property
    def notices(self) -> list[Fault]:
        """What is wrong with the hub as a whole."""
        return list(self._notices.values())

    def notice(self, code: str, fault: Fault | None) -> None:
        """Tell viewers what is wrong with the hub as a whole; ``fault`` None ends the notice of this code."""
        if fault == self._notices.get(code):
            return
        if fault is None:
            del self._notices[code]
        else:
            self._notices[code] = fault
        self._notices_version += 1
        for feed in self.feeds:
            feed.noticed()

    def forget_one(self) -> bool:
        """Make room for a new node, if any old one can go."""
        name = self.fleet.forget_one()
        if name is not None:
            for feed in self.feeds:
                feed.removed({name})
            self.history.keep(set(self.fleet))
        return name is not None

    def judge(self) -> float:
        """Let time pass: decide who is online, stale or offline, and who wants polling.

        Returns the seconds until the next status falls due if nothing is heard meanwhile.
        """
        if self.clock.beat() > LONG_PAUSE_SECONDS:
            self.fleet.start_anew()
        due = self.fleet.judge()
        self.notice("mass_silence", self.fleet.outage.notice)
        for name in self._polling:
            if (member := self.fleet.get(name)) is not None:
                self._decide_polling(member)
        return due

    def polling_wanted(self, name: str) -> asyncio.Event:
        """Set while the configured node ``name`` does not push."""
        return self._polling[name]

    def _decide_polling(self, member: Member) -> None:
        if (wanted := self._polling.get(member.name)) is None:
            return
        if self.fleet.push_is_healthy(member):
            wanted.clear()
        else:
            wanted.set()
