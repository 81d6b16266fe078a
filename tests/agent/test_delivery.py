"""What an agent says on one connection, when, and in which order. Time is a number here."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpumon.agent.delivery import UNACKNOWLEDGED_REPORTS, Delivery
from gpumon.agent.outbox import Outbox
from gpumon.errors import WireError
from gpumon.wire import HEARTBEAT_SECONDS, Welcome


def welcome(last: int = 0, rate: float = 50) -> Welcome:
    return Welcome(hub_version="0", last_sequence=last, late_reports_per_second=rate)


def put(outbox: Outbox, *sequences: int) -> None:
    for sequence in sequences:
        outbox.put(sequence, b'{"sequence":%d}' % sequence)


def said(frame: bytes) -> tuple[Any, ...]:
    """A frame in short: what it is, its number, and how it comes."""
    message = json.loads(frame)
    if message["type"] == "report":
        how = "ahead" if message["ahead"] else "late" if message["late"] else "plain"
        return (how, message["report"]["sequence"])
    if message["type"] == "gap":
        return ("gap", message["first"], message["last"], message["count"])
    return (message["type"],)


class Talk:
    """A delivery, and the time."""

    def __init__(self, outbox: Outbox, last: int = 0, rate: float = 50, *, in_order: bool = False) -> None:
        self.now = 100.0
        self.delivery = Delivery(outbox, welcome(last, rate), self.now, in_order=in_order)

    def at_once(self) -> list[tuple[Any, ...]]:
        """Everything that goes out without waiting."""
        found = []
        while isinstance(step := self.delivery.next(self.now), bytes):
            found.append(said(step))
        assert step > 0
        return found

    def until(self, now: float) -> list[tuple[Any, ...]]:
        """Everything that goes out until ``now``."""
        found = self.at_once()
        while isinstance(step := self.delivery.next(self.now), float) and self.now + step <= now:
            self.now += step
            found += self.at_once()
        self.now = now
        return found


def test_on_an_undisturbed_link_each_report_goes_out_plain_and_at_once() -> None:
    outbox = Outbox()
    talk = Talk(outbox)
    heard = []
    for sequence in range(1, 20):
        put(outbox, sequence)
        heard += talk.at_once()
    assert heard == [("plain", sequence) for sequence in range(1, 20)]


def test_after_a_cut_the_newest_comes_first_and_then_the_others_in_order() -> None:
    outbox = Outbox()
    put(outbox, 1, 2, 3, 4)
    assert Talk(outbox, last=1).until(101) == [("ahead", 4), ("late", 2), ("late", 3), ("late", 4)]


def test_a_single_report_that_waited_is_simply_the_newest() -> None:
    outbox = Outbox()
    put(outbox, 1, 2)
    assert Talk(outbox, last=1).at_once() == [("plain", 2)]


def test_every_new_beat_overtakes_the_backlog_until_that_is_done() -> None:
    outbox = Outbox()
    put(outbox, *range(1, 6))
    talk = Talk(outbox, rate=2)
    assert talk.at_once() == [("ahead", 5), ("late", 1)]
    put(outbox, 6)
    assert talk.at_once() == [("ahead", 6)]
    assert talk.until(103) == [("late", 2), ("late", 3), ("late", 4), ("late", 5), ("late", 6)]
    put(outbox, 7)
    assert talk.at_once() == [("plain", 7)]


def test_late_reports_come_no_faster_than_the_hub_allows() -> None:
    outbox = Outbox()
    put(outbox, *range(1, 1000))
    talk = Talk(outbox, rate=10)
    heard = talk.until(110)
    assert len([one for one in heard if one[0] == "late"]) == pytest.approx(100, abs=2)
    assert len(talk.until(120)) == pytest.approx(100, abs=2)


def test_a_hub_that_allows_none_gets_none_and_the_present_all_the_same() -> None:
    outbox = Outbox()
    put(outbox, 1, 2, 3)
    talk = Talk(outbox, rate=0)
    assert talk.until(104) == [("ahead", 3)]
    put(outbox, 4)
    assert talk.at_once() == [("ahead", 4)]


def test_in_silence_a_heartbeat_is_said() -> None:
    outbox = Outbox()
    put(outbox, 1)
    talk = Talk(outbox)
    assert talk.at_once() == [("plain", 1)]
    assert talk.until(100 + 2 * HEARTBEAT_SECONDS) == [("heartbeat",), ("heartbeat",)]


def test_a_gap_is_told_before_the_first_late_report_and_again_on_the_next_connection() -> None:
    outbox = Outbox(full_seconds=4, thinned_seconds=4)
    put(outbox, *range(1, 9))
    for _ in range(2):
        assert Talk(outbox).until(101) == [
            ("ahead", 8),
            ("gap", 1, 4, 4),
            ("late", 5),
            ("late", 6),
            ("late", 7),
            ("late", 8),
        ]
    talk = Talk(outbox, last=8)
    assert talk.at_once() == []


def test_a_gap_without_anything_else_to_say_is_told_too() -> None:
    outbox = Outbox()
    put(outbox, 1)
    outbox.begin(0)
    outbox.lose_oldest()
    assert Talk(outbox).at_once() == [("gap", 1, 1, 1)]


def test_a_gap_that_grows_is_told_before_what_lies_behind_it() -> None:
    outbox = Outbox(full_seconds=4, thinned_seconds=4)
    put(outbox, *range(1, 6))
    talk = Talk(outbox, rate=1)
    assert talk.at_once() == [("ahead", 5), ("gap", 1, 1, 1), ("late", 2)]
    put(outbox, 6, 7)
    # 2 is under way: should it not arrive, the next connection will tell.
    assert talk.until(101) == [("ahead", 7), ("gap", 1, 3, 2), ("late", 4)]


def test_without_telling_ahead_everything_comes_in_order() -> None:
    outbox = Outbox()
    put(outbox, 1, 2, 3)
    talk = Talk(outbox, in_order=True)
    assert talk.until(101) == [("late", 1), ("late", 2), ("plain", 3)]
    assert not talk.delivery.has_told_ahead
    put(outbox, 4, 5)
    assert talk.until(102)[0] == ("ahead", 5)


def test_a_hub_that_acknowledges_nothing_gets_no_more_than_it_may_owe_and_is_left() -> None:
    outbox = Outbox()
    put(outbox, *range(1, 1000))
    talk = Talk(outbox)
    heard = talk.until(120)
    assert len([one for one in heard if one[0] == "late"]) == UNACKNOWLEDGED_REPORTS
    talk.delivery.acknowledge(10)
    assert len([one for one in talk.until(121) if one[0] == "late"]) == 10
    with pytest.raises(WireError, match="acknowledges none of 256"):
        talk.until(160)


@settings(max_examples=80)
@given(st.data())
def test_nothing_is_said_twice_in_order_and_nothing_is_left_out(data: st.DataObject) -> None:
    outbox, sequence, acknowledged = Outbox(full_seconds=40, thinned_seconds=80), 0, 0
    taken: list[int] = []
    gaps: dict[int, int] = {}
    for _ in range(data.draw(st.integers(1, 5))):
        talk = Talk(outbox, last=taken[-1] if taken else 0, rate=data.draw(st.sampled_from([0.5, 5, 50])))
        last_now = talk.now
        for _ in range(data.draw(st.integers(0, 8))):
            for _ in range(data.draw(st.integers(0, 60))):
                sequence += 1
                put(outbox, sequence)
            last_now += data.draw(st.floats(0, 5))
            for one in talk.until(last_now):
                if one[0] in ("late", "plain"):
                    taken.append(one[1])
                elif one[0] == "gap":
                    gaps[one[1]] = one[3]
                elif one[0] == "ahead":
                    assert one[1] == sequence
            if data.draw(st.booleans()) and taken:
                acknowledged = max(acknowledged, data.draw(st.integers(acknowledged, taken[-1])))
                talk.delivery.acknowledge(acknowledged)
    talk = Talk(outbox, last=taken[-1] if taken else 0)
    for one in talk.until(talk.now + 100):
        if one[0] in ("late", "plain"):
            taken.append(one[1])
        elif one[0] == "gap":
            gaps[one[1]] = one[3]
    assert taken == sorted(set(taken))
    assert len(taken) + sum(gaps.values()) == sequence
