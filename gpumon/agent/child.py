"""The reader's child as the agent sees it: a process, and the lines to and from it, with a deadline for each."""

import asyncio
import contextlib
import os
import signal
import sys
from collections import deque
from pathlib import Path
from typing import Self

import msgspec
from msgspec.structs import replace

from gpumon.agent.aside import LOOK_SECONDS, Aside
from gpumon.agent.pipe import MAX_LINE_BYTES, FromChild, Pass, Start, from_child, line


def _folders() -> list[str]:
    return [str(Path(entry).absolute()) for entry in sys.path]


class ChildError(Exception):
    """The child cannot be talked to any longer. ``code`` says in one word why."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


class _Ends(asyncio.SubprocessProtocol):
    """What the event loop tells of a child."""

    def __init__(self) -> None:
        self.lines = asyncio.StreamReader(limit=MAX_LINE_BYTES)
        self.ended = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        pipe = transport.get_pipe_transport(1) if isinstance(transport, asyncio.SubprocessTransport) else None
        if pipe is not None:
            self.lines.set_transport(pipe)  # which it stops reading when nobody takes the lines

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        del fd
        self.lines.feed_data(data)

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        del exc
        if fd == 1:
            self.lines.feed_eof()

    def process_exited(self) -> None:
        self.ended.set()


class Child:
    """A child process, and the lines to and from it."""

    # Not asyncio.subprocess.Process: that cannot let go of a child that never ends, or of what it has still to say.

    def __init__(self, transport: asyncio.SubprocessTransport, ends: _Ends, aside: Aside) -> None:
        self._transport = transport
        self._ends = ends
        self._aside = aside
        self._heard: deque[bytes] = deque()

    @classmethod
    async def start(cls, start: Start) -> Self:
        """A fresh child, told how to begin. Raises OSError."""
        aside = Aside()
        try:
            transport, ends = await asyncio.get_running_loop().subprocess_exec(
                _Ends,
                sys.executable,
                "-P",  # nothing is imported from the folder where the agent happens to run...
                "-m",
                "gpumon.agent.nvml",
                env={**os.environ, "PYTHONPATH": os.pathsep.join(_folders())},  # ...but what the agent itself imports
                stderr=None,
                start_new_session=True,  # the terminal's signals are the agent's to answer
                pass_fds=(aside.number,),
            )
        except BaseException:
            aside.close()
            raise
        finally:
            aside.given()
        child = cls(transport, ends, aside)
        child.say(replace(start, aside=aside.number))
        return child

    @property
    def ended(self) -> bool:
        return self._ends.ended.is_set()

    def say(self, request: Start | Pass) -> None:
        pipe = self._transport.get_pipe_transport(0)
        if isinstance(pipe, asyncio.WriteTransport):
            pipe.write(line(request))

    async def hear(self, silence: float) -> FromChild:
        """The next message. Raises :class:`ChildError` after so many seconds of ``silence``, or at nonsense."""
        clock = asyncio.get_running_loop().time
        end = clock() + silence
        while not self._heard:
            fault: ChildError | None = None
            try:
                async with asyncio.timeout_at(min(end, clock() + LOOK_SECONDS)):
                    woken = [await self._ends.lines.readuntil(b"\n")]
            except TimeoutError:
                woken = []
                fault = ChildError("timeout", "does not answer") if clock() >= end else None
            except asyncio.IncompleteReadError:
                woken, fault = [], ChildError("crash", "has died")
            except asyncio.LimitOverrunError:
                woken, fault = [], ChildError("protocol", "talks nonsense")
            self._heard.extend(self._aside.lines() + woken)  # in this order: it is what was said before
            if fault is not None and not self._heard:
                raise fault
        try:
            return from_child.decode(self._heard.popleft())
        except (msgspec.DecodeError, UnicodeError):
            raise ChildError("protocol", "talks nonsense") from None

    async def end(self, *, close: float, terminate: float, kill: float) -> None:
        """End it, with as little force as it takes; give up where none is enough. Bounded in any case."""
        pipe = self._transport.get_pipe_transport(0)
        if pipe is not None:
            pipe.close()
        try:
            if not await self._ends_within(close):
                self._send(signal.SIGTERM)
                await self._ends_within(terminate)
        finally:
            if not self.ended:
                self._send(signal.SIGKILL)
                await self._ends_within(kill)
            self._transport.close()
            self._aside.close()

    async def _ends_within(self, seconds: float) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._ends.ended.wait()
        return self.ended

    def _send(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):  # it ended this moment
            self._transport.send_signal(number)
