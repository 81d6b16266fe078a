"""Which files a service of the machine can read: it runs as a user that owns nothing and is in no group."""

import grp
import stat
from collections.abc import Iterator
from pathlib import Path

from gpumon.errors import UsageError
from gpumon.service.program import Program

HIDDEN = ("home", "root", "run/user", "tmp", "var/tmp")
"""What such a service does not see: people's own folders, and temporary files but its own."""


def obstacle(program: Program, role: str, root: Path = Path("/")) -> str | None:
    """Why a service could not read ``program``, and where gpumon would have to be; None if it can."""
    for file in program.files:
        for one in (file, file.resolve()):
            if (why := hidden(one, root) or _closed(one, root)) is not None:
                return (
                    f"{one}: a service of the machine cannot read it, since {why}; install gpumon where all may read "
                    "it (python3 -m venv /opt/gpumon, and into that by its pip) and ask that one, "
                    f"or make it a service of your own: gpumon service install {role} --user"
                )
    return None


def group_of(file: Path, root: Path = Path("/")) -> str | None:
    """The group that a service must be in to read ``file``; None where it needs none.

    Raises:
        UsageError: no group helps; the text says how to mend that.
    """
    try:
        group = file.stat().st_gid
        if (why := hidden(file.resolve(), root)) is None and _closed(file.resolve(), root) is None:
            return None
        closed = next((one for one in _way(file.resolve(), root) if not _opens(one, group)), None)
        name = grp.getgrgid(group).gr_name
    except OSError as error:
        raise UsageError(f"{file}: cannot be read: {error.strerror}") from None
    except KeyError:
        raise UsageError(f"{file}: its group {group} has no name") from None
    if why is not None or closed is not None or group == 0:
        why = why or f"{closed or file} is closed to all but its owner"
        raise UsageError(
            f"{file}: a service cannot read it, since {why}; let a group read it that is not root's "
            f"(chgrp ssl-cert {file}; chmod 0640 {file}, and 0750 for its folder), and ask again"
        )
    return name


def hidden(file: Path, root: Path = Path("/")) -> str | None:
    """Why a service does not even see the file, or None."""
    folder = next((root / folder for folder in HIDDEN if file.is_relative_to(root / folder)), None)
    return f"services do not see what lies in {folder}" if folder else None


def _closed(file: Path, root: Path) -> str | None:
    closed = next((one for one in _way(file, root) if not _opens(one, None)), None)
    return f"{closed} is closed to other users" if closed else None


def _opens(one: Path, group: int | None) -> bool:
    """Whether everybody, or the members of ``group``, may read a file or pass through a folder."""
    status = one.stat()
    wanted = 0o001 if stat.S_ISDIR(status.st_mode) else 0o004
    return bool(status.st_mode & wanted or (status.st_gid == group and status.st_mode & wanted << 3))


def _way(file: Path, root: Path) -> Iterator[Path]:
    """``file`` and the folders above it that are there: what lies in an archive has none."""
    return (one for one in (file, *file.parents) if one.is_relative_to(root) and one.exists())
