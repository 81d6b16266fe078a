"""Who an agent is: a random id that outlives it, in a file of its own, and a hash that tells machines apart.

The file is locked for as long as the agent runs, so that no two agents are one. Nothing here keeps an agent from
starting: without a file it is somebody new, and says so.
"""

import hashlib
import logging
import re
import secrets
from dataclasses import dataclass
from pathlib import Path

import msgspec
from msgspec import Struct

from gpumon.statefile import HeldFile, UnusableError, hold
from gpumon.text import printable

log = logging.getLogger(__name__)

ID_BYTES = 16
MAX_NAME = 80
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
    """An agent's own id, and its machine's. ``file`` is where it is kept, held for this agent, if there is one."""

    agent_id: str
    machine_id: str | None
    file: HeldFile | None = None


def identity(folder: Path | None, node: str) -> Identity:
    """The identity of the agent ``node``, from its file in ``folder``; for this run only, if there is no folder.

    It waits for the disk, and 2 s for a file that another agent still has: not to be called on the event loop.
    """
    if folder is None:
        return Identity(secrets.token_hex(ID_BYTES), machine_id())
    path = folder / file_name(node)
    try:
        agent_id, file = _kept(path, node)
    except UnusableError as error:
        log.warning("%s: give one of them another --name; this one has an identity for this run only", error)
    except OSError as error:
        log.warning(
            "the agent's identity cannot be kept in %s (%s): it has one for this run only; --state-dir names another "
            "folder",
            path,
            error.strerror or error,
        )
    else:
        return Identity(agent_id, machine_id(), file)
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


def _kept(path: Path, node: str) -> tuple[str, HeldFile]:
    """The id in the file at ``path``, made if need be, and the file, held.

    Raises:
        OSError: it can be neither read nor made.
        UnusableError: another agent has it.
    """
    file = hold(path, lambda: _new(node), "agent")
    try:
        agent_id = _read(file)
        if agent_id is None:
            log.warning("%s is damaged: the agent has a new identity from now on", path)
            file.write(_new(node))
            agent_id = _read(file)
            assert agent_id is not None
    except BaseException:
        file.close()
        raise
    return agent_id, file


def _new(node: str) -> bytes:
    return msgspec.json.encode(_State(secrets.token_hex(ID_BYTES), printable(node))) + b"\n"


def _read(file: HeldFile) -> str | None:
    """The id in the file, or None if it is damaged."""
    try:
        state = msgspec.json.decode(file.content(), type=_State)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return None
    return state.agent_id if re.fullmatch(rf"[0-9a-f]{{{2 * ID_BYTES}}}", state.agent_id) else None
