"""Since when a GPU is idle: by what was sampled, in whatever order it comes."""

from itertools import permutations

import pytest
from msgspec.structs import replace

from gpumon.hub.activity import IDLE_BELOW_PERCENT, MOST_KNOWN, Activity
from gpumon.model import Gpu, GpuStatus, Report
from gpumon.timestamp import rfc3339
from tests.hub.world import World

START = 1_800_000_000.0


def shows(percent: float | None, uuid: str = "u", status: GpuStatus = "ok") -> Report:
    return Report(node="n", gpus=[Gpu(index=0, uuid=uuid, utilization_percent=percent, status=status)])


IDLE, BUSY = shows(0.0), shows(IDLE_BELOW_PERCENT)


def told(activity: Activity, newest: Report = IDLE) -> float | None:
    """Seconds after the start at which idleness began."""
    since = activity.idle_since(newest).get("u")
    return None if since is None else next(at for at in range(-9, 99) if rfc3339(START + at) == since)


def test_idleness_begins_with_the_first_sample_below_two_percent_and_ends_with_one_that_is_not() -> None:
    activity = Activity()
    for at, report, since in ((0, BUSY, None), (1, shows(1.9), 1), (2, IDLE, 1), (3, BUSY, None), (4, IDLE, 4)):
        activity.take(report, START + at)
        assert told(activity) == since


def test_a_time_of_which_nothing_is_known_ends_no_idleness() -> None:
    activity = Activity()
    for at, report in ((1, IDLE), (2, shows(None)), (3, shows(0.0, status="lost")), (50, IDLE)):
        activity.take(report, START + at)
    assert told(activity) == 1


@pytest.mark.parametrize("newest", [shows(None), shows(0.0, status="unresponsive"), shows(0.0, uuid="other")])
def test_of_a_gpu_that_does_not_tell_now_no_idleness_is_claimed(newest: Report) -> None:
    activity = Activity()
    activity.take(IDLE, START)
    assert told(activity, newest) is None


def test_samples_that_come_late_count_by_when_they_were_taken() -> None:
    """However the samples of a cut are mixed with the present, and twice, they never claim more than in order."""
    samples = [(0, IDLE), (1, IDLE), (2, BUSY), (3, IDLE), (4, IDLE)]
    for order in permutations(samples):
        activity = Activity()
        for at, report in order:
            activity.take(report, START + at)
        claimed = told(activity)
        assert claimed in (3, 4)
        for at, report in samples:
            activity.take(report, START + at)
        assert told(activity) == 3


def test_a_busy_moment_in_a_cut_shortens_what_was_claimed() -> None:
    activity = Activity()
    for at, report in ((0, IDLE), (9, IDLE)):
        activity.take(report, START + at)
    activity.take(BUSY, START + 5)
    assert told(activity) == 9
    activity.take(IDLE, START + 6)
    assert told(activity) == 6


def test_gpus_that_only_pass_through_take_no_room() -> None:
    activity = Activity()
    activity.take(IDLE, START)
    for number in range(MOST_KNOWN + 5):
        activity.take(shows(0.0, f"u{number}"), START + 1 + number)
    assert told(activity) is None
    assert told(activity, shows(0.0, "u9")) is None
    assert activity.idle_since(shows(0.0, f"u{MOST_KNOWN}"))


def test_a_hub_tells_since_when_gpus_idle_also_after_their_agent_has_restarted() -> None:
    world = World()

    def push(percent: float, boot: str) -> None:
        gpu = Gpu(index=0, pci_bus_id="0:17", utilization_percent=percent)
        world.push(replace(world.report(boot), gpus=[gpu]))

    push(50, "one")
    assert world.node().idle_since == {}
    world.advance(1)
    since = rfc3339(world.clock.time())
    push(0, "one")
    world.advance(120)
    push(1, "two")
    assert world.node().idle_since == {"0:17": since}
    push(2, "two")
    assert world.node().idle_since == {}
