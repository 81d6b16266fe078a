"""Agents that cost next to nothing, so that one process can be a thousand of them: a report is a few slices of bytes
around a sequence and a time. What they say is what a real agent says of simulated GPUs.
"""

import asyncio
import base64
import json
import os
import ssl
import struct
import time
from collections.abc import Sequence
from functools import partial

from benchmarks._processes import HOST
from gpumon import wire
from gpumon.agent.sampler import Sampler
from gpumon.agent.scenario import Scenario
from gpumon.agent.simulate import SimulatedReader
from gpumon.timestamp import rfc3339

OPEN = (
    "GET {path} HTTP/1.1\r\nHost: " + HOST + "\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n{more}\r\n"
)
TEXT, CLOSE, PING, PONG = 1, 8, 9, 10
ADMITTED_A_SECOND = 80
NO_MASK = b"\0\0\0\0"  # a key of zeros, which is allowed, spares this side the masking and the server nothing


def upgrade(path: str, more: str = "") -> bytes:
    """The request that opens a WebSocket."""
    return OPEN.format(path=path, key=base64.b64encode(os.urandom(16)).decode(), more=more).encode()


def frame(payload: bytes, opcode: int = TEXT) -> bytes:
    """A WebSocket frame from a client (RFC 6455 section 5.2)."""
    size = len(payload)
    if size < 126:
        head = struct.pack("!BB", 0x80 | opcode, 0x80 | size)
    elif size < 65536:
        head = struct.pack("!BBH", 0x80 | opcode, 0x80 | 126, size)
    else:
        head = struct.pack("!BBQ", 0x80 | opcode, 0x80 | 127, size)
    return head + NO_MASK + payload


def frames(buffer: bytearray) -> list[tuple[int, bytes]]:
    """The whole frames of a server at the start of ``buffer``, which loses them."""
    found: list[tuple[int, bytes]] = []
    start = 0
    while len(buffer) - start >= 2:
        opcode, size, head = buffer[start] & 15, buffer[start + 1] & 127, 2
        if size > 125:
            head = 4 if size == 126 else 10
            if len(buffer) - start < head:
                break
            size = int.from_bytes(buffer[start + 2 : start + head], "big")
        if len(buffer) - start < head + size:
            break
        found.append((opcode, bytes(buffer[start + head : start + head + size])))
        start += head + size
    del buffer[:start]
    return found


class Words:
    """What one node reports, with its number and its time still to be put in."""

    def __init__(self, node: str, scenario: str, seed: int = 0) -> None:
        reader = SimulatedReader(Scenario.parse(scenario), seed)
        sampler = Sampler(reader, node, 1.0)
        sample = asyncio.run(reader.read())
        report = wire.encode(sampler._report(0, sample, 0.0))
        whole = wire.report_frame(report)
        self.node = node
        self.boot_id = sampler.boot_id
        self._head, rest = whole.split(b'"sequence":0,"sampled_at":"', 1)
        self._tail = rest[rest.index(b'"') :]
        self.size = len(whole)

    def report(self, sequence: int) -> bytes:
        """The message with report ``sequence``, read now."""
        now = rfc3339(time.time()).encode()
        return b'%b"sequence":%d,"sampled_at":"%b%b' % (self._head, sequence, now, self._tail)


class Agent(asyncio.Protocol):
    """The connection of one agent. ``acknowledged`` is the last sequence that the hub has taken."""

    def __init__(self, words: Words) -> None:
        self.node = words.node
        self.words = words
        self.sequence = 0
        self.acknowledged = 0
        self.lost = False
        self.welcome: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.transport: asyncio.Transport
        self._received = bytearray()
        self._open = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.write(upgrade("/api/push", f"Sec-WebSocket-Protocol: {wire.SUBPROTOCOL}\r\n"))

    def data_received(self, data: bytes) -> None:
        self._received += data
        if not self._open:
            head, found, rest = bytes(self._received).partition(b"\r\n\r\n")
            if not found:
                return
            if b" 101 " not in head.partition(b"\r\n")[0]:
                raise SystemExit(f"the hub refused {self.node}: {head!r} {rest!r}")
            self._open, self._received = True, bytearray(rest)
            self._say_hello()
        for opcode, payload in frames(self._received):
            if opcode == PING:
                self.transport.write(frame(payload, PONG))
            elif opcode == TEXT:
                message = json.loads(payload)
                if message["type"] == "welcome":
                    self.sequence = self.acknowledged = message["last_sequence"]
                    self.welcome.set_result(None)
                elif message["type"] == "ack":
                    self.acknowledged = message["sequence"]

    def connection_lost(self, error: Exception | None) -> None:
        self.lost = True
        if not self.welcome.done():
            self.welcome.set_exception(ConnectionError(f"the hub closed before it welcomed {self.node}: {error}"))

    def report(self) -> None:
        """Push the next report."""
        self.sequence += 1
        self.transport.write(frame(self.words.report(self.sequence)))

    def _say_hello(self) -> None:
        hello = wire.Hello(
            agent_version="0",
            node=self.node,
            hostname=self.node,
            boot_id=self.words.boot_id,
            agent_id=f"id-{self.node}",
            machine_id=f"machine-{self.node}",
            interval_seconds=1.0,
            simulated=True,
        )
        self.transport.write(frame(wire.encode(hello)))


def words_of(count: int, scenario: str) -> list[Words]:
    """What ``count`` nodes say; to be called before an event loop runs."""
    return [Words(f"node-{number:04d}", scenario, seed=number) for number in range(count)]


async def agents(port: int, words: Sequence[Words], tls: ssl.SSLContext | None = None) -> list[Agent]:
    """An agent for each of ``words``, welcomed by the hub on ``port``, by ``tls`` if given: no faster than a hub admits
    them.
    """
    loop = asyncio.get_running_loop()
    found: list[Agent] = []
    for one in words:
        _, agent = await loop.create_connection(partial(Agent, one), HOST, port, ssl=tls)
        found.append(agent)
        await asyncio.sleep(1 / ADMITTED_A_SECOND)
    await asyncio.wait_for(asyncio.gather(*(each.welcome for each in found)), 30)
    return found


async def paced(send: Sequence[object], rate: float, seconds: float, turn: int = 0) -> tuple[int, float]:
    """Call each of ``send`` in turn, ``rate`` times a second in all. How many calls, and how late the last was."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    count, total = 0, round(rate * seconds)
    while count < total:
        due = min(total, int((loop.time() - began) * rate) + 1)
        while count < due:
            send[(turn + count) % len(send)]()  # type: ignore[operator]
            count += 1
        await asyncio.sleep(max(0.0, began + count / rate - loop.time()))
    return count, loop.time() - began - seconds
