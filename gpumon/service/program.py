"""How gpumon is started here."""

import sys
from dataclasses import dataclass
from pathlib import Path

import gpumon
from gpumon.errors import UsageError


@dataclass(frozen=True, slots=True)
class Program:
    """The ``command`` that starts gpumon, the files that it is made of, and whether it is one file that ``unpacks``
    itself.
    """

    command: tuple[str, ...]
    files: tuple[Path, ...]
    unpacks: bool = False


def this_program(started_as: str) -> Program:
    """What runs now, ``started_as`` the first word of its command line."""
    if getattr(sys, "frozen", False):
        # One that unpacks itself is started by the file that a person has, and runs as another that ends with it.
        unpacks = _unpacks()
        program = Path(started_as).absolute() if unpacks else Path(sys.executable)
        return Program((str(program),), (program,), unpacks)
    python = Path(sys.executable).absolute()
    parts = [python, Path(sys.base_prefix), Path(__file__), *(Path(one) for one in gpumon.__path__)]
    script = Path(started_as).absolute()
    if script.name == "__main__.py" or not script.is_file():
        return Program((str(python), "-m", "gpumon"), tuple(parts))
    return Program((str(script),), (script, *parts))


def other_program(path: Path) -> Program:
    """One that is not this one, such as that of a package that is being built.

    Raises:
        UsageError: a unit cannot name it.
    """
    if not path.is_absolute() or not str(path).isprintable():
        allowed = "a path that begins with /, without control characters"
        raise UsageError(f"--program: {str(path)!r} is not allowed; allowed: {allowed}")
    return Program((str(path),), ())


def _unpacks() -> bool:
    """PyInstaller's program of one file runs from a folder elsewhere, as a child of itself."""
    unpacked = getattr(sys, "_MEIPASS", None)
    return unpacked is not None and Path(sys.executable).parent not in (Path(unpacked), Path(unpacked).parent)
