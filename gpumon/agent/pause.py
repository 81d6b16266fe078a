"""Letting go of the driver for a while, so that it can be unloaded."""

import asyncio
import contextlib
import logging
from typing import Final

log = logging.getLogger(__name__)

LONGEST_SECONDS: Final = 600.0


class Pause:
    """Whether reading is paused, and the wait for its end. Nobody's pause is for ever."""

    def __init__(self) -> None:
        self._until: float | None = None
        self._over = asyncio.Event()

    def begin(self, seconds: float) -> None:
        if not self:
            log.info("reading the GPUs is paused")
        self._over.clear()
        self._until = asyncio.get_running_loop().time() + min(seconds, LONGEST_SECONDS)

    def end(self) -> None:
        self._until = None
        self._over.set()

    def __bool__(self) -> bool:
        return self._until is not None and asyncio.get_running_loop().time() < self._until

    async def wait(self) -> None:
        """Until it is over."""
        while self:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(self._until):
                    await self._over.wait()
        log.info("reading the GPUs is resumed")
