"""Who is alive: the rules, on clocks that move when told to."""

import pytest

from gpumon.config import HubSection, NodeEntry
from gpumon.hub.core import Hub
from gpumon.hub.verdict import is_well
from tests.hub.clocks import SteppedClock
from tests.hub.viewers import look
from tests.hub.world import World


@pytest.fixture
def world() -> World:
    return World()


def test_an_agent_that_said_goodbye_is_offline_after_three_seconds(world: World) -> None:
    world.push()
    world.hub.link_ended(world.member(), "goodbye")
    assert world.status_after(2.9) == "online"
    assert world.status_after(0.2) == "offline"


def test_a_goodbye_does_not_count_if_the_agent_is_back_or_answers_when_asked(world: World) -> None:
    world.push()
    world.hub.link_ended(world.member(), "goodbye")
    world.clock.advance(2)
    world.push(world.report(boot="next"))
    assert world.status_after(2) == "online"
    world.hub.link_ended(world.member(), "goodbye")
    world.clock.advance(1)
    world.poll()
    assert world.status_after(4) == "online"


def test_a_lost_link_counts_as_silence_until_the_machine_is_asked_and_refuses(world: World) -> None:
    world.push()
    world.hub.link_ended(world.member(), "lost")
    assert world.status_after(4) == "online"
    assert world.status_after(10.9) == "stale"
    world.push()
    world.hub.link_ended(world.member(), "lost")
    world.clock.advance(1)
    world.fail("refused")
    assert world.status_after(2.9) == "online"
    world.fail("refused")
    assert world.status_after(0.2) == "offline"


def test_a_refusal_counts_from_the_first_one_after_the_last_sign_of_life(world: World) -> None:
    world.push()
    world.clock.advance(6)
    world.fail("refused")  # its link is open, so somebody listens elsewhere
    world.clock.advance(1)
    world.hub.contact(world.member())
    world.hub.link_ended(world.member(), "lost")
    world.clock.advance(1)
    world.fail("refused")
    assert world.status_after(2.9) == "stale"
    world.fail("refused")
    assert world.status_after(0.2) == "offline"


@pytest.mark.parametrize("code", ["unreachable", "no_answer", "name_unknown", "name_unanswered"])
def test_a_poll_that_fails_otherwise_leaves_a_doubt(world: World, code: str) -> None:
    world.push()
    world.hub.link_ended(world.member(), "lost")
    world.fail(code)
    assert world.status_after(4.9) == "online"
    assert world.status_after(10) == "stale"
    assert world.status_after(0.2) == "offline"


def test_an_agent_that_pushes_and_cannot_be_asked_is_online(world: World) -> None:
    for _ in range(10):
        world.push()
        world.fail("refused")
        assert world.status_after(1) == "online"


def test_the_judge_says_when_it_must_look_again(world: World) -> None:
    assert world.hub.judge() == float("inf")
    world.push()
    assert world.hub.judge() == pytest.approx(5)
    world.clock.advance(4)
    assert world.hub.judge() == pytest.approx(1)
    world.clock.advance(1.001)
    assert world.hub.judge() == pytest.approx(15 - 5.001)
    world.push()
    world.hub.link_ended(world.member(), "goodbye")
    assert world.hub.judge() == pytest.approx(3)


# ---- flapping ----


def test_six_changes_in_five_minutes_are_flapping_until_ten_quiet_minutes_have_passed(world: World) -> None:
    for _ in range(3):
        world.push()
        assert not world.node().flapping
        assert world.status_after(6) == "stale"
        assert world.status_after(10) == "offline"
    assert not world.node().flapping
    world.push()
    node = world.node()
    assert (node.status, node.flapping) == ("online", True)
    assert node.verdict is not None
    assert node.verdict.code == "flapping"
    for _ in range(590):
        world.push()
        world.clock.advance(1)
    assert world.node().flapping
    for _ in range(20):
        world.push()
        world.clock.advance(1)
    node = world.node()
    assert (node.flapping, node.verdict) == (False, None)


def test_a_link_that_breaks_again_and_again_is_flapping_although_its_node_never_goes_offline(world: World) -> None:
    for run in range(6):
        world.push(world.report(boot=f"boot-{run}"))
        assert world.status_after(1) == "online"
        assert not world.node().flapping
        world.hub.link_ended(world.member(), "lost")
    assert world.node().flapping


def test_changes_that_are_rarer_are_life(world: World) -> None:
    for _ in range(20):
        world.push()
        world.hub.link_ended(world.member(), "goodbye")
        assert world.status_after(4) == "offline"
        world.clock.advance(150)
        assert not world.node().flapping


# ---- many at once ----


class Lab:
    """A hub of sixty nodes that push, and no configuration."""

    def __init__(self, nodes: int = 60) -> None:
        self.clock = SteppedClock()
        self.hub = Hub(clock=self.clock)
        self.world = World()
        self.members = [self.hub.fleet.admit(f"n{number:02d}", None, None) for number in range(nodes)]
        for member in self.members:
            self.hub.link_opened(member, "boot", None)
        self.run(2, silent=0)

    def run(self, seconds: int, silent: int) -> None:
        """Let the nodes report once a second, but for the first ``silent``."""
        for _ in range(seconds):
            for member in self.members[silent:]:
                self.hub.take_pushed(member, self.world.report(name=member.name), late=False)
            self.clock.advance(1)
            self.hub.judge()

    def notices(self) -> list[str]:
        return [fault.message for fault in self.hub.notices]


def test_when_half_the_fleet_falls_silent_the_hub_suspects_itself_once() -> None:
    lab = Lab()
    lab.run(20, silent=40)
    assert lab.notices() == ["Hub side suspected: 40 of 60 nodes fell silent within 15 s."]
    codes = {member.verdict.code for member in lab.members[:40] if member.verdict}
    assert codes == {"mass_silence"}
    assert all(is_well(member) for member in lab.members[40:])
    lab.run(3, silent=21)
    assert lab.notices()
    lab.run(3, silent=19)
    assert lab.notices() == []
    lab.run(1, silent=19)
    codes = {member.verdict.code for member in lab.members[:19] if member.verdict}
    assert codes == {"link_silent"}


def test_after_a_quarter_of_an_hour_each_silence_has_a_cause_of_its_own_again() -> None:
    lab = Lab()
    lab.run(20, silent=40)
    assert lab.notices()
    lab.run(920, silent=40)
    assert lab.notices() == []
    codes = {member.verdict.code for member in lab.members[:40] if member.verdict}
    assert codes == {"link_silent"}


def test_less_than_half_or_a_few_are_events_of_their_own() -> None:
    lab = Lab()
    lab.run(20, silent=29)
    assert lab.notices() == []
    few = Lab(nodes=4)
    few.run(20, silent=4)
    assert few.notices() == []


def test_nodes_that_go_one_after_the_other_are_no_mass() -> None:
    lab = Lab(nodes=20)
    for silent in range(1, 21):
        lab.run(4, silent)
    lab.run(20, silent=20)
    assert lab.notices() == []


def test_a_shutdown_with_goodbyes_is_no_mass_silence() -> None:
    lab = Lab()
    for member in lab.members:
        lab.hub.link_ended(member, "goodbye")
    lab.run(20, silent=60)
    assert lab.notices() == []
    assert {member.status for member in lab.members} == {"offline"}


async def test_the_notice_is_told_to_viewers() -> None:
    lab = Lab(nodes=6)
    lab.run(20, silent=6)
    (message,) = look(lab.hub.feed)[1].told()
    assert [notice["code"] for notice in message["notices"]] == ["mass_silence"]


def test_configured_limits_count_for_the_goodbye_as_well() -> None:
    world = World(HubSection(stale_after_seconds=1, offline_after_seconds=2))
    world.push()
    world.hub.link_ended(world.member(), "goodbye")
    assert world.status_after(2.1) == "offline"


def test_nodes_that_leave_the_configuration_while_silent_end_the_notice() -> None:
    clock = SteppedClock()
    entries = [NodeEntry(name=f"n{number}", host=f"10.0.0.{number}") for number in range(8)]
    hub = Hub(entries, clock=clock)
    world = World()
    for entry in entries:
        hub.record(hub.fleet.admit(entry.name, None, None), world.report(name=entry.name), "poll")
    for _ in range(20):
        clock.advance(1)
        hub.judge()
    assert [fault.code for fault in hub.notices] == ["mass_silence"]
    hub.fleet.reconfigure(entries[:3], hub.settings)
    hub.judge()
    assert hub.notices == []
