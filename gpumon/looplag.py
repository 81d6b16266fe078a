"""How late an event loop is: what was due then, and when its turn came."""

from bisect import bisect_left
from typing import Final

BOUNDS: Final = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
"""Upper ends of what is counted together, in seconds; what took longer is counted last."""


class LoopLag:
    """Counts how late a task was woken that had asked for a moment: whoever waits for the loop waits as long."""

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS) + 1)
        self.seconds = 0.0
        """Of all together."""

    def note(self, seconds: float) -> None:
        """A turn came so much later than it was due."""
        late = max(0.0, seconds)
        self.counts[bisect_left(BOUNDS, late)] += 1
        self.seconds += late
