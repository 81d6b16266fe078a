"""The clock that leaves out the time in which the hub itself did not run."""

import pytest

from gpumon.hub.clock import BEAT_SECONDS, TOLERATED_SECONDS, ForgivingClock
from gpumon.hub.core import Hub
from tests.hub.world import B, World


class Machine:
    """The clocks of a machine that can be stopped and suspended."""

    def __init__(self) -> None:
        self.monotonic = 1000.0
        self.since_boot = 5000.0
        self.clock = ForgivingClock(lambda: self.monotonic, lambda: self.since_boot, lambda: 1_800_000_000.0)

    def passes(self, seconds: float) -> None:
        self.monotonic += seconds
        self.since_boot += seconds

    def runs(self, seconds: float) -> None:
        for _ in range(round(seconds / BEAT_SECONDS)):
            self.passes(BEAT_SECONDS)
            assert self.clock.beat() == 0.0


@pytest.fixture
def machine() -> Machine:
    machine = Machine()
    machine.clock.beat()
    return machine


def test_while_the_hub_runs_it_is_a_clock_like_any_other(machine: Machine) -> None:
    before = machine.clock.monotonic()
    machine.runs(100)
    machine.passes(0.3)
    assert machine.clock.monotonic() - before == pytest.approx(100.3)


@pytest.mark.parametrize("beat_first", [True, False], ids=["the judge runs first", "a report is received first"])
def test_a_pause_counts_as_a_moment_whoever_runs_first_after_it(machine: Machine, beat_first: bool) -> None:
    before = machine.clock.monotonic()
    machine.passes(120)
    if not beat_first:
        assert machine.clock.monotonic() - before <= BEAT_SECONDS + TOLERATED_SECONDS
    assert machine.clock.beat() == pytest.approx(120 - BEAT_SECONDS - TOLERATED_SECONDS)
    after = machine.clock.monotonic()
    assert after - before == pytest.approx(BEAT_SECONDS + TOLERATED_SECONDS)
    machine.runs(10)
    assert machine.clock.monotonic() - after == pytest.approx(10)


def test_a_loop_that_is_always_late_forgives_what_it_is_late(machine: Machine) -> None:
    before = machine.clock.monotonic()
    for _ in range(10):
        for _ in range(30):  # receiving all the while
            machine.passes(0.1)
            machine.clock.monotonic()
        machine.clock.beat()
    assert machine.clock.monotonic() - before == pytest.approx(10 * (BEAT_SECONDS + TOLERATED_SECONDS))


def test_it_never_runs_backwards(machine: Machine) -> None:
    seen = [machine.clock.monotonic()]
    for pause in (0.1, 0.6, 2.0, 0.2, 500.0, 1.4, 1.6):
        machine.passes(pause)
        seen.append(machine.clock.monotonic())
        machine.clock.beat()
        seen.append(machine.clock.monotonic())
    assert seen == sorted(seen)


def test_a_suspended_machine_is_noticed_although_its_clock_stood_still(machine: Machine) -> None:
    machine.runs(5)
    machine.since_boot += 3600
    machine.passes(0.5)
    assert machine.clock.beat() == pytest.approx(3600)
    machine.passes(0.5)
    assert machine.clock.beat() == 0.0


def test_after_a_suspension_every_deadline_starts_anew() -> None:
    machine = Machine()
    hub = Hub([B], clock=machine.clock)
    reports = World()
    hub.judge()
    member = hub.fleet.admit("b", None, None)
    hub.link_opened(member, "boot", None)
    hub.take_pushed(member, reports.report(name="b"), late=False)

    def after(seconds: float) -> str:
        for _ in range(round(seconds / BEAT_SECONDS)):
            machine.passes(BEAT_SECONDS)
            hub.judge()
        return member.status

    assert after(4.5) == "online"
    machine.since_boot += 3600  # what was open is broken now, and comes back within seconds
    hub.link_ended(member, "lost")
    assert after(4.5) == "online"
    assert after(1.5) == "stale"
    assert after(9) == "stale"
    assert after(1) == "offline"
