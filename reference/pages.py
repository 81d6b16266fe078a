"""Parts of Markdown files: tables, and the places that ``make docs`` may write to."""

import re
from collections.abc import Iterable, Sequence

BEGIN = "<!-- {name}: made by 'make docs' -->"
END = "<!-- {name} ends -->"
_RULE = re.compile(r"\|(?: ?-+ ?\|)+$")
"""What stands below the head of a table."""


class PlaceError(Exception):
    """A page has no place of that name; the text says which."""


def part(page: str, name: str) -> str:
    """What stands between the marks of ``name`` in ``page``. Raises :class:`PlaceError`."""
    return _split(page, name)[1]


def with_part(page: str, name: str, text: str) -> str:
    """``page`` with other text between the marks of ``name``. Raises :class:`PlaceError`."""
    before, _, after = _split(page, name)
    return f"{before}\n{text.strip()}\n\n{after}"


def _split(page: str, name: str) -> tuple[str, str, str]:
    begin, end = BEGIN.format(name=name), END.format(name=name)
    first, last = page.find(begin), page.find(end)
    if first < 0 or last < first:
        raise PlaceError(f"the marks of {name!r} are not there")
    return page[: first + len(begin) + 1], page[first + len(begin) : last].strip(), page[last:]


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of Markdown; a bar within a cell is escaped."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("|" + "|".join(f" {_cell(cell)} ".replace("  ", " ") for cell in line) + "|" for line in lines)


def _cell(text: str) -> str:
    return re.sub(r"(?<!\\)\|", r"\\|", " ".join(text.split()))


def rows_of(text: str) -> Iterable[tuple[str, list[str]]]:
    """The rows of all tables in ``text``, without their heads: the heading above, and the cells as they are written."""
    heading = ""
    lines = text.splitlines()
    for line, after in zip(lines, [*lines[1:], ""], strict=True):
        if line.startswith("#"):
            heading = line.lstrip("#").strip()
        elif line.startswith("| ") and not _RULE.match(line) and not _RULE.match(after):
            yield heading, [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip().strip("|"))]


def words_of(text: str) -> dict[tuple[str, str], str]:
    """What the last cell of each row says, by the heading above and by the first cell without its backquotes.

    Of rows that stand there twice, as after a merge, the one with more cells counts: it is the one that we wrote.
    """
    widest: dict[tuple[str, str], list[str]] = {}
    for heading, cells in rows_of(text):
        name = (heading, cells[0].strip("`"))
        if len(cells) > max(1, len(widest.get(name, ()))):
            widest[name] = cells
    return {name: cells[-1] for name, cells in widest.items()}


def wordless(text: str) -> list[str]:
    """The rows of the tables in ``text`` whose last cell is empty."""
    return [f"{heading} {cells[0]}".strip() for heading, cells in rows_of(text) if not cells[-1]]


def plain(docstring: str | None) -> str:
    """A docstring as Markdown: backquotes are doubled in reStructuredText, and roles mean nothing here."""
    text = " ".join((docstring or "").split())
    text = re.sub(r":\w+:`~?(?:[\w.]+\.)?(\w+)`", r"`\1`", text)
    return text.replace("``", "`")
