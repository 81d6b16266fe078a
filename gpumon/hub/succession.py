"""Which node of a new configuration is which of the nodes that are there."""

from collections.abc import Iterable, Sequence

from gpumon.config import NodeEntry
from gpumon.hub.member import Member


def pushes(member: Member) -> bool:
    """Whether an agent speaks for the member under its name, or did so until a moment ago."""
    return member.link == "open" or (member.source == "push" and member.status in ("online", "stale"))


def predecessors(members: Iterable[Member], entries: Sequence[NodeEntry]) -> dict[str, Member]:
    """The member that continues as each entry, by the entry's name; none for an entry that is new.

    A node is the one that has its name, if that pushes (its agent chose the name) or has its host and port as well;
    else the one that is polled at its host and port, whatever it was called; else the one that has its name.
    """
    by_name = {member.name: member for member in members}
    found: dict[str, Member] = {}
    for entry in entries:
        named = by_name.get(entry.name)
        if named is not None and (pushes(named) or _place(named) == _place(entry)):
            found[entry.name] = named
    claimed = {id(member) for member in found.values()}
    free = [one for one in by_name.values() if id(one) not in claimed and one.configured and not pushes(one)]
    by_place = {_place(member): member for member in reversed(free)}
    for entry in entries:
        if entry.name not in found and (member := by_place.pop(_place(entry), None)) is not None:
            found[entry.name] = member
            claimed.add(id(member))
    for entry in entries:
        named = by_name.get(entry.name)
        if entry.name not in found and named is not None and id(named) not in claimed:
            found[entry.name] = named
    return found


def _place(one: Member | NodeEntry) -> tuple[str | None, int | None]:
    return one.host, one.port
