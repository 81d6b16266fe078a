"""``gpumon find``: a node with so many free GPUs, now or as soon as there is one.

Nothing is reserved: who is told of a GPU has it once a process of theirs runs on it.
"""

import asyncio
import shlex
from typing import Final, Literal

from msgspec import Struct

from gpumon.client.listing import Page, show_json
from gpumon.client.offers import FreeSince, Offer, Wanted, best_offer, is_possible, is_simulated
from gpumon.client.picture import local_time
from gpumon.client.stream import Hub
from gpumon.client.watch import Watch, look
from gpumon.errors import HubError
from gpumon.text import printable
from gpumon.timestamp import rfc3339

Form = Literal["line", "shell", "json"]

FOUND: Final = 0
NOTHING_FREE: Final = 1
PACE_SECONDS: Final = 1.0
HOST_VARIABLE: Final = "GPUMON_HOST"
NOTHING: Final = "nothing that is free just now is as asked for"
NEVER: Final = "no node has what is asked for, even if nobody used it"


async def now(page: Page, hub: Hub, wanted: Wanted, form: Form) -> int:
    """Tell what is free now; the exit status. Raises HubError: the hub does not tell."""
    fleet = await look(hub, "full")
    offer = best_offer(fleet.nodes, wanted, fleet.now())
    if offer is None:
        page.say(NOTHING if is_possible(fleet.nodes, wanted) else NEVER)
    return _told(page, offer, form)


async def wait(
    page: Page, hub: Hub, wanted: Wanted, form: Form, settle_seconds: float, timeout_seconds: float | None
) -> int:
    """Tell what is free as soon as something is, and has been for ``settle_seconds``; the exit status.

    Raises:
        HubError: the hub cannot be reached the first time, or not within ``timeout_seconds``, or refuses.
    """
    vigil = Vigil(page, hub, wanted, settle_seconds)
    offer = None
    try:
        async with asyncio.timeout(timeout_seconds):
            offer = await vigil.offer()
    except TimeoutError:
        if not vigil.has_looked:
            raise HubError(f"{hub.url}: no answer within {timeout_seconds:g} s") from None
        page.say(f"nothing as asked for was free within {timeout_seconds:g} s{vigil.doubt}")
    return _told(page, offer, form)


class Vigil:
    """Waits for an offer, told by the stream. A GPU counts once it has been free for a while: jobs that follow each
    other leave it free for a moment, and so does one that is only just starting.
    """

    def __init__(self, page: Page, hub: Hub, wanted: Wanted, settle_seconds: float) -> None:
        self._page = page
        self._watch = Watch(hub, "full", PACE_SECONDS)
        self._wanted = wanted
        self._settle = settle_seconds
        self._changed = asyncio.Event()
        self.seen = FreeSince(is_slice=wanted.is_slice)
        self.has_looked = False

    @property
    def doubt(self) -> str:
        """Why that nothing was free may not be the whole truth, if so."""
        watch = self._watch
        if watch.trouble is None or watch.lost_at is None:
            return ""
        return f", as far as is known; no word from the hub since {local_time(watch.lost_at)}: {watch.trouble}"

    async def offer(self) -> Offer:
        """The best one, as soon as there is one: by what the hub has just told, never by time that has passed alone.

        Raises:
            HubError: as :func:`wait` does.
        """
        async with asyncio.TaskGroup() as group:
            following = group.create_task(self._follow())
            while not following.done():
                self._changed.clear()
                if (offer := self._look()) is not None:
                    following.cancel()
                    return offer
                await self._changed.wait()
        raise following.result()

    async def _follow(self) -> HubError:
        try:
            await self._watch.run(self._changed.set)
        except HubError as error:
            self._changed.set()
            return error

    def _look(self) -> Offer | None:
        """What is free and settled now; nothing while nobody tells how it is."""
        watch, fleet = self._watch, self._watch.fleet
        if watch.trouble is not None or not watch.has_told:
            self.seen.doubt()
            return None
        nodes, at = fleet.nodes, fleet.now()
        if not self.has_looked and not is_possible(nodes, self._wanted):
            self._page.say(f"{NEVER}: waiting for a node that has")
        self.has_looked = True
        self.seen.look(nodes, at)
        return best_offer(nodes, self._wanted, at, lambda node, part: self.seen.seconds(node, part, at) >= self._settle)


# ---- in words ----


class FoundGpu(Struct, frozen=True, kw_only=True):
    """A GPU, or a slice, of what was found."""

    index: int
    uuid: str | None
    name: str | None
    memory_free_bytes: int | None
    idle_since: str | None


class Found(Struct, frozen=True, kw_only=True):
    """What was found, for a program: ``environment`` is for the process that shall use it."""

    host: str
    node: str
    alias: str
    address: str | None
    simulated: bool
    gpus: list[FoundGpu]
    environment: dict[str, str]


def _told(page: Page, offer: Offer | None, form: Form) -> int:
    """Write what there is, and give the exit status."""
    if form == "json":
        show_json(page, None if offer is None else _found(offer))
    elif offer is not None:
        quoted = [f"{name}={shlex.quote(value)}" for name, value in offer.variables.items()]
        words = ["export", f"{HOST_VARIABLE}={shlex.quote(offer.host)}"] if form == "shell" else [offer.host]
        page.write(" ".join([*words, *quoted]) + "\n")
    if offer is None:
        return NOTHING_FREE
    if is_simulated(offer.node):
        page.say(f"{printable(offer.node.name)} is simulated: these GPUs do not exist")
    return FOUND


def _found(offer: Offer) -> Found:
    return Found(
        host=offer.host,
        node=offer.node.name,
        alias=offer.node.alias,
        address=offer.node.address,
        simulated=is_simulated(offer.node),
        gpus=[
            FoundGpu(
                index=part.device.index,
                uuid=part.device.uuid,
                name=part.device.name,
                memory_free_bytes=part.memory_free_bytes,
                idle_since=None if part.idle_since is None else rfc3339(part.idle_since),
            )
            for part in offer.parts
        ],
        environment=offer.variables,
    )
