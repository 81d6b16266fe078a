"""Agents that have not joined and would: a few, and of each no more than what an admin needs to say yes or no."""

from collections import OrderedDict
from collections.abc import Callable, Iterator

from msgspec import Struct
from msgspec.structs import replace

MOST = 20
FORGOTTEN_SECONDS = 300.0
GIVES_WAY_SECONDS = 130.0
"""So long after its last try one gives way to a new one: two tries of an agent that comes back slowly."""
MOST_TURNED_AWAY = 200


class Waiter(Struct, frozen=True, kw_only=True):
    """An agent that would join. ``key`` is the fingerprint of its key, ``code`` is what it shows by itself as well."""

    agent_id: str
    node: str
    address: str | None
    machine_id: str | None
    key: str
    code: str
    first_seen_at: str
    last_seen_at: str


class WaitingRoom:
    """At most 20, each forgotten 5 minutes after its last try. ``on_change`` is told how many there are."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self.on_change: Callable[[int], None] = lambda _number: None
        self._monotonic = monotonic
        self._waiters: dict[str, Waiter] = {}
        self._seen: dict[str, float] = {}
        self._turned_away: OrderedDict[str, None] = OrderedDict()

    def __iter__(self) -> Iterator[Waiter]:
        return iter(list(self._waiters.values()))

    def __len__(self) -> int:
        return len(self._waiters)

    def has_room_for(self, code: str) -> bool:
        """Whether one under this code is listed already, or would be now."""
        if code in self._turned_away:
            return False
        return code in self._waiters or len(self._waiters) < MOST or self._gives_way() is not None

    def note(self, one: Waiter) -> bool:
        """Note that it has come, and whether that is new. Without effect where there is no room for it."""
        if not self.has_room_for(one.code):
            return False
        now = self._monotonic()
        if (known := self._waiters.get(one.code)) is not None:
            self._waiters[one.code] = replace(one, first_seen_at=known.first_seen_at)
            self._seen[one.code] = now
            return False
        if len(self._waiters) >= MOST and (longest := self._gives_way()) is not None:
            del self._waiters[longest], self._seen[longest]
        self._waiters[one.code], self._seen[one.code] = one, now
        self.on_change(len(self._waiters))
        return True

    def take(self, code: str) -> None:
        """It waits no longer."""
        if self._waiters.pop(code, None) is not None:
            del self._seen[code]
            self.on_change(len(self._waiters))

    def turn_away(self, code: str) -> None:
        """It waits no longer, and is not listed again however often it comes."""
        self.take(code)
        self._turned_away[code] = None
        if len(self._turned_away) > MOST_TURNED_AWAY:
            self._turned_away.popitem(last=False)

    def _gives_way(self) -> str | None:
        """Who has not come for so long that a new one may have its place."""
        longest = min(self._seen, key=self._seen.__getitem__)
        return longest if self._monotonic() - self._seen[longest] >= GIVES_WAY_SECONDS else None

    def forget_gone(self) -> None:
        """Forget those who do not come any longer."""
        since = self._monotonic() - FORGOTTEN_SECONDS
        for code in [code for code, tick in self._seen.items() if tick < since]:
            self.take(code)
