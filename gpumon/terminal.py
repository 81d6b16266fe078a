"""Text in the columns of a terminal: how wide it is, cut and filled to a width, coloured, harmless.

Names and commands are chosen by strangers. :func:`gpumon.text.printable` is applied where text meets the
terminal, whoever has cleaned it before.
"""

import os
import sys
import unicodedata
from collections.abc import Sequence
from typing import Final, NamedTuple

from gpumon.text import printable

ELLIPSIS: Final = "…"
GAP: Final = "  "
NARROWEST: Final = 3

IN_ASCII: Final = str.maketrans("…·—°≥█▉▊▋▌▍▎▏", "~.- >#####   ")
"""Our own signs, where a terminal knows ASCII only; none changes its width."""

STYLES: Final = {
    "bold": "1",
    "red": "31",
    "green": "32",
    "yellow": "33",
    "blue": "34",
    "magenta": "35",
    "cyan": "36",
    "grey": "90",
}


class Cell(NamedTuple):
    """A piece of a line. ``style`` is some words of :data:`STYLES`; ``right`` puts numbers under each other."""

    text: str
    style: str = ""
    right: bool = False


class Column(NamedTuple):
    """A column: its heading, the least that it can be cut to (0: never), and how soon it is left out (0: never)."""

    head: str
    least: int = 0
    leave: int = 0
    right: bool = True


def width(text: str) -> int:
    """The columns that ``text`` takes: two for the wide signs of East Asia, none for what combines."""
    return len(text) if text.isascii() else sum(_sign_width(sign) for sign in text)


def _sign_width(sign: str) -> int:
    if unicodedata.combining(sign) or unicodedata.category(sign) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(sign) in ("W", "F") else 1


def cut(text: str, columns: int) -> str:
    """``text``, shortened to at most so many columns, with a sign that it was."""
    if width(text) <= columns:
        return text
    if columns <= 0:
        return ""
    kept, used = [], width(ELLIPSIS)
    for sign in text:
        used += _sign_width(sign)
        if used > columns:
            break
        kept.append(sign)
    return "".join(kept).rstrip() + ELLIPSIS


def fit(cell: Cell, columns: int, *, color: bool) -> str:
    """The cell, cleaned, cut and filled to exactly so many columns."""
    text = cut(printable(cell.text), columns)
    blank = " " * (columns - width(text))
    painted = paint(text, cell.style) if color else text
    return blank + painted if cell.right else painted + blank


def paint(text: str, style: str) -> str:
    """``text`` in the colours that ``style`` names."""
    codes = ";".join(STYLES[word] for word in style.split())
    return f"\x1b[{codes}m{text}\x1b[0m" if codes and text else text


def line(cells: Sequence[Cell], widths: Sequence[int], *, color: bool) -> str:
    """One line of a table."""
    return GAP.join(fit(cell, columns, color=color) for cell, columns in zip(cells, widths, strict=True)).rstrip()


def spans(cells: Sequence[Cell], widths: Sequence[int]) -> list[tuple[str, str]]:
    """The same in pieces, the style of each and its text, for who paints by other means."""
    pieces = [(cell.style, fit(cell, columns, color=False)) for cell, columns in zip(cells, widths, strict=True)]
    return [piece for one in pieces for piece in (("", GAP), one)][1:]


def wrap(text: str, columns: int, *, first: int = 0, rest: int = 0) -> list[str]:
    """``text`` in lines of at most so many columns, broken between words; the indents of first line and rest."""
    lines: list[str] = []
    current, words = " " * first, 0
    for word in printable(text).split(" "):
        longer = f"{current} {word}" if words else current + word
        if words and width(longer) > columns:
            lines.append(current.rstrip())
            longer, words = " " * rest + word, 0
        current, words = cut(longer, columns), words + 1
    return [*lines, current.rstrip()]


def writable(text: str, encoding: str) -> str:
    """``text``, with what ``encoding`` has no sign for replaced."""
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return text.translate(IN_ASCII).encode(encoding, "replace").decode(encoding)
    return text


def write(text: str) -> None:
    """``text`` to standard output, at once.

    Raises:
        OSError: it cannot be written; BrokenPipeError: nobody reads it any longer.
    """
    encoding = sys.stdout.encoding or "utf-8"
    try:
        sys.stdout.buffer.write(writable(text, encoding).encode(encoding, "replace"))
        sys.stdout.buffer.flush()
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())  # or Python complains at the end that it could not write the rest
        os.close(nowhere)
        raise


class Grid:
    """Which columns of a table fit into a line, and how wide they are then. A place is the index of a column."""

    def __init__(self, columns: Sequence[Column], rows: Sequence[Sequence[Cell]], *, headed: bool) -> None:
        self._columns = columns
        self._naturals = [
            max([width(column.head) if headed else 0, *(width(row[place].text) for row in rows)])
            for place, column in enumerate(columns)
        ]

    def natural(self, shown: Sequence[int]) -> int:
        """How wide a line of these columns is when nothing is cut."""
        return self._line([self._naturals[place] for place in shown])

    def that_fit(self, shown: Sequence[int], total: int, *, whole: bool = False, keep: int = 0) -> list[int]:
        """Without those that can be left out first, until the others have their least, or their ``whole``, width.

        Those that are left out no sooner than ``keep`` stay.
        """
        left = list(shown)
        while self._line([self._naturals[one] if whole else self._least(one) for one in left]) > total:
            worst = max(left, key=lambda place: self._columns[place].leave)
            if self._columns[worst].leave <= keep:
                break
            left.remove(worst)
        return left

    def widths(self, shown: Sequence[int], total: int) -> list[int]:
        """The least that each needs; what is left over goes to those that were cut, the last of them first."""
        widths = {place: self._least(place) for place in shown}
        spare = total - self._line(list(widths.values()))
        for place in reversed(shown):
            more = min(self._naturals[place] - widths[place], max(spare, 0))
            widths[place] += more
            spare -= more
        for place in shown:  # a terminal so narrow is told what fits of the names
            if self._columns[place].least and spare < 0:
                less = min(-spare, max(widths[place] - NARROWEST, 0))
                widths[place] -= less
                spare += less
        return list(widths.values())

    def _least(self, place: int) -> int:
        natural = self._naturals[place]
        return min(self._columns[place].least or natural, natural)

    @staticmethod
    def _line(widths: Sequence[int]) -> int:
        return sum(widths) + len(GAP) * (len(widths) - 1)
