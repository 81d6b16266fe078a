"""One node asked for its report: ``GET /gpu-info`` at the addresses of its host, or what its kind of node answers to.

Nothing of an answer is trusted: its size, its time and its words are bounded, redirects are not followed,
what is compressed is not unpacked. What is wrong has a code (docs/api.md lists them) and is told in words.

The addresses of a name are looked at before they are used, and connected to as they are: nobody can answer
otherwise the second time. The node's own token is all that is ever sent with a request, and shows up nowhere
(:mod:`gpumon.hub.secrecy`).

A page of text is read in a thread: a hostile one may take a second, which the others need not wait.
"""

import asyncio
import contextlib
import errno
import os
import ssl
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Final

import aiohttp
import msgspec
from msgspec import Struct, structs
from yarl import URL

from gpumon.certificates import distrust, trusting
from gpumon.config import PLACES, NodeEntry
from gpumon.disk import Disk
from gpumon.errors import CertificateError, PollError, ResolveError, SilenceError, WireError
from gpumon.hub.destinations import refusal
from gpumon.hub.kinds import READERS, recognised
from gpumon.hub.legacy import decode_legacy_report
from gpumon.hub.secrecy import unreported, unsaid
from gpumon.model import Kind, Report
from gpumon.resolver import Resolver
from gpumon.text import one_line
from gpumon.wire import decode, decode_report

MAX_BODY_BYTES = 1024 * 1024
TIMEOUT_SECONDS = 5.0
"""For everything: name, connection and answer."""
CONNECT_SECONDS = 3.0
MAX_SAID = 200
MOST_CONTEXTS = 1000
HINT_NAME = "Mend the name in the configuration or in DNS."
HINT_NAME_SERVER = "Check that the machine is up, and the DNS server of the configuration (gpumon check asks it)."
HINT_REFUSED = "The machine is up, but nobody listens at this port: start the agent there, or mend the port."
HINT_SILENT = "Check that the machine is up and that no firewall stands between."
HINT_HANGS = "Something took the connection: check the port, and the agent's log on that machine."
HINT_PORT = "Check that the port in the configuration is the agent's."
HINT_ADDRESS = "The hub never asks there: mend the host in the configuration or in DNS."
HINT_UNAUTHORIZED = "Give its agent's token in the configuration (nodes[].token)."
HINT_CLOSED = "Check that the port in the configuration is the agent's; if it serves https, set nodes[].tls to true."
HINT_KIND = "Check nodes[].kind, port and path in the configuration."
HINT_TLS = "Mend its certificate or the configuration: nodes[].tls, nodes[].fingerprint, tls.ca."
HINT_FILES = "Let the hub open more files (ulimit -n, or LimitNOFILE= of its service)."


ACCEPTED: Final[Mapping[Kind, str]] = {"gpumon": "application/json", "gpustat": "application/json, text/plain"}
"""What is asked for; of all others, Prometheus' older format: they may have the newer as well."""


class _Shape(Struct):
    """Enough of an answer to tell whose it is."""

    node: msgspec.Raw = msgspec.Raw()
    node_name: msgspec.Raw = msgspec.Raw()


_shape: msgspec.json.Decoder[_Shape] = msgspec.json.Decoder(_Shape)


@dataclass(frozen=True, slots=True)
class Fetched:
    """What a node reported, and at which address. ``is_legacy``: in the words of the program that gpumon replaces."""

    report: Report
    address: str
    is_legacy: bool


class Fetcher:
    """Asks nodes, over connections that are kept. ``resolver`` may be replaced at any time; ``ca`` as well, by
    :meth:`believe`: the file of the authorities that vouch for nodes, None for those of this machine.
    """

    def __init__(self, session: aiohttp.ClientSession, resolver: Resolver, ca: str | None) -> None:
        self._session = session
        self._ca = ca
        self._contexts: dict[str | None, ssl.SSLContext] = {}
        self._disk = Disk("authorities")
        self.resolver = resolver

    def believe(self, ca: str | None) -> None:
        """From now on the authorities in ``ca``, as that file is now."""
        self._ca = ca
        self._contexts = {}  # a new one, for what is being made now is made of the old file

    async def report(self, entry: NodeEntry, prefer: str | None = None) -> Fetched:
        """Whatever the first address that answers reports, within 5 s. ``prefer``: the address to try first.

        Raises:
            PollError: no usable answer; of several addresses, what says most. The node's token is not in its words.
        """
        try:
            return await self._report(entry, prefer)
        except PollError as error:
            error.message = unsaid(error.message, entry.token)
            if entry.kind != "gpumon" and error.hint is not None:
                error.hint = error.hint.replace("the agent", entry.kind)
            raise

    async def kind(self, entry: NodeEntry, address: str) -> Kind | None:
        """As what the node at ``address`` shows itself, where it is not what its entry says; None if as nothing known.

        Each kind's page is asked for, at the node's own port; 5 s for all.
        """
        with contextlib.suppress(PollError, TimeoutError):
            context = await self._context(entry)
            async with asyncio.timeout(TIMEOUT_SECONDS):
                for path in dict.fromkeys((entry.path, *(path for _, path in PLACES.values()))):
                    asked = structs.replace(entry, path=path)
                    try:
                        found = recognised(await fetch(self._session, asked, address, CONNECT_SECONDS, context))
                    except PollError as error:
                        if not error.answered:
                            raise
                        continue
                    if found is not None:
                        return found
        return None

    async def _report(self, entry: NodeEntry, prefer: str | None) -> Fetched:
        tried: list[str] = []
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS) as limit:
                addresses = await self._addresses(entry)
                end = limit.when()
                assert end is not None
                return await self._from_any(entry, sorted(addresses, key=lambda one: one != prefer), end, tried)
        except TimeoutError:
            took = f"{entry.host} port {entry.port} took the connection"
            message = f"{took}, but gave no whole answer within {TIMEOUT_SECONDS:g} s."
            error = PollError("no_answer", message, HINT_HANGS, answered=False)
            error.address = tried[-1] if tried else None
            raise error from None

    async def _addresses(self, entry: NodeEntry) -> list[str]:
        """Those addresses of the node's host where the hub may ask."""
        try:
            found = await self.resolver.addresses(entry.host)
        except SilenceError as error:
            raise PollError("name_unanswered", f"{error}.", HINT_NAME_SERVER, answered=False) from None
        except ResolveError as error:
            raise PollError("name_unknown", f"{error}.", HINT_NAME, answered=False) from None
        if allowed := [one for one in found if refusal(one) is None]:
            return allowed
        said = f"{one_line(entry.host, MAX_SAID)} is at {found[0]}, which is {refusal(found[0])}."
        raise PollError("forbidden_address", said, HINT_ADDRESS, answered=False)

    async def _context(self, entry: NodeEntry) -> ssl.SSLContext | None:
        """How to speak TLS with a node; None where it speaks none."""
        if not entry.tls:
            return None
        contexts = self._contexts
        if (known := contexts.get(entry.fingerprint)) is not None:
            return known
        try:
            # One for a fingerprint is made of no file, and must not wait for a disk that hangs.
            if entry.fingerprint is not None:
                made = trusting(None, entry.fingerprint)
            else:
                made = await self._disk.ask(self._by_authorities, CONNECT_SECONDS)
        except CertificateError as error:
            raise PollError("untrusted", f"{error}.", HINT_TLS, answered=False) from None
        except TimeoutError:
            words = f"tls.ca: the file could not be read within {CONNECT_SECONDS:g} s: its disk hangs."
            raise PollError("untrusted", words, HINT_TLS, answered=False) from None
        if len(contexts) >= MOST_CONTEXTS:
            contexts.clear()
        return contexts.setdefault(entry.fingerprint, made)

    def _by_authorities(self) -> ssl.SSLContext:
        """What those who asked at the same time have had made is not made again."""
        return self._contexts.get(None) or trusting(self._ca, None)

    async def _from_any(self, entry: NodeEntry, addresses: list[str], end: float, tried: list[str]) -> Fetched:
        """Each address gets a fair part of the time until ``end`` (of the loop's clock) to take a connection."""
        loop = asyncio.get_running_loop()
        worst: PollError | None = None
        context = await self._context(entry)
        for place, address in enumerate(addresses):
            tried.append(address)
            connect = min(CONNECT_SECONDS, 0.9 * (end - loop.time()) / (len(addresses) - place))
            try:
                body = await fetch(self._session, entry, address, connect, context)
                report, is_legacy = await _read(body, entry)
                return Fetched(report, address, is_legacy)
            except PollError as error:
                error.address = address
                if error.answered:
                    raise
                if worst is None or (error.code == "refused" and worst.code != "refused"):
                    worst = error
        assert worst is not None
        raise worst


@contextlib.asynccontextmanager
async def fetching(resolver: Resolver, ca: str | None = None) -> AsyncIterator[Fetcher]:
    """A :class:`Fetcher`, and the end of its connections."""
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0),
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"Accept-Encoding": "identity"},
        timeout=aiohttp.ClientTimeout(total=None),
        auto_decompress=False,
    ) as session:
        yield Fetcher(session, resolver, ca)


async def fetch(
    session: aiohttp.ClientSession,
    entry: NodeEntry,
    address: str,
    connect_seconds: float,
    context: ssl.SSLContext | None = None,
) -> bytes:
    """The body of the node's page, asked of ``address`` in the name of the node's host; by https, with ``context``.

    Raises:
        PollError: nobody listens, it is not the one, the answer is no success, it is compressed or too long.
        TimeoutError: no answer in time, where the caller has set one.
    """
    url = _url("https" if context else "http", address, entry)
    host = f"[{entry.host}]" if ":" in entry.host else entry.host
    headers = {"Host": f"{host}:{entry.port}", "Accept": ACCEPTED.get(entry.kind, "text/plain")}
    if entry.token is not None:
        headers["Authorization"] = f"Bearer {entry.token}"
    try:
        async with session.get(
            url,
            headers=headers,
            allow_redirects=False,
            ssl=context or True,
            server_hostname=entry.host.rstrip(".") if context else None,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=connect_seconds),
        ) as response:
            return await _body(response, entry.token)
    except (aiohttp.ClientConnectorSSLError, aiohttp.ClientConnectorCertificateError) as error:
        raise _untrusted(error, address, entry.port) from None
    except aiohttp.ClientConnectorError as error:
        raise _no_connection(error.os_error, address, entry.port) from None
    except aiohttp.ConnectionTimeoutError:
        raise PollError(
            "unreachable",
            f"No connection to {address} port {entry.port}: nothing heard within {connect_seconds:.1g} s.",
            HINT_SILENT,
            answered=False,
        ) from None
    except aiohttp.ServerDisconnectedError:
        raise PollError(
            "bad_answer", "It closed the connection without an answer.", HINT_CLOSED, answered=True
        ) from None
    except aiohttp.ClientOSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        said = one_line(reason, MAX_SAID).lower()  # words of the system, not of the peer
        raise PollError("bad_answer", f"The connection broke: {said}.", HINT_CLOSED, answered=True) from None
    except aiohttp.ClientError as error:
        # These words quote the peer, cut where aiohttp pleases: in the middle of a token, perhaps.
        said = f": {one_line(str(error), MAX_SAID)}" if entry.token is None else ""
        raise PollError("bad_answer", f"Its answer is not proper HTTP{said}.", HINT_PORT, answered=True) from None


async def _body(response: aiohttp.ClientResponse, token: str | None) -> bytes:
    if response.status != 200:
        text = (await response.content.read(2000)).decode(errors="replace")
        said = one_line(unsaid(text, token), MAX_SAID)  # before it is cut anywhere
        hint = {401: HINT_UNAUTHORIZED, 404: HINT_KIND}.get(response.status)
        words = f"It answered with status {response.status}: {said or 'no text'}."
        raise PollError("bad_status", words, hint, answered=True)
    encoding = response.headers.get("Content-Encoding", "identity")
    if encoding != "identity":  # a few kilobytes may unpack to gigabytes
        said = one_line(unsaid(encoding, token), MAX_SAID)
        raise PollError("bad_answer", f"Its answer is compressed ({said}), which was not asked for.", answered=True)
    body = bytearray()
    while chunk := await response.content.readany():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise PollError("answer_too_long", f"Its answer is longer than {MAX_BODY_BYTES} bytes.", answered=True)
    return bytes(body)


def _untrusted(
    error: aiohttp.ClientConnectorSSLError | aiohttp.ClientConnectorCertificateError, address: str, port: int
) -> PollError:
    """It may be anybody who answers there, so it does not count as a sign of life."""
    certificate = isinstance(error, aiohttp.ClientConnectorCertificateError)
    cause = error.certificate_error if certificate else error.os_error
    said = distrust(cause) if isinstance(cause, ssl.SSLError) else one_line(str(cause), MAX_SAID)
    return PollError("untrusted", f"{address} port {port} {said}.", HINT_TLS, answered=False)


def _no_connection(error: OSError, address: str, port: int) -> PollError:
    number = error.errno
    reason = (os.strerror(number) if number else str(error)).lower()
    message = f"No connection to {address} port {port}: {reason}."
    if number == errno.ECONNREFUSED:
        return PollError("refused", message, HINT_REFUSED, answered=False)
    if number in (errno.EMFILE, errno.ENFILE):
        return PollError("internal", message, HINT_FILES, answered=False)
    return PollError("unreachable", message, HINT_SILENT, answered=False)


def _url(scheme: str, address: str, entry: NodeEntry) -> URL:
    path, _, query = entry.path.partition("?")
    host = f"[{address}]" if ":" in address else address
    return URL.build(scheme=scheme, authority=f"{host}:{entry.port}", path=path, query_string=query, encoded=True)


async def _read(body: bytes, entry: NodeEntry) -> tuple[Report, bool]:
    """The report in a node's answer, and whether it is in the old program's words. Raises :class:`PollError`."""
    if entry.kind == "gpumon":
        report, is_legacy = read_answer(body)
    else:
        report, is_legacy = await asyncio.to_thread(read_foreign, body, entry), False
    try:
        return unreported(report, entry.token), is_legacy
    except WireError as error:
        raise _unreadable(error, body, entry.kind) from None


def read_foreign(body: bytes, entry: NodeEntry) -> Report:
    """The report in an answer of another program than gpumon. Raises :class:`PollError`."""
    _refuse_html(body)
    try:
        return READERS[entry.kind](body, entry.name)
    except WireError as error:
        raise _unreadable(error, body, entry.kind) from None


def read_answer(body: bytes) -> tuple[Report, bool]:
    """The report in an answer, and whether it is in the old program's words. Raises :class:`PollError`."""
    _refuse_html(body)
    try:
        try:
            return decode_report(body), False
        except WireError:
            shape = decode(_shape, body)
            if shape.node or not shape.node_name:
                raise
            return decode_legacy_report(body), True
    except WireError as error:
        raise _unreadable(error, body, "gpumon") from None


def _refuse_html(body: bytes) -> None:
    if body.lstrip()[:1] == b"<":
        said = "It answered with a web page (HTML), not with numbers."
        raise PollError("bad_answer", said, HINT_PORT, answered=True)


def _unreadable(error: WireError, body: bytes, kind: Kind) -> PollError:
    """What is wrong with an answer; and whose it seems to be, if it is another one's."""
    other = recognised(body)
    hint = None if kind == "gpumon" else HINT_KIND
    if other is not None and other != kind:
        hint = hint_for(other)
    return PollError("bad_answer", f"Its answer cannot be read: {error}.", hint, answered=True)


def hint_for(kind: Kind) -> str:
    """What to do where a node turns out to be of another kind than the configuration says."""
    return f'It looks like {kind}: set nodes[].kind to "{kind}".'
