"""Sizes and times as people write them."""

import re
from typing import Final

UNITS: Final = {"k": 1, "m": 2, "g": 3, "t": 4}
SIZE: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([kmgt])(i?b?)", re.IGNORECASE)
DURATION: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([smhd]?)")
SECONDS: Final = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}


def bytes_of(text: str) -> int:
    """The bytes of a size: a GiB has 2 to the 30th, a GB 10 to the 9th, and G alone means GiB.

    Raises:
        ValueError: it is none; the text says what is allowed.
    """
    match = SIZE.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not allowed; allowed: a size such as 40GiB, 80GB or 500MiB")
    number, unit, rest = match.groups()
    return int(float(number) * (1000 if rest.lower() == "b" else 1024) ** UNITS[unit.lower()])


def seconds_of(text: str) -> float:
    """The seconds of a time. Raises ValueError as :func:`bytes_of` does."""
    match = DURATION.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not allowed; allowed: a time such as 90s, 15m or 2h")
    return float(match[1]) * SECONDS[match[2]]
