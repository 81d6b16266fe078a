"""Telling viewers what changed, at their own pace.

Viewers of one pace and view share a channel, and its messages: rendered once, however many viewers get them. Those who
asked for some nodes only share what is left of a message with those who asked for the same. A message is handed over at
once, in one call that does not wait. A viewer that is slow has a mailbox instead, of one letter that holds the newest
state of every node that it missed: the newest wins, nothing piles up, and a slow viewer costs the others nothing. One
that takes nothing at all is cut off. A new viewer is a slow viewer who missed everything: its first letter is a
snapshot.
"""

import asyncio
import secrets
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Literal

from gpumon.hub.card import Card
from gpumon.hub.letters import Letter, News, Removal
from gpumon.hub.mailbox import SWEEP_SECONDS, Mailbox
from gpumon.hub.overview import Glance, OverviewLetter
from gpumon.model import Fault

View = Literal["full", "overview"]
"""Nodes with all that is known of them, or at a glance (:mod:`gpumon.hub.overview`)."""
VIEWS: tuple[View, ...] = ("full", "overview")
Only = frozenset[str]
"""The names of the nodes that a viewer wants."""

PACES = (0.0, 0.25, 0.5, 1.0, 5.0, 60.0)
"""Least seconds between two letters of a channel."""
DEFAULT_PACE = 0.25
BUDGET = 0.2
"""The share of the processor that telling one channel may take, where its pace would allow more."""
VIEWERS_A_TURN = 64


class _Channel:
    """The viewers of one pace and view with what each of them wants (None: all), and what they have not been told."""

    def __init__(self, view: View, pace: float) -> None:
        self.view = view
        self.pace = pace
        self.viewers: dict[Mailbox, Only | None] = {}
        self.wanted: Only | None = frozenset()
        """What any of them wants."""
        self.cards: dict[str, Card] = {}
        """Those that have been told. A viewer who came later has them from its snapshot."""
        self.wake = asyncio.Event()
        self.clear()

    def joins(self, mailbox: Mailbox, only: Only | None) -> None:
        self.viewers[mailbox] = only
        self._sum_up()

    def leaves(self, mailbox: Mailbox) -> None:
        if mailbox in self.viewers:
            del self.viewers[mailbox]
            self._sum_up()
        if not self.viewers:
            self.clear()
            self.cards.clear()

    def _sum_up(self) -> None:
        wanted = set(self.viewers.values())
        self.wanted = None if None in wanted else frozenset().union(*(one for one in wanted if one is not None))

    def clear(self) -> None:
        self.names: dict[str, None] = {}
        self.gone: dict[str, None] = {}
        self.noticed = False
        self.everything = False

    def wants(self, name: str) -> bool:
        return self.wanted is None or name in self.wanted

    def changed(self, name: str) -> None:
        if not self.wants(name):
            return
        self.names[name] = None
        self.gone.pop(name, None)
        self.wake.set()

    def removed(self, name: str) -> None:
        self.cards.pop(name, None)
        if not self.wants(name):
            return
        self.names.pop(name, None)
        self.gone[name] = None
        self.wake.set()


class Feed:
    """The viewers, and what they have not been told yet."""

    def __init__(
        self,
        encoded: Callable[[str], bytes],
        glance: Callable[[str], Glance],
        names: Callable[[], Iterable[str]],
        now: Callable[[], str],
        version: Callable[[], int],
        notices: Callable[[], Sequence[Fault]] = tuple,
    ) -> None:
        self.epoch = secrets.token_hex(4)
        """Tells this run of the hub from others: versions count from zero in each."""
        self.closed = False
        self._encoded = encoded
        self._glance = glance
        self._names = names
        self._now = now
        self._version = version
        self._notices = notices
        self._channels = [_Channel(view, pace) for view in VIEWS for pace in PACES]
        self._watched: list[_Channel] = []
        self._newest: dict[View, tuple[str, News]] = {}

    @property
    def identity(self) -> str:
        """Names the present state: equal identities mean equal contents."""
        return f"{self.epoch}-{self._version()}"

    @property
    def viewers(self) -> list[Mailbox]:
        """Everybody who looks."""
        return [mailbox for channel in self._channels for mailbox in channel.viewers]

    @property
    def waiting(self) -> int:
        """Changes of nodes that wait for the next message, over all channels."""
        return sum(len(channel.names) + len(channel.gone) for channel in self._watched)

    def open(self, mailbox: Mailbox, pace: float = DEFAULT_PACE, view: View = "full", only: Only | None = None) -> News:
        """Welcome a viewer into the first channel of ``view`` that is no faster than ``pace``; it wants ``only`` those
        nodes. Gives its first letter, for :meth:`Mailbox.begin`.
        """
        channel = next(one for one in self._channels if one.view == view and one.pace >= pace)
        is_first = not channel.viewers
        channel.joins(mailbox, only)
        self._look_around()
        if self.closed:
            mailbox.close()
        if only is None:
            snapshot = self._snapshot(view)
        else:
            snapshot = self._letter(view, "snapshot", [name for name in self._names() if name in only])
        if is_first and isinstance(snapshot, OverviewLetter):
            channel.cards = dict(snapshot.cards)
        return snapshot

    def leave(self, mailbox: Mailbox) -> None:
        """Forget a viewer."""
        for channel in self._channels:
            channel.leaves(mailbox)
        self._look_around()
        mailbox.close()

    def changed(self, name: str) -> None:
        """Note that a node has news; who looks is told soon."""
        for channel in self._watched:
            channel.changed(name)

    def noticed(self) -> None:
        """Note that there is news of the hub itself; who looks is told soon."""
        for channel in self._watched:
            channel.noticed = True
            channel.wake.set()

    def removed(self, names: Iterable[str]) -> None:
        """Note which nodes are gone; who looks is told soon."""
        gone = list(names)
        for channel in self._watched:
            for name in gone:
                channel.removed(name)

    def reordered(self) -> None:
        """Tell viewers everything anew, in the order that holds now."""
        for channel in self._watched:
            channel.everything = True
            channel.wake.set()

    def close(self) -> None:
        """End every stream, present and future."""
        self.closed = True
        for mailbox in self.viewers:
            mailbox.close()

    def _look_around(self) -> None:
        self._watched = [channel for channel in self._channels if channel.viewers]

    async def run(self) -> None:
        """Tell viewers the first change at once and what follows together, as each channel's pace allows."""
        async with asyncio.TaskGroup() as group:
            for channel in self._channels:
                group.create_task(self._serve(channel), name=f"channel {channel.view} {channel.pace:g}")
            group.create_task(self._sweep(), name="sweep")

    async def _serve(self, channel: _Channel) -> None:
        while True:
            await channel.wake.wait()
            channel.wake.clear()
            began = time.process_time()
            await self._tell(channel)
            await asyncio.sleep(max(channel.pace, (time.process_time() - began) / BUDGET))

    async def _tell(self, channel: _Channel) -> None:
        """Tell every viewer of ``channel`` what has changed since the last time."""
        viewers = list(channel.viewers.items())  # whoever comes while a large letter is rendered has a newer snapshot
        everything = self._news(channel) if viewers else (None, None)
        is_for_all = channel.noticed or channel.everything
        channel.clear()
        wishes = dict.fromkeys(only for _, only in viewers)
        parts = {only: everything if only is None else _part(everything, only, is_for_all) for only in wishes}
        for only, (_, letter) in parts.items():
            if letter is not None:
                await letter.render({mailbox.form for mailbox, wish in viewers if wish == only})
        for number, (mailbox, only) in enumerate(viewers, 1):
            removal, letter = parts[only]
            if removal is not None:
                mailbox.remove(removal)
            if letter is not None:
                mailbox.put(letter)
            if number % VIEWERS_A_TURN == 0:
                await asyncio.sleep(0)  # reports come in between

    def _news(self, channel: _Channel) -> tuple[Removal | None, News | None]:
        if channel.everything:
            snapshot = self._snapshot(channel.view)
            if isinstance(snapshot, OverviewLetter):
                channel.cards = dict(snapshot.cards)
            return None, snapshot
        removal = Removal(self.identity, self._now(), channel.gone) if channel.gone else None
        if not channel.names and not channel.noticed:
            return removal, None
        return removal, self._letter(channel.view, "nodes", channel.names, channel.cards)

    async def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            for mailbox in self.viewers:
                mailbox.sweep(loop.time())

    def _snapshot(self, view: View) -> News:
        # Viewers who come together share one; not for longer than a second, since it tells them the time.
        key = f"{self.identity} {self._now()[:19]}"
        before = self._newest.get(view)
        if before is not None and before[0] == key:
            return before[1]
        snapshot = self._letter(view, "snapshot", self._names())
        self._newest[view] = key, snapshot
        return snapshot

    def _letter(self, view: View, kind: str, names: Iterable[str], told: dict[str, Card] | None = None) -> News:
        """How nodes are now; cards that were ``told`` are left out, and those that were not are noted there."""
        now = self._now()
        if view == "full":
            return Letter(kind, self.identity, now, {name: self._encoded(name) for name in names}, self._notices())
        glances = {name: self._glance(name) for name in names}
        known = told if told is not None else {}
        cards = {name: glance.card for name, glance in glances.items() if known.get(name) is not glance.card}
        known.update(cards)
        rows = {name: glance.row for name, glance in glances.items()}
        return OverviewLetter(kind, self.identity, now, rows, cards, self._notices())


def _part(news: tuple[Removal | None, News | None], only: Only, is_for_all: bool) -> tuple[Removal | None, News | None]:
    """What of ``news`` is told to who wants ``only`` some nodes."""
    removal, letter = news
    if letter is not None:
        letter = letter.among(only)
        if not is_for_all and not any(True for _ in letter.names):
            letter = None
    return removal.among(only) if removal is not None else None, letter
