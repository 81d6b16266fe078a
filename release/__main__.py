"""All that must hold before a version is given away, step by step; ends with status 0 if all of it does.

python -m release [--final] [--python PYTHON] [--only STEP] [--allow-unchecked STEP] [-- ARGUMENT OF PYTEST ...]
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

from reference.__main__ import stale
from release import advisories, bounds, packages, versions
from release.steps import FaultError, UncheckedError, run

Step = Callable[[argparse.Namespace, Path], list[str]]


def version(options: argparse.Namespace, _: Path) -> list[str]:
    """One version, and the changelog has it."""
    return [versions.check(is_final=options.final)]


def docs(_: argparse.Namespace, __: Path) -> list[str]:
    """Reference and list of licences are those of this code."""
    if pages := stale(versions_of_licences=True):
        raise FaultError(f"not as 'make docs' would write them: {', '.join(pages)}")
    return ["references and licences are those of this code"]


def package(options: argparse.Namespace, folder: Path) -> list[str]:
    """Wheel and sdist are the same, and work where nothing else is installed."""
    wheel, sdist = packages.build(folder)
    said = [f"{wheel.name}, the same from the tree and from the sdist, byte for byte"]
    for number, python in enumerate(options.python):
        for kind, built in (("wheel", wheel), ("sdist", sdist)):
            said.append(packages.install_and_try(built, python, folder / f"{kind}-{number}"))
    return said


def bound(_: argparse.Namespace, __: Path) -> list[str]:
    """Every dependency has a lower bound."""
    if without := bounds.unbounded():
        raise FaultError(f"without a lower bound: {', '.join(without)}")
    return ["every dependency has a lower bound"]


def advisory(options: argparse.Namespace, folder: Path) -> list[str]:
    """No known weakness."""
    pinned = bounds.resolved("highest", options.python[0], folder)
    said, unchecked = [], []
    asked: list[Callable[[], str]] = [partial(advisories.of_python, pinned), advisories.of_page]
    for ask in asked:
        try:
            said.append(ask())
        except UncheckedError as error:
            unchecked.append(str(error))
    if unchecked:
        raise UncheckedError("; ".join([*unchecked, *said]))
    return said


def lowest(options: argparse.Namespace, folder: Path) -> list[str]:
    """The tests pass with the oldest versions that are allowed, on the first Python that was given."""
    return [bounds.test("lowest-direct", options.python[0], folder, options.pytest)]


def newest(options: argparse.Namespace, folder: Path) -> list[str]:
    """The tests pass with the newest versions, on every Python."""
    said = []
    for number, python in enumerate(options.python):
        own = folder / str(number)
        own.mkdir()
        said.append(bounds.test("highest", python, own, options.pytest))
    return said


def systems(_: argparse.Namespace, __: Path) -> list[str]:
    """The packages do what they should on other releases of Debian, and lintian finds no fault."""
    output = run(sys.executable, "-m", "tests.long.packages")
    return output.strip().splitlines()[-1:]


STEPS: Final[dict[str, Step]] = {
    "version": version,
    "bounds": bound,
    "docs": docs,
    "packages": package,
    "systems": systems,
    "advisories": advisory,
    "lowest": lowest,
    "newest": newest,
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m release", description="What must hold before a release.")
    parser.add_argument("--final", action="store_true", help="the changelog must have the date of this version")
    parser.add_argument("--python", type=Path, action="append", help="a Python to try it on; may be repeated")
    parser.add_argument("--only", choices=STEPS, action="append", help="this step only; may be repeated")
    parser.add_argument(
        "--allow-unchecked", choices=STEPS, action="append", default=[], help="end well where this could not be checked"
    )
    parser.add_argument("pytest", nargs="*", help="arguments of pytest for the steps that run tests")
    options = parser.parse_args()
    options.python = options.python or [Path(sys.executable)]
    borne = set(options.allow_unchecked)
    outcome = {name: outcome_of(name, options) for name in options.only or STEPS}
    print()
    for name, result in outcome.items():
        print(f"{name:12}{result}")
    return 0 if all(one == "passed" or (one == "unchecked" and name in borne) for name, one in outcome.items()) else 1


def outcome_of(name: str, options: argparse.Namespace) -> str:
    """Run one step, tell what it says, and give ``passed``, ``failed`` or ``unchecked``."""
    began = time.monotonic()
    print(f"== {name}: {STEPS[name].__doc__}", flush=True)
    try:
        with tempfile.TemporaryDirectory(prefix="gpumon-release-") as folder:
            said, result = STEPS[name](options, Path(folder)), "passed"
    except FaultError as error:
        said, result = [str(error)], "failed"
    except UncheckedError as error:
        said, result = [str(error)], "unchecked"
    for line in said:
        print(f"   {line}")
    print(f"   {result} ({time.monotonic() - began:.0f} s)", flush=True)
    return result


if __name__ == "__main__":
    raise SystemExit(main())
