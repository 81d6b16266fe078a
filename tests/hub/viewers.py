"""Viewers made of nothing but a line that a test can block."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from gpumon.hub.feed import Feed, Only, View
from gpumon.hub.letters import Message
from gpumon.hub.mailbox import Mailbox
from tests.running import until_true


class FakeLine:
    """A line that notes what it is told; a test decides whether the viewer takes it."""

    def __init__(self) -> None:
        self.blocked = False
        self.on_writable: Callable[[], None] | None = None
        self.written: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def unblock(self) -> None:
        self.blocked = False
        if self.on_writable is not None:
            self.on_writable()

    def told(self) -> list[dict[str, Any]]:
        """The messages since the last time."""
        written, self.written = self.written, []
        return [json.loads(data) for data in written]

    async def next(self) -> list[dict[str, Any]]:
        """The same, as soon as there are any."""
        await until_true(lambda: self.written)
        return self.told()


def as_json(message: Message) -> bytes:
    return b"".join(message.json())


def look(
    feed: Feed, pace: float = 0.0, comment: bytes = b"", view: View = "full", only: Only | None = None
) -> tuple[Mailbox, FakeLine]:
    """A viewer of ``feed`` that has begun."""
    line = FakeLine()
    mailbox = Mailbox(line, as_json, comment)
    mailbox.begin(feed.open(mailbox, pace, view, only))
    return mailbox, line


@asynccontextmanager
async def telling(feed: Feed) -> AsyncIterator[None]:
    """Let ``feed`` tell its viewers."""
    runner = asyncio.create_task(feed.run())
    try:
        yield
    finally:
        runner.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await runner
