"""Telling viewers what changed, at their own pace.

Each viewer has a mailbox of one letter, and one word of who is gone. A viewer who has not fetched its letter
when the next comes gets one letter that holds the newest state of every node in either: the newest wins, nothing
piles up, and a slow viewer costs the others nothing. A new viewer is a slow viewer who missed everything: its first
letter is a snapshot. Letters are rendered once, however many viewers get them.
"""

import asyncio
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property

import orjson

from gpumon import __version__
from gpumon.model import Fault
from gpumon.wire import encode

LEAST_SECONDS_BETWEEN_UPDATES = 0.25


class Message:
    """What a viewer is told, of the kind ``kind`` and as of ``identity``; rendered once for all viewers."""

    def __init__(self, kind: str, identity: str, sent_at: str) -> None:
        self.kind = kind
        self.identity = identity
        self.sent_at = sent_at

    def content(self) -> dict[str, object]:
        """What a message of this kind holds beside what all hold."""
        raise NotImplementedError

    @cached_property
    def json(self) -> bytes:
        """The message of ``/api/stream``."""
        head = {"type": self.kind, "sent_at": self.sent_at, "hub_version": __version__}
        return orjson.dumps(head | self.content())

    @cached_property
    def text(self) -> str:
        """:attr:`json` for a WebSocket that wants text."""
        return self.json.decode()

    @cached_property
    def event(self) -> bytes:
        """The same as a Server-Sent Event (HTML standard, section 9.2.5)."""
        return b"event: %b\nid: %b\ndata: %b\n\n" % (self.kind.encode(), self.identity.encode(), self.json)


class Letter(Message):
    """How nodes are: ``nodes`` maps names to their newest state as JSON, ``notices`` say what is wrong with the hub."""

    def __init__(
        self, kind: str, identity: str, sent_at: str, nodes: Mapping[str, bytes], notices: Sequence[Fault] = ()
    ) -> None:
        super().__init__(kind, identity, sent_at)
        self.nodes = nodes
        self.notices = notices

    def content(self) -> dict[str, object]:
        return {
            "notices": [orjson.Fragment(encode(notice)) for notice in self.notices],
            "nodes": [orjson.Fragment(node) for node in self.nodes.values()],
        }

    def followed_by(self, later: "Letter") -> "Letter":
        """One letter in place of two."""
        return Letter(self.kind, later.identity, later.sent_at, {**self.nodes, **later.nodes}, later.notices)

    def without(self, gone: Iterable[str]) -> "Letter":
        """The same, less those nodes."""
        nodes = {name: node for name, node in self.nodes.items() if name not in gone}
        return Letter(self.kind, self.identity, self.sent_at, nodes, self.notices)


class Removal(Message):
    """Nodes that are gone."""

    def __init__(self, identity: str, sent_at: str, names: Iterable[str]) -> None:
        super().__init__("removed", identity, sent_at)
        self.names = dict.fromkeys(names)

    def content(self) -> dict[str, object]:
        return {"names": list(self.names)}

    def followed_by(self, later: "Removal") -> "Removal":
        """One word in place of two."""
        return Removal(later.identity, later.sent_at, self.names | later.names)

    def without(self, back: Iterable[str]) -> "Removal | None":
        """The same, less those nodes that are back; None if that is all of them."""
        names = [name for name in self.names if name not in back]
        return Removal(self.identity, self.sent_at, names) if names else None


class Mailbox:
    """Where one viewer fetches what it has not seen. The first letter is a snapshot.

    The newest of each node wins: one that went and is back is there, one that changed and went is gone.
    """

    def __init__(self, snapshot: Callable[[], Letter]) -> None:
        self._snapshot = snapshot
        self._wants_snapshot = True
        self._removal: Removal | None = None
        self._letter: Letter | None = None
        self._removal_is_newer = False
        self._closed = False
        self._filled = asyncio.Event()
        self._filled.set()

    def put(self, letter: Letter) -> None:
        """Leave a letter; a snapshot that was not fetched yet holds it already."""
        if self._wants_snapshot:
            return
        self._letter = letter if self._letter is None else self._letter.followed_by(letter)
        if self._removal is not None:
            self._removal = self._removal.without(letter.nodes)
        self._removal_is_newer = False
        self._filled.set()

    def remove(self, removal: Removal) -> None:
        """Leave word of nodes that are gone."""
        if self._wants_snapshot:
            return
        self._removal = removal if self._removal is None else self._removal.followed_by(removal)
        if self._letter is not None:
            self._letter = self._letter.without(removal.names)
        self._removal_is_newer = True
        self._filled.set()

    def refresh(self) -> None:
        """Make the next letter a snapshot."""
        self._wants_snapshot, self._removal, self._letter = True, None, None
        self._filled.set()

    def close(self) -> None:
        """Tell the viewer that nothing more comes."""
        self._closed = True
        self._filled.set()

    async def get(self) -> Message | None:
        """Wait for a message; None when nothing more comes."""
        await self._filled.wait()
        if self._closed:
            return None
        if self._removal is not None and self._letter is not None:
            return self._take_older()
        self._filled.clear()
        if self._wants_snapshot:
            self._wants_snapshot = False
            return self._snapshot()
        message = self._removal or self._letter
        self._removal = self._letter = None
        assert message is not None
        return message

    def _take_older(self) -> Message | None:
        """Of two messages the older, so that the identity that a viewer heard last is the newest."""
        if self._removal_is_newer:
            letter, self._letter = self._letter, None
            return letter
        removal, self._removal = self._removal, None
        return removal


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
        self.viewers: set[Mailbox] = set()
        self._encoded = encoded
        self._names = names
        self._now = now
        self._version = version
        self._notices = notices
        self._dirty: dict[str, None] = {}
        self._noticed = False
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

    def noticed(self) -> None:
        """Note that there is news of the hub itself; who looks is told soon."""
        self._noticed = True
        self._wake.set()

    def removed(self, names: Iterable[str]) -> None:
        """Tell viewers which nodes are gone."""
        removal = Removal(self.identity, self._now(), names)
        for name in removal.names:
            self._dirty.pop(name, None)
        if removal.names:
            for mailbox in self.viewers:
                mailbox.remove(removal)

    def reordered(self) -> None:
        """Tell viewers everything anew, in the order that holds now."""
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
        noticed, self._noticed = self._noticed, False
        if not (names or noticed) or not self.viewers:
            return
        nodes = {name: self._encoded(name) for name in names}
        letter = Letter("nodes", self.identity, self._now(), nodes, self._notices())
        for mailbox in self.viewers:
            mailbox.put(letter)

    def _snapshot(self) -> Letter:
        # Viewers who come together share one; not for longer than a second, since it tells them the time.
        now = self._now()
        key = f"{self.identity} {now[:19]}"
        if self._newest is None or self._newest[0] != key:
            nodes = {name: self._encoded(name) for name in self._names()}
            self._newest = key, Letter("snapshot", self.identity, now, nodes, self._notices())
        return self._newest[1]
