"""Files of state: their owner's alone (mode 0600), never half written, never reached through a symbolic link.

What is new is on the disk under a name of its own before it takes that of the file. One who must be alone with a
file holds it: locked for as long as the process lives, however that ends. Everything here waits for the disk, and
is not to be called on the event loop.
"""

import contextlib
import fcntl
import logging
import os
import secrets
import time
from collections.abc import Callable
from pathlib import Path

log = logging.getLogger(__name__)

MAX_BYTES = 4 * 1024 * 1024
TRIES = 5
LOCK_SECONDS = 2.0


class UnusableError(Exception):
    """Why a file cannot be held; the text says who has it."""


def read(path: Path) -> bytes | None:
    """What stands in the file at ``path``, at most 4 MiB of it; None if there is none. Raises OSError."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    try:
        return _content(file)
    finally:
        os.close(file)


def write(path: Path, data: bytes) -> None:
    """Let ``data`` be the file at ``path``, whatever stood there. Raises OSError; then the old file is whole."""
    os.close(_made(path, data, replaces=True, locked=False))


def kept(path: Path, make: Callable[[], bytes]) -> bytes:
    """What stands in the file at ``path``; it is made of ``make()`` if there is none. Raises OSError."""
    while (found := read(path)) is None:
        with contextlib.suppress(FileExistsError):  # somebody was faster: it is theirs that counts
            data = make()
            os.close(_made(path, data, replaces=False, locked=False))
            return data
    return found


class HeldFile:
    """A file that nobody else holds, from :func:`hold`."""

    def __init__(self, path: Path, file: int) -> None:
        self.path = path
        self._file = file

    def content(self) -> bytes:
        """What stands in it."""
        return _content(self._file)

    def write(self, data: bytes) -> None:
        """Let ``data`` be its content. Raises OSError; then the old one is whole."""
        new = _made(self.path, data, replaces=True, locked=True)
        os.close(self._file)
        self._file = new

    def close(self) -> None:
        """Let go of it."""
        os.close(self._file)


def hold(path: Path, make: Callable[[], bytes], owner: str) -> HeldFile:
    """The file at ``path``, made of ``make()`` if there is none, and held. It waits 2 s for one that is held.

    Raises:
        OSError: it can be neither read nor made.
        UnusableError: another ``owner`` holds it.
    """
    for _ in range(TRIES):  # each time that another makes or replaces the file between two of our steps
        try:
            file = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            with contextlib.suppress(FileExistsError):
                return HeldFile(path, _made(path, make(), replaces=False, locked=True))
            continue
        try:
            _lock(file, path, owner)
            if _is_at(file, path):
                os.fchmod(file, 0o600)
                return HeldFile(path, file)
        except BaseException:
            os.close(file)
            raise
        os.close(file)
    raise UnusableError(f"{path} is replaced again and again by others")


def _content(file: int) -> bytes:
    return os.pread(file, MAX_BYTES, 0)


def _made(path: Path, data: bytes, *, replaces: bool, locked: bool) -> int:
    """A new file at ``path``, open, on the disk before it has its name, and ``locked`` before anybody can see it.

    Raises:
        OSError: it cannot be made; nothing is left of it.
        FileExistsError: there is one, which is not to be replaced.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    file = os.open(new, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        if locked:
            _lock(file, new, "program")
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(file, rest) :]
        os.fsync(file)
        if replaces:
            new.rename(path)
        else:
            _name(new, path)
        _sync_folder(path.parent)
    except BaseException:
        os.close(file)
        new.unlink(missing_ok=True)
        raise
    return file


def _lock(file: int, path: Path, owner: str) -> None:
    """Lock it, also where the one before us is still ending."""
    deadline = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise UnusableError(f"another {owner} uses {path}") from None
            time.sleep(LOCK_SECONDS / 20)
        except OSError as error:  # a file system without locks
            log.debug("%s cannot be locked: %s", path, error)
            return
        else:
            return


def _is_at(file: int, path: Path) -> bool:
    """Whether the open ``file`` is the one that stands at ``path`` now."""
    try:
        return os.path.samestat(os.fstat(file), path.lstat())
    except FileNotFoundError:
        return False


def _name(new: Path, path: Path) -> None:
    """Give the file its name, unless somebody has it. Raises FileExistsError."""
    try:
        path.hardlink_to(new)
    except FileExistsError:
        raise
    except OSError:  # a file system without links
        new.rename(path)
    else:
        new.unlink()


def _sync_folder(folder: Path) -> None:
    """Put the folder's own list of files on the disk."""
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
