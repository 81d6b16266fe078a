"""Where everything that is learnt about a node comes in: synchronous, so that no sample is half recorded.

Nothing here awaits or touches a disk or a socket. The order of events is the order of the calls, and a test
of it needs no event loop.
"""

import asyncio
import time
from collections.abc import Sequence

from gpumon.config import HubSection, NodeEntry
from gpumon.hub.feed import Feed
from gpumon.hub.fleet import Clock, Fleet, Member
from gpumon.model import Fault, Report, Resolution, Source
from gpumon.timestamp import rfc3339


class Hub:
    """The present (:attr:`fleet`), who is told of it (:attr:`feed`), and which nodes want polling."""

    def __init__(
        self, entries: Sequence[NodeEntry] = (), settings: HubSection | None = None, clock: Clock = time
    ) -> None:
        self.settings = settings or HubSection()
        self.clock = clock
        self.fleet = Fleet(entries, self.settings, clock)
        self.feed = Feed(
            encoded=self.fleet.encoded,
            names=lambda: [member.name for member in self.fleet],
            now=lambda: rfc3339(clock.time()),
            version=lambda: self.fleet.version,
        )
        self.fleet.on_change = self.feed.changed
        self._polling = {entry.name: asyncio.Event() for entry in entries}
        for event in self._polling.values():
            event.set()

    def polling_wanted(self, name: str) -> asyncio.Event:
        """Set while the configured node ``name`` does not push."""
        return self._polling[name]

    def record(self, member: Member, report: Report, source: Source) -> None:
        """Take a node's newest report."""
        self.fleet.record(member, report, source)
        self._decide_polling(member)

    def take_pushed(self, member: Member, report: Report, *, late: bool) -> None:
        """Take a report that an agent pushed."""
        self.fleet.take_pushed(member, report, late=late)
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
        """Note what is wrong with a node, in words."""
        self.fleet.fault(member, fault)

    def forget_one(self) -> bool:
        """Make room for a new node, if any old one can go."""
        name = self.fleet.forget_one()
        if name is not None:
            self.feed.forgotten(name)
        return name is not None

    def link(self, member: Member, *, is_open: bool) -> None:
        """Note that an agent's connection opened or ended."""
        self.fleet.link(member, is_open=is_open)
        self._decide_polling(member)

    def judge(self) -> None:
        """Let time pass: decide who is online, stale or offline, and who wants polling."""
        self.fleet.judge()
        for member in self.fleet:
            self._decide_polling(member)

    def _decide_polling(self, member: Member) -> None:
        if (wanted := self._polling.get(member.name)) is None:
            return
        if self.fleet.push_is_healthy(member):
            wanted.clear()
        else:
            wanted.set()
