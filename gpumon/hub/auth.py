"""Who a request is from: nobody in particular, or somebody who has the viewers' token.

One token is enough for a lab: who has it may look, where looking is closed, and administer. It lies in a file of the
hub's folder. Scripts send it (``Authorization: Bearer``); browsers change it for a session, in a cookie that no script
can read, and the hub keeps nothing but a hash of that.
"""

import asyncio
import contextlib
import hashlib
import hmac
import logging
import re
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Final, NamedTuple

import msgspec
from msgspec import Meta, Struct
from starlette.exceptions import HTTPException
from starlette.types import Scope

from gpumon import statefile
from gpumon.config import AuthSection
from gpumon.errors import UsageError
from gpumon.wire import encode

log = logging.getLogger(__name__)

TOKEN_FILE: Final = "viewers.token"  # noqa: S105  (where it lies)
SESSIONS_FILE: Final = "viewers.json"
TOKEN_BYTES: Final = 32
SESSION_SECONDS: Final = 90 * 86_400
MOST_SESSIONS: Final = 1000
WRITE_SECONDS: Final = 3.0
BEARER: Final = b"bearer"
CHALLENGE: Final = {"WWW-Authenticate": 'Bearer realm="gpumon"'}
LOOKING: Final = (
    "this hub shows nothing without its token: log in on its page; programs send Authorization: Bearer TOKEN"
)
CALLER: Final = "gpumon.caller"
_TOKEN: Final = re.compile(rb"[\x21-\x7e]{20,200}")


class Caller(NamedTuple):
    """Who a request is from. ``session`` is the hash of the one that a cookie names; ``token`` that of the token by
    which this was found.
    """

    may_look: bool
    is_admin: bool
    session: str | None = None
    token: bytes = b""


NOBODY: Final = Caller(may_look=False, is_admin=False)


def caller_of(scope: Scope) -> Caller:
    """Who a request is from, as the gate has found."""
    caller: Caller = scope.get(CALLER, NOBODY)
    return caller


def must_look(scope: Scope) -> None:
    """Refuse who may not look, where the gate leaves that to the route.

    Raises:
        HTTPException: 401.
    """
    if not caller_of(scope).may_look:
        raise HTTPException(401, LOOKING, CHALLENGE)


class _Kept(Struct, frozen=True):
    """The sessions in their file: when each ends, by hash, and under which token they began."""

    token: str
    sessions: Annotated[dict[str, float], Meta(max_length=MOST_SESSIONS)]


class Auth:
    """The token, the sessions that it bought, and the streams of those who look.

    Without a ``folder``, and where they could not be read, both are for this run only.
    """

    def __init__(self, settings: AuthSection, folder: Path | None = None) -> None:
        self.settings = settings
        self.token = ""
        self._digest = b""
        self._folder = folder
        self._sessions: dict[str, float] = {}
        self._read: tuple[str, dict[str, float]] | None = None
        self._watched: set[_Watch] = set()
        self._kept = b""
        """The sessions as they are to lie in their file."""
        self._writing = threading.Lock()  # a write that is given up goes on in its thread
        self._take(secrets.token_urlsafe(TOKEN_BYTES))

    @property
    def is_closed(self) -> bool:
        """Whether who looks must show the token."""
        return self.settings.viewers == "token"

    @property
    def cookie(self) -> str:
        """What the cookie is called: hubs on several ports of a machine share their browsers' cookies."""
        return f"gpumon-{hashlib.sha256(b'cookie' + self._digest).hexdigest()[:8]}"

    @property
    def token_file(self) -> Path | None:
        """Where the token lies."""
        return None if self._folder is None else self._folder / TOKEN_FILE

    # ---- what is kept ----

    def configure(self, settings: AuthSection) -> None:
        """Follow another configuration, and what :meth:`read` found; streams end of those who may look no longer."""
        before, self.settings = self.settings, settings
        kept, self._read = self._read, None
        if kept is not None and kept[0] != self.token:
            self._take(kept[0])
            self._sessions = kept[1]
            self._end(lambda caller: caller.is_admin)
        if settings != before:
            self._end(lambda caller: not caller.is_admin)

    def read(self) -> None:
        """Read the token and the sessions from their files, made if need be, for :meth:`configure`: it waits for the
        disk.
        """
        if self._folder is not None:
            self._read = self._in(self._folder)

    @staticmethod
    def _in(folder: Path) -> tuple[str, dict[str, float]] | None:
        path = folder / TOKEN_FILE
        try:
            token = statefile.kept(path, _new_token).strip()
            kept = statefile.read(folder / SESSIONS_FILE)
        except OSError as error:
            log.warning("%s cannot be kept (%s): no token of it counts", path, error.strerror or error)
            return None
        if not _TOKEN.fullmatch(token):
            log.error("%s: allowed: a token of 20 to 200 letters, digits and signs; no token of it counts", path)
            return None
        return token.decode(), _sessions(kept, token)

    def _take(self, token: str) -> None:
        self.token = token
        self._digest = hashlib.sha256(token.encode()).digest()

    async def _save(self) -> None:
        """Keep the sessions for a hub that is started again. A disk that hangs is waited for 3 s, by the first who
        writes; it gets the newest once it goes on.
        """
        if self._folder is None:
            return
        self._kept = encode(_Kept(self._digest.hex(), self._sessions))
        try:
            async with asyncio.timeout(WRITE_SECONDS):
                await asyncio.to_thread(self._write, self._folder / SESSIONS_FILE)
        except OSError as error:  # TimeoutError among them
            reason = error.strerror or "the disk does not answer"
            log.warning("who is logged in, or no longer, cannot be kept: %s; a restart does not know it", reason)

    def _write(self, path: Path) -> None:
        """Write the newest of what is to be kept; who comes while another writes leaves it to that one."""
        written: bytes | None = None
        while written is not self._kept and self._writing.acquire(blocking=False):
            try:
                while written is not self._kept:
                    statefile.write(path, written := self._kept)
            finally:
                self._writing.release()

    # ---- who it is ----

    def caller(self, authorization: bytes | None, cookie: bytes | None) -> Caller | None:
        """Who shows these headers; None who shows a token that is wrong."""
        scheme, _, given = (authorization or b"").partition(b" ")
        if scheme.lower() == BEARER:
            return Caller(True, True, token=self._digest) if self.is_token(given.strip()) else None
        if cookie is not None and (session := self._session(cookie)) is not None:
            return Caller(True, True, session, self._digest)
        return Caller(may_look=not self.is_closed, is_admin=False)

    def still_may_look(self, caller: Caller) -> bool:
        """Whether who was found to be ``caller`` a while ago may look as things are now."""
        if not caller.is_admin:
            return caller.may_look and not self.is_closed
        return caller.token == self._digest and (caller.session is None or caller.session in self._sessions)

    def is_token(self, given: bytes) -> bool:
        """Whether it is the token. How long that takes tells nothing of it."""
        return hmac.compare_digest(hashlib.sha256(given).digest(), self._digest)

    def _session(self, cookie: bytes) -> str | None:
        name = self.cookie.encode() + b"="
        for part in cookie.split(b";"):
            if (part := part.strip()).startswith(name):
                session = _hash(part[len(name) :])
                return session if self._sessions.get(session, 0.0) > time.time() else None
        return None

    # ---- in and out ----

    async def open_session(self) -> str:
        """A new session, for who has shown the token; the value of its cookie."""
        now = time.time()
        value = secrets.token_urlsafe(TOKEN_BYTES)
        living = {key: ends for key, ends in self._sessions.items() if ends > now}
        for key in list(living)[: max(0, len(living) - MOST_SESSIONS + 1)]:
            del living[key]
        self._sessions = living | {_hash(value.encode()): now + SESSION_SECONDS}
        await self._save()
        return value

    async def end_session(self, session: str) -> None:
        """End a session, and the streams that it opened."""
        self._sessions.pop(session, None)
        self._end(lambda caller: caller.session == session)
        await self._save()

    @contextlib.contextmanager
    def watch(self, caller: Caller, end: Callable[[], None]) -> Iterator[None]:
        """While a stream of ``caller`` lasts: ``end`` is called as soon as they may look no longer."""
        watch = _Watch(caller, end)
        self._watched.add(watch)
        try:
            yield
        finally:
            self._watched.discard(watch)

    def _end(self, concerns: Callable[[Caller], bool]) -> None:
        for watch in [one for one in self._watched if concerns(one.caller)]:
            watch.end()


class _Watch:
    """A stream, and whose it is."""

    def __init__(self, caller: Caller, end: Callable[[], None]) -> None:
        self.caller = caller
        self.end = end


def renew(folder: Path) -> None:
    """Make a new token: the old one, and what it bought, is worth nothing to a hub that reads this.

    Raises:
        UsageError: it cannot be written.
    """
    path = folder / TOKEN_FILE
    try:
        statefile.write(path, _new_token())
    except OSError as error:
        raise UsageError(f"--new-token: {path} cannot be written: {error.strerror or error}") from None


def _new_token() -> bytes:
    return secrets.token_urlsafe(TOKEN_BYTES).encode() + b"\n"


def _sessions(data: bytes | None, token: bytes) -> dict[str, float]:
    """The sessions that began under ``token``."""
    try:
        kept = msgspec.json.decode(data or b"null", type=_Kept | None)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        log.warning("%s is damaged: who was logged in must do so again", SESSIONS_FILE)
        return {}
    return kept.sessions if kept is not None and kept.token == hashlib.sha256(token).hexdigest() else {}


def _hash(value: bytes) -> str:
    return hashlib.sha256(value).hexdigest()
