"""What can go wrong between the reader and its child, how long it is borne with, and how it is told."""

from dataclasses import dataclass
from typing import Final

from gpumon.agent.pipe import EVERY_SO_OFTEN, Beats, Doing
from gpumon.agent.zeros import SUSPECT_SECONDS
from gpumon.model import Fault

PROCESSES: Final = "processes"
EVENTS: Final = "events"
ELSEWHERE: Final = frozenset({PROCESSES, EVENTS})
"""Suspects that are no GPU: looking up the names of processes, and the driver's stream of Xids."""

MAX_UNDEAD: Final = 3
"""So many children that not even SIGKILL ends are enough: the driver holds them, and will hold the next."""


@dataclass(frozen=True)
class Deadlines:
    """How long to wait for what, in seconds."""

    init: float = 15.0  # of silence; twice as long after each time that it was not enough, up to a minute
    soft: float = 2.0  # of silence, after which read() waits no longer
    hard: float = 10.0  # of silence, after which the child is ended
    close: float = 0.5  # for a child to end by itself
    terminate: float = 2.0  # after SIGTERM, before SIGKILL
    kill: float = 0.5  # after SIGKILL, before it is given up
    first_retry: float = 1.0
    last_retry: float = 60.0
    driver_retry: float = 10.0  # the longest between two attempts while there is no driver
    stable: float = 60.0  # a child that lived so long starts the back-off anew
    quarantine: float = 60.0
    forgive: float = 600.0  # since a suspect's last offence
    doubt: float = SUSPECT_SECONDS  # of a utilisation of 0, though the GPU seems to work
    beats: Beats = EVERY_SO_OFTEN


@dataclass(frozen=True)
class Limits:
    """When a child that works is replaced by a fresh one: drivers' libraries have been seen to grow."""

    resident_bytes: int = 200 * 10**6
    growth_bytes: int = 50 * 10**6  # over what it had after its first passes
    settled_passes: int = 20
    seconds: float = 86_400.0
    least_seconds: float = 300.0  # a fresh child is no better than that


class Age:
    """How a child has grown, and since when."""

    def __init__(self, limits: Limits, now: float) -> None:
        self._limits = limits
        self._born = now
        self._passes = 0
        self._baseline: int | None = None

    def is_over(self, resident: int | None, now: float) -> bool:
        """After a pass: whether it is time for a fresh one."""
        self._passes += 1
        if resident is not None and (self._baseline is None or self._passes <= self._limits.settled_passes):
            self._baseline = resident
        lived = now - self._born
        if lived < self._limits.least_seconds:
            return False
        grown = resident is not None and (
            resident > self._limits.resident_bytes or resident - (self._baseline or 0) > self._limits.growth_bytes
        )
        return grown or lived > self._limits.seconds


@dataclass
class Suspect:
    """A GPU during whose reading a child hung or died, or one of :data:`ELSEWHERE`."""

    fault: Fault
    offences: int
    last: float
    held: bool = True


@dataclass
class Trouble:
    """Why there are no fresh values: what the child did, since when, while doing what."""

    code: str
    text: str
    since: float
    doing: str

    def fault(self, now: float) -> Fault:
        if self.code == "timeout":
            message = f"The driver has not answered for {now - self.since:.0f} s{self.doing}."
        else:
            message = f"The process that reads the GPUs {self.text}{self.doing}."
        return Fault(code=self.code, message=message, hint="See the Xid lines in 'dmesg' and whether nvidia-smi works.")


def where(doing: Doing | None, known: str | None) -> str:
    """What the child was at when it was last heard; ``known`` is the UUID of the GPU in question."""
    match doing:
        case Doing(step="init"):
            return " while starting"
        case Doing(step="list"):
            return " while listing its GPUs"
        case Doing(step="events"):
            return " while being asked for Xids"
        case Doing(step=step, index=int(index), uuid=told):
            uuid = told or known
            what = "reading" if step == "gpu" else "looking up the processes on"
            return f" while {what} GPU {index}{f' ({uuid})' if uuid else ''}"
    return ""
