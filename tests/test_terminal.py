"""Text in columns, whoever chose it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpumon.terminal import STYLES, Cell, cut, fit, line, paint, width, wrap
from gpumon.text import printable


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        ("", 0),
        ("train.py", 8),
        ("机器学习", 8),
        ("ＧＰＵ", 6),
        ("é", 1),
        ("e\u0301", 1),
        ("한국", 4),
        ("ｱ", 1),
        ("°…", 2),
    ],
)
def test_wide_signs_take_two_columns_and_combining_ones_none(text: str, columns: int) -> None:
    assert width(text) == columns


@pytest.mark.parametrize(
    ("text", "columns", "expected"),
    [
        ("train.py", 8, "train.py"),
        ("train.py", 5, "trai…"),
        ("机器学习", 7, "机器学…"),
        ("机器学习", 6, "机器…"),
        ("a", 0, ""),
        ("ab", 1, "…"),
        ("one two", 5, "one…"),
    ],
)
def test_what_is_too_long_is_cut_and_says_so(text: str, columns: int, expected: str) -> None:
    assert cut(text, columns) == expected


@given(st.text(), st.integers(0, 40), st.booleans())
def test_a_cell_is_exactly_as_wide_as_its_column_whatever_it_holds(text: str, columns: int, right: bool) -> None:
    shown = fit(Cell(text, "red", right), columns, color=False)
    assert width(shown) == columns
    assert shown.isprintable()


@given(st.text())
def test_no_text_reaches_the_terminal_as_a_command(text: str) -> None:
    assert printable(text).isprintable()
    assert "\x1b" not in line([Cell(text)], [80], color=True)


@pytest.mark.parametrize("text", ["\x1b[2J", "a\nb", "\x9b31m", "\u202egpj.exe", "\x07", "\u200b", "a\x00"])
def test_what_moves_a_cursor_or_turns_the_writing_is_replaced(text: str) -> None:
    assert "\ufffd" in printable(text)
    assert all("\ufffd" in one for one in wrap(text, 80))


@given(st.text(), st.integers(1, 60), st.integers(0, 8), st.integers(0, 8))
def test_no_line_of_a_paragraph_is_too_wide(text: str, columns: int, first: int, rest: int) -> None:
    assert all(width(one) <= columns for one in wrap(text, columns, first=first, rest=rest))


def test_a_paragraph_is_broken_between_words_and_indented() -> None:
    assert wrap("one two three four", 9, first=1, rest=2) == [" one two", "  three", "  four"]


def test_colours_are_ended_where_they_began() -> None:
    assert paint("x", "red bold") == "\x1b[31;1mx\x1b[0m"
    assert paint("x", "") == "x"
    assert paint("", "red") == ""
    assert all(paint("x", style).endswith("\x1b[0m") for style in STYLES)
