"""Prints what is installed beside this Python, a line each: name, version, licence, and the interpreter itself."""

import platform
from importlib.metadata import Distribution, distributions

TOOLS = {"pip", "setuptools", "wheel"}


def licence_of(found: Distribution) -> str:
    """In the words of its own papers: an expression of SPDX, else what else names it."""
    papers = found.metadata
    named = [one.rpartition(" :: ")[2] for one in papers.get_all("Classifier", []) if one.startswith("License ::")]
    short = next((text for key in ("License-Expression", "License") if (text := papers[key]) and "\n" not in text), "")
    return short or ", ".join(named) or "see its papers"


print(f"Python\t{platform.python_version()}\tPSF-2.0")
for name, found in sorted((found.name.lower(), found) for found in distributions()):
    if name not in TOOLS:
        print(f"{name}\t{found.version}\t{licence_of(found)}")
