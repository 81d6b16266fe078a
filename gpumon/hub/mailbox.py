"""One viewer: the line to it, and what waits while it is slow."""

import asyncio
from collections.abc import Callable
from typing import Protocol

from gpumon.hub.letters import Form, Message, News, Removal

SWEEP_SECONDS = 1.0
COMMENT_SECONDS = 14.0  # and a sweep: a comment line at least every 15 s
MOST_TOLD_BYTES = 128 * 1024
"""Of what is for one viewer alone, at once: it is rendered on the event loop, and kept until the viewer takes it."""


class Line(Protocol):
    """The way to one viewer. Nothing of it waits."""

    on_writable: Callable[[], None] | None

    @property
    def blocked(self) -> bool:
        """Whether the viewer takes less than it was sent."""
        ...

    def write(self, data: bytes) -> None: ...


class Mailbox:
    """Tells one viewer on ``line``, in ``form``. What cannot be told at once is kept: the last snapshot, which others
    are told as well; one letter, of which as much is told at a time as the viewer takes; and one word of who is gone.
    The newest of each node wins: one that went and is back is there, one that changed and went is gone.

    Synchronous, but for :attr:`closed`.
    """

    def __init__(self, line: Line, form: Form, comment: bytes = b"") -> None:
        self.form = form
        self.closed = asyncio.Event()
        """Set when nothing more comes."""
        self._line = line
        self._comment = comment
        self._begun = False
        self._snapshot: News | None = None
        self._removal: Removal | None = None
        self._letter: News | None = None
        self._removal_is_newer = False
        self._told = False
        self._quiet_since: float | None = None
        line.on_writable = self._resume

    def begin(self, snapshot: News) -> None:
        """Tell the first letter, and what has come since; nothing to who was shown out while it was made."""
        if self.closed.is_set():
            return
        self._begun = True
        self._tell(snapshot)
        self._resume()

    def put(self, letter: News) -> None:
        """Tell how nodes are."""
        if self._is_ready:
            self._tell(letter)
            return
        if letter.kind == "snapshot":
            self._snapshot, self._letter, self._removal = letter, None, None
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
        """A comment into a quiet line; ``now`` is monotonic."""
        if self._line.blocked:
            return
        if self._told or self._quiet_since is None:
            self._told, self._quiet_since = False, now
        elif self._comment and now - self._quiet_since >= COMMENT_SECONDS:
            self._quiet_since = now
            self._line.write(self._comment)

    @property
    def is_waiting(self) -> bool:
        """Whether its viewer has not taken something yet."""
        return self._letter is not None or self._removal is not None

    def close(self) -> None:
        """Nothing more comes."""
        self._line.on_writable = None
        self._begun, self._snapshot, self._letter, self._removal = False, None, None, None
        self.closed.set()

    @property
    def _is_ready(self) -> bool:
        return self._begun and not self._line.blocked

    def _tell(self, message: Message) -> None:
        self._told = True
        self._line.write(message.rendered(self.form))

    def _resume(self) -> None:
        """Tell what waits, as long as the viewer takes it."""
        while self._is_ready and (message := self._next()) is not None:
            self._tell(message)

    def _next(self) -> Message | None:
        """What is to be told next. Of letter and removal the older comes first, so that the identity heard last is the
        newest; no node is in both.
        """
        if (snapshot := self._snapshot) is not None:
            self._snapshot = None
            return snapshot
        if (removal := self._removal) is not None and (self._letter is None or not self._removal_is_newer):
            self._removal = None
            return removal
        if self._letter is None:
            return None
        first, self._letter = self._letter.divided(MOST_TOLD_BYTES)
        return first
