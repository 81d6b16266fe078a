"""What stands in the documentation: its pages, and the commands, configurations and links in them."""

import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md")],
    key=lambda path: path.relative_to(ROOT).as_posix(),
)
FENCE = re.compile(r"^(?P<indent> *)```(?P<language>[\w-]*)\s*$")
SHELLS = frozenset({"sh", "bash", "shell", "zsh"})
SESSIONS = frozenset({"console", "shell-session"})


@dataclass(frozen=True)
class Block:
    """A fenced block. ``line`` is that of its first line."""

    page: str
    line: int
    language: str
    text: str


@dataclass(frozen=True)
class Command:
    """A command as it stands in a block, without comments."""

    page: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks(pages: list[Path] | None = None) -> Iterator[Block]:
    for page in PAGES if pages is None else pages:
        opened: tuple[int, str, str] | None = None
        lines: list[str] = []
        for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
            match = FENCE.match(line)
            if opened is None and match:
                opened, lines = (number + 1, match["language"], match["indent"]), []
            elif opened is not None and line.strip() == "```":
                yield Block(page.relative_to(ROOT).as_posix(), opened[0], opened[1], "\n".join(lines) + "\n")
                opened = None
            elif opened is not None:
                lines.append(line.removeprefix(opened[2]))
        assert opened is None, f"{page}: a block is not closed"


def commands(pages: list[Path] | None = None) -> list[Command]:
    """Every command of every block for a shell; in a session what follows the prompt ``$``."""
    found = []
    for block in blocks(pages):
        if block.language in SHELLS:
            found += list(_commands(block, block.text.splitlines()))
        elif block.language in SESSIONS:
            found += list(_commands(block, [_entered(line) for line in block.text.splitlines()]))
    return found


def _entered(line: str) -> str:
    return line[2:] if line.startswith(("$ ", "> ")) else ""


def _commands(block: Block, lines: list[str]) -> Iterator[Command]:
    """Each with as many lines as bash needs to be content: loops, documents and continued lines stay whole."""
    whole: list[str] = []
    begin = 0
    for number, line in enumerate(lines):
        if not whole and (not line.strip() or line.lstrip().startswith("#")):
            continue
        if not whole:
            begin = number
        whole.append(line if _is_document(whole) else without_comment(line))
        text = "\n".join(whole)
        if not text.endswith("\\") and _is_whole(text):
            yield Command(block.page, block.line + begin, text)
            whole = []
    assert not whole, f"{block.page}:{block.line + begin}: no shell can read {whole}"


def without_comment(line: str) -> str:
    quote = ""
    for place, sign in enumerate(line):
        if sign in "\"'" and quote in ("", sign):
            quote = "" if quote else sign
        elif sign == "#" and not quote and (place == 0 or line[place - 1].isspace()):
            return line[:place].rstrip()
    return line.rstrip()


def _is_document(lines: list[str]) -> bool:
    return bool(lines) and "<<" in lines[0]


def _is_whole(text: str) -> bool:
    done = subprocess.run(["bash", "-n"], input=text + "\n", capture_output=True, text=True, check=False)
    return done.returncode == 0 and not done.stderr


def inline_commands() -> list[Command]:
    """What stands in the prose between backquotes and begins like a call of gpumon."""
    found = []
    for page in PAGES:
        text = re.sub(
            r"^ *```.*?^ *```", _as_empty_lines, page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL
        )
        for match in re.finditer(r"`((?:[A-Z_]+=\S+ )*gpumon [^`]+)`", text):
            words = " ".join(match[1].replace(r"\|", "|").split())  # in a table a bar is written so
            found.append(Command(page.relative_to(ROOT).as_posix(), text.count("\n", 0, match.start()) + 1, words))
    return found


def _as_empty_lines(match: re.Match[str]) -> str:
    return "\n" * match[0].count("\n")


def links() -> Iterator[tuple[str, str]]:
    """Page and target of every link within the repository."""
    for page in PAGES:
        text = re.sub(r"^ *```.*?^ *```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
        for target in re.findall(r"!?\[[^\]]*\]\(([^)\s]+)\)", text):
            if not re.match(r"[a-z]+:", target):
                yield page.relative_to(ROOT).as_posix(), target


def anchors(page: Path) -> set[str]:
    """Where a link into ``page`` may lead: headings as GitHub names them, and marks of our own."""
    text = re.sub(r"^ *```.*?^ *```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    found = set(re.findall(r'<a id="([^"]+)"', text))
    for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE):
        words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
        slug = re.sub(r"[^\w\- ]", "", words).replace(" ", "-")
        number = 0
        while (name := slug if not number else f"{slug}-{number}") in found:
            number += 1
        found.add(name)
    return found
