"""Carrying reports to a hub, for ever: the agent's end of :mod:`gpumon.wire`.

The loop around the connection is our own: the iterator of websockets resets its back-off whenever a
handshake succeeds, so that a hub which accepts and then closes would be hit without end, and it gives up on
the statuses 401, 403, 404 and 429.
"""

import asyncio
import logging
import random
import time
from collections.abc import Sequence
from urllib.parse import urlsplit

import websockets
from websockets.asyncio.client import ClientConnection, connect

from gpumon import __version__, wire
from gpumon.agent.outbox import Outbox
from gpumon.agent.sampler import Sampler
from gpumon.errors import WireError
from gpumon.wire import Ack, Heartbeat, Hello, Welcome

log = logging.getLogger(__name__)

FIRST_SECONDS = 0.5
MOST_SECONDS = 30.0
SLOW_SECONDS = 60.0
HELD_SECONDS = 30.0
OPEN_SECONDS = 10.0
WELCOME_SECONDS = 5.0
SEND_SECONDS = 10.0
REPEAT_LOG_SECONDS = 600.0


class Backoff:
    """How long to wait before the next try: exponential, full jitter, 0.5 s to 30 s.

    It starts over only after a connection has held for 30 s: one that is accepted and closed is a failure.
    """

    def __init__(self) -> None:
        self._failures = 0

    def after(self, spent_seconds: float, *, slow: bool = False) -> float:
        """Seconds to wait after a try that took ``spent_seconds`` from its start to the end of its connection."""
        if spent_seconds >= HELD_SECONDS:
            self._failures = 0
        most = min(MOST_SECONDS, FIRST_SECONDS * 2**self._failures)
        self._failures = min(self._failures + 1, 16)
        if slow:
            return random.uniform(SLOW_SECONDS / 2, SLOW_SECONDS)
        return random.uniform(0, most)


class _Connect(connect):
    """A hub is where it is said to be: no redirect is followed."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        return exc


class Link:
    """Brings what waits in ``outbox`` to the first of ``hubs`` that takes it."""

    def __init__(self, hubs: Sequence[str], sampler: Sampler, outbox: Outbox, port: int | None) -> None:
        self._hubs = [push_url(hub) for hub in hubs]
        self._sampler = sampler
        self._outbox = outbox
        self._port = port
        self._logged: tuple[str, float] = ("", 0.0)
        self._welcomed = False
        self._report_refused = False

    async def run(self) -> None:
        """Connect, report, and come back whatever happens, until cancelled."""
        backoff = Backoff()
        turn = 0
        while True:
            url = self._hubs[turn % len(self._hubs)]
            started = time.monotonic()
            slow = self._welcomed = False
            try:
                await self._visit(url)
            except websockets.ConnectionClosed as error:
                code = error.rcvd.code if error.rcvd is not None else None
                self._report_refused = self._welcomed and code in wire.REPORT_REFUSED
                slow = code in wire.SLOW_RETRY and not self._report_refused
                self._tell(url, f"closed the link: {_why(error)}")
            except websockets.InvalidStatus as error:
                said = (error.response.body or b"")[:200].decode(errors="replace")
                self._tell(url, f"refused the link with status {error.response.status_code}: {said}")
            except TimeoutError:
                self._tell(url, "does not answer in time")
            except (OSError, UnicodeError, websockets.WebSocketException, WireError) as error:
                self._tell(url, f"cannot be reached: {error}")
            except Exception:
                # Whatever a stranger at the hub's address brings to light: the agent goes on.
                log.exception("hub %s: the link failed by a fault of gpumon's own; trying again", url)
            turn += 1
            await asyncio.sleep(backoff.after(time.monotonic() - started, slow=slow))

    async def _visit(self, url: str) -> None:
        """One connection, from the handshake to its end."""
        async with _Connect(
            url,
            subprotocols=[websockets.Subprotocol(wire.SUBPROTOCOL)],
            compression=None,
            proxy=None,  # the environment's http_proxy is not meant for a hub in the lab
            open_timeout=OPEN_SECONDS,
            ping_interval=10,
            ping_timeout=10,
            close_timeout=1,
            max_size=wire.MAX_MESSAGE_BYTES,
            user_agent_header=f"gpumon/{__version__}",
        ) as connection:
            if connection.subprotocol != wire.SUBPROTOCOL:
                raise WireError(f"it does not speak {wire.SUBPROTOCOL}: is this a gpumon hub?")
            welcome = await self._greet(connection)
            log.info("%s: connected to gpumon %s", url, welcome.hub_version)
            self._logged = ("", 0.0)
            self._welcomed = True
            self._forget_what_is_settled(welcome.last_sequence)
            await self._exchange(connection)

    def _forget_what_is_settled(self, last_sequence: int) -> None:
        """Forget what the hub has, and the report behind it if the hub has refused that one: sent again, it
        would be refused again, and everything after it would wait.
        """
        if self._report_refused:
            self._report_refused = False
            last_sequence += 1
            log.error("report %d was refused by the hub and is lost", last_sequence)
        self._outbox.acknowledge(last_sequence)

    async def _greet(self, connection: ClientConnection) -> Welcome:
        hello = Hello(
            agent_version=__version__,
            node=self._sampler.node,
            hostname=self._sampler.hostname,
            boot_id=self._sampler.boot_id,
            interval_seconds=self._sampler.interval,
            port=self._port,
            simulated=self._sampler.simulated,
        )
        async with asyncio.timeout(WELCOME_SECONDS):
            await connection.send(wire.encode(hello).decode())
            answer = wire.decode_from_hub(await connection.recv())
        if not isinstance(answer, Welcome):
            raise WireError("the first word of a hub is welcome")
        return answer

    async def _exchange(self, connection: ClientConnection) -> None:
        """Send and listen at once, until the connection ends."""
        ended: BaseException | None = None
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._send(connection))
                group.create_task(self._listen(connection))
        except* (websockets.WebSocketException, WireError, OSError) as errors:
            ended = errors.exceptions[0]  # raised below: the first Pythons 3.11 wrap in a group what is raised here
        if ended is not None:
            raise ended

    async def _send(self, connection: ClientConnection) -> None:
        sequence = 0
        while True:
            try:
                async with asyncio.timeout(wire.HEARTBEAT_SECONDS):
                    entry, late = await self._outbox.after(sequence)
            except TimeoutError:
                frame = wire.encode(Heartbeat())
            else:
                sequence = entry.sequence
                frame = wire.report_frame(entry.report, late=late)
            async with asyncio.timeout(SEND_SECONDS):
                await connection.send(frame, text=True)

    async def _listen(self, connection: ClientConnection) -> None:
        while True:
            message = wire.decode_from_hub(await connection.recv())
            if isinstance(message, Ack):
                self._outbox.acknowledge(message.sequence)

    def _tell(self, url: str, text: str) -> None:
        """Log what is wrong: once, and again every ten minutes while it stays so."""
        line, now = f"hub {url}: {text}", time.monotonic()
        if line != self._logged[0] or now - self._logged[1] >= REPEAT_LOG_SECONDS:
            self._logged = line, now
            log.warning("%s; trying again", line)


def push_url(hub: str) -> str:
    """The address that agents push to, from a hub's URL (``http://host:8080`` or ``ws://...``)."""
    parts = urlsplit(hub)
    scheme = {"http": "ws", "https": "wss"}.get(parts.scheme, parts.scheme)
    return f"{scheme}://{parts.netloc}{parts.path.rstrip('/')}/api/push"


def _why(error: websockets.ConnectionClosed) -> str:
    if error.rcvd is None:
        return "the connection was lost"
    return f"{error.rcvd.reason or 'without a reason'} ({error.rcvd.code})"
