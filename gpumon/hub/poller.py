"""Polling: each configured node is asked for its report while it does not push.

One request a node is under way at most; the nodes take their turns in the interval, each at its own moment of
it, so that they never fall into step. What is wrong with one is its error and nobody else's: those that are not
known to answer share a bounded number of places, and one that has not answered for a minute is asked more
rarely, but often enough that its return is seen within 10 s.
"""

import asyncio
import logging
import math
import random
from contextlib import AsyncExitStack
from dataclasses import dataclass

from msgspec import structs

from gpumon.config import NodeEntry
from gpumon.errors import PollError
from gpumon.hub.core import Hub
from gpumon.hub.fetch import MAX_SAID, Fetcher, fetching
from gpumon.model import Fault, Report
from gpumon.resolver import Resolver
from gpumon.text import one_line

log = logging.getLogger(__name__)

MOST_DOUBTFUL = 256
"""Polls at once of nodes that are not known to answer: each holds a socket for seconds."""
PATIENCE_SECONDS = 60.0
RARE_SECONDS = (6.0, 8.0)
"""How long a node is left alone that has not answered for so long: between these."""


@dataclass(frozen=True, slots=True)
class _Turn:
    """What decides how a node is polled: if it changes, its polling starts anew."""

    entry: NodeEntry
    interval: float

    @classmethod
    def of(cls, entry: NodeEntry, interval: float) -> "_Turn":
        return cls(structs.replace(entry, alias="", tags=[]), interval)


class Poller:
    """Polls the nodes of the configuration for ``hub``."""

    def __init__(self, hub: Hub, entries: list[NodeEntry], resolver: Resolver, ca: str | None = None) -> None:
        self._hub = hub
        self._entries = entries
        self._resolver = resolver
        self._ca = ca
        self._group: asyncio.TaskGroup | None = None
        self._fetcher: Fetcher | None = None
        self._tasks: dict[str, tuple[_Turn, asyncio.Task[None]]] = {}
        self._doubtful = asyncio.Semaphore(MOST_DOUBTFUL)

    async def run(self) -> None:
        """Poll until cancelled."""
        async with fetching(self._resolver, self._ca) as self._fetcher, asyncio.TaskGroup() as self._group:
            self._follow()
            await asyncio.Event().wait()  # a fleet of no nodes may get some

    def reconfigure(self, entries: list[NodeEntry], resolver: Resolver, ca: str | None = None) -> None:
        """Follow a new configuration, which the hub has taken already. What did not change goes on undisturbed."""
        self._entries = entries
        self._resolver = resolver
        self._ca = ca
        if self._fetcher is not None:
            self._fetcher.resolver = resolver
            self._fetcher.believe(ca)
        self._follow()

    def _follow(self) -> None:
        """Make the polling what the configuration says."""
        if self._group is None or self._fetcher is None:
            return
        interval = self._hub.settings.poll_interval_seconds
        turns = {entry.name: _Turn.of(entry, interval) for entry in self._entries}
        for name, (turn, task) in list(self._tasks.items()):
            if turns.get(name) != turn:
                task.cancel()
                del self._tasks[name]
        new = [entry for entry in self._entries if entry.name not in self._tasks]
        for place, entry in enumerate(new):
            polling = self._poll_node(self._fetcher, entry, interval, phase=interval * place / len(new))
            task = self._group.create_task(polling, name=f"poll {entry.name}")
            self._tasks[entry.name] = turns[entry.name], task

    async def _poll_node(self, fetcher: Fetcher, entry: NodeEntry, interval: float, phase: float) -> None:
        wanted = self._hub.polling_wanted(entry.name)
        loop = asyncio.get_running_loop()
        start, turn = loop.time() + phase, -1
        silent_since: float | None = None
        left_alone_until = 0.0
        is_known = False
        while True:
            missed = math.ceil((loop.time() - start) / interval) if turn >= 0 else 0  # which are not made up for
            turn = max(turn + 1, missed)
            await asyncio.sleep(start + turn * interval - loop.time())
            if not wanted.is_set():
                await wanted.wait()
                silent_since = None
            elif silent_since is not None and loop.time() < left_alone_until:
                continue
            async with AsyncExitStack() as place:
                if not is_known:
                    await place.enter_async_context(self._doubtful)
                begun = loop.time()
                is_known = await self._poll(fetcher, entry, wanted)
            silent_since = None if is_known else silent_since or begun
            if silent_since is not None and loop.time() - silent_since > PATIENCE_SECONDS:
                left_alone_until = loop.time() + random.uniform(*RARE_SECONDS)

    async def _poll(self, fetcher: Fetcher, entry: NodeEntry, wanted: asyncio.Event) -> bool:
        """Ask one node and tell the hub; whether anything answered."""
        member = self._hub.fleet.get(entry.name)
        if member is None:
            return False
        outcome: Report | Fault
        answered, address = True, None
        try:
            fetched = await fetcher.report(entry, prefer=member.address)
            outcome, address = fetched.report, fetched.address
        except PollError as error:
            outcome = Fault(code=error.code, message=error.message, hint=error.hint)
            answered, address = error.answered, error.address
        except Exception as error:
            log.exception("%s: polling failed by a fault of gpumon's own", entry.name)
            said = one_line(repr(error), MAX_SAID)
            outcome = Fault(code="internal", message=f"A fault of gpumon's own: {said}.")
        # A poll that was under way when the push came back has nothing newer to tell.
        if wanted.is_set():
            self._hub.resolved(member, fetcher.resolver.resolution(entry.host))
            self._hub.located(member, address)
            if isinstance(outcome, Report):
                self._hub.record(member, outcome, "poll")
            else:
                if outcome != member.error:
                    log.warning("%s: %s", entry.name, outcome.message)
                self._hub.fault(member, outcome)
        return answered
