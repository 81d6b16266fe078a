"""The past: what is remembered, for how long, and what it costs."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpumon.hub.history import (
    COARSE_BUCKETS,
    COARSE_SECONDS,
    FINE_BUCKETS,
    FINE_SECONDS,
    MOST_OF_ONE_NODE,
    History,
    column,
    grid,
    step_for,
)
from gpumon.hub.ring import FIELDS
from gpumon.model import Gpu, Report

NOW = 1_800_000_000.0


def report(*watts: float | None, uuid: str = "GPU-a") -> Report:
    gpus = [Gpu(index=n, uuid=f"{uuid}{n or ''}", power_draw_watts=value) for n, value in enumerate(watts)]
    return Report(node="n", gpus=gpus)


def power(history: History, start: float, end: float, points: int = 1000, now: float = NOW) -> list[float | None]:
    step = step_for(start, now)
    width, starts = grid(start, end, step, points)
    return list(column(history.ring("n", "GPU-a", step), "power_draw_watts", width, starts))


def test_a_bucket_holds_the_mean_of_its_samples() -> None:
    history = History()
    for second in range(FINE_SECONDS):
        history.take("n", report(100.0 + second), NOW + second, NOW + second)
    assert power(history, NOW, NOW + FINE_SECONDS) == [100 + (FINE_SECONDS - 1) / 2]


def test_a_time_without_samples_is_a_gap_and_not_a_line() -> None:
    history = History()
    history.take("n", report(1.0), NOW, NOW)
    later = NOW + 4 * FINE_SECONDS
    history.take("n", report(2.0), later, later)
    assert power(history, NOW, later + 1, now=later) == [1.0, None, None, None, 2.0]


def test_what_the_hardware_does_not_tell_is_a_gap_and_never_a_zero() -> None:
    history = History()
    history.take("n", report(None), NOW, NOW)
    history.take("n", report(3.0), NOW + 1, NOW + 1)
    assert power(history, NOW, NOW + 1) == [3.0]
    assert set(column(history.ring("n", "GPU-a", FINE_SECONDS), "fan_speed_percent", 1, [0])) == {None}


def test_the_share_of_time_in_which_a_gpu_was_slowed_down_is_remembered() -> None:
    history = History()
    told_reasons = (["gpu_idle"], ["hw_thermal_slowdown", "sw_power_cap"], ["sw_power_cap"], None)
    for second, reasons in enumerate(told_reasons):
        gpu = Gpu(index=0, uuid="GPU-a", throttle_reasons=reasons)
        history.take("n", Report(node="n", gpus=[gpu]), NOW + second, NOW + second)
    told = column(history.ring("n", "GPU-a", FINE_SECONDS), "throttled_percent", 1, [int(NOW) // FINE_SECONDS])
    assert list(told) == [33.333]


def test_a_late_sample_finds_its_place() -> None:
    history = History()
    for at in (NOW, NOW + 2 * FINE_SECONDS, NOW + FINE_SECONDS):
        history.take("n", report(at - NOW), at, NOW + 2 * FINE_SECONDS)
    assert power(history, NOW, NOW + 2 * FINE_SECONDS + 1) == [0.0, FINE_SECONDS, 2 * FINE_SECONDS]


def test_a_sample_from_the_future_counts_as_taken_now() -> None:
    history = History()
    history.take("n", report(5.0), NOW + 1e6, NOW)
    history.take("n", report(7.0), NOW + 0.5, NOW)
    assert power(history, NOW, NOW + 1) == [6.0]


def test_a_clock_that_was_ahead_blinds_the_past_only_for_what_it_dated() -> None:
    history = History()
    for second in range(0, 1200, 10):
        history.take("n", report(1.0), NOW + second, NOW + second)
    ahead = NOW + 1200 + 8 * 3600
    history.take("n", report(9.0), ahead, ahead)
    for second in range(1200, 1800, 10):
        history.take("n", report(2.0), NOW + second, NOW + second)
    known = power(history, NOW, NOW + 1800, now=NOW + 1800)
    assert known[120:] == [2.0] * 60
    assert 9.0 not in known
    coarse = list(column(history.ring("n", "GPU-a", COARSE_SECONDS), "power_draw_watts", 1, _minutes(NOW, NOW + 1800)))
    assert coarse == [1.0] * 20 + [2.0] * 10


def test_a_clock_set_back_by_an_hour_keeps_what_was_known_before() -> None:
    history = History()
    for second in range(0, 600, 10):
        history.take("n", report(1.0), NOW + second, NOW + second)
    for second in range(600, 900, 10):
        history.take("n", report(9.0), NOW + 1800 + second, NOW + 1800 + second)
    history.take("n", report(2.0), NOW + 600, NOW + 600)
    assert power(history, NOW, NOW + 610, now=NOW + 610) == [1.0] * 60 + [2.0]


def _minutes(start: float, end: float) -> range:
    return range(int(start) // COARSE_SECONDS, int(end) // COARSE_SECONDS)


def test_new_gpus_keep_their_place_in_a_full_past() -> None:
    history = History(max_series=16)
    old, new = report(*[1.0] * 16, uuid="GPU-o"), report(*[2.0] * 8, uuid="GPU-n")
    history.take("old", old, NOW, NOW)
    later = NOW + 4000
    history.take("new", new, later, later)
    assert len(history.gpus("new")) == 8
    assert len(history) == 16


def test_new_names_of_a_node_that_is_full_keep_their_places_and_so_do_those_that_wait() -> None:
    history = History()
    for number in range(2):
        names = report(*[1.0] * (MOST_OF_ONE_NODE // 2), uuid=f"GPU-{number}-")
        history.take("n", names, NOW + 20 * number, NOW + 20 * number)
    new = report(*[2.0] * 8, uuid="GPU-new")
    history.take("n", new, NOW + 40, NOW + 40)
    history.take("n", report(3.0, uuid="GPU-late"), NOW + 1, NOW + 41)
    history.take("n", new, NOW + 42, NOW + 42)
    assert sum(name.startswith("GPU-new") for name in history.gpus("n")) == 8
    ring = history.ring("n", "GPU-new1", FINE_SECONDS)
    assert list(column(ring, "power_draw_watts", 1, [int(NOW + 40) // FINE_SECONDS])) == [2.0]


def test_an_hour_is_kept_finely_and_a_day_coarsely() -> None:
    history = History()
    for minute in range(26 * 60):
        history.take("n", report(float(minute)), NOW + 60 * minute, NOW + 60 * minute)
    end = NOW + 26 * 3600
    fine = power(history, end - 3600, end, now=end)
    assert len(fine) == FINE_BUCKETS
    assert [value for value in fine if value is not None] == [float(minute) for minute in range(25 * 60, 26 * 60)]
    coarse = power(history, end - 86_400, end, 10_000, now=end)
    assert coarse == [float(minute) for minute in range(2 * 60, 26 * 60)]
    assert len(coarse) == COARSE_BUCKETS
    assert set(power(history, end - 90_000, end - 86_400 - COARSE_SECONDS, now=end)) == {None}


def test_fewer_points_are_means_over_longer_spans() -> None:
    history = History()
    for minute in range(120):
        history.take("n", report(float(minute)), NOW + 60 * minute, NOW + 60 * minute)
    spans = power(history, NOW, NOW + 7200, 12, now=NOW + 7200)
    assert spans == [10 * n + 4.5 for n in range(12)]


def test_gpus_are_known_by_uuid_then_by_place_then_by_index() -> None:
    history = History()
    gpus = [Gpu(index=0, uuid="U", pci_bus_id="P"), Gpu(index=1, pci_bus_id="Q"), Gpu(index=2)]
    history.take("n", Report(node="n", gpus=gpus), NOW, NOW)
    assert history.gpus("n") == ["U", "Q", "#2"]


def test_a_gpu_that_is_not_well_leaves_a_gap() -> None:
    history = History()
    lost = Gpu(index=0, uuid="GPU-a", status="lost", power_draw_watts=5.0)
    history.take("n", Report(node="n", gpus=[lost]), NOW, NOW)
    assert history.gpus("n") == []


def test_a_full_history_lets_go_of_who_is_silent_for_longest_and_of_nobody_who_is_not() -> None:
    history = History(max_series=2)
    history.take("old", report(1.0, uuid="GPU-o"), NOW, NOW)
    history.take("n", report(1.0), NOW + 3000, NOW + 3000)
    history.take("new", report(1.0, uuid="GPU-n"), NOW + 3001, NOW + 3001)
    assert (history.gpus("new"), history.refused, len(history)) == ([], 1, 2)
    history.take("new", report(1.0, uuid="GPU-n"), NOW + 3700, NOW + 3700)
    assert (history.gpus("old"), history.gpus("n"), history.gpus("new")) == ([], ["GPU-a"], ["GPU-n"])
    assert len(history) == 2


def test_a_node_that_names_its_gpus_anew_all_the_time_leaves_room_for_others() -> None:
    history = History(max_series=MOST_OF_ONE_NODE + 1)
    for second in range(MOST_OF_ONE_NODE + 50):
        history.take("odd", report(1.0, uuid=f"GPU-{second}"), NOW + second, NOW + second)
    history.take("n", report(1.0), NOW, NOW)
    assert (history.gpus("n"), history.refused, len(history)) == (["GPU-a"], 0, MOST_OF_ONE_NODE + 1)
    assert history.gpus("odd")[0] == "GPU-50"


def test_a_full_history_is_not_searched_for_each_newcomer(monkeypatch: pytest.MonkeyPatch) -> None:
    class Searched(dict[object, Any]):
        count = 0

        def values(self) -> Any:
            self.count += 1
            return super().values()

    history = History(max_series=1)
    nodes = Searched()
    monkeypatch.setattr(history, "_nodes", nodes)
    history.take("n", report(1.0), NOW, NOW)
    for second in range(3600):
        history.take("new", report(1.0, uuid="GPU-n"), NOW + second, NOW + second)
    assert (history.refused, nodes.count) == (3600, 1)
    history.take("new", report(1.0, uuid="GPU-n"), NOW + 3600, NOW + 3600)
    assert (history.gpus("n"), history.gpus("new")) == ([], ["GPU-n"])


def test_nodes_that_are_gone_take_their_past_along() -> None:
    history = History()
    history.take("n", report(1.0, 2.0), NOW, NOW)
    history.take("m", report(1.0), NOW, NOW)
    history.keep({"m", "l"})
    assert (history.gpus("n"), history.gpus("m"), len(history)) == ([], ["GPU-a"], 1)


@given(
    st.lists(
        st.tuples(st.floats(-100_000, 100_000), st.none() | st.floats(0, 1000, width=32)), min_size=1, max_size=200
    ),
    st.integers(1, 500),
)
def test_whatever_comes_in_whatever_order_a_value_lies_within_what_was_sampled(
    samples: list[tuple[float, float | None]], points: int
) -> None:
    history = History()
    for offset, value in samples:
        history.take("n", report(value), NOW + offset, NOW)
    known = [value for _, value in samples if value is not None]
    for start in (NOW - 3600, NOW - 86_400):
        values = power(history, start, NOW, points)
        assert len(values) <= points + 1
        for value in values:
            assert value is None or min(known) - 1e-3 <= value <= max(known) + 1e-3
            assert value is None or math.isfinite(value)


def test_every_remembered_metric_stands_in_the_catalogue() -> None:
    assert "utilization_percent" in FIELDS
    assert len(set(FIELDS)) == len(FIELDS) < 12
