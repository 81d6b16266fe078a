"""Telling viewers what changed, at their own pace.

Each viewer has a mailbox of one letter. A viewer who has not fetched its letter when the next comes gets
one letter that holds the newest state of every node in either: the newest wins, nothing piles up, and a
slow viewer costs the others nothing. A new viewer is a slow viewer who missed everything: its first letter
is a snapshot. Letters are rendered once, however many viewers get them.
"""

import asyncio
import secrets
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property

import orjson

from gpumon import __version__

LEAST_SECONDS_BETWEEN_UPDATES = 0.25


class Letter:
    """A message to viewers. ``nodes`` maps names to their newest state as JSON."""

    def __init__(self, kind: str, identity: str, sent_at: str, nodes: Mapping[str, bytes]) -> None:
        self.kind = kind
        self.identity = identity
        self.sent_at = sent_at
        self.nodes = nodes

    def followed_by(self, later: "Letter") -> "Letter":
        """One letter in place of two."""
        return Letter(self.kind, later.identity, later.sent_at, {**self.nodes, **later.nodes})

    @cached_property
    def json(self) -> bytes:
        """The message of ``/api/stream``."""
        return orjson.dumps(
            {
                "type": self.kind,
                "sent_at": self.sent_at,
                "hub_version": __version__,
                "nodes": [orjson.Fragment(node) for node in self.nodes.values()],
            }
        )

    @cached_property
    def text(self) -> str:
        """:attr:`json` for a WebSocket that wants text."""
        return self.json.decode()

    @cached_property
    def event(self) -> bytes:
        """The same as a Server-Sent Event (HTML standard, section 9.2.5)."""
        return b"event: %b\nid: %b\ndata: %b\n\n" % (self.kind.encode(), self.identity.encode(), self.json)


class Mailbox:
    """Where one viewer fetches what it has not seen. The first letter is a snapshot."""

    def __init__(self, snapshot: Callable[[], Letter]) -> None:
        self._snapshot = snapshot
        self._wants_snapshot = True
        self._letter: Letter | None = None
        self._closed = False
        self._filled = asyncio.Event()
        self._filled.set()

    def put(self, letter: Letter) -> None:
        """Leave a letter; a snapshot that was not fetched yet holds it already."""
        if self._wants_snapshot:
            return
        self._letter = letter if self._letter is None else self._letter.followed_by(letter)
        self._filled.set()

    def refresh(self) -> None:
        """Make the next letter a snapshot."""
        self._wants_snapshot, self._letter = True, None
        self._filled.set()

    def close(self) -> None:
        """Tell the viewer that nothing more comes."""
        self._closed = True
        self._filled.set()

    async def get(self) -> Letter | None:
        """Wait for a letter; None when nothing more comes."""
        await self._filled.wait()
        if self._closed:
            return None
        self._filled.clear()
        if self._wants_snapshot:
            self._wants_snapshot = False
            return self._snapshot()
        letter, self._letter = self._letter, None
        assert letter is not None
        return letter


class Feed:
    """The viewers, and what they have not been told yet."""

    def __init__(
        self,
        encoded: Callable[[str], bytes],
        names: Callable[[], Iterable[str]],
        now: Callable[[], str],
        version: Callable[[], int],
    ) -> None:
        self.epoch = secrets.token_hex(4)
        """Tells this run of the hub from others: versions count from zero in each."""
        self.viewers: set[Mailbox] = set()
        self._encoded = encoded
        self._names = names
        self._now = now
        self._version = version
        self._dirty: dict[str, None] = {}
        self._wake = asyncio.Event()
        self._closed = False
        self._newest: tuple[str, Letter] | None = None

    @property
    def identity(self) -> str:
        """Names the present state: equal identities mean equal contents."""
        return f"{self.epoch}-{self._version()}"

    def open(self) -> Mailbox:
        """Welcome a viewer."""
        mailbox = Mailbox(self._snapshot)
        self.viewers.add(mailbox)
        if self._closed:
            mailbox.close()
        return mailbox

    def leave(self, mailbox: Mailbox) -> None:
        """Forget a viewer."""
        self.viewers.discard(mailbox)

    def changed(self, name: str) -> None:
        """Note that a node has news; who looks is told soon."""
        self._dirty[name] = None
        self._wake.set()

    def forgotten(self, name: str) -> None:
        """Note that a node is gone: viewers are told everything anew, without it."""
        self._dirty.pop(name, None)
        for mailbox in self.viewers:
            mailbox.refresh()

    def close(self) -> None:
        """End every stream, present and future."""
        self._closed = True
        for mailbox in self.viewers:
            mailbox.close()

    async def run(self) -> None:
        """Tell viewers the first change at once and what follows together, at most four times a second."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            self.flush()
            await asyncio.sleep(LEAST_SECONDS_BETWEEN_UPDATES)

    def flush(self) -> None:
        """Give every viewer what has changed since the last call."""
        names, self._dirty = self._dirty, {}
        if not names or not self.viewers:
            return
        letter = Letter("nodes", self.identity, self._now(), {name: self._encoded(name) for name in names})
        for mailbox in self.viewers:
            mailbox.put(letter)

    def _snapshot(self) -> Letter:
        # Viewers who come together share one; not for longer than a second, since it tells them the time.
        now = self._now()
        key = f"{self.identity} {now[:19]}"
        if self._newest is None or self._newest[0] != key:
            nodes = {name: self._encoded(name) for name in self._names()}
            self._newest = key, Letter("snapshot", self.identity, now, nodes)
        return self._newest[1]
