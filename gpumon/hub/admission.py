"""How many agents may shake hands at once: a hub that comes back is met by its whole fleet in the same second."""

import random
from collections.abc import Callable

HANDSHAKES_PER_SECOND = 100.0
BURST = 100.0
LEAST_RETRY_SECONDS = 1
MOST_RETRY_SECONDS = 10


class Admission:
    """A token bucket of handshakes, on the clock ``monotonic``."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._tokens = BURST
        self._filled_at = monotonic()

    def admits(self) -> bool:
        """Whether one more may shake hands now."""
        now = self._monotonic()
        self._tokens = min(BURST, self._tokens + (now - self._filled_at) * HANDSHAKES_PER_SECOND)
        self._filled_at = now
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True


def retry_after() -> int:
    """In how many seconds one who was not admitted may come again: spread, so that they do not come together."""
    return random.randint(LEAST_RETRY_SECONDS, MOST_RETRY_SECONDS)
