"""What an agent says it had no room to keep (:class:`gpumon.wire.Gap`), summed up so that nothing counts twice."""

from gpumon.wire import Gap

MAX_GAPS = 64
MOST = 2**53
"""The largest count that the API tells (:data:`gpumon.model.Count`)."""


class Gaps:
    """The gaps of one agent's run. One that is told again has grown; of more than 64 the oldest become one sum."""

    def __init__(self) -> None:
        self._counts: dict[int, int] = {}
        self._summed = 0
        self._summed_to = -1

    @property
    def total(self) -> int:
        """How many reports will never come."""
        return min(self._summed + sum(self._counts.values()), MOST)

    def take(self, gap: Gap) -> None:
        """Take a gap: the newest figures of the one that begins there hold."""
        if gap.first <= self._summed_to:
            return
        self._counts[gap.first] = gap.count
        if len(self._counts) > MAX_GAPS:
            oldest = min(self._counts)
            self._summed += self._counts.pop(oldest)
            self._summed_to = oldest
