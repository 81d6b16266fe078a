"""The reader's child as the agent sees it: a process, and the lines to and from it, with a deadline for each."""

import asyncio
import contextlib
import os
import signal
import sys
from typing import Self

import msgspec

from gpumon.agent.pipe import MAX_LINE_BYTES, FromChild, Pass, from_child, line


class ChildError(Exception):
    """The child cannot be talked to any longer. ``code`` says in one word why."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


class Child:
    """A child process, and the lines to and from it."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    async def start(cls) -> Self:
        """A fresh child. Raises OSError."""
        return cls(
            await asyncio.create_subprocess_exec(
                sys.executable,
                "-P",  # nothing is imported from the folder where the agent happens to run...
                "-m",
                "gpumon.agent.nvml",
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},  # ...but what it imports
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                limit=MAX_LINE_BYTES,
                start_new_session=True,  # the terminal's signals are the agent's to answer
            )
        )

    @property
    def ended(self) -> bool:
        return self._process.returncode is not None

    def say(self, request: Pass) -> None:
        if self._process.stdin is not None:
            self._process.stdin.write(line(request))

    async def hear(self, silence: float) -> FromChild:
        """The next message. Raises :class:`ChildError` after so many seconds of ``silence``, or at nonsense."""
        assert self._process.stdout is not None
        try:
            async with asyncio.timeout(silence):
                return from_child.decode(await self._process.stdout.readuntil(b"\n"))
        except TimeoutError:
            raise ChildError("timeout", "does not answer") from None
        except (asyncio.IncompleteReadError, ConnectionError):
            raise ChildError("crash", "has died") from None
        except (asyncio.LimitOverrunError, msgspec.DecodeError, UnicodeError):
            raise ChildError("protocol", "talks nonsense") from None

    async def end(self, *, close: float, terminate: float, kill: float) -> None:
        """End it, with as little force as it takes; give up where none is enough. Bounded in any case."""
        process = self._process
        if process.stdin is not None:
            process.stdin.close()
        try:
            for number, patience in ((None, close), (signal.SIGTERM, terminate)):
                if number is not None and not self.ended:
                    with contextlib.suppress(ProcessLookupError):
                        process.send_signal(number)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(patience):
                        await process.wait()
                    break
        finally:
            if not self.ended:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(kill):
                        await process.wait()
