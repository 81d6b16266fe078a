"""Who may come in: what an agent proves is looked at, who proves nothing waits, and an admin admits and revokes.

Synchronous, as all that decides. What an agent says is believed once it is proven (:mod:`gpumon.handshake`).
"""

import logging
import re
import secrets
from collections.abc import Callable, Iterable
from functools import lru_cache

from msgspec.structs import replace

from gpumon import handshake
from gpumon.config import Push
from gpumon.errors import GpumonError, JoinError
from gpumon.hub.claims import RefusedError
from gpumon.hub.clock import Clock
from gpumon.hub.failures import Failures
from gpumon.hub.roster import Record, Roster
from gpumon.hub.waiting import Waiter, WaitingRoom
from gpumon.limits import is_loopback, is_spared, origin
from gpumon.model import Fault
from gpumon.timestamp import rfc3339
from gpumon.wire import Challenge, Close, Hello, Proof

log = logging.getLogger(__name__)

FAILURES = 30
KEYS_REMEMBERED = 100
ID = re.compile(r"[0-9a-f]{32}")
CODE = re.compile(rf"[A-Z2-7]{{5}}(-[A-Z2-7]{{5}}){{{handshake.CODE_GROUPS - 1}}}")

NOT_JOINED = "it has not joined this hub"
WRONG_TOKEN = "its join token is not this hub's, or is no longer"  # noqa: S105
REVOKED = "an admin has revoked it"
TOO_OLD = "it must join, and is too old to: update it, then give it this hub's join token"
NOT_PROVEN = "its agent id belongs to an agent that has joined, and it does not prove to be that one"
BAD_ID = "is none of gpumon's; allowed: 32 hexadecimal digits"
FULL = "this hub has as many agents as it can keep: revoke those that are gone"
TAKEN = "its name belongs to another agent, which has joined"
MOVED = "it has joined from another machine"
BY_CODE = "name the one that you mean by its code, as its own log shows it"
FROM_ELSEWHERE = (b"origin", b"forwarded", b"via", b"x-real-ip", b"x-forwarded-")
"""How names begin of headers of who is no agent, or not on this machine, although the connection comes from here."""


class UnknownAgentError(GpumonError):
    """No one agent is meant by what an admin has named, or there is no room for it. ``status`` says so by HTTP."""

    def __init__(self, reason: str, status: int = 404) -> None:
        super().__init__(reason)
        self.status = status


class Door:
    """Lets agents in. ``on_claim`` is told of a node that somebody claims who is not it, ``on_leave`` of an agent that
    must go now, ``on_close`` that whoever has not joined and is not trusted must.

    ``trusts_loopback``: an agent on the hub's own machine need not join. ``is_proxy`` tells which addresses speak for
    others.
    """

    def __init__(
        self,
        roster: Roster,
        push: Push,
        clock: Clock,
        *,
        trusts_loopback: bool = True,
        is_proxy: Callable[[str], bool] = lambda _: False,
    ) -> None:
        self.roster = roster
        self.push = push
        self.waiting = WaitingRoom(clock.monotonic)
        self.on_claim: Callable[[str, Fault], None] = lambda _node, _fault: None
        self.on_leave: Callable[[str], None] = lambda _agent_id: None
        self.on_close: Callable[[], None] = lambda: None
        self._clock = clock
        self._own_key = handshake.fingerprint(roster.keys.public)
        self._trusts_loopback = trusts_loopback
        self._is_proxy = is_proxy
        self._failures = Failures(FAILURES)
        self._shared_with = lru_cache(KEYS_REMEMBERED)(roster.keys.shared_with)  # who waits comes again and again

    def configure(self, push: Push) -> None:
        """Let in whom ``push`` allows, from now on, and nobody unproven at an address that is a proxy's now."""
        self.push = push
        self.on_close()

    # ---- agents ----

    def trusts(self, address: str | None, headers: Iterable[tuple[bytes, bytes]]) -> bool:
        """Whether an agent at ``address``, whose request had these headers, may come without having joined."""
        if self.push == "open":
            return True
        if not self._trusts_loopback or address is None or not is_loopback(address) or self._is_proxy(address):
            return False
        return not any(name.startswith(FROM_ELSEWHERE) for name, _ in headers)

    def counted(self, address: str | None) -> str | None:
        """Whom an agent at ``address`` counts for; None for nobody: loopback and proxies are spared."""
        try:
            found = origin((address,))
        except ValueError:
            return None
        return None if found is None or is_spared(found) or self._is_proxy(address or "") else found

    def is_tired_of(self, counted: str | None) -> bool:
        """Whether so many of there were not welcome within a minute that fewer are heard."""
        return counted is not None and self._failures.wait_seconds(counted, self._clock.monotonic()) > 0

    def note_failure(self, counted: str | None) -> None:
        """Note that one of there was not welcome, or ended before that was settled."""
        if counted is not None:
            self._failures.add(counted, self._clock.monotonic())

    def must_prove(self, hello: Hello, address: str | None, *, trusted: bool) -> bool:
        """Whether this agent is to show who it is.

        Raises:
            RefusedError: it would have to, and cannot; or it is trusted, and its name or its id belongs to another.
        """
        can_prove = None not in (hello.key, hello.nonce, hello.agent_id)
        if not trusted and not can_prove:
            raise RefusedError(Close.UNAUTHORISED, TOO_OLD)
        record = self.roster.get(hello.agent_id)
        if not trusted or (can_prove and (hello.insists or record is not None)):
            _check_ids(hello)
            return True
        owner = self.roster.of_node(hello.node)
        if self.push != "open" and owner is not None:
            revoke = f"gpumon agents revoke {self.code_of(owner)}"
            self._claimed(owner, _unproven(address, revoke))
            reason = f"another agent has joined by its name; if that is gone, run here: {revoke}"
            raise RefusedError(Close.NAME_TAKEN, reason)
        if record is not None and record.revoked_at is None:
            self._claimed(record, _forged(address))
            raise RefusedError(Close.UNAUTHORISED, NOT_PROVEN)
        return False

    def challenge(self) -> Challenge:
        """What an agent is to answer."""
        return Challenge(key=self.roster.keys.public, nonce=handshake.nonce())

    def admit(self, hello: Hello, greetings: tuple[bytes, bytes], proof: Proof, address: str | None) -> str:
        """The secret that this agent shares with the hub, once it has proven that it may come in.

        ``greetings`` are hello and challenge as they were sent.

        Raises:
            RefusedError: it may not. Who is not known is told the same as one whose proof is wrong.
        """
        record = self.roster.get(hello.agent_id)
        secret = self._secret(hello, record)
        if handshake.is_same(handshake.proof(secret, "agent", *greetings), proof.proof) and record is not None:
            return self._returned(hello, record, secret, address)
        if record is not None and record.revoked_at is None:
            self._claimed(record, _forged(address))
        if proof.token_proof is None:
            reason = NOT_JOINED
        elif not handshake.is_same(handshake.proof(self.roster.token.secret, "agent", *greetings), proof.token_proof):
            reason = WRONG_TOKEN
        elif record is None:
            return self._joined(hello, greetings, proof, address)
        else:
            reason = NOT_JOINED
        waits = record is None and self._has_key(hello, greetings, proof)
        if waits:
            self._wait(hello, address)
        # Who only waits tries nothing; it comes again and again, perhaps from behind a router that others share.
        raise RefusedError(Close.UNAUTHORISED, reason, counts=not waits or proof.token_proof is not None)

    def belongs(self, hello: Hello, secret: str) -> bool:
        """Whether the agent that has proven ``secret`` may come in as things are now."""
        record = self.roster.get(hello.agent_id)
        return (
            record is not None
            and record.revoked_at is None
            and record.node == hello.node
            and record.machine_id in (None, hello.machine_id)
            and handshake.is_same(self._secret(hello, record), secret)
        )

    def _has_key(self, hello: Hello, greetings: tuple[bytes, bytes], proof: Proof) -> bool:
        """Whether an agent that is not known has the key that it shows: else it could be listed for another."""
        return handshake.is_same(handshake.proof(self._shared(hello), "agent", *greetings), proof.proof)

    def _secret(self, hello: Hello, record: Record | None) -> str:
        """The secret of ``record``; one that nobody has where there is none."""
        assert hello.key is not None
        if record is not None and record.secret is not None:
            return record.secret
        if record is not None and handshake.is_same(record.key, handshake.fingerprint(hello.key)):
            return self._shared(hello)  # an admin has admitted it, and now it comes for the first time
        return secrets.token_hex(32)

    def _shared(self, hello: Hello) -> str:
        assert hello.key is not None
        try:
            return self._shared_with(hello.key)
        except JoinError as error:
            raise RefusedError(Close.BAD_MESSAGE, f"hello: key: {error}") from None

    def _returned(self, hello: Hello, record: Record, secret: str, address: str | None) -> str:
        """It is the agent of ``record``; whether that may come in."""
        if record.revoked_at is not None:
            raise RefusedError(Close.REVOKED, REVOKED)
        if record.node != hello.node:
            reason = f"it has joined as {record.node}: delete its state file to let it join as another node"
            raise RefusedError(Close.UNAUTHORISED, reason)
        if record.machine_id is not None and record.machine_id != hello.machine_id:
            self._claimed(record, _copied(address))
            self._wait(hello, address)
            raise RefusedError(Close.COPIED, MOVED)
        if record.secret is None or record.machine_id is None:
            self.roster.put(replace(record, secret=secret, machine_id=hello.machine_id))
        return secret

    def _joined(self, hello: Hello, greetings: tuple[bytes, bytes], proof: Proof, address: str | None) -> str:
        """It has the token: it belongs from now on, unless its name is another's."""
        assert hello.key is not None
        assert hello.agent_id is not None
        secret = self._shared(hello)
        if not handshake.is_same(handshake.proof(secret, "agent", *greetings), proof.proof):
            raise RefusedError(Close.UNAUTHORISED, NOT_JOINED)
        if (owner := self.roster.of_node(hello.node)) is not None:
            self._claimed(owner, _forged(address))
            self._wait(hello, address)
            raise RefusedError(Close.NAME_TAKEN, TAKEN)
        record = Record(
            agent_id=hello.agent_id,
            node=hello.node,
            machine_id=hello.machine_id,
            key=handshake.fingerprint(hello.key),
            secret=secret,
            admitted_by="token",
            admitted_at=self._now(),
        )
        if not self.roster.put(record):
            raise RefusedError(Close.TOO_MANY, FULL)
        self.waiting.take(self.code_of(record))
        log.info("%s: its agent at %s has joined, by the join token", hello.node, address)
        return secret

    def _wait(self, hello: Hello, address: str | None) -> None:
        assert hello.key is not None
        assert hello.agent_id is not None
        key = handshake.fingerprint(hello.key)
        one = Waiter(
            agent_id=hello.agent_id,
            node=hello.node,
            address=address,
            machine_id=hello.machine_id,
            key=key,
            code=handshake.code(key, self._own_key, hello.agent_id),
            first_seen_at=self._now(),
            last_seen_at=self._now(),
        )
        if self.waiting.note(one):
            log.warning("an agent at %s that calls itself %s waits to be admitted: %s", address, one.node, one.code)

    def _claimed(self, record: Record, fault: Fault) -> None:
        log.warning("%s: %s", record.node, fault.message)
        self.on_claim(record.node, fault)

    def _now(self) -> str:
        return rfc3339(self._clock.time())

    # ---- admins ----

    def code_of(self, record: Record) -> str:
        """What the agent of ``record`` shows as its code as well."""
        return handshake.code(record.key, self._own_key, record.agent_id)

    def let_in(self, what: str) -> Record:
        """Admit who waits under this code, or was revoked under this code, id or name; who had the name before belongs
        no longer. Names and ids of who waits are what it says itself, and would be anybody's.

        Raises:
            UnknownAgentError: there is none, or more than one, or it waits and is not named by its code.
        """
        waiter, record = self._find(what, revoked=True)
        if waiter is not None and what.upper() != waiter.code:
            raise UnknownAgentError(f"{what!r} is what an agent that waits calls itself: {BY_CODE}", 409)
        if waiter is not None:
            record = Record(
                agent_id=waiter.agent_id,
                node=waiter.node,
                machine_id=waiter.machine_id,
                key=waiter.key,
                secret=None,
                admitted_by="admin",
                admitted_at=self._now(),
            )
        elif record is not None:
            record = replace(record, revoked_at=None, admitted_by="admin", admitted_at=self._now())
        assert record is not None
        gone = [one.agent_id for one in (self.roster.of_node(record.node), self.roster.get(record.agent_id)) if one]
        if not self.roster.put(record):
            raise UnknownAgentError(FULL, 409)
        if waiter is not None:
            self.waiting.take(waiter.code)
        for agent_id in gone:
            self.on_leave(agent_id)
        log.info("%s: its agent %s is admitted by an admin", record.node, record.agent_id)
        return record

    def show_out(self, what: str) -> str:
        """Revoke the agent that has joined, or refuse the one that waits, under this code, id or name; gives its node.

        Raises:
            UnknownAgentError: there is none, or more than one.
        """
        waiter, record = self._find(what, revoked=False)
        if record is None:
            assert waiter is not None
            self.waiting.turn_away(waiter.code)
            log.info("%s: the agent that waited at %s is refused by an admin", waiter.node, waiter.address)
            return waiter.node
        if waiter is not None:  # a copy of its disk
            self.waiting.take(waiter.code)
        self.roster.revoke(record.agent_id, self._now())
        self.on_leave(record.agent_id)
        log.info("%s: its agent %s is revoked by an admin", record.node, record.agent_id)
        return record.node

    def _find(self, what: str, *, revoked: bool) -> tuple[Waiter | None, Record | None]:
        """Who waits, or has joined (or was ``revoked``), under ``what``: a code, which goes before all else, or an id
        or a name. A waiter and a record of one code are one agent: a copied disk waits so.
        """
        records = {self.code_of(one): one for one in self.roster if (one.revoked_at is not None) == revoked}
        waiters = {one.code: one for one in self.waiting}
        code = what.upper()
        codes = {code} & (records.keys() | waiters.keys())
        if not codes and not CODE.fullmatch(code):  # names and ids are what an agent says they are
            everyone: list[tuple[str, Waiter | Record]] = [*records.items(), *waiters.items()]
            codes = {known for known, one in everyone if what in (one.agent_id, one.node)}
        if len(codes) > 1:
            raise UnknownAgentError(f"{what!r} is more than one agent: {BY_CODE}", 409)
        if codes:
            found = codes.pop()
            return waiters.get(found), records.get(found)
        where = "waits or was revoked" if revoked else "has joined or waits"
        raise UnknownAgentError(f"no agent {where} under {what!r}; gpumon agents list shows them")


def _check_ids(hello: Hello) -> None:
    """Refuse ids that could be taken for a name or a code."""
    for word, value in (("agent_id", hello.agent_id), ("machine_id", hello.machine_id)):
        if value is not None and not ID.fullmatch(value):
            raise RefusedError(Close.BAD_MESSAGE, f"hello: {word} {BAD_ID}")


def _unproven(address: str | None, revoke: str) -> Fault:
    return Fault(
        code="forged",
        message=f"An agent at {address}, on the hub's machine, claims to be this node and proves nothing; "
        "it was refused.",
        hint=f"If that is the node's own, which has lost its state, run on the hub's machine: {revoke}",
    )


def _forged(address: str | None) -> Fault:
    return Fault(
        code="forged",
        message=f"An agent at {address} claims to be this node and cannot prove it; it was refused.",
        hint="If the node was set up anew, admit it: 'gpumon agents list' on the hub's machine.",
    )


def _copied(address: str | None) -> Fault:
    return Fault(
        code="copied",
        message=f"An agent at {address} has the identity of this node's agent and another machine; it was refused.",
        hint="If the node has moved, admit it: 'gpumon agents list' on the hub's machine. Else a disk was copied, or a "
        "secret was stolen: revoke this agent.",
    )
