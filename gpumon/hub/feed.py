"""Telling viewers what changed, at their own pace.

Viewers of one pace share a channel, and its messages: rendered once, however many viewers get them. A message is handed
over at once, in one call that does not wait. A viewer that is slow has a mailbox instead, of one letter that holds the
newest state of every node that it missed: the newest wins, nothing piles up, and a slow viewer costs the others
nothing. One that takes nothing at all is cut off. A new viewer is a slow viewer who missed everything: its first
letter is a snapshot.
"""

import asyncio
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Sequence

from gpumon.hub.letters import Letter, Removal
from gpumon.hub.mailbox import SWEEP_SECONDS, Mailbox
from gpumon.model import Fault

PACES = (0.0, 0.25, 1.0, 5.0, 60.0)
"""Least seconds between two letters of a channel."""
DEFAULT_PACE = 0.25
BUDGET = 0.2
"""The share of the processor that telling one channel may take, where its pace would allow more."""
VIEWERS_A_TURN = 64


class _Channel:
    """The viewers of one pace, and what they have not been told yet."""

    def __init__(self, pace: float) -> None:
        self.pace = pace
        self.viewers: set[Mailbox] = set()
        self.wake = asyncio.Event()
        self.clear()

    def clear(self) -> None:
        self.names: dict[str, None] = {}
        self.gone: dict[str, None] = {}
        self.noticed = False
        self.everything = False

    def changed(self, name: str) -> None:
        self.names[name] = None
        self.gone.pop(name, None)
        self.wake.set()

    def removed(self, name: str) -> None:
        self.names.pop(name, None)
        self.gone[name] = None
        self.wake.set()


class Feed:
    """The viewers, and what they have not been told yet."""

    def __init__(
        self,
        encoded: Callable[[str], bytes],
        names: Callable[[], Iterable[str]],
        now: Callable[[], str],
        version: Callable[[], int],
        notices: Callable[[], Sequence[Fault]] = tuple,
    ) -> None:
        self.epoch = secrets.token_hex(4)
        """Tells this run of the hub from others: versions count from zero in each."""
        self.closed = False
        self._encoded = encoded
        self._names = names
        self._now = now
        self._version = version
        self._notices = notices
        self._channels = [_Channel(pace) for pace in PACES]
        self._newest: tuple[str, Letter] | None = None

    @property
    def identity(self) -> str:
        """Names the present state: equal identities mean equal contents."""
        return f"{self.epoch}-{self._version()}"

    @property
    def viewers(self) -> list[Mailbox]:
        """Everybody who looks."""
        return [mailbox for channel in self._channels for mailbox in channel.viewers]

    def open(self, mailbox: Mailbox, pace: float = DEFAULT_PACE) -> Letter:
        """Welcome a viewer into the first channel that is no faster than ``pace``. Gives its first letter, for
        :meth:`Mailbox.begin`.
        """
        next(channel for channel in self._channels if channel.pace >= pace).viewers.add(mailbox)
        if self.closed:
            mailbox.close()
        return self._snapshot()

    def leave(self, mailbox: Mailbox) -> None:
        """Forget a viewer."""
        for channel in self._channels:
            channel.viewers.discard(mailbox)
            if not channel.viewers:
                channel.clear()
        mailbox.close()

    def changed(self, name: str) -> None:
        """Note that a node has news; who looks is told soon."""
        for channel in self._watched():
            channel.changed(name)

    def noticed(self) -> None:
        """Note that there is news of the hub itself; who looks is told soon."""
        for channel in self._watched():
            channel.noticed = True
            channel.wake.set()

    def removed(self, names: Iterable[str]) -> None:
        """Note which nodes are gone; who looks is told soon."""
        gone = list(names)
        for channel in self._watched():
            for name in gone:
                channel.removed(name)

    def reordered(self) -> None:
        """Tell viewers everything anew, in the order that holds now."""
        for channel in self._watched():
            channel.everything = True
            channel.wake.set()

    def close(self) -> None:
        """End every stream, present and future."""
        self.closed = True
        for mailbox in self.viewers:
            mailbox.close()

    def _watched(self) -> Iterator[_Channel]:
        return (channel for channel in self._channels if channel.viewers)

    async def run(self) -> None:
        """Tell viewers the first change at once and what follows together, as each channel's pace allows."""
        async with asyncio.TaskGroup() as group:
            for channel in self._channels:
                group.create_task(self._serve(channel), name=f"channel {channel.pace:g}")
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
        viewers = list(channel.viewers)  # whoever comes while a large letter is rendered has a newer snapshot
        removal, letter = self._news(channel) if viewers else (None, None)
        channel.clear()
        if letter is not None:
            await letter.render({mailbox.form for mailbox in viewers})
        for number, mailbox in enumerate(viewers, 1):
            if removal is not None:
                mailbox.remove(removal)
            if letter is not None:
                mailbox.put(letter)
            if number % VIEWERS_A_TURN == 0:
                await asyncio.sleep(0)  # reports come in between

    def _news(self, channel: _Channel) -> tuple[Removal | None, Letter | None]:
        if channel.everything:
            return None, self._snapshot()
        now = self._now()
        removal = Removal(self.identity, now, channel.gone) if channel.gone else None
        if not channel.names and not channel.noticed:
            return removal, None
        nodes = {name: self._encoded(name) for name in channel.names}
        return removal, Letter("nodes", self.identity, now, nodes, self._notices())

    async def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            for mailbox in self.viewers:
                mailbox.sweep(loop.time())

    def _snapshot(self) -> Letter:
        # Viewers who come together share one; not for longer than a second, since it tells them the time.
        now = self._now()
        key = f"{self.identity} {now[:19]}"
        if self._newest is None or self._newest[0] != key:
            nodes = {name: self._encoded(name) for name in self._names()}
            self._newest = key, Letter("snapshot", self.identity, now, nodes, self._notices())
        return self._newest[1]
