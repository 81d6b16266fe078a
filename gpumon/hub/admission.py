"""How much agents may ask of a hub: handshakes at once, for a hub that comes back is met by its whole fleet in the same
second; names that nobody knows; messages.
"""

import math
import random
import time
from collections import Counter, deque
from collections.abc import Callable

HANDSHAKES_PER_SECOND = 100.0
BURST = 100.0
TIRED_PER_SECOND = 20
"""What is left of that to an address from which too many were not welcome: enough for those to prove themselves who
share it with somebody who cannot.
"""
LEAST_RETRY_SECONDS = 1
MOST_RETRY_SECONDS = 10
NEW_NAMES = 20
NEW_NAMES_SECONDS = 60.0
"""So many names that are new and abandoned already may come from one address within a minute."""
MESSAGES_PER_SECOND = 20.0
"""What an agent may say beyond its late reports: reports come five times a second at most ..."""
BURST_SECONDS = 5.0
"""... and after a pause what it might have said within so many seconds at once."""
MOST_HELD_SECONDS = 5.0


class Admission:
    """A token bucket of handshakes, on the clock ``monotonic``. While it is more than half full, whoever comes first is
    served; below, each address has its share of what flows in, so that none leaves nothing to the others.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._tokens = BURST
        self._filled_at = monotonic()
        self._recent: deque[tuple[float, str]] = deque()
        self._taken: Counter[str] = Counter()
        """By each address within the last second."""

    def admits(self, address: str | None, *, is_tired: bool = False) -> bool:
        """Whether one more may shake hands now, of ``address`` (None: of one that is not counted)."""
        now = self._monotonic()
        self._tokens = min(BURST, self._tokens + (now - self._filled_at) * HANDSHAKES_PER_SECOND)
        self._filled_at = now
        self._forget_until(now - 1.0)
        if self._tokens < 1.0 or (address is not None and self._taken[address] >= self._share(address, is_tired)):
            return False
        self._tokens -= 1.0
        if address is not None:
            self._recent.append((now, address))
            self._taken[address] += 1
        return True

    def _share(self, address: str, is_tired: bool) -> float:
        """How many handshakes ``address`` may have within a second."""
        if is_tired:
            return TIRED_PER_SECOND
        if self._tokens >= BURST / 2:
            return math.inf
        return HANDSHAKES_PER_SECOND / (len(self._taken.keys() | {address}) + 1)  # one for who is next to come

    def _forget_until(self, tick: float) -> None:
        while self._recent and self._recent[0][0] <= tick:
            _, address = self._recent.popleft()
            self._taken[address] -= 1
            if not self._taken[address]:
                del self._taken[address]


def retry_after() -> int:
    """In how many seconds one who was not admitted may come again: spread, so that they do not come together."""
    return random.randint(LEAST_RETRY_SECONDS, MOST_RETRY_SECONDS)


class NewNames:
    """Tells a fleet, which keeps the connections of its names, from somebody who makes names up."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._new: dict[str, deque[tuple[float, str]]] = {}

    def admits(self, address: str, name: str, is_abandoned: Callable[[str], bool]) -> bool:
        """Whether a new ``name`` may come from ``address``, which has abandoned some that were new a moment ago."""
        now = self._monotonic()
        for one in list(self._new):
            while (names := self._new[one]) and now - names[0][0] >= NEW_NAMES_SECONDS:
                names.popleft()
            if not names:
                del self._new[one]
        names = self._new.setdefault(address, deque())
        if sum(is_abandoned(one) for _, one in names) >= NEW_NAMES:
            return False
        names.append((now, name))
        return True


class Allowance:
    """How much one agent may still say: ``left`` counts messages, and fills again with ``rate`` a second."""

    __slots__ = ("_filled_at", "_held_until", "_monotonic", "left", "rate")

    def __init__(self, rate: float, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.rate = rate
        self.left = rate * BURST_SECONDS
        self._monotonic = monotonic
        self._filled_at = self._held_until = monotonic()

    def hold_seconds(self) -> float:
        """When nothing was left: for how long nothing should be read of the agent, which repays what it has overdrawn;
        0 where there is some again, or it is being held. Infinite for one that does not become slower by that.
        """
        now = self._monotonic()
        self.left = min(self.left + (now - self._filled_at) * self.rate, self.rate * BURST_SECONDS)
        self._filled_at = now
        if self.left < -self.rate * 2 * MOST_HELD_SECONDS:
            return math.inf
        if self.left >= 0 or now < self._held_until:
            return 0.0
        seconds = min(-self.left / self.rate, MOST_HELD_SECONDS)
        self._held_until = now + seconds
        return seconds
