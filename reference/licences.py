"""Under which licences gpumon's dependencies are, and what of others' is in its page."""

import re
import tomllib
from collections.abc import Iterator
from importlib.metadata import PackageMetadata, PackageNotFoundError, metadata, requires
from pathlib import Path
from typing import Final

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from reference.pages import table

ROOT: Final = Path(__file__).resolve().parent.parent
PAGE: Final = ROOT / "gpumon" / "hub" / "page" / "licences.txt"
OURS: Final = "gpumon-fleet"
DEVELOPMENT: Final = frozenset({"dev", "freeze", "release"})
"""Extras whose packages nobody gets who uses gpumon."""

SAME: Final = {
    "MIT License": "MIT",
    "Apache 2.0": "Apache-2.0",
    "Apache 2": "Apache-2.0",
    "Apache License 2.0": "Apache-2.0",
    "Apache Software License": "Apache-2.0",
    "BSD License": "BSD",
    "BSD": "BSD",
    "3-Clause BSD License": "BSD-3-Clause",
    "ISC License (ISCL)": "ISC",
    "Python Software Foundation License": "PSF-2.0",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
}
"""What packages that know no SPDX expression call their licences."""


def python() -> str:
    """The table of the Python packages that come with gpumon, those of its optional parts included."""
    rows = [[f"`{name}`", _listed(name), extra] for name, extra in sorted(closure().items())]
    return table(("package", "licence", "comes with"), rows)


def _listed(name: str) -> str:
    try:
        return licence_of(metadata(name))
    except PackageNotFoundError:
        return f"not installed here: {name}"


def page() -> str:
    """The table of the packages that are in the page, as its build lists them."""
    found = re.findall(r"^## (\S+) - (\S+) \(([^)]+)\)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    return table(("package", "licence"), ([f"`{name}`", licence] for name, _, licence in sorted(found)))


def closure() -> dict[str, str]:
    """The packages that gpumon needs, directly or not: by name, with ``gpumon`` or the extra that asks for them."""
    found: dict[str, str] = {}
    for extra in ("", *(one for one in sorted(requirements()) if one and one not in DEVELOPMENT)):
        waiting = [(OURS, frozenset({extra} if extra else ()))]
        seen = set(waiting)
        while waiting:
            for requirement in _required(*waiting.pop()):
                name = canonicalize_name(requirement.name)
                if name != OURS:
                    found.setdefault(name, f"`{OURS}[{extra}]`" if extra else "gpumon")
                one = (name, frozenset(requirement.extras))
                if one not in seen:
                    seen.add(one)
                    waiting.append(one)
    return found


def _required(name: str, extras: frozenset[str]) -> Iterator[Requirement]:
    if name == OURS:
        ours = requirements()
        lines = [line for extra in ("", *extras) for line in ours.get(extra, ())]
    else:
        try:
            lines = requires(name) or []
        except PackageNotFoundError:  # of an extra that is not installed here
            return
    for requirement in map(Requirement, lines):
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in ("", *extras)):
            yield requirement


def requirements() -> dict[str, list[str]]:
    """What gpumon itself requires: at run time under "", then for each extra."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return {"": project["dependencies"], **project.get("optional-dependencies", {})}


def licence_of(package: PackageMetadata) -> str:
    """The licence that a package names: by its expression, else by its classifiers, else in its own words."""
    if expressions := package.get_all("License-Expression"):
        return str(expressions[0])
    classifiers = package.get_all("Classifier") or []
    words = [one.rpartition(" :: ")[2] for one in classifiers if one.startswith("License ::")]
    words = words or [(package.get_all("License") or [""])[0].partition("\n")[0]]
    return " AND ".join(dict.fromkeys(SAME.get(word, word) for word in words))
