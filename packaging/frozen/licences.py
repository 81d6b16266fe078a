"""Prints what is installed beside this Python, and under which licence; then what each licence says."""

import platform
import sys
import sysconfig
from importlib.metadata import Distribution, distributions
from pathlib import Path

TOOLS = {"pip", "setuptools", "wheel"}
PAPERS = ("LICEN", "COPYING", "NOTICE", "AUTHORS")
PYTHON = "Python"


def name_of(found: Distribution) -> str:
    """In the words of its own papers: an expression of SPDX, else what else names it."""
    papers = found.metadata
    named = [one.rpartition(" :: ")[2] for one in papers.get_all("Classifier", []) if one.startswith("License ::")]
    short = next((text for key in ("License-Expression", "License") if (text := papers[key]) and "\n" not in text), "")
    return short or ", ".join(named) or "see below"


def texts_of(found: Distribution) -> list[str]:
    """The files in its folder of papers that say what is allowed."""
    files = [file for file in found.files or [] if any(".dist-info" in part for part in file.parts)]
    return [file.read_text().strip() for file in files if file.name.upper().startswith(PAPERS)]


def python_licence() -> list[str]:
    """Where CPython's own installation and Debian's have it."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    places = (Path(sysconfig.get_path("stdlib"), "LICENSE.txt"), Path("/usr/share/doc", version, "copyright"))
    return [next(place.read_text(encoding="utf-8").strip() for place in places if place.exists())]


parts = sorted((found.name.lower(), found) for found in distributions() if found.name.lower() not in TOOLS)
for name, version, licence in [
    (PYTHON, platform.python_version(), "PSF-2.0"),
    *((name, found.version, name_of(found)) for name, found in parts),
]:
    print(f"{name:<20}{version:<14}{licence}")
for name, texts in [(PYTHON, python_licence()), *((name, texts_of(found)) for name, found in parts)]:
    for text in texts:
        print(f"\n---- {name}\n\n{text}")
