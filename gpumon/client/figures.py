"""Numbers as a terminal shows them."""

from typing import Final

NULL: Final = "—"
GIB: Final = 2**30
EIGHTHS: Final = " ▏▎▍▌▋▊▉"
FULL: Final = "█"


def figure(value: float | None, unit: str = "") -> str:
    """A whole number."""
    return NULL if value is None else f"{value:.0f}{unit}"


def gib(size_bytes: float | None) -> str:
    """A size in GiB."""
    return NULL if size_bytes is None else f"{size_bytes / GIB:.1f}"


def pair(one: str, of: str) -> str:
    """What there is of what there could be."""
    return NULL if one == of == NULL else f"{one}/{of}"


def watts(value: float) -> str:
    """The power of many."""
    return f"{value:.0f} W" if value < 1000 else f"{value / 1000:.1f} kW"


def bar(fraction: float | None, columns: int) -> str:
    """A bar of ``columns`` for a number from 0 to 1, to an eighth of a column; nothing where it is not known."""
    if fraction is None:
        return " " * columns
    eighths = round(min(max(fraction, 0.0), 1.0) * columns * 8)
    whole, rest = divmod(eighths, 8)
    return (FULL * whole + (EIGHTHS[rest] if rest else "")).ljust(columns)


def share(part: float | None, of: float | None) -> float | None:
    """``part`` of ``of``, as a fraction."""
    return None if part is None or not of else part / of
