"""Addresses from which something has failed again and again."""

from collections import OrderedDict, deque
from typing import Final

from gpumon.limits import origin

FAILURES_SECONDS: Final = 60.0
MOST_ADDRESSES: Final = 4096


class Failures:
    """How often each address has failed within a minute, up to ``most`` times; one of IPv6 with its network, for a
    machine has many.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._at: OrderedDict[str, deque[float]] = OrderedDict()

    def wait_seconds(self, address: str, now: float) -> float:
        """For how long this address has failed too often; 0 if it has not."""
        times = self._at.get(_counted(address))
        if times is None or len(times) < self._most:
            return 0.0
        return max(0.0, times[0] + FAILURES_SECONDS - now)

    def add(self, address: str, now: float) -> None:
        """Note that it failed."""
        counted = _counted(address)
        times = self._at.setdefault(counted, deque(maxlen=self._most))
        times.append(now)
        self._at.move_to_end(counted)
        if len(self._at) > MOST_ADDRESSES:
            self._at.popitem(last=False)


def _counted(address: str) -> str:
    try:
        return origin((address,)) or address
    except ValueError:
        return address
