"""The fleet as a hub's messages tell it: the newest of each node, in the hub's order. No I/O."""

import time
from collections.abc import Callable, Iterable

from gpumon.client.overview import filled, sketch
from gpumon.client.stream import Message
from gpumon.model import Fault, Node
from gpumon.timestamp import seconds


class Fleet:
    """What is known. ``clock`` counts seconds since whenever."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._nodes: dict[str, Node] = {}
        self._sent_at = 0.0
        self._taken_at = clock()
        self.notices: list[Fault] = []
        """What is wrong with the hub as a whole."""

    @property
    def nodes(self) -> list[Node]:
        """All nodes, in order."""
        return list(self._nodes.values())

    def now(self) -> float:
        """The hub's time, in seconds since the epoch: what it tells is dated by it, and not by this machine's clock."""
        return self._sent_at + self._clock() - self._taken_at

    def silent_seconds(self) -> float:
        """How long ago the hub last told something of its nodes."""
        return self._clock() - self._taken_at

    def take(self, message: Message) -> None:
        """Take what a message tells; one of a type that is not known tells nothing.

        Raises:
            ValueError: it does not say when it was sent, or is not whole.
        """
        if message.type not in ("snapshot", "nodes", "removed"):
            return
        self._sent_at, self._taken_at = seconds(message.sent_at), self._clock()
        if message.type == "removed":
            for name in message.names:
                self._nodes.pop(name, None)
            return
        self.notices = message.notices
        news = message.nodes if message.view == "full" else list(self._glimpsed(message))
        if message.type == "snapshot":
            self._nodes = {node.name: node for node in news}
        else:
            for node in news:
                self._put(node)

    def _glimpsed(self, message: Message) -> Iterable[Node]:
        known = self._nodes | {card.name: sketch(card) for card in message.cards}
        numbers = message.numbers
        if numbers is None:
            return
        for place, name in enumerate(numbers.names):
            if (node := known.get(name)) is not None:
                try:
                    yield filled(node, numbers, place, message.sent_at)
                except IndexError:
                    raise ValueError("a column is shorter than the names") from None

    def _put(self, node: Node) -> None:
        """Those of the file are in its order; a new one that nobody configured follows them, by name."""
        if node.name not in self._nodes and not node.configured:
            later = [name for name, one in self._nodes.items() if not one.configured and name > node.name]
            self._nodes[node.name] = node
            for name in later:
                self._nodes[name] = self._nodes.pop(name)
        else:
            self._nodes[node.name] = node
