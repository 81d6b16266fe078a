"""Who an agent is: a random id that outlives it, in a file of its own, and a hash that tells machines apart.

The file is locked for as long as the agent runs, so that no two agents are one. Nothing here keeps an agent from
starting: without a file it is somebody new, and says so.
"""

import fcntl
import hashlib
import logging
import os
import re
import secrets
import time
from dataclasses import dataclass
from pathlib import Path

import msgspec
from msgspec import Struct

from gpumon.text import printable

log = logging.getLogger(__name__)

ID_BYTES = 16
MAX_FILE_BYTES = 4096
MAX_NAME = 80
TRIES = 5
LOCK_SECONDS = 2.0
MAC = r"([0-9a-f]{2}:){5}[0-9a-f]{2}"
MACHINE_KEY = b"gpumon: which machine is this? 1"
MACHINE_ID = Path("/etc/machine-id")
SYSTEM_UUID = Path("/sys/class/dmi/id/product_uuid")
NETWORK_CARDS = Path("/sys/class/net")


class _State(Struct, frozen=True):
    agent_id: str
    node: str


@dataclass(frozen=True, slots=True)
class Identity:
    """An agent's own id, and its machine's. ``lock`` is the open file that nobody else may use, if there is one."""

    agent_id: str
    machine_id: str | None
    lock: int | None = None


class _UnusableError(Exception):
    """Why the file does not give an identity."""


def identity(folder: Path | None, node: str) -> Identity:
    """The identity of the agent ``node``, from its file in ``folder``; for this run only, if there is no folder.

    It waits for the disk, and 2 s for a file that another agent still has: not to be called on the event loop.
    """
    if folder is None:
        return Identity(secrets.token_hex(ID_BYTES), machine_id())
    path = folder / file_name(node)
    try:
        agent_id, lock = _kept(path, node)
    except _UnusableError as error:
        log.warning("%s; the agent has an identity for this run only", error)
    except OSError as error:
        log.warning(
            "the agent's identity cannot be kept in %s (%s): it has one for this run only; --state-dir names another "
            "folder",
            path,
            error.strerror or error,
        )
    else:
        return Identity(agent_id, machine_id(), lock)
    return Identity(secrets.token_hex(ID_BYTES), machine_id())


def file_name(node: str) -> str:
    """The name of the file for ``node``, whatever that is called; no two nodes share one."""
    safe = re.sub(r"[^A-Za-z0-9._-]", "_", node)[:MAX_NAME]
    if safe != node:
        safe += "-" + hashlib.blake2b(node.encode(errors="surrogatepass"), digest_size=8).hexdigest()
    return f"agent-{safe}.json"


def machine_id() -> str | None:
    """A hash of what this machine alone has, under a key of gpumon's own: its id itself is told to nobody
    (machine-id(5) asks for that). None where there is nothing.
    """
    own = _machines_own()
    return own and hashlib.blake2b(own.encode(), key=MACHINE_KEY, digest_size=ID_BYTES).hexdigest()


def _machines_own() -> str | None:
    text = _first_line(MACHINE_ID).lower()
    if re.fullmatch(r"[0-9a-f]{32}", text) and text.strip("0"):
        return text
    text = _first_line(SYSTEM_UUID).lower()
    if re.fullmatch(r"[0-9a-f-]{36}", text) and text.strip("0-") and text.strip("f-"):
        return text
    try:
        cards = sorted(card for card in NETWORK_CARDS.iterdir() if (card / "device").exists())
    except OSError:
        return None
    addresses = (_first_line(card / "address").lower() for card in cards)
    return next((one for one in addresses if re.fullmatch(MAC, one) and one.strip("0:")), None)


def _first_line(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(256).decode(errors="replace").partition("\n")[0].strip()
    except OSError:
        return ""


def _kept(path: Path, node: str) -> tuple[str, int]:
    """The id in the file at ``path``, made if need be, and the open file, locked.

    Raises:
        OSError: it can be neither read nor made.
        _UnusableError: another agent has it.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    for _ in range(TRIES):  # each time that another agent makes or replaces the file between two of our steps
        try:
            lock = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            made = _write(path, node, replaces=False)
            if made is not None:
                return made
            continue
        try:
            _lock(lock, path)
            if not _is_at(lock, path):
                os.close(lock)
                continue
            os.fchmod(lock, 0o600)
            agent_id = _read(lock)
            if agent_id is not None:
                return agent_id, lock
            log.warning("%s is damaged: the agent has a new identity from now on", path)
            made = _write(path, node, replaces=True)
            assert made is not None
        except BaseException:
            os.close(lock)
            raise
        os.close(lock)
        return made
    raise _UnusableError(f"{path} is replaced again and again by others")


def _lock(file: int, path: Path) -> None:
    """Lock it, also where the agent before this one is still ending."""
    deadline = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise _UnusableError(f"another agent uses {path}: give one of them another --name") from None
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


def _read(file: int) -> str | None:
    """The id in the file, or None if it is damaged."""
    try:
        state = msgspec.json.decode(os.pread(file, MAX_FILE_BYTES, 0), type=_State)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return None
    return state.agent_id if re.fullmatch(rf"[0-9a-f]{{{2 * ID_BYTES}}}", state.agent_id) else None


def _write(path: Path, node: str, *, replaces: bool) -> tuple[str, int] | None:
    """A new id, on the disk before it is used, and the open file, locked before anybody can see it.

    None if another agent was faster, where no file is to be replaced.
    """
    agent_id = secrets.token_hex(ID_BYTES)
    new = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    file = os.open(new, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        _lock(file, new)
        os.write(file, msgspec.json.encode(_State(agent_id, printable(node))) + b"\n")
        os.fsync(file)
        if replaces:
            new.rename(path)
        else:
            _name(new, path)
        _sync_folder(path.parent)
    except BaseException as error:
        os.close(file)
        new.unlink(missing_ok=True)
        if isinstance(error, FileExistsError):
            return None
        raise
    return agent_id, file


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
