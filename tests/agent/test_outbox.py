"""What waits for a hub: bounded, in order, and honest about what had to go."""

import os
import random
import zlib
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpumon.agent import outbox as module
from gpumon.agent.outbox import KEPT_ONE_IN, PLAIN_REPORTS, Outbox
from gpumon.wire import Gap


def filled(count: int, outbox: Outbox | None = None, first: int = 1) -> Outbox:
    outbox = Outbox() if outbox is None else outbox
    for sequence in range(first, first + count):
        outbox.put(sequence, b"%d" % sequence)
    return outbox


def waiting(outbox: Outbox, after: int = 0) -> list[int]:
    """What waits, in order, each with the bytes that were put."""
    found = []
    while (entry := outbox.first_after(after)) is not None:
        assert entry.report == b"%d" % entry.sequence
        after = entry.sequence
        found.append(after)
    return found


def test_reports_wait_in_order_until_they_are_acknowledged() -> None:
    outbox = filled(5)
    assert waiting(outbox) == [1, 2, 3, 4, 5]
    outbox.acknowledge(3)
    assert (waiting(outbox), len(outbox), outbox.gap) == ([4, 5], 2, None)
    outbox.acknowledge(99)
    assert (waiting(outbox), len(outbox), outbox.bytes, outbox.newest) == ([], 0, 0, None)


def test_what_was_sent_is_told_from_what_still_waits() -> None:
    outbox = Outbox()
    for sequence in range(1, 6):
        outbox.put(sequence, b"report")
    assert (len(outbox), outbox.unsent) == (5, 5)
    outbox.begin(1)
    outbox.sent(3)
    assert (len(outbox), outbox.unsent) == (4, 2)
    outbox.acknowledge(5)
    assert (len(outbox), outbox.unsent) == (0, 0)


def test_half_an_hour_is_kept_whole_and_one_in_five_of_the_ninety_minutes_before() -> None:
    outbox = filled(3 * 3600)
    newest = 3 * 3600
    thinned = [sequence for sequence in range(newest - 7200 + 1, newest - 1800 + 1) if sequence % KEPT_ONE_IN == 0]
    kept = [*thinned, *range(newest - 1800 + 1, newest + 1)]
    assert waiting(outbox) == kept
    assert outbox.gap == Gap(first=1, last=newest - 1800 - 1, count=newest - len(kept))


@pytest.mark.parametrize(("interval", "reports"), [(0.5, 3600), (2.0, 900), (60.0, 30)])
def test_half_an_hour_is_that_of_the_interval_in_use(interval: float, reports: int) -> None:
    outbox = Outbox(thinned_seconds=1800)
    for sequence in range(1, 5000):
        outbox.put(sequence, b"%d" % sequence, interval)
    assert len(outbox) == reports


def test_a_changed_interval_counts_from_the_next_report() -> None:
    outbox = Outbox(full_seconds=10, thinned_seconds=10)
    for sequence in range(1, 6):
        outbox.put(sequence, b"%d" % sequence, 5.0)
    for sequence in range(6, 10):
        outbox.put(sequence, b"%d" % sequence, 1.0)
    assert waiting(outbox) == [4, 5, 6, 7, 8, 9]


def test_what_waits_for_long_is_compressed_and_what_a_hub_is_about_to_acknowledge_is_not() -> None:
    outbox = Outbox()
    for sequence in range(1, 3 * PLAIN_REPORTS):
        outbox.put(sequence, b"x" * 1000)
        first, newest = outbox.first_after(0), outbox.newest
        assert first is not None
        assert newest is not None
        assert first.is_packed == (sequence > PLAIN_REPORTS)
        assert not newest.is_packed
    outbox.acknowledge(2 * PLAIN_REPORTS)
    assert outbox.first_after(0) is not None
    assert not outbox.first_after(0).is_packed  # type: ignore[union-attr]


def test_an_undisturbed_link_compresses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> bytes:
        raise AssertionError("compressed")

    monkeypatch.setattr(zlib, "compress", refuse)
    outbox = Outbox()
    for sequence in range(1, 1000):
        outbox.put(sequence, b"x" * 30_000)
        if sequence % 32 == 0:
            outbox.acknowledge(sequence - 16)


def test_16_mib_hold_and_then_the_oldest_go() -> None:
    outbox = Outbox(max_bytes=100_000)
    noise = random.Random(1)
    for sequence in range(1, 200):
        outbox.put(sequence, noise.randbytes(5000))
        assert outbox.bytes <= 100_000
        assert outbox.newest is not None
        assert outbox.newest.sequence == sequence
    assert outbox.gap is not None
    first = outbox.first_after(0)
    assert first is not None
    assert (outbox.gap.first, outbox.gap.last, outbox.gap.count) == (1, first.sequence - 1, first.sequence - 1)


def test_a_single_report_is_kept_however_large() -> None:
    outbox = Outbox(max_bytes=1)
    outbox.put(1, b"1" * 10_000)
    assert (len(outbox), outbox.dropped) == (1, 0)


def test_few_large_reports_are_compressed_before_any_is_dropped() -> None:
    outbox = Outbox()
    for sequence in range(1, 60):
        outbox.put(sequence, b"x" * 1_000_000)
    assert (len(outbox), outbox.dropped) == (59, 0)


def test_a_gap_grows_until_a_report_behind_it_is_acknowledged_and_then_another_begins() -> None:
    outbox = filled(20, Outbox(full_seconds=10, thinned_seconds=10))
    assert outbox.gap == Gap(first=1, last=10, count=10)
    filled(5, outbox, first=21)
    assert outbox.gap == Gap(first=1, last=15, count=15)
    outbox.acknowledge(16)
    assert not outbox.gap
    filled(5, outbox, first=26)
    assert outbox.dropped == 19
    assert outbox.gap == Gap(first=17, last=20, count=4)


def test_a_gap_keeps_its_name_when_older_reports_go_after_newer_ones() -> None:
    """Of the reports 5 to 9 all but 5 are thinned out first; 5 goes at the end of its time."""
    outbox = filled(9, Outbox(full_seconds=5, thinned_seconds=10))
    outbox.acknowledge(4)
    growing = []
    for sequence in range(10, 16):
        filled(1, outbox, first=sequence)
        growing.append(outbox.gap)
    assert growing == [
        None,
        Gap(first=5, last=6, count=1),
        Gap(first=5, last=7, count=2),
        Gap(first=5, last=8, count=3),
        Gap(first=5, last=9, count=4),
        Gap(first=5, last=9, count=5),
    ]


def test_what_went_while_under_way_is_lost_only_if_it_did_not_arrive() -> None:
    outbox = filled(10, Outbox(full_seconds=10, thinned_seconds=10))
    assert outbox.begin(0) == 0
    outbox.sent(6)
    filled(8, outbox, first=11)
    assert outbox.gap == Gap(first=1, last=8, count=2)  # 7 and 8; 1 to 6 are under way
    outbox.begin(4)
    assert outbox.gap == Gap(first=1, last=8, count=4)


def test_a_hub_that_claims_more_than_there_is_gets_what_comes() -> None:
    outbox = filled(5)
    assert outbox.begin(10**9) == 5
    filled(1, outbox, first=6)
    assert waiting(outbox, after=5) == [6]


def test_what_can_never_be_delivered_is_counted_too() -> None:
    outbox = filled(5)
    outbox.begin(2)
    assert outbox.lose_oldest() == 3
    assert outbox.gap == Gap(first=3, last=3, count=1)
    assert waiting(outbox) == [4, 5]
    assert Outbox().lose_oldest() is None


ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.integers(1, 80)),
        st.tuples(st.just("send"), st.integers(1, 40)),
        st.tuples(st.just("arrive"), st.integers(0, 100)),
        st.tuples(st.just("ack"), st.integers(0, 100)),
        st.tuples(st.just("cut"), st.just(0)),
        st.tuples(st.just("refuse"), st.just(0)),
    ),
    max_size=60,
)


class Ledger:
    """An agent's outbox and a hub that counts: what it was given, and what it was told is lost."""

    def __init__(self, outbox: Outbox) -> None:
        self.outbox = outbox
        self.put = 0
        self.cursor = 0
        self.under_way: list[int] = []
        self.delivered: list[int] = []
        self.gaps: dict[int, Gap] = {}
        self.last_sequence = 0

    def tell_gap(self) -> None:
        if self.outbox.gap is not None:
            self.gaps[self.outbox.gap.first] = self.outbox.gap

    def do(self, action: str, amount: int) -> None:
        outbox = self.outbox
        if action == "put":
            for _ in range(amount):
                self.put += 1
                outbox.put(self.put, b"%d" % self.put + os.urandom(self.put % 50))
        elif action == "send":
            for _ in range(amount):
                self.tell_gap()
                if (entry := outbox.first_after(self.cursor)) is not None:
                    assert entry.sequence > self.cursor
                    assert entry.report.startswith(b"%d" % entry.sequence)
                    self.cursor = entry.sequence
                    self.under_way.append(entry.sequence)
                    outbox.sent(entry.sequence)
        elif action == "arrive":
            self.arrive(self.under_way[: len(self.under_way) * amount // 100])
        elif action == "ack":
            outbox.acknowledge(self.last_sequence * amount // 100)
        else:
            self.arrive(self.under_way[: len(self.under_way) // 2])
            self.under_way.clear()
            self.cursor = outbox.begin(self.last_sequence)
            if action == "refuse":
                outbox.lose_oldest()

    def arrive(self, sequences: Iterable[int]) -> None:
        for sequence in list(sequences):
            self.under_way.remove(sequence)
            assert sequence > self.last_sequence
            self.last_sequence = sequence
            self.delivered.append(sequence)


@settings(max_examples=300)
@given(ACTIONS, st.integers(20, 200), st.integers(0, 300), st.sampled_from([2_000, 20_000, 10**6]))
def test_what_is_delivered_and_what_is_told_lost_is_all_that_was_put(
    actions: list[tuple[str, int]], full: int, thinned: int, most: int
) -> None:
    outbox = Outbox(full, full + thinned, most)
    ledger = Ledger(outbox)
    for action, amount in actions:
        ledger.do(action, amount)
        assert outbox.bytes <= most or len(outbox) == 1
        assert len(outbox) <= full + thinned // KEPT_ONE_IN + 1
        assert sum(len(entry.data) + module.ENTRY_BYTES for entry in entries(outbox)) == outbox.bytes
        newest = outbox.newest
        assert newest is None or newest.sequence == ledger.put
    ledger.do("cut", 0)
    ledger.do("send", ledger.put + 1)
    ledger.do("arrive", 100)
    assert ledger.delivered == sorted(set(ledger.delivered))
    lost = sum(gap.count for gap in ledger.gaps.values())
    assert len(ledger.delivered) + lost == ledger.put
    assert lost == outbox.dropped
    inside = set().union(*(range(gap.first, gap.last + 1) for gap in ledger.gaps.values()))
    assert set(range(1, ledger.put + 1)) - set(ledger.delivered) <= inside


def entries(outbox: Outbox) -> Iterable[module.Entry]:
    entry = outbox.first_after(0)
    while entry is not None:
        yield entry
        entry = outbox.first_after(entry.sequence)
