"""A terminal for a program: a pseudo-terminal, and what an emulator (pyte) makes of what is written to it."""

import asyncio
import contextlib
import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pyte

from tests.running import until_true

ROOT = Path(__file__).parent.parent.parent
ALTERNATE, BACK, CURSOR = b"\x1b[?1049h", b"\x1b[?1049l", b"\x1b[?25h"
TAKE_TERMINAL = (
    "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
)
"""A program is told of the window's size where the terminal is its own. Between fork and exec nothing of Python may
run, for the tests have threads.
"""


class Terminal:
    """What a person sees, and what they press."""

    def __init__(self, command: tuple[str, ...], environment: dict[str, str], columns: int, lines: int) -> None:
        self._master, self._slave = pty.openpty()
        self._screen = pyte.Screen(columns, lines)
        self._stream = pyte.ByteStream(self._screen)
        self._resize(columns, lines)
        self.written = b""
        self.before = termios.tcgetattr(self._slave)
        clean = {key: value for key, value in os.environ.items() if not key.startswith(("GPUMON_", "LC_", "NO_COLOR"))}
        terminal = {"TERM": "xterm-256color", "LANG": "C.UTF-8", "PYTHONPATH": str(ROOT)}
        self.process = subprocess.Popen(
            [sys.executable, "-ISc", TAKE_TERMINAL, sys.executable, *command],
            stdin=self._slave,
            stdout=self._slave,
            stderr=self._slave,
            env=clean | terminal | environment,
            start_new_session=True,
        )

    def begin(self) -> None:
        os.set_blocking(self._master, False)
        asyncio.get_running_loop().add_reader(self._master, self._read)

    def end(self) -> None:
        asyncio.get_running_loop().remove_reader(self._master)
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._master)
        os.close(self._slave)

    def press(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    def resize(self, columns: int, lines: int) -> None:
        self._screen.resize(lines, columns)
        self._screen.reset()
        self._resize(columns, lines)

    @property
    def text(self) -> str:
        return "\n".join(line.rstrip() for line in self._screen.display)

    async def shows(self, *texts: str) -> str:
        """The screen, as soon as it shows all of these."""
        with contextlib.suppress(AssertionError):
            await until_true(lambda: all(text in self.text for text in texts))
        assert all(text in self.text for text in texts), f"not all of {texts} in:\n{self.text}"
        return self.text

    async def when(self, condition: Callable[[str], object]) -> str:
        """The screen, as soon as the condition holds of it."""
        with contextlib.suppress(AssertionError):
            await until_true(lambda: condition(self.text))
        assert condition(self.text), self.text
        return self.text

    async def status(self) -> int:
        """The exit status; the terminal is as it was."""
        await until_true(lambda: self.process.poll() is not None)
        await until_true(lambda: ALTERNATE not in self.written or BACK in self.written)
        if ALTERNATE in self.written:
            assert self.written.rindex(BACK) > self.written.rindex(ALTERNATE)
            assert CURSOR in self.written[self.written.rindex(ALTERNATE) :]
        assert termios.tcgetattr(self._slave) == self.before
        return self.process.returncode

    def _resize(self, columns: int, lines: int) -> None:
        fcntl.ioctl(self._slave, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def _read(self) -> None:
        with contextlib.suppress(BlockingIOError):
            data = os.read(self._master, 65536)
            self.written += data
            self._stream.feed(data)


@asynccontextmanager
async def terminal(*arguments: str, columns: int = 80, lines: int = 24, **environment: str) -> AsyncIterator[Terminal]:
    """For ``gpumon`` with these arguments."""
    async with terminal_of("-m", "gpumon", *arguments, columns=columns, lines=lines, **environment) as one:
        yield one


@asynccontextmanager
async def terminal_of(*command: str, columns: int = 80, lines: int = 24, **environment: str) -> AsyncIterator[Terminal]:
    """For Python with these arguments."""
    one = Terminal(command, environment, columns, lines)
    one.begin()
    try:
        yield one
    finally:
        one.end()
