"""Who belongs: the hub's own key, the token that lets agents join, and the agents that have joined; kept in the state
folder, in ``hub.json`` and ``join-token``.
"""

import asyncio
import logging
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import replace

from gpumon import statefile
from gpumon.errors import JoinError
from gpumon.handshake import JoinToken, KeyPair, Mac, fingerprint
from gpumon.model import Name, NodeName, Timestamp
from gpumon.statefile import HeldFile, UnusableError

log = logging.getLogger(__name__)

HUB_FILE = "hub.json"
TOKEN_FILE = "join-token"  # noqa: S105  (the name of a file)
MAX_RECORDS = 2000
GROWTH_BYTES = 128
"""What a record may grow by when its secret comes and it is revoked."""
WRITE_SECONDS = 3.0
PRIVATE_KEY = re.compile(r"[0-9a-f]{64}")


class Record(Struct, frozen=True, kw_only=True):
    """One agent that belongs, or did. ``key`` is the fingerprint of its key; ``secret`` is what it shares with the hub,
    null until it comes for the first time after an admin has admitted it.
    """

    agent_id: Name
    node: NodeName
    machine_id: Name | None
    key: Annotated[str, Meta(pattern=r"^[0-9a-f]{32}\Z")]
    secret: Mac | None
    admitted_by: Literal["token", "admin"]
    admitted_at: Timestamp
    revoked_at: Timestamp | None = None


class _State(Struct, frozen=True, kw_only=True):
    private_key: str
    agents: list[Record] = []


class Roster:
    """Those who belong, by the id of their agent. What changes is kept by :meth:`save`."""

    def __init__(
        self,
        keys: KeyPair,
        token: JoinToken,
        records: Sequence[Record] = (),
        file: HeldFile | None = None,
        *,
        token_is_new: bool = True,
    ) -> None:
        self.keys = keys
        self.token = token
        self.token_is_new = token_is_new
        self._records = {record.agent_id: record for record in records}
        self._file = file
        self._token_path = None if file is None else file.path.with_name(TOKEN_FILE)
        self.on_saved: Callable[[OSError | None], None] = lambda _error: None
        self._turn = asyncio.Lock()
        self._writing = threading.Lock()  # a write that is given up goes on in its thread
        self._version = self._written = 0

    def read_token(self) -> None:
        """Read the token again: who has deleted its file wants another one. Waits for the disk."""
        if self._token_path is None:
            return
        try:
            self.token, self.token_is_new = _token(self._token_path, fingerprint(self.keys.public))
        except OSError as error:
            log.warning("%s: cannot be read: %s; the token stays", self._token_path, error.strerror or error)

    def __iter__(self) -> Iterator[Record]:
        return iter(self._records.values())

    def get(self, agent_id: str | None) -> Record | None:
        """The agent of this id, revoked ones among them."""
        return self._records.get(agent_id or "")

    def of_node(self, node: str) -> Record | None:
        """The agent to which the name ``node`` belongs."""
        return next((one for one in self._records.values() if one.node == node and one.revoked_at is None), None)

    def put(self, record: Record) -> bool:
        """Add it, or let it take the place of the one of its id, and of its name. False if there is no room."""
        others = [one for one in self._records.values() if one.agent_id != record.agent_id]
        if record.revoked_at is None:
            others = [one for one in others if one.node != record.node or one.revoked_at is not None]
        while not self._has_room_for([*others, record]):
            oldest = min((one for one in others if one.revoked_at), key=lambda one: one.revoked_at or "", default=None)
            if oldest is None:
                return False
            others.remove(oldest)
        self._records = {one.agent_id: one for one in [*others, record]}
        self._version += 1
        return True

    def _has_room_for(self, records: list[Record]) -> bool:
        """Whether these may be kept, and could be read again: a file of state is read up to a length."""
        size = len(_encoded(self.keys, records)) + GROWTH_BYTES * len(records)
        return len(records) <= MAX_RECORDS and size <= statefile.MAX_BYTES

    def revoke(self, agent_id: str, at: str) -> None:
        """Let the agent of this id belong no longer; its key is remembered, so that it is known for what it is."""
        self._records[agent_id] = replace(self._records[agent_id], revoked_at=at)
        self._version += 1

    async def save(self) -> None:
        """Keep what has changed, or tell ``on_saved`` why that cannot be; the next time tries again. Who comes while
        another writes has its changes written with those of all who do.
        """
        try:
            async with asyncio.timeout(WRITE_SECONDS), self._turn:
                if self._file is None or self._written == self._version:
                    return
                if self._writing.locked():  # one thread that hangs is enough
                    raise TimeoutError
                data = _encoded(self.keys, list(self._records.values()))
                await asyncio.to_thread(self._write, data, self._version)
        except OSError as error:  # TimeoutError among them
            self.on_saved(error)
        else:
            self.on_saved(None)

    def close(self) -> None:
        """Let go of the file, for the next hub; unless its disk hangs, for which nobody waits."""
        if self._writing.acquire(blocking=False):
            if self._file is not None:
                self._file.close()
                self._file = None
            self._writing.release()

    def _write(self, data: bytes, version: int) -> None:
        with self._writing:
            if self._file is not None and self._written < version:
                self._file.write(data)
                self._written = version


def open_roster(folder: Path | None) -> Roster:
    """The roster in ``folder``, made if need be; one for this run only where there is no folder, or it cannot be used.

    It waits for the disk, and 2 s for a hub that ends: not to be called on the event loop.
    """
    if folder is not None:
        try:
            return _opened(folder)
        except UnusableError as error:
            log.warning("%s: give one of them another --state-dir; who joins this one does so for this run only", error)
        except OSError as error:
            log.warning(
                "the hub's secrets cannot be kept in %s (%s): who joins does so for this run only; --state-dir names "
                "another folder",
                folder,
                error.strerror or error,
            )
    keys = KeyPair.new()
    return Roster(keys, JoinToken.new(fingerprint(keys.public)))


def join_token(folder: Path) -> JoinToken:
    """The token in ``folder``, also while a hub runs there; made, with all that belongs to it, if there is none.

    Raises:
        OSError: it can be neither read nor made.
        UnusableError: a hub has just started there.
    """
    found = statefile.read(folder / TOKEN_FILE)
    if found is not None:
        try:
            return JoinToken.parse(found.decode(errors="replace"))
        except JoinError as error:
            log.warning("%s: %s", folder / TOKEN_FILE, error)
    return _opened(folder).token


def _opened(folder: Path) -> Roster:
    path = folder / HUB_FILE
    file = statefile.hold(path, lambda: _encoded(KeyPair.new(), []), "hub")
    try:
        state = _read(file)
        if state is None:
            log.warning("%s is damaged: the hub is a new one from now on, and its agents must join again", path)
            statefile.write(path.with_suffix(".damaged"), file.content())
            file.write(_encoded(KeyPair.new(), []))
            state = _read(file)
            assert state is not None
        keys = KeyPair.of(int(state.private_key, 16))
        token, is_new = _token(folder / TOKEN_FILE, fingerprint(keys.public))
        return Roster(keys, token, state.agents, file, token_is_new=is_new)
    except BaseException:
        file.close()
        raise


def _token(path: Path, hub: str) -> tuple[JoinToken, bool]:
    """The token in the file at ``path``, and whether it was made just now, since there was none of this hub."""
    found = statefile.read(path)
    if found is not None:
        try:
            token = JoinToken.parse(found.decode(errors="replace"))
        except JoinError as error:
            log.warning("%s: %s; there is a new one now", path, error)
        else:
            if token.hub == hub:
                return token, False
            log.warning("%s: this is the join token of another hub; there is a new one now", path)
    token = JoinToken.new(hub)
    statefile.write(path, f"{token.text()}\n".encode())
    return token, True


def _encoded(keys: KeyPair, records: list[Record]) -> bytes:
    return msgspec.json.encode(_State(private_key=f"{keys.private:064x}", agents=records)) + b"\n"


def _read(file: HeldFile) -> _State | None:
    """The state in the file, or None if it is damaged."""
    try:
        state = msgspec.json.decode(file.content(), type=_State)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return None
    return state if PRIVATE_KEY.fullmatch(state.private_key) and int(state.private_key, 16) > 1 else None
