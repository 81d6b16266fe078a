"""Where agents' reports come in: the hub's end of :mod:`gpumon.wire`, on ``/api/push``.

What an agent gets wrong closes its own connection, with a reason, and harms nobody else's data.
"""

import asyncio
import contextlib
import logging
import math
from collections.abc import Iterator
from functools import partial

import msgspec
from starlette.websockets import WebSocket, WebSocketDisconnect

from gpumon import __version__, handshake, wire
from gpumon.errors import WireError
from gpumon.hub.admission import MESSAGES_PER_SECOND, NEW_NAMES, Admission, Allowance, NewNames, retry_after
from gpumon.hub.agentlink import HELLO_SECONDS, Link
from gpumon.hub.claims import Claimant, RefusedError, claim, copied, is_elsewhere, refusal
from gpumon.hub.core import Hub
from gpumon.hub.door import NOT_JOINED, REVOKED, Door
from gpumon.hub.member import Member
from gpumon.hub.verdict import SPEAKS_SECONDS
from gpumon.model import Fault
from gpumon.pipe import text_frame
from gpumon.problem import problem
from gpumon.wire import Ack, Close, FromAgent, Gap, Heartbeat, Hello, Proof, ReportFrame, Welcome

log = logging.getLogger(__name__)

SILENCE_SECONDS = 30.0
ACK_SECONDS = 10.0
ACK_REPORTS = 32
MAX_NODES = 1000
LATE_REPORTS_PER_SECOND = 2000.0
"""How many late reports a hub takes, from all its agents together ..."""
CATCH_UP = 2.0
"""... but from each this many times what it makes meanwhile, or it would be late for ever."""
LEAST_INTERVAL_SECONDS = 0.2
"""The least that an agent can be told to wait between reports (:data:`gpumon.config.Interval`)."""
MOST_LARGE = 2
"""Of messages that are too large, the next one ends the connection."""
REASONS = {
    Close.BAD_MESSAGE: "bad_message",
    Close.PROTOCOL: "bad_message",
    Close.TOO_SLOW: "silent_connection",
    Close.TOO_FAST: "too_many_messages",
    Close.TOO_MANY: "too_many_agents",
    Close.UNAUTHORISED: "not_joined",
    Close.REVOKED: "not_joined",
}
"""What is counted among what the hub refuses (:data:`gpumon.refusals.REASONS`); the rest are troubles of the lab's own
agents.
"""


class Ingest:
    """Takes agents' connections for ``hub``."""

    def __init__(self, hub: Hub, door: Door) -> None:
        self._hub = hub
        self.door = door
        door.on_claim = self._show_claim
        door.on_leave = self._show_out
        door.on_close = self._show_out_strangers
        self._admission = Admission(hub.clock.monotonic)
        self.links: dict[str, Link] = {}
        """The connections that are open, by the nodes that they speak for."""
        self._newest_of_agent: dict[str, Link] = {}
        self._new_names = NewNames(hub.clock.monotonic)

    async def __call__(self, websocket: WebSocket) -> None:
        """Serve one connection to its end."""
        if wire.SUBPROTOCOL not in websocket.scope["subprotocols"]:
            await websocket.send_denial_response(
                problem(400, f"agents speak the WebSocket subprotocol {wire.SUBPROTOCOL}, which was not offered")
            )
            return
        link = Link(websocket, websocket.client.host if websocket.client else None)
        counted = self.door.counted(link.address)
        is_tired = self.door.is_tired_of(counted)
        if not self._admission.admits(counted, is_tired=is_tired):
            await _turn_away(link, is_tired=is_tired)
            return
        try:
            async with link.deadline:
                await websocket.accept(subprotocol=wire.SUBPROTOCOL)
                await self._converse(link)
        except WebSocketDisconnect:
            if not link.welcomed:
                self.door.note_failure(counted)
            return
        except TimeoutError:
            error = link.why()
            if link.own_fault is not None:  # its agent drops the report that it came of, or would send it for ever
                log.error("agent at %s: a fault of gpumon's own", link.address, exc_info=link.own_fault)
                error = RefusedError(Close.BAD_MESSAGE, "a fault of the hub's own; its log says more")
        except RefusedError as refused:
            error = refused
        if not link.welcomed and error.counts:
            self.door.note_failure(counted)
        if (reason := REASONS.get(error.code)) is not None:
            link.pipe.visit.refused(reason, f"an agent: {error}")
        else:
            log.warning("agent at %s: closed: %s", link.address, error)
        await _close(websocket, error)

    def address_of(self, agent_id: str) -> str | None:
        """From where the agent of this id is connected, if it is."""
        link = self._newest_of_agent.get(agent_id)
        return None if link is None else link.address

    def end_silent(self) -> None:
        """End the connections on which nothing was heard for 30 s, by the hub's forgiving clock."""
        heard_since = self._hub.clock.monotonic() - SILENCE_SECONDS
        for link in self.links.values():
            if link.heard_at < heard_since:
                link.expire()

    async def _converse(self, link: Link) -> None:
        hello, data = await self._hello(link)
        proof = await self._proven(link, hello, data)
        link.proven = proof is not None
        with self._admitted(link, hello) as member:
            link.welcomed = True
            link.pipe.visit.excuse()  # a whole fleet may stand behind one router
            welcome = self._welcome(hello, member, proof)
            link.allowance = Allowance(MESSAGES_PER_SECOND + welcome.late_reports_per_second, self._hub.clock.monotonic)
            _say(link, welcome)
            if not link.replaced:
                link.deadline.reschedule(None)
            link.pipe.on_message = partial(self._heard, link, member, hello)
            while True:  # what came before that, and the end
                self._heard(link, member, hello, await self._receive(link))

    async def _proven(self, link: Link, hello: Hello, data: bytes) -> str | None:
        """The hub's own proof for an agent that has proven who it is; None for one that need not. ``data`` is hello
        as it came.

        Raises:
            RefusedError: it may not come in; nothing of what it said is believed.
        """
        trusted = self.door.trusts(link.address, link.websocket.scope["headers"])
        if not trusted:
            _check_protocol(hello)
        if not self.door.must_prove(hello, link.address, trusted=trusted):
            return None
        challenge = wire.encode(self.door.challenge())
        link.pipe.write(text_frame([challenge]))
        answer = self._decoded(link, await self._receive(link))
        if not isinstance(answer, Proof):
            raise RefusedError(Close.BAD_MESSAGE, "a challenge is answered by proof")
        secret = self.door.admit(hello, (data, challenge), answer, link.address)
        await self.door.roster.save()
        if not self.door.belongs(hello, secret):  # an admin was faster than the disk
            raise RefusedError(Close.REVOKED, REVOKED)
        return handshake.proof(secret, "hub", data, challenge)

    def _welcome(self, hello: Hello, member: Member, proof: str | None) -> Welcome:
        share = LATE_REPORTS_PER_SECOND / len(self.links)
        catches_up = CATCH_UP / max(hello.interval_seconds, LEAST_INTERVAL_SECONDS)
        return Welcome(
            protocol=wire.common_protocol(hello) or wire.PROTOCOL,
            hub_version=__version__,
            last_sequence=member.pushed_sequence,
            late_reports_per_second=min(wire.LATE_REPORTS_PER_SECOND, max(share, catches_up)),
            proof=proof,
        )

    async def _hello(self, link: Link) -> tuple[Hello, bytes]:
        data = await self._receive(link)
        message = self._decoded(link, data)
        if not isinstance(message, Hello):
            raise RefusedError(Close.BAD_MESSAGE, "the first message must be hello")
        return message, data

    async def _receive(self, link: Link) -> bytes:
        message = await link.websocket.receive()
        if message["type"] == "websocket.disconnect":
            if message["code"] == wire.GOODBYE:
                link.end = "goodbye"
            raise WebSocketDisconnect(message["code"], message.get("reason"))
        data = message.get("bytes")
        return data if data is not None else str(message.get("text", "")).encode()

    def _decoded(self, link: Link, data: bytes) -> FromAgent:
        link.heard_at = self._hub.clock.monotonic()
        try:
            return wire.decode_from_agent(data)
        except WireError as error:
            raise RefusedError(Close.BAD_MESSAGE, str(error)) from None

    def _heard(self, link: Link, member: Member, hello: Hello, data: bytes) -> None:
        """Take a message, at once, in the call that brings it; one that is wrong ends the connection."""
        if link.replaced or link.refusal is not None or link.own_fault is not None:  # it is ending
            return
        try:
            link.allowance.left -= 1
            if link.allowance.left < 0:
                self._slow_down(link)
            if len(data) > wire.MAX_REPORT_BYTES:
                self._refuse_large(link, member, data)
            else:
                self._take(link, member, hello, self._decoded(link, data))
        except RefusedError as error:
            link.refuse(error)
            fault = Fault(code="bad_report", message=f"Its agent was cut off: {error}.")
            self._hub.refused_report(member, fault)
        except Exception as error:  # which the event loop, who calls us, would end the connection for without a word
            link.own_fault = error
            link.expire()

    def _slow_down(self, link: Link) -> None:
        """Read nothing of an agent that says too much, until it has said no more than it may."""
        if (seconds := link.allowance.hold_seconds()) == 0:
            return
        words = f"more than {link.allowance.rate:g} messages a second"
        if seconds == math.inf:
            raise RefusedError(Close.TOO_FAST, words)
        link.pipe.visit.refused("too_many_messages", f"an agent is slowed down that says {words}")
        link.pipe.hold_reading(seconds)

    def _refuse_large(self, link: Link, member: Member, data: bytes) -> None:
        """Leave a message unread for its size, and say so; the link is worth more than one report."""
        words = f"a message of {len(data)} bytes; allowed: at most {wire.MAX_REPORT_BYTES}"
        link.large += 1
        link.heard_at = self._hub.clock.monotonic()
        link.pipe.visit.refused("large_message", words)
        if link.large > MOST_LARGE:
            raise RefusedError(Close.BAD_MESSAGE, words)
        with contextlib.suppress(WireError):
            self._hub.take_lost(member, wire.sequence_of(data))
        self._hub.refused_report(member, Fault(code="bad_report", message=f"Of its agent was refused {words}."))
        _say(link, Ack(sequence=member.pushed_sequence, refused=words))

    # ---- who speaks ----

    @contextlib.contextmanager
    def _admitted(self, link: Link, hello: Hello) -> Iterator[Member]:
        """The member that this agent speaks for, for as long as the connection lasts."""
        self._check_name(link, hello)
        try:
            _check_protocol(hello)
            link.claimant = self._settle(Claimant(hello, link.address))
            self._make_room(hello)
        except RefusedError as error:
            self._show_refusal(hello, error)
            raise
        member = self._hub.fleet.admit(hello.node, hello.hostname, hello.port)
        self.links[hello.node] = link
        if hello.agent_id is not None:
            self._newest_of_agent[hello.agent_id] = link
        self._hub.located(member, link.address)
        self._hub.link_opened(member, hello.boot_id, hello.agent_id)
        log.info("%s: agent %s at %s connected", hello.node, hello.agent_version, link.address)
        try:
            yield member
        finally:
            if hello.agent_id is not None and self._newest_of_agent.get(hello.agent_id) is link:
                del self._newest_of_agent[hello.agent_id]
            if self.links.get(hello.node) is link:
                del self.links[hello.node]
                is_silent = link.end == "lost" and self._silent_seconds(link) > SPEAKS_SECONDS
                self._hub.link_ended(member, "silent" if is_silent else link.end, link.end_words)
                log.info("%s: agent at %s disconnected", hello.node, link.address)

    def _settle(self, second: Claimant) -> Claimant:
        """``second``, if it may speak for the node it claims; then who spoke for it before is cut off.

        Raises:
            RefusedError: it may not; who was first shows it.
        """
        hello = second.hello
        twin = self._newest_of_agent.get(hello.agent_id or "")
        if (
            twin is not None
            and twin.claimant is not None
            and twin.claimant.hello.node != hello.node
            and is_elsewhere(twin.claimant, second, self._silent_seconds(twin))
        ):
            self._refuse(twin.claimant, second, copied(twin.claimant))
        link = self.links.get(hello.node)
        if link is None or link.claimant is None:
            return second
        if error := refusal(link.claimant, second, self._silent_seconds(link)):
            self._refuse(link.claimant, second, error)
        link.replaced = True
        link.expire()
        return second.after(link.claimant)

    def _refuse(self, first: Claimant, second: Claimant, error: RefusedError) -> None:
        """Raise ``error``, and let the node of the first show it."""
        if (member := self._hub.fleet.get(first.hello.node)) is not None:
            self._hub.claimed(member, claim(error, second))
        raise error

    def _make_room(self, hello: Hello) -> None:
        if self._hub.fleet.get(hello.node) is None and len(self._hub.fleet) >= MAX_NODES and not self._hub.forget_one():
            raise RefusedError(Close.TOO_MANY, f"this hub takes {MAX_NODES} nodes and has them")

    def _check_name(self, link: Link, hello: Hello) -> None:
        """Refuse names that are made up one after the other; loopback is spared, as of all counts."""
        address, visit = link.pipe.visit.address, link.pipe.visit
        if address is None or visit.is_spared or self._hub.fleet.get(hello.node) is not None:
            return
        if not self._new_names.admits(address, hello.node, lambda name: name not in self.links):
            raise RefusedError(Close.TOO_MANY, f"{NEW_NAMES} new names of {address} were given up within a minute")

    def _show_refusal(self, hello: Hello, error: RefusedError) -> None:
        """Let the node that was claimed say so, unless an agent speaks for it, or there is no room for one more."""
        if hello.node in self.links or (self._hub.fleet.get(hello.node) is None and len(self._hub.fleet) >= MAX_NODES):
            return
        member = self._hub.fleet.admit(hello.node, hello.hostname, hello.port)
        self._hub.link_ended(member, "refused", str(error))

    def _show_claim(self, node: str, fault: Fault) -> None:
        if (member := self._hub.fleet.get(node)) is not None:
            self._hub.claimed(member, fault)

    def _show_out(self, agent_id: str) -> None:
        """End the connections of an agent that may not come in any longer."""
        for link in self.links.values():
            if link.claimant is not None and link.claimant.hello.agent_id == agent_id:
                link.refuse(RefusedError(Close.REVOKED, REVOKED))

    def _show_out_strangers(self) -> None:
        """End the connections of agents that came while everybody might."""
        for link in self.links.values():
            if not link.proven and not self.door.trusts(link.address, link.websocket.scope["headers"]):
                link.refuse(RefusedError(Close.UNAUTHORISED, NOT_JOINED))

    def _silent_seconds(self, link: Link) -> float:
        return self._hub.clock.monotonic() - link.heard_at

    # ---- what is said ----

    def _take(self, link: Link, member: Member, hello: Hello, message: FromAgent) -> None:
        match message:
            case ReportFrame(report=report, late=late, ahead=ahead):
                if report.node != member.name or report.boot_id != hello.boot_id or not report.sequence:
                    raise RefusedError(
                        Close.BAD_MESSAGE, "report: node and boot_id must be those of hello, and sequence 1 or more"
                    )
                self._hub.take_pushed(member, report, late=late, ahead=ahead)
                self._acknowledge(link, member)
            case Heartbeat():
                self._hub.contact(member)
            case Gap(first=first, last=last, count=count):
                if not 1 <= count <= last - first + 1:
                    raise RefusedError(Close.BAD_MESSAGE, "gap: count must be 1 or more and fit from first to last")
                self._hub.take_gap(member, message)
            case Hello():
                raise RefusedError(Close.BAD_MESSAGE, "hello is said once")
            case Proof():
                raise RefusedError(Close.BAD_MESSAGE, "proof is said when it is asked for")

    def _acknowledge(self, link: Link, member: Member) -> None:
        """Tell what is taken, not for every report but often enough that little is sent twice."""
        link.unacknowledged += 1
        now = self._hub.clock.monotonic()
        is_due = link.unacknowledged >= ACK_REPORTS or now - link.acknowledged_at >= ACK_SECONDS
        if is_due and not link.pipe.blocked:  # who reads nothing is told later, all at once
            link.unacknowledged, link.acknowledged_at = 0, now
            _say(link, Ack(sequence=member.pushed_sequence))


def _check_protocol(hello: Hello) -> None:
    if wire.common_protocol(hello) is None:
        older = "agent" if hello.protocol < wire.OLDEST_PROTOCOL else "hub"
        raise RefusedError(
            Close.PROTOCOL,
            f"protocol {hello.protocol} was offered, this hub speaks {wire.PROTOCOL}: update the {older}",
        )


def _say(link: Link, message: msgspec.Struct) -> None:
    link.pipe.write(text_frame([wire.encode(message)]))


async def _turn_away(link: Link, *, is_tired: bool) -> None:
    """Tell one that would shake hands while too many do to come again."""
    headers = {"Retry-After": str(retry_after())}
    if is_tired:
        link.pipe.visit.refused("not_joined", "an agent after too many that were not welcome")
        answer = problem(429, "too many came from your address and were not welcome", headers)
    else:
        link.pipe.visit.refused("too_many_agents", "too many agents came at once")
        answer = problem(503, "too many agents come at once", headers)
    await link.websocket.send_denial_response(answer)


async def _close(websocket: WebSocket, error: RefusedError) -> None:
    """Close with the reason, cut to what a close frame holds (123 bytes of UTF-8, RFC 6455 section 5.5)."""
    reason = str(error).encode()[:123].decode(errors="ignore")
    with contextlib.suppress(WebSocketDisconnect, RuntimeError, TimeoutError):
        async with asyncio.timeout(HELLO_SECONDS):
            await websocket.close(error.code, reason)
