"""How long an agent waits, for what, and which hub it tries next.

Each hub has a schedule of its own, and the one that is due first is tried: where one refuses, the others are
not kept waiting.
"""

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum, auto


@dataclass(frozen=True, slots=True)
class Pace:
    """Every deadline and delay of a link, in seconds.

    ``lost_most`` is shorter than ``unwelcome_most``, the most of the push protocol: after it, and the time that a
    try takes, every agent is back within 20 s of its hub's return.
    """

    name: float = 3.0
    tcp: float = 5.0
    upgrade: float = 5.0
    welcome: float = 5.0
    send: float = 10.0
    goodbye: float = 1.0
    held: float = 30.0
    first: float = 0.5
    lost_most: float = 15.0
    unwelcome_most: float = 30.0
    refused: float = 60.0
    hint_least: float = 1.0
    hint_most: float = 60.0
    repeat_log: float = 600.0


class Setback(Enum):
    """How a try ended, as far as it tells when to come back."""

    LOST = auto()  # nothing listens or answers, or a link was lost: it may be back at any moment
    UNWELCOME = auto()  # somebody answers, but not as a hub that is well
    REFUSED = auto()  # coming back soon cannot help


@dataclass(slots=True)
class _Plan:
    failures: int = 0
    due: float = 0.0


class Schedule:
    """When to try which hub: exponential delays with full jitter, which start over once a link has held for 30 s."""

    def __init__(
        self,
        pace: Pace,
        clock: Callable[[], float] = time.monotonic,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._pace = pace
        self._clock = clock
        self._uniform = uniform
        self._plans: dict[str, _Plan] = {}
        self._not_before = 0.0

    def next(self, hubs: Sequence[str]) -> tuple[str, float]:
        """The hub to try next, and in how many seconds. Hubs that are not among ``hubs`` are forgotten."""
        self._plans = {hub: self._plans.get(hub) or _Plan() for hub in hubs}
        hub, plan = min(self._plans.items(), key=lambda item: item[1].due)
        return hub, max(plan.due, self._not_before) - self._clock()

    def failed(
        self, hub: str, setback: Setback, held_seconds: float = 0.0, retry_after_seconds: float | None = None
    ) -> None:
        """A try of ``hub`` has ended; its link had held for ``held_seconds``, and the hub may have said when to
        come back.
        """
        now, pace = self._clock(), self._pace
        plan = self._plans.setdefault(hub, _Plan())
        if held_seconds >= pace.held:
            plan.failures = 0
        most = pace.lost_most if setback is Setback.LOST else pace.unwelcome_most
        delay = self._uniform(0.0, min(most, pace.first * 2**plan.failures))
        plan.failures = min(plan.failures + 1, 16)
        if retry_after_seconds is not None:
            hint = min(max(retry_after_seconds, pace.hint_least), pace.hint_most)
            delay = self._uniform(hint, 1.25 * hint)
        elif setback is Setback.REFUSED:
            delay = self._uniform(pace.refused / 2, pace.refused)
        plan.due = now + delay
        # Agents that lose one hub together shall not arrive at the next one together.
        self._not_before = now + self._uniform(0.0, pace.first)
