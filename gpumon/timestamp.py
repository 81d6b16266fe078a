"""Moments on the wire: RFC 3339, UTC, milliseconds (``2026-11-23T14:15:54.123Z``)."""

from datetime import UTC, datetime
from functools import lru_cache


def rfc3339(seconds: float) -> str:
    """``seconds`` since the epoch, as text."""
    whole, microseconds = divmod(round(seconds * 1e6), 10**6)
    return f"{_to_the_second(whole)}.{microseconds // 1000:03d}Z"


@lru_cache(maxsize=8)
def _to_the_second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat().removesuffix("+00:00")


def seconds(text: str) -> float:
    """The moment that ``text`` names, as seconds since the epoch.

    Any RFC 3339 form is understood, with or without a fraction, in any zone; a text without a zone
    counts as UTC.

    Raises:
        ValueError: ``text`` names no moment.
    """
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return moment.timestamp()
