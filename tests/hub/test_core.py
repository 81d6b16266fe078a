"""The synchronous middle of the hub: no event loop, no socket, no waiting."""

import msgspec
import pytest

from gpumon.config import HubSection, NodeEntry
from gpumon.hub.core import Hub
from gpumon.hub.fleet import Member
from gpumon.model import Fault, Gpu, Node, Report
from gpumon.timestamp import rfc3339
from tests.hub.clocks import SteppedClock

A = NodeEntry(name="a", host="10.0.0.1", alias="Alpha")
B = NodeEntry(name="b", host="10.0.0.2")


class World:
    """A hub with nodes ``b`` and ``a`` (in that order), and its clock."""

    def __init__(self, settings: HubSection | None = None) -> None:
        self.clock = SteppedClock()
        self.hub = Hub([B, A], settings, self.clock)
        self.sequence = 0

    def member(self, name: str = "a") -> Member:
        return self.hub.fleet.admit(name, None, None)

    def report(self, boot: str = "boot", interval: float = 1.0, ahead: float = 0.0) -> Report:
        self.sequence += 1
        return Report(
            node="a",
            boot_id=boot,
            sequence=self.sequence,
            interval_seconds=interval,
            sampled_at=rfc3339(self.clock.time() + ahead),
            gpus=[Gpu(index=0, utilization_percent=self.sequence)],
        )

    def push(self, report: Report | None = None, *, late: bool = False) -> None:
        self.hub.take_pushed(self.member(), report or self.report(), late=late)

    def poll(self, report: Report | None = None) -> None:
        self.hub.record(self.member(), report or self.report(), "poll")

    def node(self, name: str = "a") -> Node:
        self.hub.judge()
        return msgspec.json.decode(self.hub.fleet.encoded(name), type=Node)

    def status_after(self, seconds: float) -> str:
        self.clock.advance(seconds)
        return self.node().status


@pytest.fixture
def world() -> World:
    return World()


def names(world: World) -> list[str]:
    return [member.name for member in world.hub.fleet]


def test_configured_nodes_keep_the_order_of_the_file_and_others_follow_by_name(world: World) -> None:
    for name in ("z", "c", "m"):
        world.hub.fleet.admit(name, name, None)
    assert names(world) == ["b", "a", "c", "m", "z"]
    assert [world.node(name).configured for name in names(world)] == [True, True, False, False, False]


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
    assert world.hub.fleet.stale_after(world.member()) == 180


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
    world.hub.link(world.member(), is_open=True)
    assert wanted.is_set()
    world.push()
    assert not wanted.is_set()
    world.clock.advance(6)
    world.hub.judge()
    assert wanted.is_set()
    world.push()
    assert not wanted.is_set()
    world.hub.link(world.member(), is_open=False)
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
    mailbox = world.hub.feed.open()
    assert world.hub.forget_one()
    assert names(world) == ["b", "a", "old"]
    assert mailbox in world.hub.feed.viewers
    assert world.hub.forget_one()
    assert not world.hub.forget_one()
