"""The synchronous middle of the hub: no event loop, no socket, no waiting."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpumon.config import HubSection
from gpumon.hub.gaps import Gaps
from gpumon.hub.member import MOST_POLLED
from gpumon.model import Fault, Gpu, Report
from gpumon.timestamp import rfc3339
from gpumon.wire import Gap
from tests.hub.viewers import look, telling
from tests.hub.world import World


@pytest.fixture
def world() -> World:
    return World()


def test_configured_nodes_keep_the_order_of_the_file_and_others_follow_by_name(world: World) -> None:
    for name in ("z", "c", "m"):
        world.hub.fleet.admit(name, name, None)
    assert world.names() == ["b", "a", "c", "m", "z"]
    assert [world.node(name).configured for name in world.names()] == [True, True, False, False, False]


def test_a_node_that_nobody_configured_is_where_its_agent_says(world: World) -> None:
    world.hub.fleet.admit("x", "old-host", 1)
    world.hub.fleet.admit("x", "new-host", 2)
    world.hub.fleet.admit("a", "elsewhere", 3)
    assert (world.node("x").host, world.node("x").port) == ("new-host", 2)
    assert world.node("a").host == "10.0.0.1"


def test_a_node_that_was_never_seen_is_pending_however_long_it_takes(world: World) -> None:
    assert world.node().status == "pending"
    assert world.status_after(1000) == "pending"
    assert world.node().last_seen_at is None


def test_a_report_makes_a_node_online_and_dates_it(world: World) -> None:
    world.hub.located(world.member(), "10.0.0.9")
    world.push()
    node = world.node()
    assert (node.status, node.source, node.address, node.alias) == ("online", "push", "10.0.0.9", "Alpha")
    assert node.last_seen_at == rfc3339(world.clock.time())
    assert node.report is not None
    assert node.report.gpus[0].utilization_percent == 1


def test_silence_makes_a_node_stale_then_offline_and_keeps_its_numbers(world: World) -> None:
    world.push()
    since = world.node().status_since
    assert world.status_after(4.9) == "online"
    assert world.node().status_since == since
    assert world.status_after(0.2) == "stale"
    assert world.status_after(9.8) == "stale"
    assert world.status_after(0.2) == "offline"
    assert world.node().status_since == rfc3339(world.clock.time())
    assert world.node().report is not None
    world.push()
    assert world.node().status == "online"


def test_three_intervals_are_waited_for_where_they_are_longer(world: World) -> None:
    world.push(world.report(interval=10.0))
    for _ in range(5):
        assert world.status_after(5.9) == "online"
        world.hub.contact(world.member())
    assert world.status_after(0.6) == "stale"


def test_silence_counts_before_a_long_interval_and_an_absurd_one_is_bounded(world: World) -> None:
    world.push(world.report(interval=60.0))
    assert world.status_after(14.9) == "online"
    assert world.status_after(0.2) == "offline"
    world.push(world.report(interval=9e15))
    assert world.hub.fleet.liveness.stale_after(world.member()) == 180


def test_where_only_polls_tell_three_of_them_are_waited_for() -> None:
    world = World(HubSection(poll_interval_seconds=20))
    world.poll()
    assert world.status_after(59) == "online"
    assert world.status_after(2) == "offline"


def test_a_link_that_speaks_without_news_is_stale_not_offline(world: World) -> None:
    world.push()
    for _ in range(10):
        world.clock.advance(5)
        world.hub.contact(world.member())
    assert world.node().status == "stale"


def test_a_polled_agent_that_makes_no_new_reports_is_stale(world: World) -> None:
    report = world.report()
    for _ in range(10):
        world.poll(report)
        world.clock.advance(2)
    assert world.node().status == "stale"


def test_the_configured_limits_count(world: World) -> None:
    world = World(HubSection(stale_after_seconds=30, offline_after_seconds=60))
    world.push()
    assert world.status_after(29) == "online"
    assert world.status_after(2) == "stale"
    assert world.status_after(30) == "offline"


def test_a_wall_clock_that_jumps_changes_no_status(world: World) -> None:
    world.push()
    world.clock.wall -= 3600
    assert world.node().status == "online"
    world.clock.wall += 7200
    assert world.node().status == "online"


def test_a_nodes_wrong_clock_shows_as_an_offset(world: World) -> None:
    world.push(world.report(ahead=90))
    assert world.node().clock_offset_seconds == pytest.approx(90, abs=0.01)
    world.push(msgspec.structs.replace(world.report(), sampled_at="yesterday"))
    assert world.node().clock_offset_seconds is None


def test_late_and_repeated_reports_never_overwrite_the_present(world: World) -> None:
    old = world.report()
    world.push(world.report())
    world.push(old)
    world.push(world.report(), late=True)
    report = world.node().report
    assert report is not None
    assert report.sequence == 2
    assert world.member().pushed_sequence == 3


def test_a_restarted_agent_counts_from_one_again(world: World) -> None:
    world.push()
    world.push()
    world.sequence = 0
    world.push(world.report(boot="next"))
    report = world.node().report
    assert report is not None
    assert (report.boot_id, report.sequence) == ("next", 1)


def test_reports_that_were_polled_are_still_owed_by_the_link(world: World) -> None:
    world.poll()
    assert world.member().pushed_sequence == 0


def test_polling_is_wanted_until_push_is_healthy_and_again_when_it_ends(world: World) -> None:
    wanted = world.hub.polling_wanted("a")
    assert wanted.is_set()
    world.hub.link_opened(world.member(), "boot", None)
    assert wanted.is_set()
    world.push()
    assert not wanted.is_set()
    world.clock.advance(6)
    world.hub.judge()
    assert wanted.is_set()
    world.push()
    assert not wanted.is_set()
    world.hub.link_ended(world.member(), "lost")
    assert wanted.is_set()


def test_a_fault_is_told_and_a_good_report_ends_it(world: World) -> None:
    fault = Fault(code="no_connection", message="refused")
    world.hub.fault(world.member(), fault)
    assert world.node().error == fault
    assert world.node("b").error is None
    world.poll()
    assert world.node().error is None


def test_a_fault_keeps_the_numbers(world: World) -> None:
    world.push()
    world.hub.fault(world.member(), Fault(code="bad_report", message="nonsense"))
    assert world.node().report is not None


def test_the_version_counts_changes_and_nothing_else(world: World) -> None:
    before = world.hub.fleet.version
    world.hub.judge()
    world.hub.fault(world.member(), Fault(code="x", message="y"))
    changed = world.hub.fleet.version
    assert changed > before
    world.hub.fault(world.member(), Fault(code="x", message="y"))
    assert world.hub.fleet.version == changed


def test_when_room_is_needed_the_longest_gone_of_the_uninvited_goes(world: World) -> None:
    assert not world.hub.forget_one()
    for name in ("old", "older"):
        member = world.hub.fleet.admit(name, name, None)
        world.hub.contact(member)
        world.clock.advance(-1)
    world.clock.advance(60)
    world.hub.judge()
    assert world.hub.forget_one()
    assert world.names() == ["b", "a", "old"]
    assert world.hub.forget_one()
    assert not world.hub.forget_one()


# ---- late, ahead, lost ----


def test_a_report_ahead_of_late_ones_is_the_present_and_counts_once_when_its_turn_comes(world: World) -> None:
    taken: list[int | None] = []
    world.hub.on_taken = lambda _, report: taken.append(report.sequence)
    reports = [world.report() for _ in range(5)]
    world.push(reports[0])
    world.push(reports[4], ahead=True)
    report = world.node().report
    assert report is not None
    assert report.sequence == 5
    assert world.member().pushed_sequence == 1
    for late in reports[1:]:
        world.push(late, late=True)
        report = world.node().report
        assert report is not None
        assert report.sequence == 5
    assert taken == [1, 2, 3, 4, 5]
    assert world.node().reports_late == 4
    world.push(reports[4], late=True)
    assert taken == [1, 2, 3, 4, 5]
    assert world.node().reports_late == 4


def test_a_report_in_order_that_is_newer_than_the_present_is_the_present(world: World) -> None:
    first, second, third = (world.report() for _ in range(3))
    world.push(first)
    world.push(third, ahead=True)
    world.push(second, late=True)
    world.push(third)
    world.push(world.report())
    report = world.node().report
    assert report is not None
    assert report.sequence == 4
    assert world.node().reports_late == 1


def test_what_is_polled_between_is_not_counted_twice_when_the_link_brings_it(world: World) -> None:
    taken: list[int | None] = []
    world.hub.on_taken = lambda _, report: taken.append(report.sequence)
    world.push()
    missed = world.report()
    world.hub.link_ended(world.member(), "lost")
    world.poll(missed)
    assert world.node().source == "poll"
    assert taken == [1, 2], "no link may ever bring it"
    world.push(missed, late=True)
    world.push()
    assert taken == [1, 2, 3]


def test_what_is_polled_while_the_link_is_open_counts_when_the_link_brings_it(world: World) -> None:
    taken: list[int | None] = []
    world.hub.on_taken = lambda _, report: taken.append(report.sequence)
    world.push()
    both = world.report()
    world.poll(both)
    assert taken == [1]
    world.push(both)
    assert taken == [1, 2]


def test_what_was_polled_before_the_first_link_of_a_run_counts_once(world: World) -> None:
    taken: list[int | None] = []
    world.hub.on_taken = lambda _, report: taken.append(report.sequence)
    polled = [world.report() for _ in range(3)]
    for report in polled:
        world.poll(report)
    world.push(world.report(), ahead=True)
    for report in polled:
        world.push(report, late=True)
    assert taken == [1, 2, 3]


@pytest.mark.parametrize("at", ["0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "not a moment"])
def test_no_date_of_an_agents_ends_the_hub(world: World, at: str) -> None:
    world.push()
    for late, told in ((False, at), (True, "0001-01-01T00:00:00+23:59"), (True, at), (False, rfc3339(0))):
        gpus = [Gpu(index=0, uuid="GPU-a", utilization_percent=0)]
        world.push(msgspec.structs.replace(world.report(), sampled_at=told, gpus=gpus), late=late)
        json.loads(world.hub.fleet.encoded("a"))
        json.loads(world.hub.fleet.glance("a").card.json)


def test_a_hub_whose_clock_was_ahead_sees_idleness_again_once_it_is_right(world: World) -> None:
    def use(percent: int) -> None:
        gpus = [Gpu(index=0, uuid="GPU-a", utilization_percent=percent)]
        world.push(msgspec.structs.replace(world.report(), gpus=gpus))

    world.clock.wall += 8 * 3600
    use(90)
    world.clock.wall -= 8 * 3600
    use(0)
    assert world.node().idle_since == {"GPU-a": rfc3339(world.clock.time())}


def test_what_time_makes_of_a_node_is_told_in_every_form(world: World) -> None:
    """A question in between must not keep the judge from telling it."""
    world.push()

    def codes() -> set[str]:
        return {json.loads(told)["verdict"]["code"] for told in (fleet.encoded("a"), fleet.glance("a").card.json)}

    fleet = world.hub.fleet
    world.clock.advance(7.3)
    world.hub.judge()
    fleet.glance("a")
    world.clock.advance(0.4)
    fleet.encoded("a")
    world.hub.judge()
    assert len(codes()) == 1


def test_polls_of_a_link_that_never_returns_cost_bounded_memory(world: World) -> None:
    world.push()
    world.hub.link_ended(world.member(), "lost")
    for _ in range(MOST_POLLED + 10):
        world.poll()
    polled = world.member().polled_sequences
    assert (len(polled), max(polled)) == (MOST_POLLED, world.sequence)


def test_gaps_are_counted_once_and_the_newest_figures_hold(world: World) -> None:
    world.push()
    for gap in (Gap(first=2, last=9, count=8), Gap(first=2, last=9, count=8), Gap(first=2, last=19, count=18)):
        world.hub.take_gap(world.member(), gap)
    world.hub.take_gap(world.member(), Gap(first=30, last=30, count=1))
    assert world.node().reports_lost == 19
    world.push(world.report(boot="next"))
    assert (world.node().reports_lost, world.node().reports_late) == (0, 0)


def test_gaps_without_end_cost_no_memory_and_no_count() -> None:
    gaps = Gaps()
    for first in range(1, 10_000, 2):
        gaps.take(Gap(first=first, last=first, count=1))
        gaps.take(Gap(first=first, last=first, count=1))
    assert gaps.total == 5000
    gaps.take(Gap(first=1, last=1, count=1))
    assert gaps.total == 5000
    gaps.take(Gap(first=9_999, last=2**53, count=2**53 - 9_999))
    gaps.take(Gap(first=20_000, last=2**53, count=2**53 - 20_000))
    assert gaps.total == 2**53


def test_a_thinned_backlog_is_taken_although_its_gap_was_told_first(world: World) -> None:
    world.push()
    world.hub.take_gap(world.member(), Gap(first=2, last=10, count=7))
    world.sequence = 4
    world.push(late=True)
    world.sequence = 9
    world.push()
    node = world.node()
    assert (node.reports_lost, node.reports_late, world.member().pushed_sequence) == (7, 1, 10)


# ---- notices, and who is told ----


async def test_a_notice_of_the_hub_reaches_viewers_although_no_node_changed(world: World) -> None:
    async with telling(world.hub.feed):
        _, line = look(world.hub.feed)
        assert notices_of(line.told()) == [[]]
        world.hub.notice("odd", Fault(code="odd", message="Something."))
        tag = world.hub.feed.identity
        assert notices_of(await line.next()) == [["odd"]]
        world.hub.notice("odd", Fault(code="odd", message="Something."))
        assert world.hub.feed.identity == tag
        world.hub.notice("odd", None)
        assert notices_of(await line.next()) == [[]]
    assert notices_of(look(world.hub.feed)[1].told()) == [[]]


def notices_of(messages: list[dict[str, Any]]) -> list[list[str]]:
    return [[notice["code"] for notice in message["notices"]] for message in messages]


async def test_a_node_that_is_forgotten_is_told_as_removed(world: World) -> None:
    world.hub.contact(world.hub.fleet.admit("old", None, None))
    world.clock.advance(60)
    world.hub.judge()
    async with telling(world.hub.feed):
        _, line = look(world.hub.feed)
        line.told()
        world.hub.forget_one()
        (message,) = await line.next()
    assert (message["type"], message["names"]) == ("removed", ["old"])


def test_news_of_a_node_that_is_gone_changes_nothing(world: World) -> None:
    gone = world.hub.fleet.admit("old", None, None)
    world.hub.contact(gone)
    world.clock.advance(60)
    world.hub.judge()
    world.hub.forget_one()
    version = world.hub.fleet.version
    world.hub.fault(gone, Fault(code="refused", message="Too late."))
    world.hub.contact(gone)
    assert world.hub.fleet.version == version
    assert world.names() == ["b", "a"]


@given(
    cuts=st.lists(st.tuples(st.integers(0, 5), st.integers(0, 12), st.booleans()), max_size=12),
    repeats=st.integers(0, 4),
)
def test_however_often_the_link_is_cut_each_report_counts_once_and_the_present_never_goes_back(
    cuts: list[tuple[int, int, bool]], repeats: int
) -> None:
    """An agent makes reports, and brings them in order after each cut; what was under way may come twice."""
    world = World()
    taken: list[int | None] = []
    world.hub.on_taken = lambda _, report: taken.append(report.sequence)
    made: list[Report] = [world.report()]
    shown = 0
    for more, brought, ahead in [*cuts, (1, 1000, True)]:
        made += [world.report() for _ in range(more)]
        member = world.member()
        world.hub.link_opened(member, "boot", None)
        known = max(member.pushed_sequence - repeats, 0)
        if ahead:
            world.push(made[-1], ahead=True)
        for report in made[known : known + brought]:
            world.push(report, late=report is not made[-1])
            present = member.report.sequence if member.report else 0
            assert present is not None
            assert present >= shown
            shown = present
        world.hub.link_ended(member, "lost")
    assert taken == [report.sequence for report in made]
    assert shown == len(made)
