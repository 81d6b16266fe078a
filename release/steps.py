"""What a step of the check is: how it ends, and how it runs other programs."""

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


class FaultError(Exception):
    """Something is wrong; the text says what."""


class UncheckedError(Exception):
    """Nobody could say whether something is wrong; the text says why."""


def run(*command: str | Path, cwd: Path = ROOT, environment: Mapping[str, str] | None = None) -> str:
    """Run a program to its end, and give what it wrote to standard output.

    Raises:
        FaultError: its exit status is not 0; with all that it said.
    """
    done = finished(command, cwd, environment)
    if done.returncode:
        raise FaultError(f"{' '.join(map(str, command))}\nstatus {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def finished(
    command: Sequence[str | Path], cwd: Path = ROOT, environment: Mapping[str, str] | None = None
) -> "subprocess.CompletedProcess[str]":
    """The same, whatever its exit status is."""
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


def clean_environment(**changes: str) -> dict[str, str]:
    """The environment of this process without what would lead Python or gpumon elsewhere."""
    foreign = ("GPUMON_", "PYTHON", "VIRTUAL_ENV")
    return {key: value for key, value in os.environ.items() if not key.startswith(foreign)} | changes
