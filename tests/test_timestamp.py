"""Moments as text."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpumon.timestamp import rfc3339, seconds


@given(st.floats(min_value=0, max_value=2**33))
def test_a_moment_is_cut_to_the_millisecond(moment: float) -> None:
    calendar = datetime.fromtimestamp(moment, UTC).isoformat(timespec="milliseconds").removesuffix("+00:00")
    assert abs(seconds(rfc3339(moment)) - seconds(f"{calendar}Z")) < 0.0015
    assert len(rfc3339(moment)) == len("2026-11-23T14:15:54.123Z")


@pytest.mark.parametrize(
    ("moment", "text"),
    [
        (0, "1970-01-01T00:00:00.000Z"),
        (1795443354.1239, "2026-11-23T14:15:54.123Z"),
        (1795443354.9999999, "2026-11-23T14:15:55.000Z"),
        (1795443354.0004, "2026-11-23T14:15:54.000Z"),
    ],
)
def test_a_moment_as_text(moment: float, text: str) -> None:
    assert rfc3339(moment) == text
