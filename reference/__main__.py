"""Write the parts of docs/ that are made from the code, or tell with ``--check`` which are stale.

python -m reference [--check]
"""

import argparse
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from reference import answers, commands, configuration, licences, metrics
from reference.pages import part, with_part, wordless, words_of

DOCS: Final = Path(__file__).resolve().parent.parent / "docs"
Words = dict[tuple[str, str], str]

PARTS: Final[dict[tuple[str, str], Callable[[Words], str]]] = {
    ("configuration.md", "keys"): configuration.reference,
    ("commands.md", "commands"): lambda _: commands.reference(),
    ("api-reference.md", "routes"): lambda _: answers.routes(),
    ("api-reference.md", "types"): answers.types,
    ("api-reference.md", "metrics"): lambda _: metrics.reference(),
    ("licences.md", "python"): lambda _: licences.python(),
    ("licences.md", "page"): lambda _: licences.page(),
}
"""By page and by the name of the place in it: what makes the text, out of the words that are there."""

FOLLOWS_OTHERS: Final = ("licences.md", "python")
"""What may change without us: a package that we need may need another one from one day to the next."""


def made() -> Iterator[tuple[str, str, str, str]]:
    """Page and name of each part, what stands there, and what should."""
    for (page, name), make in PARTS.items():
        whole = (DOCS / page).read_text(encoding="utf-8")
        yield page, name, part(whole, name), make(words_of(whole)).strip()


def stale(*, versions_of_licences: bool = False) -> list[str]:
    """The parts that are not what ``make docs`` would write; the one that follows others only where asked for."""
    return [
        f"{page} ({name})"
        for page, name, there, should in made()
        if there != should and (versions_of_licences or (page, name) != FOLLOWS_OTHERS)
    ]


def without_words() -> list[str]:
    """The rows that wait for somebody to say what they mean, each behind its page."""
    return [f"{page}: {row}" for page, _, _, should in made() for row in wordless(should)]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m reference", description="Pages of docs/ from the code.")
    parser.add_argument("--check", action="store_true", help="write nothing; status 1 if something is stale")
    options = parser.parse_args()
    waiting = without_words()
    old = stale(versions_of_licences=True)
    if not options.check:
        for page, name, _, should in list(made()):
            file = DOCS / page
            file.write_text(with_part(file.read_text(encoding="utf-8"), name, should), encoding="utf-8")
    for one in old:
        print(f"{'stale' if options.check else 'written'}: docs/{one}")
    for one in waiting:
        print(f"no words yet: docs/{one}")
    return 1 if waiting or (options.check and old) else 0


if __name__ == "__main__":
    sys.exit(main())
