"""Carrying reports to a hub, for ever: the agent's end of :mod:`gpumon.wire`.

The loop around the connection is our own: the iterator of websockets resets its back-off whenever a
handshake succeeds, so that a hub which accepts and then closes would be hit without end, and it gives up on
the statuses 401, 403, 404 and 429.
"""

import asyncio
import contextlib
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import websockets
from websockets.asyncio.client import ClientConnection, connect

from gpumon import __version__, handshake, wire
from gpumon.agent.backoff import Pace, Schedule, Setback
from gpumon.agent.delivery import Delivery
from gpumon.agent.dial import Names, dial
from gpumon.agent.joining import NOT_PROVEN, Joining
from gpumon.agent.linkstate import Diary, LinkState
from gpumon.agent.outbox import Outbox
from gpumon.agent.sampler import Sampler
from gpumon.agent.setback import Failure, Stage, failure_of
from gpumon.agent.watchdog import Watchdog
from gpumon.certificates import pin_of, trusting
from gpumon.config import DnsSection, name_server
from gpumon.disk import Disk
from gpumon.errors import JoinError, WireError
from gpumon.wire import Ack, Challenge, Hello, Welcome

if TYPE_CHECKING:
    from gpumon.resolver import Resolver

log = logging.getLogger(__name__)

TRUST_SECONDS = 3.0


class NotWantedError(Exception):
    """The hub of this connection is not among the configured ones any longer."""


class _Connect(connect):
    """A hub is where it is said to be: no redirect is followed."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        return exc


class Link:
    """Brings what waits in ``outbox`` to the first of ``hubs`` that takes it.

    ``identify`` is asked once, before the first connection: who needs no hub needs no identity.
    """

    def __init__(
        self,
        hubs: Sequence[str],
        sampler: Sampler,
        outbox: Outbox,
        port: int | None,
        dns: DnsSection,
        identify: Callable[[], Awaitable[Joining]],
        watchdog: Watchdog,
        pace: Pace | None = None,
        ca: str | None = None,
    ) -> None:
        self.hubs: Sequence[str] = tuple(hubs)
        self._sampler = sampler
        self._outbox = outbox
        self._port = port
        self._dns = dns
        self._ca = ca
        self._disk = Disk("authorities")
        self._identify = identify
        self._joining: Joining | None = None
        self._watchdog = watchdog
        self._pace = pace or Pace()
        self._schedule = Schedule(self._pace)
        self._diary = Diary(self._pace.repeat_log)
        self._changed = asyncio.Event()
        self._names: Names | None = None
        # How often an address of a hub took a connection and made nothing of it.
        self._troubled: dict[str, Counter[str]] = {}
        self._stage = Stage("start", "nothing happened", 0)
        self._welcomed_at: float | None = None
        self._told_ahead = False
        self._suspicion: tuple[str, str] | None = None  # a hub's refusal of a report, until we know of which

    def reconfigure(self, hubs: Sequence[str], dns: DnsSection) -> None:
        """Report to one of ``hubs`` from now on; a connection to one that is still among them stays."""
        self.hubs = tuple(hubs)
        if not hubs:
            self._outbox.clear()
        if dns != self._dns:
            self._dns = dns
            self._names = None
        self._changed.set()

    def state(self) -> LinkState:
        """How the link is, for whoever asks the agent."""
        return self._diary.state(len(self._outbox), self._outbox.unsent, self._outbox.bytes, self._outbox.dropped)

    async def run(self) -> None:
        """Connect, report, and come back whatever happens, until cancelled."""
        has_stumbled = False
        async with asyncio.TaskGroup() as group:
            while True:
                try:
                    if has_stumbled:  # or a fault that stays would take the event loop for itself
                        has_stumbled = False
                        await asyncio.sleep(self._pace.first)
                    await self._turn(group)
                except asyncio.CancelledError as error:
                    if _is_told_to_end():
                        raise
                    has_stumbled = True
                    self._diary.own_fault("the link", error)
                except Exception as error:
                    has_stumbled = True
                    self._diary.own_fault("the link", error)

    async def _turn(self, group: asyncio.TaskGroup) -> None:
        """Wait for the hub that is due, and visit it."""
        hub = await self._due_hub()
        self._watchdog.attempt()
        self._welcomed_at = None
        self._stage = Stage("start", "nothing happened", 0)
        try:
            await self._visit(hub, group)
        except NotWantedError:
            self._suspicion = None
            self._diary.left(hub)
            return
        except asyncio.CancelledError as error:
            if _is_told_to_end():
                raise
            failure = self._failure(hub, error)
        except Exception as error:
            failure = self._failure(hub, error)
        else:
            failure = Failure(Setback.UNWELCOME, "end", "the link ended")
        if self._welcomed_at is None and self._names is not None:
            self._names.doubt(urlsplit(hub).hostname or "")
        held = 0.0 if self._welcomed_at is None else time.monotonic() - self._welcomed_at
        self._schedule.failed(hub, failure.setback, held, failure.retry_after_seconds)
        self._diary.failed(hub, failure, has_held=held >= self._pace.held)

    def _failure(self, hub: str, error: BaseException) -> Failure:
        """What ``error`` means: whatever a stranger at the hub's address brings to light, the agent goes on."""
        was_welcomed = self._welcomed_at is not None
        if was_welcomed:
            closed = error.rcvd if isinstance(error, websockets.ConnectionClosed) else None
            refused = closed is not None and closed.code in wire.REPORT_REFUSED
            self._suspicion = (hub, closed.reason) if closed is not None and refused else None
        failure = failure_of(error, self._stage, was_welcomed=was_welcomed)
        if failure is not None and self._joining is not None and isinstance(error, websockets.ConnectionClosed):
            advice = self._joining.advice(error.rcvd.code if error.rcvd is not None else 0)
            failure = replace(failure, text=failure.text + advice)
        if failure is None:
            self._diary.own_fault(f"hub {hub}", error)
            failure = Failure(Setback.UNWELCOME, "own fault", f"a fault of gpumon's own: {type(error).__name__}")
        return failure

    async def _due_hub(self) -> str:
        """The hub to try next, when its time has come."""
        while True:
            self._changed.clear()
            if not self.hubs:
                self._watchdog.rest()
                await self._changed.wait()
                continue
            hub, seconds = self._schedule.next(self.hubs)
            if seconds <= 0:
                return hub
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._changed.wait()

    async def _visit(self, hub: str, group: asyncio.TaskGroup) -> None:
        """One connection, from the look-up of the name to its end."""
        if self._joining is None:
            self._joining = await self._identify()
        connection, address = await self._open(hub, group)
        code, reason = 1000, ""
        try:
            if connection.subprotocol != wire.SUBPROTOCOL:
                raise WireError(f"it does not speak {wire.SUBPROTOCOL}: is this a gpumon hub?")
            welcome = await self._greet(hub, connection, self._joining)
            self._troubled.pop(hub, None)
            await self._report(hub, connection, welcome, group)
        except (asyncio.CancelledError, NotWantedError) as error:
            code = wire.GOODBYE
            reason = "the agent stops" if isinstance(error, asyncio.CancelledError) else "the agent has another hub now"
            raise
        finally:
            if self._welcomed_at is None:
                self._troubled.setdefault(hub, Counter())[address] += 1
            try:
                with contextlib.suppress(Exception):
                    async with asyncio.timeout(self._pace.goodbye):
                        await connection.close(code, reason)
            finally:
                connection.transport.abort()

    async def _open(self, hub: str, group: asyncio.TaskGroup) -> tuple[ClientConnection, str]:
        """A connection to ``hub`` and the address that it is at. Addresses that came to nothing come last."""
        url = push_url(hub)
        parts, pace = urlsplit(url), self._pace
        host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "wss" else 80)
        self._enter("name", "its name is not resolved", pace.name)
        if self._names is None:
            self._names = Names(_resolver(self._dns), group)
        found = await self._names.addresses(host, pace.name)
        troubled = Counter({one: self._troubled.get(hub, Counter())[one] for one in found})
        self._troubled = {one: self._troubled[one] for one in self._troubled if one in self.hubs} | {hub: troubled}
        addresses = sorted(found, key=lambda one: troubled[one])
        is_secure, pin = parts.scheme == "wss", pin_of(hub)
        tls = trusting(None, pin) if is_secure and pin is not None else None  # of no file: no disk is waited for
        if is_secure and tls is None:
            words = "the file of the authorities that it may be signed by could not be read"
            self._enter("trust", words, TRUST_SECONDS)
            tls = await self._disk.ask(partial(trusting, self._ca, None), TRUST_SECONDS)
        self._enter("tcp", "nothing answers", pace.tcp)
        socket, address = await dial(addresses, port, pace.tcp, self._watchdog.attempt)
        self._enter("upgrade", "it takes connections and does not answer", pace.upgrade)
        try:
            connection = await _Connect(
                url,
                sock=socket,
                ssl=tls,
                subprotocols=[websockets.Subprotocol(wire.SUBPROTOCOL)],
                compression=None,
                proxy=None,  # the environment's http_proxy is not meant for a hub in the lab
                open_timeout=pace.upgrade,
                ping_interval=10,
                ping_timeout=10,
                close_timeout=pace.goodbye,
                max_size=wire.MAX_MESSAGE_BYTES,
                user_agent_header=f"gpumon/{__version__}",
            )
        except BaseException:
            troubled[address] += 1
            socket.close()
            raise
        return connection, address

    async def _greet(self, hub: str, connection: ClientConnection, joining: Joining) -> Welcome:
        """Say who this is, prove it if the hub asks for that, and have it say welcome."""
        self._enter("token", "the file of the agent's own join token could not be read", joining.patience_seconds)
        insists = await joining.prepare(hub)
        identity = joining.identity
        hello = Hello(
            agent_id=identity.agent_id,
            machine_id=identity.machine_id,
            key=identity.keys.public,
            nonce=handshake.nonce(),
            insists=insists,
            agent_version=__version__,
            node=self._sampler.node,
            hostname=self._sampler.hostname,
            boot_id=self._sampler.boot_id,
            interval_seconds=self._sampler.interval,
            port=self._port,
            simulated=self._sampler.simulated,
        )
        self._enter("welcome", "it does not say welcome", self._pace.welcome)
        async with asyncio.timeout(self._pace.welcome):
            said = wire.encode(hello)
            await connection.send(said, text=True)
            heard = await connection.recv(decode=False)
            answer, proven = wire.decode_from_hub(heard), None
            if isinstance(answer, Challenge):
                proven = joining.answer(hub, (said, heard), answer)
                await connection.send(wire.encode(proven.proof), text=True)
                answer = wire.decode_from_hub(await connection.recv())
        if not isinstance(answer, Welcome):
            raise WireError("the first word of a hub is welcome, or a challenge before it")
        if proven is not None:
            proven.check(answer)
            await joining.joined(proven.bond)
        elif insists:
            raise JoinError(NOT_PROVEN)
        self._welcomed_at = time.monotonic()
        return answer

    async def _report(self, hub: str, connection: ClientConnection, welcome: Welcome, group: asyncio.TaskGroup) -> None:
        """Send and listen at once, until the connection ends."""
        in_order = self._settle_refusal(hub, welcome)
        delivery = Delivery(self._outbox, welcome, time.monotonic(), in_order=in_order)
        self._diary.connected(hub, welcome, len(self._outbox), self._outbox.gap)
        self._enter("link", "it takes nothing", self._pace.send)
        # No group of their own: on Python 3.11 a group that ends leaves its owner marked as cancelled.
        works = (self._send(connection, delivery), self._listen(hub, connection, delivery), self._stay(hub))
        tasks = {group.create_task(_outcome(work)) for work in works}
        try:
            ended, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            with contextlib.suppress(Exception):  # whatever a hub has done wrong, the agent ends as it was told to
                if isinstance(news := delivery.next(time.monotonic()), bytes):
                    async with asyncio.timeout(self._pace.goodbye):
                        await connection.send(news, text=True)
            raise
        finally:
            self._told_ahead = delivery.has_told_ahead
            for task in tasks:
                task.cancel()
        raise next(task.result() for task in ended)

    def _settle_refusal(self, hub: str, welcome: Welcome) -> bool:
        """If the last connection ended with the refusal of a report, drop the report behind the last one that the
        hub has: sent again, it would be refused again, and everything after it would wait.

        Where reports were told ahead it may have been one of those: True asks for a connection without them.
        """
        if self._suspicion is None or self._suspicion[0] != hub:
            return False
        if self._told_ahead:
            return True
        self._outbox.begin(welcome.last_sequence)
        if (lost := self._outbox.lose_oldest()) is not None:
            log.error("hub %s: refused report %d, which is lost: %s", hub, lost, self._suspicion[1])
        self._suspicion = None
        return False

    async def _send(self, connection: ClientConnection, delivery: Delivery) -> None:
        while True:
            self._outbox.stirred.clear()
            step = delivery.next(time.monotonic())
            if isinstance(step, bytes):
                self._watchdog.attempt()
                async with asyncio.timeout(self._pace.send):
                    await connection.send(step, text=True)
            else:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(step):
                        await self._outbox.stirred.wait()

    async def _listen(self, hub: str, connection: ClientConnection, delivery: Delivery) -> None:
        while True:
            message = wire.decode_from_hub(await connection.recv())
            self._watchdog.attempt()
            if isinstance(message, Ack):
                if message.refused is not None:
                    log.error("hub %s: refused a report, which is lost: %s", hub, message.refused)
                delivery.acknowledge(message.sequence)

    async def _stay(self, hub: str) -> None:
        """Until ``hub`` is not wanted any longer."""
        held = asyncio.get_running_loop().call_later(self._pace.held, self._diary.held, hub)
        try:
            while hub in self.hubs:
                self._changed.clear()
                await self._changed.wait()
        finally:
            held.cancel()
        raise NotWantedError

    def _enter(self, name: str, silence: str, seconds: float) -> None:
        self._stage = Stage(name, silence, seconds)
        self._watchdog.attempt()


def _resolver(dns: DnsSection) -> "Resolver":
    from gpumon.resolver import Resolver  # 3 MiB that an agent without hubs does not need

    return Resolver(name_server(dns.server) if dns.enabled else None)


def push_url(hub: str) -> str:
    """The address that agents push to, from a hub's URL (``http://host:8080`` or ``ws://...``)."""
    parts = urlsplit(hub)
    scheme = {"http": "ws", "https": "wss"}.get(parts.scheme, parts.scheme)
    return f"{scheme}://{parts.netloc}{parts.path.rstrip('/')}/api/push"


def _is_told_to_end() -> bool:
    """Whether a cancellation is meant for us, or came out of something that we waited for."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def _outcome(work: Coroutine[Any, Any, None]) -> BaseException:
    """Why one of the works of a connection has ended: none of them may while the others go on."""
    try:
        await work
    except asyncio.CancelledError:
        if _is_told_to_end():
            raise
    except Exception as error:
        return error
    return ConnectionError("a part of the link ended by itself")
