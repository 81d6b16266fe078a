"""A TCP proxy that harms what goes through it, on request: the network between an agent and its hub."""

import asyncio
import contextlib
import random
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

CHUNK_BYTES = 65536


@dataclass
class Weather:
    """What happens to bytes on their way in one direction.

    ``delay_seconds`` with ``jitter_seconds`` more or less, never reordered; ``lost`` swallows everything from
    now on, as a cut cable does; ``bytes_per_second`` lets them trickle.
    """

    delay_seconds: float = 0.0
    jitter_seconds: float = 0.0
    lost: bool = False
    bytes_per_second: float | None = None


@dataclass(eq=False)
class _Pair:
    """One connection: the peer that came, and the target that it was led to."""

    near: asyncio.StreamWriter
    far: asyncio.StreamWriter | None = None


@dataclass
class BadLink:
    """Leads every connection on to ``target`` (a port of this machine). ``up``: from who connects to the target."""

    target: int
    up: Weather = field(default_factory=Weather)
    down: Weather = field(default_factory=Weather)
    silent: bool = False  # connections are taken, and nothing follows: a port whose program hangs
    accepted: int = 0
    port: int = 0
    _pairs: set[_Pair] = field(default_factory=set)
    _server: asyncio.Server | None = None
    _tasks: set["asyncio.Task[None]"] = field(default_factory=set)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def open(self) -> None:
        """Listen, on the same port as before if there was one."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port, start_serving=True)
        self.port = self._server.sockets[0].getsockname()[1]

    async def refuse(self) -> None:
        """Take no more connections; those that there are go on."""
        if self._server is not None:
            self._server.close()
            self._server = None

    def lose(self) -> None:
        """Swallow everything in both directions; the connections stay up, as through a firewall that drops."""
        self.up.lost = self.down.lost = True

    def mend(self) -> None:
        """Fair weather for what comes. What was swallowed is gone, and so are the connections that lost it."""
        self.up, self.down, self.silent = Weather(), Weather(), False

    def reset(self) -> None:
        """End every connection by RST, on both sides."""
        for pair in self._pairs:
            for writer in (pair.near, pair.far):
                if writer is not None:
                    _abort(writer)

    def half_close(self) -> None:
        """Tell the target that the other side has no more to say, while that goes on talking."""
        for pair in self._pairs:
            if pair.far is not None and pair.far.can_write_eof():
                pair.far.write_eof()

    async def close(self) -> None:
        await self.refuse()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        task = asyncio.ensure_future(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda _: writer.close())  # also of one that is ended before it began

    async def _serve(self, reader: asyncio.StreamReader, near: asyncio.StreamWriter) -> None:
        pair = _Pair(near)
        self._pairs.add(pair)
        try:
            if self.silent:
                await reader.read(-1)
                return
            try:
                from_far, pair.far = await asyncio.open_connection("127.0.0.1", self.target)
            except OSError:
                return
            await asyncio.gather(
                self._carry(reader, pair.far, upwards=True),
                self._carry(from_far, near, upwards=False),
            )
        except OSError:
            pass  # one side has ended the connection
        finally:
            self._pairs.discard(pair)
            if pair.far is not None:
                pair.far.close()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, upwards: bool) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time()
        lost = False
        while data := await reader.read(CHUNK_BYTES):
            weather = self.up if upwards else self.down
            lost = lost or weather.lost  # a stream that has a hole never goes on
            if lost:
                continue
            spread = random.uniform(-weather.jitter_seconds, weather.jitter_seconds)
            due = max(due, loop.time() + max(0.0, weather.delay_seconds + spread))
            if weather.bytes_per_second is None:
                await asyncio.sleep(max(0.0, due - loop.time()))
                writer.write(data)
                await writer.drain()
                continue
            for byte in data:
                writer.write(bytes([byte]))
                await writer.drain()
                await asyncio.sleep(1 / weather.bytes_per_second)
        if not lost and writer.can_write_eof():
            writer.write_eof()


def _abort(writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        no_lingering = struct.pack("ii", 1, 0)
        raw = writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, no_lingering)
    writer.transport.abort()


@asynccontextmanager
async def bad_link(target: int) -> AsyncIterator[BadLink]:
    """A proxy to the port ``target``, in fair weather until told otherwise."""
    link = BadLink(target)
    await link.open()
    try:
        yield link
    finally:
        await link.close()
