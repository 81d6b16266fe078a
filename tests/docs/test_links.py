"""No link of the documentation leads nowhere, and no page is left out of its index."""

import re

import pytest

from tests.docs.blocks import PAGES, ROOT, anchors, links


@pytest.mark.parametrize(("page", "target"), sorted(set(links())))
def test_a_link_leads_somewhere(page: str, target: str) -> None:
    path, _, anchor = target.partition("#")
    file = (ROOT / page).parent / path if path else ROOT / page
    assert file.exists(), f"{page}: {target}"
    if anchor and file.suffix == ".md":
        assert anchor in anchors(file), f"{page}: {target}"


def test_every_page_is_in_the_index() -> None:
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    for page in (ROOT / "docs").glob("*.md"):
        if page.name != "README.md":
            assert f"({page.name})" in index, page.name


def test_every_page_begins_with_its_title() -> None:
    for page in PAGES:
        assert re.match(r"# \S", page.read_text(encoding="utf-8")), page
