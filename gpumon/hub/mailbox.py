"""One viewer: the line to it, and what waits while it is slow."""

import asyncio
import logging
from collections.abc import Callable
from typing import Protocol

from gpumon.hub.letters import Form, Message, News, Removal

log = logging.getLogger(__name__)

SWEEP_SECONDS = 1.0
COMMENT_SECONDS = 14.0  # and a sweep: a comment line at least every 15 s
STALLED_SECONDS = 10.0
BLOCKED_SECONDS = 120.0


class Line(Protocol):
    """The way to one viewer. Nothing of it waits."""

    on_writable: Callable[[], None] | None

    @property
    def blocked(self) -> bool:
        """Whether the viewer takes less than it was sent."""
        ...

    def write(self, data: bytes) -> None: ...
    def waiting_bytes(self) -> int: ...
    def abort(self) -> None: ...


class Mailbox:
    """Tells one viewer on ``line``, in ``form``. What cannot be told at once is kept: one letter, and one word of who
    is gone. The newest of each node wins: one that went and is back is there, one that changed and went is gone.

    Synchronous, but for :attr:`closed`.
    """

    def __init__(self, line: Line, form: Form, comment: bytes = b"") -> None:
        self.form = form
        self.closed = asyncio.Event()
        """Set when nothing more comes."""
        self._line = line
        self._comment = comment
        self._begun = False
        self._removal: Removal | None = None
        self._letter: News | None = None
        self._removal_is_newer = False
        self._told = False
        self._quiet_since: float | None = None
        self._blocked: _Blocked | None = None
        line.on_writable = self._resume

    def begin(self, snapshot: News) -> None:
        """Tell the first letter, and what has come since."""
        self._begun = True
        self._tell(snapshot)
        if not self._line.blocked:
            self._resume()

    def put(self, letter: News) -> None:
        """Tell how nodes are."""
        if self._is_ready:
            self._tell(letter)
            return
        if letter.kind == "snapshot":
            self._letter, self._removal = letter, None
            return
        self._letter = letter if self._letter is None else self._letter.followed_by(letter)
        if self._removal is not None:
            self._removal = self._removal.without(letter.names)
        self._removal_is_newer = False

    def remove(self, removal: Removal) -> None:
        """Tell which nodes are gone."""
        if self._is_ready:
            self._tell(removal)
            return
        self._removal = removal if self._removal is None else self._removal.followed_by(removal)
        if self._letter is not None:
            self._letter = self._letter.without(removal.names)
        self._removal_is_newer = True

    def sweep(self, now: float) -> None:
        """Look after the line: a comment into a quiet one, an end to one that takes nothing. ``now`` is monotonic."""
        if self._line.blocked:
            waiting = self._line.waiting_bytes()
            if self._blocked is None:
                self._blocked = _Blocked(waiting, now)
            elif not self._blocked.is_moving(waiting, now):
                log.warning("a viewer that took nothing for %g s was cut off", STALLED_SECONDS)
                self._line.abort()
                self.close()
            return
        self._blocked = None
        if self._told or self._quiet_since is None:
            self._told, self._quiet_since = False, now
        elif self._comment and now - self._quiet_since >= COMMENT_SECONDS:
            self._quiet_since = now
            self._line.write(self._comment)

    def close(self) -> None:
        """Nothing more comes."""
        self._line.on_writable = None
        self._begun, self._letter, self._removal = False, None, None
        self.closed.set()

    @property
    def _is_ready(self) -> bool:
        return self._begun and not self._line.blocked

    def _tell(self, message: Message) -> None:
        self._told = True
        self._line.write(message.rendered(self.form))

    def _resume(self) -> None:
        """Tell what waits; of two messages the older first, so that the identity heard last is the newest."""
        if not self._begun:
            return
        waiting = (self._letter, self._removal) if self._removal_is_newer else (self._removal, self._letter)
        self._letter = self._removal = None
        for message in waiting:
            if message is not None:
                self._tell(message)


class _Blocked:
    """A line that takes less than it was sent: how much waited when it last took something."""

    def __init__(self, waiting: int, now: float) -> None:
        self._waiting = waiting
        self._moved_at = self._began_at = now

    def is_moving(self, waiting: int, now: float) -> bool:
        """Whether the viewer has read lately, and is not all too slow about it."""
        if waiting != self._waiting:
            self._waiting, self._moved_at = waiting, now
        return now - self._moved_at < STALLED_SECONDS and now - self._began_at < BLOCKED_SECONDS
