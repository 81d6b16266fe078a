"""Proving to a hub who this agent is, and having the hub prove itself: the agent's side of :mod:`gpumon.handshake`."""

import asyncio
import ipaddress
import logging
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from gpumon import handshake
from gpumon.agent.identity import Bond, Identity
from gpumon.disk import Disk
from gpumon.errors import JoinError
from gpumon.handshake import JoinToken
from gpumon.hosts import plain_name
from gpumon.wire import Challenge, Close, Proof, Welcome

log = logging.getLogger(__name__)

NOT_PROVEN = (
    "it does not prove that it is the hub that this agent joins, so nothing is reported to it: it is too old to, or "
    "somebody else"
)
MAX_TOKEN_BYTES = 4096
WRITE_SECONDS = 3.0
READ_SECONDS = 3.0
READER = "join token"
PORTS = {"http": 80, "ws": 80, "https": 443, "wss": 443}
ADMITS = frozenset({Close.REVOKED, Close.NAME_TAKEN, Close.COPIED})
"""Codes of what an admin can put right."""


@dataclass(frozen=True, slots=True)
class TokenSource:
    """Where the agent's join token is, if it has one: in the environment, or in a file, which is read when needed."""

    given: JoinToken | None = None
    file: Path | None = None

    def token(self) -> JoinToken | None:
        """The token, or None: a file that is gone is that of an agent which has joined. It waits for the disk.

        Raises:
            JoinError: what is there is none, or cannot be read.
        """
        if self.given is not None or self.file is None:
            return self.given
        try:
            with self.file.open("rb") as file:
                text = file.read(MAX_TOKEN_BYTES).decode(errors="replace")
        except FileNotFoundError:
            return None
        except OSError as error:
            raise JoinError(f"{self.file}: cannot be read: {error.strerror}") from None
        try:
            return JoinToken.parse(text)
        except JoinError as error:
            raise JoinError(f"{self.file}: {error}") from None


@dataclass(frozen=True, slots=True)
class Answer:
    """What the agent says to a challenge, and what the hub must say to that."""

    proof: Proof
    bond: Bond
    expected: str

    def check(self, welcome: Welcome) -> None:
        """Raises :class:`JoinError` if the hub has not proven itself."""
        if welcome.proof is None or not handshake.is_same(welcome.proof, self.expected):
            raise JoinError("it cannot prove that it is the hub that this agent joins; nothing is reported to it")


class Joining:
    """For the agent of ``identity``, whose join token, if it has one, comes from ``tokens``."""

    def __init__(self, identity: Identity, tokens: TokenSource) -> None:
        self.identity = identity
        self.patience_seconds = READ_SECONDS
        self._tokens = tokens
        self._token: JoinToken | None = None
        self._disk = Disk(READER)
        self._code: str | None = None

    async def prepare(self, url: str) -> bool:
        """Get ready for the hub at ``url``, and tell whether it must prove itself: it has done so before, or the agent
        has a token to know it by.

        Raises:
            JoinError: the agent has a token that it cannot use.
            TimeoutError: the disk where its token lies does not answer. One that has joined goes on without.
        """
        self._code = None
        has_joined = self._bond_at(url) is not None
        try:
            self._token = self._tokens.given or await self._token_of_file()
        except TimeoutError:
            if not has_joined:
                raise
            self._token = None
        return self._token is not None or has_joined

    def answer(self, url: str, greetings: tuple[bytes, bytes], challenge: Challenge) -> Answer:
        """The answer to the ``challenge`` of the hub at ``url``; ``greetings`` are hello and it as they were sent.

        Raises:
            JoinError: this is not the hub that the agent has joined, or has a token of.
        """
        hub = handshake.fingerprint(challenge.key)
        known = next((bond for bond in self.identity.bonds if bond.hub == hub), None)
        token = self._token if self._token is not None and self._token.hub == hub else None
        if token is None and known is None:
            if self._bond_at(url) is not None:
                raise JoinError(
                    "it is another hub than the one that this agent has joined there; if it was set up anew, give the "
                    "agent its new join token"
                )
            if self._token is not None:
                raise JoinError("it is another hub than the one that the agent's join token is of")
        secret = known.secret if known is not None else self.identity.keys.shared_with(challenge.key)
        self._code = handshake.code(handshake.fingerprint(self.identity.keys.public), hub, self.identity.agent_id)
        proof = Proof(
            proof=handshake.proof(secret, "agent", *greetings),
            token_proof=None if token is None else handshake.proof(token.secret, "agent", *greetings),
        )
        return Answer(proof, Bond(url, hub, secret), handshake.proof(secret, "hub", *greetings))

    async def joined(self, bond: Bond) -> None:
        """The hub of ``bond`` has said welcome, and has proven itself: remember it."""
        if bond in self.identity.bonds:
            return
        try:
            async with asyncio.timeout(WRITE_SECONDS):
                await asyncio.to_thread(self.identity.keep, bond)
        except OSError as error:
            log.warning(
                "that this agent has joined %s cannot be kept: %s",
                bond.url,
                error.strerror or "its disk does not answer",
            )
        else:
            log.info("this agent has joined the hub at %s", bond.url)

    def advice(self, close_code: int) -> str:
        """What is to be done where a hub has ended the link with ``close_code`` since it does not admit this agent."""
        if self._code is None:
            return ""
        admit = f"run on the hub's machine: gpumon agents admit {self._code}"
        if close_code == Close.UNAUTHORISED:
            return f"; to let it in, start it by the line that 'gpumon hub --print-join' shows there, or {admit}"
        return f"; if it is to come in, {admit}" if close_code in ADMITS else ""

    async def _token_of_file(self) -> JoinToken | None:
        if self._tokens.file is None:
            return None
        try:
            return await self._disk.ask(self._tokens.token, self.patience_seconds)
        except (JoinError, TimeoutError):
            raise
        except RuntimeError:  # too many of them, in a service whose tasks are limited
            raise JoinError(f"{self._tokens.file}: this machine allows no further thread to read it") from None
        except Exception as error:
            raise JoinError(f"{self._tokens.file}: cannot be read: {type(error).__name__}") from None

    def _bond_at(self, url: str) -> Bond | None:
        """That with a hub at the host and port of ``url``, by whatever scheme, spelling or path it was joined."""
        place = place_of(url)
        return next((bond for bond in self.identity.bonds if place_of(bond.url) == place), None)


def place_of(url: str) -> tuple[str, int | None]:
    """The host and the port that a hub's URL names, the same however it is spelled."""
    try:
        parts = urlsplit(url)
        host, port = plain_name(parts.hostname or ""), parts.port or PORTS.get(parts.scheme)
    except ValueError:  # only where somebody has written into our file
        return url, None
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host, port
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address), port
