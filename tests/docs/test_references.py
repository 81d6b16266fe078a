"""What is made from the code is what the code makes, and says of everything what it is for."""

from importlib.metadata import metadata
from typing import Annotated, Literal

import pytest
from msgspec import Meta
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from reference import configuration, licences
from reference.__main__ import DOCS, PARTS, stale, without_words
from reference.pages import PlaceError, part, rows_of, table, with_part, wordless, words_of


def test_the_references_are_those_of_this_code() -> None:
    assert stale() == [], "run 'make docs', and commit what it writes"


def test_every_row_says_what_it_is_for() -> None:
    assert without_words() == [], "write the words into the last column of the page; 'make docs' keeps them"


@pytest.mark.parametrize("requirement", licences.requirements()[""])
def test_what_we_ask_for_is_listed_with_its_licence(requirement: str) -> None:
    """Which licence that is, ``make release-check`` looks up: another version may call it otherwise."""
    name = canonicalize_name(Requirement(requirement).name)
    rows = {cells[0].strip("`"): cells for _, cells in rows_of((DOCS / "licences.md").read_text(encoding="utf-8"))}
    assert name in rows, "run 'make docs'"
    assert rows[name][1]
    assert licences.licence_of(metadata(name))


def test_all_licences_are_such_as_go_with_ours() -> None:
    """None of them asks that whoever gets it along with gpumon gets gpumon's own source under it."""
    text = part((DOCS / "licences.md").read_text(encoding="utf-8"), "python")
    listed = [cells for _, cells in rows_of(text) if cells[0].startswith("`")]
    assert len(listed) > 15
    for name, licence, *_ in listed:
        assert licence, name
        assert "not installed" not in licence, f"{name}: run 'make docs' where it is installed"
        assert "GPL" not in licence, name


@pytest.mark.parametrize("name", [name for page, name in PARTS if page == "api-reference.md"])
def test_every_part_has_something_in_it(name: str) -> None:
    text = part((DOCS / "api-reference.md").read_text(encoding="utf-8"), name)
    assert len(list(rows_of(text))) > 10


def test_words_are_kept_and_a_new_row_waits_for_them() -> None:
    page = "before\n\n<!-- x: made by 'make docs' -->\n"
    page += "<!-- x ends -->\nafter\n"
    once = with_part(page, "x", table(("key", "meaning"), [["`a`", "first | second"], ["`b`", ""]]))
    assert once.startswith("before\n")
    assert once.endswith("after\n")
    assert words_of(part(once, "x")) == {("", "a"): r"first \| second", ("", "b"): ""}
    assert wordless(part(once, "x")) == ["`b`"]
    assert with_part(once, "x", part(once, "x")) == once
    assert words_of("| `a` | other |\n| `a` | 1 | ours |\n| `a` | another |\n") == {("", "a"): "ours"}
    with pytest.raises(PlaceError, match="y"):
        part(page, "y")


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (Literal["one", "two", "three"], '"one", "two" or "three"'),
        (Literal["one"] | None, '"one"; or null'),
        (list[str], "a list"),
        (bool, "true or false"),
        (Annotated[float, Meta(ge=1, description="seconds from 1")], "seconds from 1"),
    ],
)
def test_what_a_key_may_be_is_told_in_words(kind: object, words: str) -> None:
    assert configuration.allowed(kind) == words
