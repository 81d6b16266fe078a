"""What the reader's child says without waking the agent, and how the agent hears of it.

To be woken for every GPU costs the child more than to read some of the values, and while a pass goes well nobody
waits for a part of it. So only ``ready`` and ``done`` go through the pipe that the agent waits on. What the child is
about to do, and every GPU that it has read, goes through a second pipe. The agent looks into that one when it is
woken, when the child has died, and every :data:`LOOK_SECONDS` of silence: what was said is there, whatever became
of the child.
"""

import contextlib
import fcntl
import os
from functools import lru_cache
from typing import BinaryIO, Final

from gpumon.agent.pipe import MAX_LINE_BYTES, Doing, Done, Read, Ready, Step, line

LOOK_SECONDS: Final = 0.05
ROOM_BYTES: Final = 2**20  # in the pipe; a child that has said more waits until the agent looks


class Answers:
    """The child's end: all on one pipe, until it is told of another one to speak aside on."""

    def __init__(self, pipe: BinaryIO) -> None:
        self._pipe = pipe
        self._aside = pipe
        self._number: int | None = None

    def aside(self, number: int | None) -> None:
        """From now on this descriptor is there to speak aside on."""
        if number is not None and number != self._number:
            self._aside, self._number = os.fdopen(number, "wb", closefd=False), number

    def doing(self, step: Step, index: int | None = None, uuid: str | None = None) -> None:
        """What comes next. It is out before anything else is done."""
        self._aside.write(_announcement(step, index, uuid))
        self._aside.flush()

    def read(self, read: Read) -> None:
        """A GPU. It goes out with what is said next, for that is one write less."""
        self._aside.write(line(read))

    def over(self, message: Ready | Done) -> None:
        """What the agent waits for."""
        self._aside.flush()
        self._pipe.write(line(message))
        self._pipe.flush()


@lru_cache(maxsize=1024)
def _announcement(step: Step, index: int | None, uuid: str | None) -> bytes:
    return line(Doing(step=step, index=index, uuid=uuid))


class Aside:
    """The agent's end."""

    def __init__(self) -> None:
        """Raises OSError."""
        self._end, self.number = os.pipe()
        os.set_blocking(self._end, False)
        with contextlib.suppress(OSError):  # a user who has many pipes has to do with less room
            fcntl.fcntl(self._end, fcntl.F_SETPIPE_SZ, ROOM_BYTES)
        self._rest = b""

    def given(self) -> None:
        """The child has its end, and it alone."""
        os.close(self.number)

    def lines(self) -> list[bytes]:
        """What was said since the last look, as whole lines."""
        try:
            said = os.read(self._end, ROOM_BYTES)
        except BlockingIOError:
            return []
        *lines, self._rest = (self._rest + said).split(b"\n")
        if len(self._rest) > MAX_LINE_BYTES:
            lines.append(self._rest)  # which is nonsense, and need not be waited for to end
        return lines

    def close(self) -> None:
        os.close(self._end)
