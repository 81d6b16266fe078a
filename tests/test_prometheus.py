"""Samples written by us say what the library's own would say, whatever stands in them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.metrics_core import GaugeMetricFamily
from prometheus_client.parser import text_string_to_metric_families as text_to_families
from prometheus_client.registry import Collector, CollectorRegistry

from gpumon.looplag import BOUNDS, LoopLag
from gpumon.prometheus import Family, counts, document, format_for, labels, lag, single
from tests.prometheus.reading import read, strictly

OPENMETRICS = format_for("application/openmetrics-text")
PLAIN = format_for("text/plain")
TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
VALUES = st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)


def text(*families: Family) -> str:
    """The samples of ``families`` as OpenMetrics, without what the system tells of our process."""
    whole = b"".join(document(families, OPENMETRICS)).decode()
    return whole.partition("# HELP process_")[0] + "# EOF\n"


@given(TEXTS, TEXTS, VALUES)
def test_any_text_and_number_is_read_as_the_librarys_own(one: str, other: str, value: float) -> None:
    ours = Family("a", "b")
    ours.add(labels(one=one, other=other), value)
    theirs = GaugeMetricFamily("a", "b", labels=("one", "other"))
    theirs.add_metric((one, other), value)

    class Only(Collector):
        def collect(self) -> list[GaugeMetricFamily]:
            return [theirs]

    registry = CollectorRegistry()
    registry.register(Only())
    expected = OPENMETRICS.encode(registry).decode()
    assert list(strictly(text(ours))) == list(strictly(expected))
    (family,) = strictly(text(ours))
    (sample,) = family.samples
    assert (sample.labels, sample.value) == ({"one": one, "other": other}, value)


def test_text_that_is_none_harms_no_other() -> None:
    family = Family("a", "b")
    family.add(labels(one="\ud800"), 1)
    family.add(labels(one="x"), 2)
    assert read(text(family)).values("a", "one") == {"?": 1, "x": 2}


def test_what_is_not_known_is_left_out_and_its_metric_with_it() -> None:
    assert "gone" not in text(single("gone", "b", None))
    assert read(text(single("here", "b", 0, "counter"))).value("here_total") == 0


def test_words_are_told_before_they_are_first_counted() -> None:
    said = read(text(counts("a", "b", "why", {"x": 2, "new": 1}, ("x", "y"))))
    assert said.values("a_total", "why") == {"x": 2, "y": 0, "new": 1}


def test_states_are_told_all() -> None:
    family = Family("a", "b")
    family.add_states(labels(node="n"), "status", "up", ("up", "down"))
    assert read(text(family)).values("a", "status", node="n") == {"up": 1, "down": 0}


def test_lag_is_a_histogram() -> None:
    found = LoopLag()
    for seconds in (-0.1, 0.0, 0.001, 0.0011, 0.2, 99.0):
        found.note(seconds)
    said = read(text(lag("a", "b", found)))
    buckets = {float(bound): count for bound, count in said.values("a_seconds_bucket", "le").items()}
    assert len(buckets) == len(BOUNDS) + 1
    assert (buckets[0.001], buckets[0.005], buckets[0.1], buckets[0.25], buckets[5.0]) == (3, 4, 4, 5, 5)
    assert buckets[float("inf")] == said.value("a_seconds_count") == 6
    assert said.value("a_seconds_sum") == pytest.approx(99.2021)


def test_a_text_is_the_same_in_pieces_that_were_settled_between() -> None:
    family = Family("a", "b", "gauge", "bytes")
    for number in range(5):
        family.add(labels(n=number), number)
        family.settle()
    assert read(text(family)).values("a_bytes", "n") == {str(number): number for number in range(5)}


def test_both_formats_have_the_heads_of_the_library() -> None:
    family = Family("a", "b", "counter", "seconds")
    family.add("", 1)
    plain = b"".join(document([family], PLAIN)).decode()
    assert plain.startswith("# HELP a_seconds_total b\n# TYPE a_seconds_total counter\na_seconds_total{} 1\n")
    assert "# EOF" not in plain
    assert text(family).startswith("# HELP a_seconds b\n# TYPE a_seconds counter\n# UNIT a_seconds seconds\n")
    assert next(iter(text_to_families(plain))).name == "a_seconds"
