"""When which hub is tried again. Time and chance are numbers here."""

from itertools import pairwise

import pytest

from gpumon.agent.backoff import Pace, Schedule, Setback

A, B = "http://a", "http://b"


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class World:
    """A schedule whose chance always draws the most, or ``share`` of the way to it."""

    def __init__(self, share: float = 1.0) -> None:
        self.clock = Clock()
        self.schedule = Schedule(Pace(), self.clock, lambda low, high: low + share * (high - low))

    def fail(self, setback: Setback, hub: str = A, held: float = 0.0, hint: float | None = None) -> float:
        """Fail once; how long to wait for the same hub."""
        self.schedule.failed(hub, setback, held, hint)
        return self.schedule.next([hub])[1]

    def go_to(self, *hubs: str) -> tuple[str, float]:
        hub, seconds = self.schedule.next(hubs)
        self.clock.now += max(seconds, 0)
        return hub, seconds


@pytest.mark.parametrize(("setback", "most"), [(Setback.LOST, 15), (Setback.UNWELCOME, 30)])
def test_delays_double_up_to_a_cap(setback: Setback, most: float) -> None:
    world = World()
    delays = [world.fail(setback) for _ in range(8)]
    assert delays == [min(most, 0.5 * 2**n) for n in range(8)]


def test_every_agent_is_back_within_20_seconds_of_its_hubs_return() -> None:
    """The longest wait for a hub that is down, and then one try that times out on the way."""
    world = World()
    pace = Pace()
    assert max(world.fail(Setback.LOST) for _ in range(100)) + pace.tcp <= 20


def test_delays_start_over_only_after_a_link_has_held() -> None:
    world = World()
    for _ in range(6):
        world.fail(Setback.LOST)
    assert world.fail(Setback.LOST, held=29.9) == 15
    assert world.fail(Setback.LOST, held=30) == 0.5


def test_chance_spreads_agents_over_the_whole_delay() -> None:
    delays = []
    for share in (0.0, 0.25, 0.5, 1.0):
        world = World(share)
        for _ in range(9):
            delay = world.fail(Setback.LOST)
        delays.append(delay)
    assert delays == [0, 3.75, 7.5, 15]


def test_a_refusal_is_tried_again_after_half_a_minute_to_a_minute() -> None:
    assert (World(0.0).fail(Setback.REFUSED), World(1.0).fail(Setback.REFUSED)) == (30, 60)


@pytest.mark.parametrize(("hint", "least", "most"), [(10, 10, 12.5), (0, 1, 1.25), (86400, 60, 75)])
def test_what_a_hub_asks_for_is_obeyed_within_bounds_and_never_by_all_at_once(
    hint: float, least: float, most: float
) -> None:
    waits = [World(share).fail(Setback.UNWELCOME, hint=hint) for share in (0.0, 1.0)]
    assert waits == [least, most]


def test_a_refusal_by_one_hub_does_not_delay_the_other() -> None:
    world = World()
    tried = []
    for _ in range(40):
        hub, _ = world.go_to(A, B)
        tried.append((hub, world.clock.now))
        world.schedule.failed(hub, Setback.REFUSED if hub == A else Setback.LOST)
    at = [when for hub, when in tried if hub == A]
    assert all(later - earlier == pytest.approx(60, abs=0.6) for earlier, later in pairwise(at))
    others = [when for hub, when in tried if hub == B]
    assert all(later - earlier <= 15.6 for earlier, later in pairwise(others))


def test_only_a_whole_round_of_failures_earns_a_wait() -> None:
    world = World()
    hubs = [f"http://{n}" for n in range(5)]
    for hub in hubs:
        found, seconds = world.go_to(*hubs)
        assert (found, seconds <= 0.5) == (hub, True)
        world.schedule.failed(hub, Setback.REFUSED)
    assert world.go_to(*hubs)[1] > 50


def test_agents_that_lose_one_hub_together_do_not_arrive_at_the_next_together() -> None:
    waits = []
    for share in (0.0, 0.5, 1.0):
        world = World(share)
        world.schedule.failed(A, Setback.LOST, 1000)
        waits.append(world.schedule.next([A, B]))
    assert waits[1] == (B, 0.25)
    assert waits[2] == (B, 0.5)


def test_hubs_that_are_not_configured_any_longer_are_forgotten() -> None:
    world = World()
    world.schedule.failed(A, Setback.REFUSED)
    assert world.go_to(B)[0] == B
    world.clock.now += 1
    assert world.schedule.next([A])[1] <= 0
