"""What one address may have of a server, and how long a request may take to come: deadlines and counts.

A connection counts among those of its address until it ends, or until whoever serves it excuses it (an agent that was
welcomed: a fleet may stand behind one router). Loopback is spared the counts, for whoever is on this machine can take
more of it than connections, and a proxy may stand there; the deadlines hold for all.
"""

import asyncio
import ipaddress
import logging
from collections import Counter
from collections.abc import Callable
from http import HTTPStatus

import h11

from gpumon.model import Problem
from gpumon.refusals import Refusals
from gpumon.vitals import Traffic
from gpumon.wire import encode

PROBLEM_TYPE = "application/problem+json"
MAX_CONNECTIONS = 64
MAX_UNFINISHED = 10
MAX_HEAD_BYTES = 16 * 1024
MAX_HEAD_LINES = 100
MAX_BODY_BYTES = 64 * 1024
MAX_BODY_PIECES = 1000
"""Chunks, or what else it comes in: each costs as much as a whole body."""
SILENT_SECONDS = 15.0
"""For the first byte."""
REQUEST_SECONDS = 10.0
"""From the first byte of a request to the last one of its head, and again to the last one of its body."""


def is_spared(address: str) -> bool:
    """Whether connections of ``address`` are not counted."""
    return ipaddress.ip_network(address).is_loopback


def is_loopback(address: str | None) -> bool:
    """Whether this is an address of the machine itself, by which nobody else reaches it."""
    try:
        found = ipaddress.ip_address((address or "").partition("%")[0])
    except ValueError:
        return False
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return (mapped or found).is_loopback


def origin(peer: object) -> str | None:
    """Whom a connection from ``peer`` (as of a socket) counts for: an IPv4 address, a network /64 of IPv6; None for
    nobody.
    """
    if not isinstance(peer, tuple) or not peer:
        return None
    address = ipaddress.ip_address(str(peer[0]).partition("%")[0])
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    if isinstance(address, ipaddress.IPv4Address) or mapped:
        return str(mapped or address)
    return str(ipaddress.ip_network((address, 64), strict=False)) if not address.is_loopback else str(address)


class Visits:
    """Counts the connections of one server by their :func:`origin`, and what is refused. ``is_proxy`` tells which
    addresses speak for others: these are spared as loopback is; ``most_connections`` how many one address may have.
    """

    def __init__(
        self,
        refusals: Refusals,
        is_proxy: Callable[[str], bool] = lambda _: False,
        most_connections: Callable[[], int] = lambda: MAX_CONNECTIONS,
    ) -> None:
        self.refusals = refusals
        self.is_proxy = is_proxy
        self.most_connections = most_connections
        self.connections: Counter[str] = Counter()
        self.unfinished: Counter[str] = Counter()
        self._greeting: Counter[str] = Counter()
        self.traffic = Traffic()

    def spares(self, peer: object) -> bool:
        """Whether a connection from ``peer`` is not counted against its address."""
        address = origin(peer)
        return address is None or is_spared(address) or (isinstance(peer, tuple) and self.is_proxy(peer[0]))

    def greet(self, peer: object) -> bool:
        """A connection from ``peer`` begins its handshake; whether its address may have one more. If so, that holds
        until :meth:`greeted`.
        """
        address = origin(peer)
        if address is None:
            return True
        if self.connections[address] + self._greeting[address] >= self.most_connections() and not self.spares(peer):
            return False
        self._greeting[address] += 1
        return True

    def greeted(self, peer: object) -> None:
        """The handshake has ended, well or not."""
        _less(self._greeting, origin(peer))

    def refused(self, reason: str, address: str | None, words: str, level: int = logging.WARNING) -> None:
        """Count what was refused of ``address``."""
        self.traffic.refused.beat()
        self.refusals.note(reason, address, words, level)


class Visit:
    """One connection: what it counts for, and by when it must have said something.

    ``end`` is called if it does not: with the status of an answer (0: none), the reason and the words.
    """

    __slots__ = ("_deadline", "_end", "_is_counted", "_is_in_body", "_is_unfinished", "_peer", "_visits", "address")

    def __init__(self, visits: Visits, end: Callable[[int, str, str], None]) -> None:
        self.address: str | None = None
        self._peer: object = None
        self._visits = visits
        self._end = end
        self._is_counted = self._is_unfinished = self._is_in_body = False
        self._deadline: asyncio.TimerHandle | None = None

    def begin(self, peer: object) -> bool:
        """It has come from ``peer``; whether the address may have one more."""
        self.address, self._peer = origin(peer), peer
        self._visits.traffic.taken.append(peer)
        self._wait(SILENT_SECONDS, 0, "silent_connection", f"a connection that said nothing for {SILENT_SECONDS:g} s")
        self._is_counted = self._more(self._visits.connections, self._visits.most_connections())
        return self._is_counted

    @property
    def is_spared(self) -> bool:
        """Whether it is not counted against its address."""
        return self._visits.spares(self._peer)

    def request_begun(self, *, in_body: bool) -> bool:
        """A part of a request has come; whether the address may have one more of those. Said as often as it holds."""
        if not self._is_unfinished:
            if not self._more(self._visits.unfinished, MAX_UNFINISHED):
                return False
            self._is_unfinished = True
        elif in_body == self._is_in_body:
            return True
        self._is_in_body = in_body
        words = f"the {'body' if in_body else 'head'} of the request was not complete within {REQUEST_SECONDS:g} s"
        self._wait(REQUEST_SECONDS, 408, "slow_request", words)
        return True

    def request_finished(self) -> None:
        """What has come is complete."""
        self._wait_no_more()
        if self._is_unfinished:
            self._is_unfinished = self._is_in_body = False
            _less(self._visits.unfinished, self.address)

    def excuse(self) -> None:
        """Count it no more."""
        if self._is_counted:
            self._is_counted = False
            _less(self._visits.connections, self.address)

    def answered(self) -> None:
        """A request of it was."""
        self._visits.traffic.answered.beat()

    def end(self) -> None:
        """It is closed."""
        self.request_finished()
        self.excuse()

    def refused(self, reason: str, words: str, level: int = logging.WARNING) -> None:
        """Count what was refused of it."""
        self._visits.refused(reason, self.address, words, level)

    def _more(self, counts: Counter[str], most: int) -> bool:
        """Count one more of its address, if that may have it."""
        if self.address is None:
            return True
        if counts[self.address] >= most and not self.is_spared:
            return False
        counts[self.address] += 1
        return True

    def _wait(self, seconds: float, status: int, reason: str, words: str) -> None:
        self._wait_no_more()
        self._deadline = asyncio.get_running_loop().call_later(seconds, self._end, status, reason, words)

    def _wait_no_more(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


def _less(counts: Counter[str], address: str | None) -> None:
    if address is not None:
        counts[address] -= 1
        if counts[address] <= 0:
            del counts[address]


def refusal(status: int, words: str) -> bytes:
    """A whole answer that says in words what went wrong, and ends the connection."""
    title = HTTPStatus(status).phrase
    body = encode(Problem(title=title, status=status, detail=words))
    retry = b"Retry-After: 10\r\n" if status == HTTPStatus.TOO_MANY_REQUESTS else b""
    head = f"HTTP/1.1 {status} {title}\r\nContent-Type: {PROBLEM_TYPE}\r\nContent-Length: {len(body)}\r\n".encode()
    return (
        head + retry + b"Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n" + body
    )


class BoundedRequests(h11.Connection):
    """Reads requests whose heads and bodies are bounded, and that mean one thing only.

    What breaks the rules raises :class:`h11.RemoteProtocolError`; :attr:`fault` is then the status and the words.
    """

    def __init__(self) -> None:
        super().__init__(h11.SERVER, MAX_HEAD_BYTES)
        self.fault = 400, "this is no HTTP request"
        self.is_in_body = False
        self._body_bytes = self._body_pieces = 0

    def next_event(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        try:
            event = super().next_event()
            if isinstance(event, h11.Request):
                self._body_bytes = self._body_pieces = 0
                self.is_in_body = True
                _check_head(event)
            elif isinstance(event, h11.Data):
                self._body_bytes += len(event.data)
                self._body_pieces += 1
                _check_body(self._body_bytes, self._body_pieces)
            elif isinstance(event, h11.EndOfMessage):
                self.is_in_body = False
        except h11.RemoteProtocolError as error:
            status = error.error_status_hint
            words = {431: f"a head of more than {MAX_HEAD_BYTES} bytes"}.get(status, str(error))
            self.fault = status, words
            raise
        return event

    @property
    def has_part_of_request(self) -> bool:
        """Whether something of a request has come, and not all of it."""
        return self.is_in_body or (self.their_state is h11.IDLE and bool(self.trailing_data[0]))


def _check_head(request: h11.Request) -> None:
    if request.http_version not in (b"1.0", b"1.1"):
        raise h11.RemoteProtocolError("another version of HTTP; allowed: 1.0 and 1.1", 505)
    # h11 bounds what waits for its end, not a head that comes as a whole.
    names = [name for name, _ in request.headers]
    size = len(request.target) + sum(len(name) + len(value) for name, value in request.headers)
    if size > MAX_HEAD_BYTES or len(names) > MAX_HEAD_LINES:
        allowed = f"at most {MAX_HEAD_BYTES} bytes and {MAX_HEAD_LINES} lines"
        raise h11.RemoteProtocolError(f"a head of {size} bytes in {len(names)} lines; allowed: {allowed}", 431)
    lengths = [value for name, value in request.headers if name == b"content-length"]
    if lengths and b"transfer-encoding" in names:
        raise h11.RemoteProtocolError("both Content-Length and Transfer-Encoding; allowed: one of them", 400)
    if lengths:
        _check_body(int(lengths[0]))


def _check_body(size: int, pieces: int = 0) -> None:
    if size > MAX_BODY_BYTES:
        raise h11.RemoteProtocolError(f"a body of {size} bytes or more; allowed: at most {MAX_BODY_BYTES}", 413)
    if pieces > MAX_BODY_PIECES:
        raise h11.RemoteProtocolError(f"a body in {pieces} pieces or more; allowed: at most {MAX_BODY_PIECES}", 413)
