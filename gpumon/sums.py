"""Sums of what some may not tell: what is not known is no 0, and that something is missing is told."""

from collections.abc import Iterable
from typing import Final, NamedTuple

AT_LEAST: Final = "≥"


class Sum(NamedTuple):
    """``value`` is of what is known, None where nothing is; ``is_partial``: the whole is at least that much."""

    value: float | None
    is_partial: bool = False

    def marked(self, text: str) -> str:
        """``text``, which tells the value, with a sign before it where more belongs to it."""
        return AT_LEAST + text if self.value is not None and self.is_partial else text


def sum_of(values: Iterable[float | None]) -> Sum:
    """The sum of those that are known."""
    found = list(values)
    known = [value for value in found if value is not None]
    return Sum(sum(known) if known else None, len(known) < len(found))
