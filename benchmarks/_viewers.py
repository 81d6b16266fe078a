"""Viewers that read as fast as they can and look at nothing, or at everything."""

import asyncio
import time
import zlib
from collections.abc import Callable
from typing import Any, TypeVar

from benchmarks._agents import PING, PONG, TEXT, frame, frames, upgrade
from benchmarks._processes import HOST

NAME, SEQUENCE = b'{"name":"node-', b'"sequence":'


class Viewer(asyncio.Protocol):
    """Reads a stream; counts bytes."""

    def __init__(self, request: bytes) -> None:
        self.received = 0
        self.lost = False
        self.transport: asyncio.Transport
        self._request = request

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self.received += len(data)

    def say_here(self) -> None:
        """On a WebSocket: that it is there, for it reads no pings (RFC 6455 section 5.5.3 allows a pong unasked)."""
        if b"Upgrade: websocket" in self._request:
            self.transport.write(frame(b"", PONG))

    def connection_lost(self, error: Exception | None) -> None:
        del error
        self.lost = True


class Listener(Viewer):
    """Keeps what it reads, with the moment of its arrival; :meth:`hear` looks at it later, for looking takes time.

    ``told`` gets each message: its kind, its data, when it came.
    """

    def __init__(self, request: bytes, told: Callable[[bytes, bytes, float], None]) -> None:
        super().__init__(request)
        self._told = told
        self._raw = bytearray()
        self._headed = False
        self._pieces: list[tuple[float, bytes]] = []

    def data_received(self, data: bytes) -> None:
        self._pieces.append((time.time(), data))
        self.received += len(data)

    def hear(self) -> None:
        """Look at what has come."""
        pieces, self._pieces = self._pieces, []
        for now, data in pieces:
            self._raw += data
            if not self._headed:
                head, found, rest = bytes(self._raw).partition(b"\r\n\r\n")
                if not found:
                    continue
                self._headed, self._raw = True, bytearray(rest)
                self._begin(head)
            self._look(now)

    def _begin(self, head: bytes) -> None:
        """Look at the response's head."""

    def _look(self, now: float) -> None:
        """Take whole messages off :attr:`_raw`."""


class EventReader(Listener):
    """Of ``/api/events``."""

    def __init__(self, request: bytes, told: Callable[[bytes, bytes, float], None]) -> None:
        super().__init__(request, told)
        self._text = bytearray()
        self._inflate: Any = None

    def _begin(self, head: bytes) -> None:
        if b"content-encoding: gzip" in head.lower():
            self._inflate = zlib.decompressobj(31)

    def _look(self, now: float) -> None:
        self._unchunk()
        while (end := self._text.find(b"\n\n")) >= 0:
            event = bytes(self._text[:end])
            del self._text[: end + 2]
            fields = dict(line.partition(b": ")[::2] for line in event.split(b"\n"))
            if b"data" in fields:
                self._told(fields[b"event"], fields[b"data"], now)

    def _unchunk(self) -> None:
        """Take whole chunks (RFC 9112 section 7.1)."""
        while (end := self._raw.find(b"\r\n")) >= 0:
            size = int(self._raw[:end], 16)
            if len(self._raw) < end + 2 + size + 2:
                return
            chunk = bytes(self._raw[end + 2 : end + 2 + size])
            del self._raw[: end + 2 + size + 2]
            self._text += self._inflate.decompress(chunk) if self._inflate else chunk


class StreamReader(Listener):
    """Of ``/api/stream``."""

    def __init__(self, told: Callable[[bytes, bytes, float], None], query: str = "") -> None:
        super().__init__(upgrade(f"/api/stream{query}"), told)

    def _look(self, now: float) -> None:
        for opcode, payload in frames(self._raw):
            if opcode == PING:
                self.transport.write(frame(payload, PONG))
            elif opcode == TEXT:
                kind = b"snapshot" if payload.startswith(b'{"type":"snapshot"') else b"nodes"
                self._told(kind, payload, now)


def events_request(query: str = "", gzip: bool = False) -> bytes:
    """The request for ``/api/events``, as a browser asks (``gzip``) or a plain program."""
    accept = "Accept-Encoding: gzip, deflate\r\n" if gzip else ""
    return f"GET /api/events{query} HTTP/1.1\r\nHost: {HOST}\r\n{accept}\r\n".encode()


V = TypeVar("V", bound=Viewer)


async def join(port: int, make: Callable[[], V]) -> V:
    """A viewer on ``port``."""
    _, viewer = await asyncio.get_running_loop().create_connection(make, HOST, port)
    return viewer


def glances(data: bytes) -> list[str]:
    """Of a message of the view at a glance: the names of the nodes that have new numbers."""
    start = data.index(b'"names":[') + len(b'"names":[')
    names = data[start : data.index(b"]", start)].decode()
    return [name.strip('"') for name in names.split(",") if name]


def updates(data: bytes) -> list[tuple[str, int]]:
    """Of a message: each node's name with the sequence of its report. Looked for, not parsed: it must cost little."""
    found = []
    at = data.find(NAME)
    while at >= 0:
        start = at + len(NAME) - len(b"node-")
        name = data[start : data.index(b'"', start)].decode()
        at = data.find(SEQUENCE, at) + len(SEQUENCE)
        found.append((name, int(data[at : data.index(b",", at)])))
        at = data.find(NAME, at)
    return found
