"""One version: it stands in ``gpumon/__init__.py``, and everything else takes it from there."""

import re
from pathlib import Path

from release.steps import ROOT, FaultError, run

SOURCE = Path("gpumon/__init__.py")
HEADING = re.compile(r"^## (?P<version>\S+) \((?P<date>[^)]+)\)$", re.MULTILINE)
"""Of a version in the changelog."""
UNRELEASED = "unreleased"


def version() -> str:
    """The version of this tree. Raises :class:`FaultError` where its source names none, or several."""
    found = re.findall(
        r'^__version__ = "(\d+\.\d+\.\d+(?:(?:a|b|rc)\d+)?)"$', (ROOT / SOURCE).read_text(), re.MULTILINE
    )
    if len(found) != 1:
        raise FaultError(f'{SOURCE}: one line __version__ = "X.Y.Z" is wanted, found {len(found)}')
    return str(found[0])


def second_sources() -> list[str]:
    """The tracked files that set this version a second time, where one of them would be forgotten."""
    spelled = re.escape(version())
    setting = re.compile(rf"""^\s*["']?_*version_*["']?\s*[:=]\s*["']{spelled}["']""", re.MULTILINE | re.IGNORECASE)
    names = [name for name in run("git", "-c", f"safe.directory={ROOT}", "ls-files", "-z").split("\0") if name]
    kinds = {".py", ".toml", ".json", ".ts", ".cfg", ".yml", ".yaml", ".sh"}
    return [
        name
        for name in names
        if Path(name).suffix in kinds
        and name not in (str(SOURCE), "web/package-lock.json")
        and (ROOT / name).is_file()
        and setting.search((ROOT / name).read_text(encoding="utf-8"))
    ]


def newest_in_changelog() -> tuple[str, str]:
    """The version that the changelog tells first, and its date or ``unreleased``."""
    match = HEADING.search((ROOT / "CHANGELOG.md").read_text(encoding="utf-8"))
    if match is None:
        raise FaultError("CHANGELOG.md: no heading '## X.Y.Z (DATE)'")
    return match["version"], match["date"]


def check(*, is_final: bool) -> str:
    """Version and changelog agree. ``is_final``: the changelog must have a date as well."""
    if others := second_sources():
        raise FaultError(f"the version is set in {SOURCE}, and again in {', '.join(others)}")
    told, date = newest_in_changelog()
    if told != version():
        raise FaultError(f"CHANGELOG.md tells of {told} first, {SOURCE} is {version()}")
    if date == UNRELEASED:
        if is_final:
            raise FaultError(f"CHANGELOG.md: {told} is still called {UNRELEASED}; it needs its date")
        return f"{told}, called {UNRELEASED} in the changelog: give it a date before it is tagged"
    if not re.fullmatch(r"\d{4}-\d\d-\d\d", date):
        raise FaultError(f"CHANGELOG.md: the date of {told} is {date!r}; allowed: YYYY-MM-DD or {UNRELEASED}")
    return f"{told} of {date}"
