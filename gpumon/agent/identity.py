"""Who an agent is: a random id and a key that outlive it, in a file of its own, which hubs it has joined, and a hash
that tells machines apart.

The file is locked for as long as the agent runs, so that no two agents are one. Nothing here keeps an agent from
starting: without a file it is somebody new, and says so.
"""

import hashlib
import logging
import re
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import replace

from gpumon.handshake import KeyPair, Mac
from gpumon.statefile import HeldFile, UnusableError, hold
from gpumon.text import printable

log = logging.getLogger(__name__)

ID_BYTES = 16
MAX_NAME = 80
MOST_BONDS = 64
MAC = r"([0-9a-f]{2}:){5}[0-9a-f]{2}"
MACHINE_KEY = b"gpumon: which machine is this? 1"
MACHINE_ID = Path("/etc/machine-id")
SYSTEM_UUID = Path("/sys/class/dmi/id/product_uuid")
NETWORK_CARDS = Path("/sys/class/net")


class Bond(Struct, frozen=True):
    """A hub that has proven itself at ``url``: the fingerprint of its key, and what it shares with this agent."""

    url: Annotated[str, Meta(max_length=1024)]
    hub: Annotated[str, Meta(pattern=r"^[0-9a-f]{32}\Z")]
    secret: Mac


class _State(Struct, frozen=True):
    agent_id: str
    node: str
    private_key: Annotated[str, Meta(pattern=r"^([0-9a-f]{64})?\Z")] = ""  # files of older agents have none
    hubs: list[Bond] = []


@dataclass(frozen=True, slots=True)
class Identity:
    """An agent's own id and keys, its machine's id, and the hubs that it has joined. ``file`` is where that is kept,
    held for this agent, if there is one.
    """

    agent_id: str
    machine_id: str | None
    keys: KeyPair = field(default_factory=KeyPair.new)
    bonds: list[Bond] = field(default_factory=list)
    file: HeldFile | None = None

    def keep(self, bond: Bond) -> None:
        """Remember ``bond``, in place of the one of its URL. Raises OSError; then it counts for this run only."""
        self.bonds[:] = [*(one for one in self.bonds if one.url != bond.url), bond][-MOST_BONDS:]
        if self.file is not None:
            state = _read(self.file)
            assert state is not None
            self.file.write(_encoded(replace(state, hubs=self.bonds)))

    def close(self) -> None:
        """Let go of the file, for the next agent of this name."""
        if self.file is not None:
            self.file.close()


def identity(folder: Path | None, node: str) -> Identity:
    """The identity of the agent ``node``, from its file in ``folder``; for this run only, if there is no folder.

    It waits for the disk, and 2 s for a file that another agent still has: not to be called on the event loop.
    """
    if folder is None:
        return Identity(secrets.token_hex(ID_BYTES), machine_id())
    path = folder / file_name(node)
    try:
        state, file = _kept(path, node)
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
        keys = KeyPair.of(int(state.private_key, 16))
        return Identity(state.agent_id, machine_id(), keys, list(state.hubs), file)
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


def _kept(path: Path, node: str) -> tuple[_State, HeldFile]:
    """What stands in the file at ``path``, made if need be, and the file, held.

    Raises:
        OSError: it can be neither read nor made.
        UnusableError: another agent has it.
    """
    file = hold(path, lambda: _encoded(_new(node)), "agent")
    try:
        state = _read(file)
        if state is None:
            log.warning("%s is damaged: the agent has a new identity from now on", path)
            state = _new(node)
            file.write(_encoded(state))
        elif not state.private_key:
            state = replace(state, private_key=_new(node).private_key)
            file.write(_encoded(state))
    except BaseException:
        file.close()
        raise
    return state, file


def _new(node: str) -> _State:
    return _State(secrets.token_hex(ID_BYTES), printable(node), f"{KeyPair.new().private:064x}")


def _encoded(state: _State) -> bytes:
    return msgspec.json.encode(state) + b"\n"


def _read(file: HeldFile) -> _State | None:
    """The state in the file, or None if it is damaged."""
    try:
        state = msgspec.json.decode(file.content(), type=_State)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return None
    if state.private_key and int(state.private_key, 16) < 2:
        return None
    return state if re.fullmatch(rf"[0-9a-f]{{{2 * ID_BYTES}}}", state.agent_id) else None
