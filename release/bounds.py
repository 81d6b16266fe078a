"""The dependencies: bounded below, and tested at these bounds and at the newest that there is."""

import os
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal

from reference.licences import requirements
from release.steps import ROOT, FaultError, run

Resolution = Literal["lowest-direct", "highest"]
"""As uv calls them: what we name ourselves at its lower bound and all else at its newest; or all at their newest."""

BOUNDED: Final = re.compile(r"^[A-Za-z0-9._-]+(?:\[[\w,-]+\])?\s*>=\s*\d+(?:\.\d+)*")


def unbounded() -> list[str]:
    """The requirements without a lower bound; one of gpumon itself with an extra needs none."""
    return [
        requirement
        for required in requirements().values()
        for requirement in required
        if not requirement.startswith("gpumon-fleet[") and not BOUNDED.match(requirement)
    ]


def resolved(resolution: Resolution, python: Path, folder: Path) -> Path:
    """A file of requirements in ``folder`` with one version for each package, those for the tests included."""
    file = folder / f"{resolution}.txt"
    command = ("uv", "pip", "compile", "--quiet", "--no-header", "--no-annotate", "--resolution", resolution)
    run(*command, "--python", python, "--extra", "dev", "--output-file", file, ROOT / "pyproject.toml")
    return file


def test(resolution: Resolution, python: Path, folder: Path, arguments: Sequence[str]) -> str:
    """Run the tests in an environment of its own, with the versions of ``resolution``; what they print is shown.

    ``arguments`` go to pytest. Raises :class:`FaultError` where a test fails.
    """
    pinned = resolved(resolution, python, folder)
    environment = folder / f"tests-{resolution}"
    # With pip in it, since some of the tests install by that.
    run("uv", "venv", "--quiet", "--no-project", "--seed", "--python", python, environment)
    inside = environment / "bin" / "python"
    run("uv", "pip", "install", "--quiet", "--python", inside, "--requirement", pinned)
    run("uv", "pip", "install", "--quiet", "--python", inside, "--no-deps", "--editable", ROOT)
    command: list[str | Path] = [ROOT / "tests" / "setup" / "run-tests", inside, "-p", "no:cacheprovider", *arguments]
    done = subprocess.run(command, cwd=ROOT, env=_environment(), check=False)
    if done.returncode:
        raise FaultError(f"the tests ended with status {done.returncode}, with the versions in {pinned}")
    return f"{resolution} versions on {run(inside, '--version').strip()}"


def _environment() -> dict[str, str]:
    """Without what leads to another Python; ``GPUMON_CHROMIUM`` and the like are for the tests."""
    return {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "VIRTUAL_ENV"))}
