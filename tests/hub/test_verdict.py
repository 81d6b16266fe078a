"""What is said of a node that is not well, from every combination of what is known of it."""

import itertools
from typing import get_args

import pytest

from gpumon.hub.liveness import is_unheard
from gpumon.hub.member import LinkState, Member
from gpumon.hub.verdict import evidence_of, is_well, verdict_of
from gpumon.model import Fault, Gpu, NodeStatus, Report, ReportStatus, Resolution
from gpumon.timestamp import rfc3339
from tests.hub.world import World

URL = "http://hub:8080"
NOW = 1000.0
STATUSES: tuple[NodeStatus, ...] = get_args(NodeStatus)
LINKS: tuple[LinkState, ...] = get_args(LinkState)
REPORTS: tuple[ReportStatus, ...] = get_args(ReportStatus)
POLLS = (
    *("refused", "unreachable", "no_answer", "bad_answer", "bad_status", "answer_too_long"),
    *("name_unknown", "name_unanswered", "internal", "some_code_of_tomorrow"),
)
"""The codes of docs/api.md."""


def member(
    status: NodeStatus = "offline",
    link: LinkState = "never",
    poll: str | None = None,
    report: ReportStatus | None = "ok",
    silent_seconds: float = 20.0,
    **more: object,
) -> Member:
    made = Member(
        name="a", alias="a", host="gpu-1.lab", port=8081, configured=True, known_since="then", status_since="then"
    )
    made.status, made.link, made.link_words = status, link, "because of x" if link == "refused" else ""
    made.poll = None if poll is None else "answered" if poll == "answered" else Fault(code=poll, message="It says so.")
    if report is not None:
        made.report = Report(node="a", status=report)
        made.report_tick = made.contact_tick = NOW - silent_seconds
        made.source = "poll" if link == "never" else "push"
    for key, value in more.items():
        setattr(made, key, value)
    return made


def told(one: Member, *, in_outage: bool = False) -> str:
    verdict = verdict_of(one, NOW, URL, in_outage=in_outage)
    assert verdict is not None
    return verdict.code


def test_every_combination_has_a_verdict_or_is_well_and_never_both() -> None:
    polls = (None, "answered", *POLLS)
    reports = (None, *REPORTS)
    sentences: dict[str, set[str]] = {}
    count = 0
    for status, link, poll, report, silent, odd in itertools.product(
        STATUSES, LINKS, polls, reports, (0.5, 6.0, 20.0), ("", "clock", "flapping", "claim", "outage")
    ):
        one = member(status, link, poll, report, silent)
        one.clock_offset_seconds, one.clock_is_wrong = (90.0, True) if odd == "clock" else (0.1, False)
        one.flapping = odd == "flapping"
        one.claim = Fault(code="name_taken", message="Another claims it.") if odd == "claim" else None
        verdict = verdict_of(one, NOW, URL, in_outage=odd == "outage")
        assert (verdict is None) == is_well(one) == (evidence_of(one, NOW) == [])
        if verdict is not None:
            assert verdict.message.endswith(".")
            assert "None" not in verdict.message
            assert all(piece.message and piece.code and piece.at for piece in evidence_of(one, NOW))
            sentences.setdefault(verdict.code, set()).add(verdict.message)
        if status == "online" and report == "ok" and link == "open" and odd in ("", "outage"):
            assert verdict is None
        count += 1
    assert count > 20_000
    assert len(sentences) > 15


ONE_CAUSE: list[tuple[str, Member]] = [
    ("agent_stopped", member(link="goodbye")),
    ("agent_stopped", member(link="goodbye", poll="refused")),
    ("agent_stopped", member(link="goodbye", poll="unreachable")),
    ("agent_stopped", member("online", link="goodbye", silent_seconds=1)),
    ("agent_died", member(link="lost", poll="refused")),
    ("agent_died", member(link="silent", poll="refused")),
    ("agent_died", member(link="open", poll="refused")),
    ("agent_died", member(poll="refused")),
    ("link_lost", member("online", link="lost", silent_seconds=1)),
    ("link_lost", member(link="lost")),
    ("host_unreachable", member(link="lost", poll="unreachable")),
    ("host_unreachable", member(link="silent", poll="unreachable")),
    ("host_unreachable", member(link="open", poll="unreachable")),
    ("host_unreachable", member("pending", poll="unreachable", report=None)),
    ("agent_hangs", member(link="open", poll="no_answer")),
    ("agent_hangs", member(link="silent", poll="no_answer")),
    ("name_unknown", member("pending", poll="name_unknown", report=None)),
    ("name_unknown", member(link="lost", poll="name_unknown")),
    ("name_unanswered", member("pending", poll="name_unanswered", report=None)),
    ("not_an_agent", member("pending", poll="bad_answer", report=None)),
    ("not_an_agent", member("stale", link="lost", poll="bad_answer")),
    ("bad_status", member("stale", poll="bad_status")),
    ("agent_not_running", member("pending", poll="refused", report=None)),
    ("never_seen", member("pending", report=None)),
    ("push_refused", member("pending", link="refused", report=None)),
    ("push_refused", member("pending", link="refused", poll="unreachable", report=None)),
    ("agent_died", member("offline", link="refused", poll="refused")),
    ("no_report", member("stale", link="open", silent_seconds=5.5)),
    ("no_new_reports", member("stale", link="open", contact_tick=NOW - 3)),
    ("no_new_reports", member("stale", poll="answered", contact_tick=NOW - 3)),
    ("no_report", member("stale", poll="answered", silent_seconds=6)),
    ("link_silent", member("stale", link="open", silent_seconds=9)),
    ("link_silent", member("stale", link="silent")),
    ("no_driver", member("online", link="open", report="no_driver", silent_seconds=1)),
    ("no_driver", member("stale", link="open", report="no_driver", contact_tick=NOW - 3)),
    ("clock_wrong", member("online", link="open", silent_seconds=1, clock_offset_seconds=-7200.0, clock_is_wrong=True)),
    ("flapping", member("online", link="open", silent_seconds=1, flapping=True)),
    ("agent_died", member(link="lost", poll="refused", flapping=True)),
    ("name_taken", member("online", link="open", claim=Fault(code="name_taken", message="Another."))),
]


@pytest.mark.parametrize(("code", "one"), ONE_CAUSE)
def test_each_cause_has_its_own_sentence(code: str, one: Member) -> None:
    assert told(one) == code


def test_a_polled_node_that_never_pushed_is_well() -> None:
    assert verdict_of(member("online", poll="answered"), NOW, URL, in_outage=False) is None
    assert is_well(member("online", link="lost", poll="answered", source="poll"))


def test_in_an_outage_of_many_only_what_nobody_can_explain_is_part_of_it() -> None:
    assert told(member(link="open"), in_outage=True) == "mass_silence"
    assert told(member(link="lost", poll="unreachable"), in_outage=True) == "mass_silence"
    assert told(member(link="lost", poll="refused"), in_outage=True) == "agent_died"
    assert told(member(link="goodbye"), in_outage=True) == "agent_stopped"
    assert not is_unheard(member(link="goodbye"))


def test_the_driver_speaks_for_itself_and_a_sick_gpu_is_named() -> None:
    why = Fault(code="driver_mismatch", message="The library is of another version.", hint="Reboot.")
    one = member("online", link="open", report="driver_mismatch")
    assert one.report is not None
    one.report = Report(node="a", status="driver_mismatch", error=why)
    assert verdict_of(one, NOW, URL, in_outage=False) == why
    lost = Fault(code="lost", message="It has fallen off the bus.", hint="Reset it.")
    gpus = [Gpu(index=number, status="lost" if number > 1 else "ok", error=lost) for number in range(4)]
    one.report = Report(node="a", status="degraded", gpus=gpus)
    verdict = verdict_of(one, NOW, URL, in_outage=False)
    assert verdict is not None
    assert verdict.message == "2 of 4 GPUs are not well; GPU 2: It has fallen off the bus."
    assert (verdict.code, verdict.hint) == ("lost", "Reset it.")


@pytest.mark.parametrize(
    ("offset", "words"),
    [
        (61.0, "more than a minute ahead of"),
        (3599.0, "more than a minute ahead of"),
        (-3601.0, "more than an hour behind"),
        (9e9, "more than a day ahead of"),
    ],
)
def test_a_wrong_clock_is_told_in_words_that_do_not_tick(offset: float, words: str) -> None:
    one = member("online", link="open", clock_offset_seconds=offset, clock_is_wrong=True)
    verdict = verdict_of(one, NOW, URL, in_outage=False)
    assert verdict is not None
    assert words in verdict.message


def test_who_was_never_seen_hears_the_command_that_mends_it() -> None:
    for poll in (None, "refused"):
        one = member("pending", poll=poll, report=None, name="node 1")
        verdict = verdict_of(one, NOW, URL, in_outage=False)
        assert verdict is not None
        assert verdict.hint is not None
        assert "gpumon agent --hub http://hub:8080 --name 'node 1'" in verdict.hint


@pytest.mark.parametrize(("port", "told"), [(None, False), (8081, False), (9000, True)])
def test_the_command_names_the_port_that_is_not_the_usual_one(port: int | None, *, told: bool) -> None:
    verdict = verdict_of(member("pending", report=None, port=port), NOW, URL, in_outage=False)
    assert verdict is not None
    assert ("--port 9000" in str(verdict.hint)) is told
    assert ("--port" in str(verdict.hint)) is told


def test_evidence_names_each_channel_and_since_when() -> None:
    resolution = Resolution(
        host="gpu-1.lab", addresses=["10.0.0.1"], server="10.0.0.53", answered_at="t1", ttl_seconds=60, is_kept=True
    )
    one = member("stale", link="lost", poll="unreachable", report="no_driver", resolution=resolution)
    one.link_at, one.poll_at, one.driver_at, one.clock_at = "t2", "t3", "t4", "t5"
    one.clock_offset_seconds, one.clock_is_wrong = 100.0, True
    one.claim, one.claim_at = Fault(code="copied", message="A copy."), "t6"
    pieces = [(piece.channel, piece.code, piece.at) for piece in evidence_of(one, NOW)]
    assert pieces == [
        ("push", "lost", "t2"),
        ("poll", "unreachable", "t3"),
        ("name", "kept", "t1"),
        ("driver", "no_driver", "t4"),
        ("clock", "clock_wrong", "t5"),
        ("claim", "copied", "t6"),
    ]
    one.configured, one.resolution = False, None
    assert [piece.code for piece in evidence_of(one, NOW)][1] == "not_configured"


# ---- in a hub ----


def test_a_sentence_and_its_evidence_stay_as_they_are_while_their_cause_does() -> None:
    world = World()
    world.push()
    world.hub.link_ended(world.member(), "lost")
    world.fail("refused")
    world.advance(4)
    before = world.node()
    assert before.verdict is not None
    assert before.verdict.code == "agent_died"
    version = world.hub.fleet.version
    for _ in range(30):
        world.advance(2)
        world.fail("refused")
    after = world.node()
    assert (after.verdict, after.evidence) == (before.verdict, before.evidence)
    assert world.hub.fleet.version == version


def test_a_verdict_that_only_time_brings_is_told() -> None:
    world = World()
    world.push()
    world.advance(5.2)
    world.hub.contact(world.member())
    assert verdict_code(world) == "no_new_reports"
    version = world.hub.fleet.version
    world.advance(8)
    assert world.hub.fleet.version > version
    assert verdict_code(world) == "link_silent"
    node = world.node()
    assert (node.evidence[0].code, node.evidence[0].at) == ("silent", node.last_seen_at)
    world.push()
    assert (world.node().verdict, world.node().evidence) == (None, [])


def test_the_evidence_of_a_driver_dates_from_its_first_report_of_it() -> None:
    world = World()
    world.push()
    world.clock.advance(10)
    since = world.clock.time()
    for _ in range(5):
        bad = Report(node="a", boot_id="boot", sequence=world.report().sequence, status="no_driver")
        world.push(bad)
        world.advance(1)
    piece = next(piece for piece in world.node().evidence if piece.channel == "driver")
    assert piece.code == "no_driver"
    assert piece.at == rfc3339(since)


def verdict_code(world: World) -> str | None:
    verdict = world.node().verdict
    return verdict.code if verdict else None


def test_a_clock_is_wrong_when_it_stays_so_and_not_because_a_report_waited() -> None:
    world = World()
    world.push()
    for _ in range(5):  # what waited while the hub was stopped comes at once
        world.push(world.report(ahead=-90))
    assert world.node().clock_offset_seconds == pytest.approx(-90, abs=0.01)
    assert verdict_code(world) is None
    world.clock.advance(1)
    world.push()
    since = world.clock.time() + 1
    for _ in range(5):
        world.clock.advance(1)
        world.push(world.report(ahead=-90))
    assert verdict_code(world) == "clock_wrong"
    assert [piece.at for piece in world.node().evidence if piece.channel == "clock"] == [rfc3339(since)]
    world.push()
    assert verdict_code(world) is None


def test_a_claim_is_shown_until_some_minutes_after_the_last_try() -> None:
    world = World()
    fault = Fault(code="name_taken", message="Another claims it.")
    for _ in range(10):
        world.hub.claimed(world.member(), fault)
        for _ in range(60):
            world.push()
            world.clock.advance(1)
        assert verdict_code(world) == "name_taken"
    dates = {piece.at for piece in world.node().evidence if piece.channel == "claim"}
    assert dates == {rfc3339(1_800_000_000.0)}
    for _ in range(300):
        world.push()
        world.clock.advance(1)
    assert verdict_code(world) is None
