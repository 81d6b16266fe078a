"""What viewers are told: messages that are rendered once, however many viewers get them."""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Self

import orjson

from gpumon import __version__
from gpumon.model import Fault
from gpumon.wire import encode

RENDER_ASIDE_FROM_BYTES = 128 * 1024


class Message:
    """What a viewer is told, of the kind ``kind`` and as of ``identity``."""

    def __init__(self, kind: str, identity: str, sent_at: str) -> None:
        self.kind = kind
        self.identity = identity
        self.sent_at = sent_at
        self._rendered: dict[Form, bytes] = {}

    def content(self) -> dict[str, object]:
        """What a message of this kind holds beside what all hold; a list that ends it may follow as :meth:`items`."""
        raise NotImplementedError

    def items(self) -> list[bytes]:
        """The pieces after :meth:`content`, for they may be megabytes that should be put together only once."""
        return []

    def json(self) -> list[bytes]:
        """The message of ``/api/stream``, in pieces."""
        head = {"type": self.kind, "sent_at": self.sent_at, "hub_version": __version__}
        return [orjson.dumps(head | self.content())[:-1], *self.items(), b"}"]

    def event(self) -> list[bytes]:
        """The same as a Server-Sent Event (HTML standard, section 9.2.5), in pieces."""
        return [b"event: %b\nid: %b\ndata: " % (self.kind.encode(), self.identity.encode()), *self.json(), b"\n\n"]

    def rendered(self, form: "Form") -> bytes:
        """The message as ``form`` makes it: once for all who want it so."""
        if (data := self._rendered.get(form)) is None:
            data = self._rendered[form] = form(self)
        return data


Form = Callable[[Message], bytes]
"""How a message travels on one kind of stream."""


class News(Message):
    """How nodes are, in one view of them; ``notices`` say what is wrong with the hub."""

    def __init__(self, kind: str, identity: str, sent_at: str, notices: Sequence[Fault] = ()) -> None:
        super().__init__(kind, identity, sent_at)
        self.notices = notices

    @property
    def names(self) -> Iterable[str]:
        """The nodes that it tells of; ``in`` finds one of them at once."""
        raise NotImplementedError

    @property
    def size(self) -> int:
        """Its bytes, more or less."""
        return sum(map(self.size_of, self.names))

    def size_of(self, name: str) -> int:
        """The bytes of what it tells of this node, more or less."""
        raise NotImplementedError

    def content(self) -> dict[str, object]:
        return {"notices": [orjson.Fragment(encode(notice)) for notice in self.notices]}

    async def render(self, forms: Iterable[Form]) -> None:
        """Render a large letter in a thread, so that nobody waits for it."""
        if self.size >= RENDER_ASIDE_FROM_BYTES:
            for form in forms:
                await asyncio.to_thread(self.rendered, form)

    def followed_by(self, later: Self) -> Self:
        """One letter in place of two, of which the newest of each node wins."""
        raise NotImplementedError

    def among(self, names: Iterable[str]) -> Self:
        """The same, of those nodes only."""
        raise NotImplementedError

    def without(self, gone: Iterable[str]) -> Self:
        """The same, less those nodes."""
        return self.among({name for name in self.names if name not in gone})

    def divided(self, most_bytes: int) -> tuple[Self, Self | None]:
        """Its first nodes, as many as have so many bytes and at least one, and what is left (None: nothing)."""
        first: set[str] = set()
        size = 0
        for name in self.names:
            size += self.size_of(name)
            if first and size > most_bytes:
                return self.among(first), self.without(first)
            first.add(name)
        return self, None


class Letter(News):
    """How nodes are in full: ``nodes`` maps names to their newest state as JSON."""

    def __init__(
        self, kind: str, identity: str, sent_at: str, nodes: Mapping[str, bytes], notices: Sequence[Fault] = ()
    ) -> None:
        super().__init__(kind, identity, sent_at, notices)
        self.nodes = nodes

    @property
    def names(self) -> Iterable[str]:
        return self.nodes

    def size_of(self, name: str) -> int:
        return len(self.nodes[name])

    def items(self) -> list[bytes]:
        return [b',"nodes":[', b",".join(self.nodes.values()), b"]"]

    def followed_by(self, later: Self) -> Self:
        return type(self)(self.kind, later.identity, later.sent_at, {**self.nodes, **later.nodes}, later.notices)

    def among(self, names: Iterable[str]) -> Self:
        nodes = {name: node for name, node in self.nodes.items() if name in names}
        return type(self)(self.kind, self.identity, self.sent_at, nodes, self.notices)


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
        return self.among({name for name in self.names if name not in back})

    def among(self, names: Iterable[str]) -> "Removal | None":
        """The same, of those nodes only; None if that is none of them."""
        among = [name for name in self.names if name in names]
        return Removal(self.identity, self.sent_at, among) if among else None
