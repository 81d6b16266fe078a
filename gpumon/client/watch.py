"""A fleet that is kept up to date: the hub's stream, opened again whenever it ends."""

import asyncio
import random
import time
from collections.abc import Callable
from typing import Final, NoReturn

from gpumon.client.fleet import Fleet
from gpumon.client.stream import MOST_SAID, NOT_A_HUB, NOT_OUR_WORDS, OPEN_SECONDS, Hub, Message, View, opened
from gpumon.errors import HubError
from gpumon.text import one_line

FIRST_SECONDS: Final = 0.5
MOST_SECONDS: Final = 15.0
SNAPSHOT_SECONDS: Final = 30.0
QUIET_SECONDS: Final = 5.0
"""So long a hub whose nodes report says nothing when all is well."""
HELD_SECONDS: Final = 10.0
"""A link that has held for so long was a good one: the delays start over."""


class Watch:
    """What ``hub`` tells. ``trouble`` says why nothing is told just now; the last that was told is from ``lost_at``
    (seconds since the epoch, by this machine's clock), for a hub that hangs is missed only after a while.
    """

    def __init__(self, hub: Hub, view: View, pace_seconds: float) -> None:
        self._hub = hub
        self._view: View = view
        self._pace = pace_seconds
        self.fleet = Fleet()
        self.has_told = False
        self.trouble: str | None = None
        self.lost_at: float | None = None

    @property
    def silent_seconds(self) -> float | None:
        """How long nothing has been told, None where that is no longer than usual."""
        silent = self.fleet.silent_seconds()
        return silent if silent >= QUIET_SECONDS + self._pace else None

    async def run(self, changed: Callable[[], None]) -> NoReturn:
        """Follow, until cancelled. ``changed`` is called after each message, and when the link is lost.

        Raises:
            HubError: the hub could not be reached the first time, or refuses: waiting cannot help.
        """
        delay = FIRST_SECONDS
        while True:
            began = None
            try:
                async with opened(self._hub, self._view, self._pace) as messages:
                    async with asyncio.timeout(SNAPSHOT_SECONDS) as patience:
                        async for message in messages:
                            patience.reschedule(None)
                            _take(self.fleet, self._hub, message)
                            began = began or time.monotonic()
                            self.has_told = True
                            self.trouble = self.lost_at = None
                            changed()
            except TimeoutError:
                self._lose(HubError(f"{self._hub.url}: {NOT_A_HUB}"))
            except HubError as error:
                self._lose(error)
            changed()
            if began is not None and time.monotonic() - began >= HELD_SECONDS:
                delay = FIRST_SECONDS
            await asyncio.sleep(random.uniform(0, delay))
            delay = min(2 * delay, MOST_SECONDS)

    def _lose(self, error: HubError) -> None:
        if error.is_refusal or not self.has_told:
            raise error
        self.trouble = str(error)
        self.lost_at = self.lost_at or time.time() - self.fleet.silent_seconds()


async def look(hub: Hub, view: View) -> Fleet:
    """The fleet as it is now.

    Raises:
        HubError: the hub does not tell.
    """
    fleet = Fleet()
    try:
        async with asyncio.timeout(OPEN_SECONDS + SNAPSHOT_SECONDS):
            async with opened(hub, view, 1.0) as messages:
                async for message in messages:
                    _take(fleet, hub, message)
                    if message.type == "snapshot":
                        return fleet
    except TimeoutError:
        pass
    raise HubError(f"{hub.url}: {NOT_A_HUB}")


def _take(fleet: Fleet, hub: Hub, message: Message) -> None:
    try:
        fleet.take(message)
    except ValueError as error:
        raise HubError(f"{hub.url}: {NOT_OUR_WORDS} ({one_line(str(error), MOST_SAID)})", is_refusal=True) from None
