"""Where agents' reports come in: the hub's end of :mod:`gpumon.wire`, on ``/api/push``.

What an agent gets wrong closes its own connection, with a reason, and harms nobody else's data.
"""

import asyncio
import contextlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field

import msgspec
from starlette.websockets import WebSocket, WebSocketDisconnect

from gpumon import __version__, wire
from gpumon.errors import GpumonError, WireError
from gpumon.hub.core import Hub
from gpumon.hub.fleet import Member
from gpumon.model import Fault
from gpumon.problem import problem
from gpumon.wire import Ack, Close, FromAgent, Gap, Heartbeat, Hello, ReportFrame, Welcome

log = logging.getLogger(__name__)

HELLO_SECONDS = 5.0
SILENCE_SECONDS = 30.0
ACK_SECONDS = 5.0
ACK_REPORTS = 32
MAX_NODES = 1000
RESTART_BEATS = 3


class RefusedError(GpumonError):
    """The connection ends; the code and the text tell the agent why."""

    def __init__(self, code: Close, reason: str) -> None:
        super().__init__(reason)
        self.code = code


@dataclass(eq=False, slots=True)
class Link:
    """One agent's connection. ``deadline`` ends it when the agent falls silent or stops reading."""

    websocket: WebSocket
    address: str | None
    hello: Hello | None = None
    heard_at: float = 0.0
    deadline: asyncio.Timeout = field(default_factory=lambda: asyncio.timeout(HELLO_SECONDS))
    replaced: bool = False
    unacknowledged: int = 0
    acknowledged_at: float = 0.0


class Ingest:
    """Takes agents' connections for ``hub``."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._links: dict[str, Link] = {}

    async def __call__(self, websocket: WebSocket) -> None:
        """Serve one connection to its end."""
        if wire.SUBPROTOCOL not in websocket.scope["subprotocols"]:
            await websocket.send_denial_response(
                problem(400, f"agents speak the WebSocket subprotocol {wire.SUBPROTOCOL}, which was not offered")
            )
            return
        link = Link(websocket, websocket.client.host if websocket.client else None)
        try:
            async with link.deadline:
                await websocket.accept(subprotocol=wire.SUBPROTOCOL)
                await self._converse(link)
        except WebSocketDisconnect:
            return
        except TimeoutError:
            if link.replaced:
                refusal = RefusedError(Close.REPLACED, "a newer connection of this agent took over")
            else:
                refusal = RefusedError(Close.TOO_SLOW, "nothing was heard in time")
        except RefusedError as error:
            refusal = error
        log.warning("agent at %s: closed: %s", link.address, refusal)
        await _close(websocket, refusal)

    async def _converse(self, link: Link) -> None:
        hello = await self._hear(link)
        if not isinstance(hello, Hello):
            raise RefusedError(Close.BAD_MESSAGE, "the first message must be hello")
        protocol = wire.common_protocol(hello)
        if protocol is None:
            older = "agent" if hello.protocol < wire.OLDEST_PROTOCOL else "hub"
            raise RefusedError(
                Close.PROTOCOL,
                f"protocol {hello.protocol} was offered, this hub speaks {wire.PROTOCOL}: update the {older}",
            )
        with self._admitted(link, hello) as member:
            known = member.pushed_sequence if member.pushed_boot_id == hello.boot_id else 0
            await _say(link, Welcome(protocol=protocol, hub_version=__version__, last_sequence=known))
            try:
                while True:
                    await self._take(link, member, hello, await self._hear(link))
                    await asyncio.sleep(0)  # who has sent many at once waits its turn like the others
            except RefusedError as refusal:
                self._hub.fault(member, Fault(code="bad_report", message=f"Its agent was cut off: {refusal}."))
                raise

    async def _hear(self, link: Link) -> FromAgent:
        """The next message; it moves the deadline on."""
        message = await link.websocket.receive()
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message["code"], message.get("reason"))
        data = message.get("text") or message.get("bytes") or b""
        link.heard_at = self._hub.clock.monotonic()
        if not link.replaced:  # else the deadline is now
            link.deadline.reschedule(asyncio.get_running_loop().time() + SILENCE_SECONDS)
        try:
            return wire.decode_from_agent(data)
        except WireError as error:
            raise RefusedError(Close.BAD_MESSAGE, str(error)) from None

    @contextlib.contextmanager
    def _admitted(self, link: Link, hello: Hello) -> Iterator[Member]:
        """The member that this agent speaks for, for as long as the connection lasts."""
        self._settle_name(link, hello)
        if self._hub.fleet.get(hello.node) is None and len(self._hub.fleet) >= MAX_NODES and not self._hub.forget_one():
            raise RefusedError(Close.TOO_MANY, f"this hub takes {MAX_NODES} nodes and has them")
        member = self._hub.fleet.admit(hello.node, hello.hostname, hello.port)
        link.hello = hello
        self._links[hello.node] = link
        self._hub.link(member, is_open=True)
        self._hub.located(member, link.address)
        self._hub.contact(member)
        log.info("%s: agent %s at %s connected", hello.node, hello.agent_version, link.address)
        try:
            yield member
        finally:
            if self._links.get(hello.node) is link:
                del self._links[hello.node]
                self._hub.link(member, is_open=False)
                log.info("%s: agent at %s disconnected", hello.node, link.address)

    def _settle_name(self, link: Link, hello: Hello) -> None:
        """Two agents, one name: the living first stays; one that has fallen silent, or is the same, gives way."""
        first = self._links.get(hello.node)
        if first is None or first.hello is None:
            return
        same_host = (first.address, first.hello.hostname) == (link.address, hello.hostname)
        beat = min(hello.interval_seconds, wire.HEARTBEAT_SECONDS)
        patience = RESTART_BEATS * beat if same_host else 2 * wire.HEARTBEAT_SECONDS
        is_alive = self._hub.clock.monotonic() - first.heard_at <= patience
        if first.hello.boot_id != hello.boot_id and is_alive:
            raise RefusedError(
                Close.NAME_TAKEN,
                f"another agent, at {first.address}, is {hello.node} already: give one of them another --name",
            )
        first.replaced = True
        with contextlib.suppress(RuntimeError):  # it is ending by itself
            first.deadline.reschedule(0)

    async def _take(self, link: Link, member: Member, hello: Hello, message: FromAgent) -> None:
        match message:
            case ReportFrame(report=report, late=late):
                if report.node != member.name or report.boot_id != hello.boot_id or not report.sequence:
                    raise RefusedError(
                        Close.BAD_MESSAGE, "report: node and boot_id must be those of hello, and sequence 1 or more"
                    )
                self._hub.take_pushed(member, report, late=late)
                await self._acknowledge(link, member)
            case Heartbeat() | Gap():
                self._hub.contact(member)
            case Hello():
                raise RefusedError(Close.BAD_MESSAGE, "hello is said once")

    async def _acknowledge(self, link: Link, member: Member) -> None:
        """Tell what is taken, not for every report but often enough that little is sent twice."""
        link.unacknowledged += 1
        now = self._hub.clock.monotonic()
        if link.unacknowledged >= ACK_REPORTS or now - link.acknowledged_at >= ACK_SECONDS:
            link.unacknowledged, link.acknowledged_at = 0, now
            await _say(link, Ack(sequence=member.pushed_sequence))


async def _say(link: Link, message: msgspec.Struct) -> None:
    await link.websocket.send_text(wire.encode(message).decode())


async def _close(websocket: WebSocket, refusal: RefusedError) -> None:
    """Close with the reason, cut to what a close frame holds (123 bytes of UTF-8, RFC 6455 section 5.5)."""
    reason = str(refusal).encode()[:123].decode(errors="ignore")
    with contextlib.suppress(WebSocketDisconnect, RuntimeError, TimeoutError):
        async with asyncio.timeout(HELLO_SECONDS):
            await websocket.close(refusal.code, reason)
