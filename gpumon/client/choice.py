"""Which nodes somebody asks for."""

from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Final, NamedTuple

from gpumon.model import Node, NodeStatus

WILD: Final = frozenset("*?[")


class Choice(NamedTuple):
    """All of these must hold; what is empty asks for nothing. ``names``: one of these occurs in the node's name or
    alias, or matches it as a whole, where it holds ``*``, ``?`` or ``[``; ``tags``: the node has all of them. None of
    them minds capitals.
    """

    names: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    statuses: tuple[NodeStatus, ...] = ()

    def among(self, nodes: Iterable[Node]) -> list[Node]:
        """Those of ``nodes`` that are asked for."""
        return [node for node in nodes if self._holds(node)]

    def _holds(self, node: Node) -> bool:
        if self.statuses and node.status not in self.statuses:
            return False
        if not {tag.casefold() for tag in self.tags} <= {tag.casefold() for tag in node.tags}:
            return False
        return not self.names or any(is_named(pattern, (node.name, node.alias)) for pattern in self.names)


def is_named(pattern: str, names: Iterable[str]) -> bool:
    """Whether one of ``names`` is meant by ``pattern``."""
    folded = pattern.casefold()
    if WILD.isdisjoint(folded):
        return any(folded in name.casefold() for name in names)
    return any(fnmatchcase(name.casefold(), folded) for name in names)
