"""Fetching what is not pushed: ``GET /gpu-info`` of each configured node, while it does not push.

One request a node is under way at most; requests are spread over the interval. Nothing of an answer is
trusted: its size, its time and its words are bounded, redirects are not followed, and what is wrong with it
is that node's error and nobody else's.
"""

import asyncio
import logging
import os

import aiohttp
import msgspec
from msgspec import Struct
from yarl import URL

from gpumon.config import NodeEntry
from gpumon.errors import PollError, ResolveError, WireError
from gpumon.hub.core import Hub
from gpumon.hub.fleet import Member
from gpumon.hub.legacy import decode_legacy_report
from gpumon.model import Fault, Report
from gpumon.resolver import Resolver
from gpumon.text import one_line
from gpumon.wire import decode, decode_report

log = logging.getLogger(__name__)

MAX_BODY_BYTES = 1024 * 1024
TIMEOUT_SECONDS = 5.0
CONNECT_SECONDS = 3.0
MAX_SAID = 200
HINT_CLOSED = "Start the agent there, or mend host and port in the configuration."
HINT_NAME = "Mend the name in the configuration or in DNS."
HINT_SILENT = "Check that the machine is up and that no firewall stands between."


class _Shape(Struct):
    """Enough of an answer to tell whose it is."""

    node: msgspec.Raw = msgspec.Raw()
    node_name: msgspec.Raw = msgspec.Raw()


_shape: msgspec.json.Decoder[_Shape] = msgspec.json.Decoder(_Shape)


class Poller:
    """Polls the nodes of the configuration for ``hub``."""

    def __init__(self, hub: Hub, entries: list[NodeEntry], resolver: Resolver) -> None:
        self._hub = hub
        self._entries = entries
        self._resolver = resolver

    async def run(self) -> None:
        """Poll until cancelled."""
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS)
        async with (
            aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0),
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={"Accept": "application/json", "Accept-Encoding": "identity"},
                timeout=timeout,
            ) as session,
            asyncio.TaskGroup() as group,
        ):
            for place, entry in enumerate(self._entries):
                phase = self._hub.settings.poll_interval_seconds * place / len(self._entries)
                group.create_task(self._poll_node(session, entry, phase), name=f"poll {entry.name}")

    async def _poll_node(self, session: aiohttp.ClientSession, entry: NodeEntry, phase: float) -> None:
        interval = self._hub.settings.poll_interval_seconds
        wanted = self._hub.polling_wanted(entry.name)
        member = self._hub.fleet.admit(entry.name, entry.host, entry.port)
        loop = asyncio.get_running_loop()
        next_poll = loop.time() + phase
        while True:
            await asyncio.sleep(next_poll - loop.time())
            await wanted.wait()
            next_poll = loop.time() + interval
            outcome = await self._poll(session, entry, member)
            # A poll that was under way when the push came back has nothing newer to tell.
            if not wanted.is_set():
                continue
            if isinstance(outcome, Report):
                self._hub.record(member, outcome, "poll")
            elif outcome != member.error:
                log.warning("%s: %s", entry.name, outcome.message)
                self._hub.fault(member, outcome)

    async def _poll(self, session: aiohttp.ClientSession, entry: NodeEntry, member: Member) -> Report | Fault:
        """Ask a node once: what it reports, or what is wrong."""
        try:
            addresses = await self._resolver.addresses(entry.host)
            async with asyncio.timeout(TIMEOUT_SECONDS):
                return await self._fetch_from_any(session, entry, member, addresses)
        except ResolveError as error:
            return Fault(code="name_unknown", message=f"{str(error)[:1000]}.", hint=HINT_NAME)
        except TimeoutError:
            return _no_answer(entry)
        except PollError as error:
            if error.answered:
                self._hub.contact(member)
            return Fault(code=error.code, message=error.message[:1024], hint=error.hint)
        except Exception as error:
            # Whatever a stranger's answer brings to light in us or a library: it stays that node's.
            log.exception("%s: polling failed by a fault of gpumon's own", entry.name)
            return Fault(code="internal", message=f"A fault of gpumon's own: {one_line(repr(error), MAX_SAID)}.")

    async def _fetch_from_any(
        self, session: aiohttp.ClientSession, entry: NodeEntry, member: Member, addresses: tuple[str, ...]
    ) -> Report:
        """Whatever the first address that answers reports."""
        last = PollError("no_address", f"No address for {entry.host}.", answered=False)
        for address in addresses:
            self._hub.located(member, address)
            try:
                return read_report(await fetch(session, entry, address))
            except PollError as error:
                if error.answered:
                    raise
                last = error
        raise last


def _no_answer(entry: NodeEntry) -> Fault:
    return Fault(
        code="no_answer",
        message=f"{entry.host} port {entry.port} gave no whole answer within {TIMEOUT_SECONDS:g} s.",
        hint=HINT_SILENT,
    )


async def fetch(session: aiohttp.ClientSession, entry: NodeEntry, address: str) -> bytes:
    """The body of ``/gpu-info``, asked of ``address`` in the name of the node's host.

    Raises:
        PollError: nobody listens, the answer is no success, or it is too long.
        TimeoutError: no answer in time.
    """
    url = URL.build(scheme="http", host=address, port=entry.port, path="/gpu-info")
    host = f"[{entry.host}]" if ":" in entry.host else entry.host
    try:
        async with session.get(url, headers={"Host": f"{host}:{entry.port}"}, allow_redirects=False) as response:
            body = bytearray()
            async for chunk in response.content.iter_chunked(65536):
                body += chunk
                if len(body) > MAX_BODY_BYTES:
                    raise PollError(
                        "answer_too_long", f"Its answer is longer than {MAX_BODY_BYTES} bytes.", answered=True
                    )
    except aiohttp.ClientConnectorError as error:
        number = error.os_error.errno
        reason = os.strerror(number) if number else str(error.os_error)
        raise PollError(
            "no_connection",
            f"No connection to {address} port {entry.port}: {reason.lower()}.",
            HINT_CLOSED,
            answered=False,
        ) from None
    except aiohttp.ConnectionTimeoutError:
        raise PollError(
            "no_connection",
            f"No connection to {address} port {entry.port} within {CONNECT_SECONDS:g} s.",
            HINT_SILENT,
            answered=False,
        ) from None
    except aiohttp.ServerDisconnectedError:
        raise PollError("bad_answer", "It closed the connection without an answer.", answered=True) from None
    except aiohttp.ClientOSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise PollError(
            "bad_answer", f"The connection broke: {one_line(reason, MAX_SAID).lower()}.", answered=True
        ) from None
    except aiohttp.ClientError as error:
        raise PollError(
            "bad_answer", f"Its answer is not proper HTTP: {one_line(str(error), MAX_SAID)}.", answered=True
        ) from None
    if response.status != 200:
        said = one_line(body[:2000].decode(errors="replace"), MAX_SAID)
        raise PollError("bad_status", f"It answered with status {response.status}: {said or 'no text'}.", answered=True)
    return bytes(body)


def read_report(body: bytes) -> Report:
    """The report in an answer, ours or the old program's. Raises :class:`PollError`."""
    if body.lstrip()[:1] == b"<":
        raise PollError(
            "bad_answer",
            "It answered with a web page (HTML), not with JSON.",
            "Check that the port in the configuration is the agent's.",
            answered=True,
        )
    try:
        shape = decode(_shape, body)
        if shape.node_name and not shape.node:
            return decode_legacy_report(body)
        return decode_report(body)
    except WireError as error:
        raise PollError("bad_answer", f"Its answer cannot be read: {error}.", answered=True) from None
