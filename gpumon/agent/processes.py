"""Who is behind a process id: name, user, short command, start.

What a process is called is chosen by whoever runs it, and its arguments may hold secrets: of the command
line only the program and the name of its script leave the machine. A wrong name is worse than none, so
whatever is in doubt (the process has gone, the id was given to another one, the id is another container's)
stays null.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import psutil

from gpumon.agent.pipe import plain
from gpumon.model import MAX_PROCESSES, Process, ProcessType
from gpumon.timestamp import rfc3339

NAME_LIMIT = 64
COMMAND_LIMIT = 200
MEMORY_SLACK = 1.05  # of what the GPU has: drivers round
CLOCK_SLACK_SECONDS = 2.0  # the kernel tells the time of its start in whole seconds
INITIAL_PID_NAMESPACE = "pid:[4026531836]"  # the same number on every Linux since 3.8

INTERPRETER = re.compile(r"-?(python|pypy|ruby|perl|node|bash|sh|dash|zsh|julia|Rscript)[0-9.]*")
CODE = re.compile(r"-[A-Za-z]{0,3}([ceEp])|--(eval|print)")  # also -lc: what follows is a program, not its name
WITH_VALUE = frozenset({"-W", "-X", "-r", "-L", "--project", "--require"})


@dataclass(frozen=True, slots=True)
class Description:
    """What ``/proc`` tells of a process. Null where it does not, or where it cannot be trusted."""

    name: str | None = None
    user: str | None = None
    command: str | None = None
    started_at: str | None = None


UNKNOWN = Description()


class ProcessTable:
    """Descriptions by process id, each looked up once in the life of its process.

    ``trusted`` says whether the id that the driver gave is the id that we see; by default every id outside
    containers, and inside one only those of processes that visibly hold a GPU.
    """

    def __init__(self, trusted: Callable[[int], bool] | None = None) -> None:
        self._trusted = trusted or (always if sees_every_process() else holds_a_gpu)
        self._known: dict[int, tuple[psutil.Process, Description]] = {}

    def describe(self, pid: int, listed_at: float) -> Description:
        """The process that had the id ``pid`` when the driver listed it, at ``listed_at`` (since the epoch)."""
        process, description = self._known.get(pid, (None, UNKNOWN))
        if process is not None and process.is_running():  # by id and start: an id that was given away is not it
            return description
        self._known.pop(pid, None)
        try:
            process = psutil.Process(pid)
            if not self._trusted(pid) or process.create_time() > listed_at + CLOCK_SLACK_SECONDS:
                return UNKNOWN
            with process.oneshot():
                description = _describe(process)
            if not process.is_running():
                return UNKNOWN
        except (psutil.Error, OSError, ValueError):
            return UNKNOWN
        self._known[pid] = (process, description)
        return description

    def keep(self, pids: Iterable[int]) -> None:
        """Forget all others."""
        wanted = set(pids)
        self._known = {pid: entry for pid, entry in self._known.items() if pid in wanted}


def _describe(process: psutil.Process) -> Description:
    return Description(
        name=_text(process.name, NAME_LIMIT),
        user=_text(process.username, NAME_LIMIT),
        command=_text(lambda: short_command(process.cmdline(), process.name()), COMMAND_LIMIT),
        started_at=rfc3339(process.create_time()),
    )


def _text(read: Callable[[], str | None], limit: int) -> str | None:
    try:
        text = read()
    except (psutil.Error, OSError, ValueError):
        return None
    return plain(text, limit) if text else None


def short_command(arguments: Sequence[str], name: str) -> str | None:
    """``python -u /home/me/train.py --key secret`` as ``python train.py``; ``name`` is the kernel's word for it.

    A program that is not known to run scripts is told without any argument.
    """
    if not arguments or not arguments[0]:
        return None
    # A process that renames itself may put its whole command line there.
    first = arguments[0] if not any(sign.isspace() for sign in arguments[0]) else (name.split() or [""])[0]
    program = PurePosixPath(first).name
    if not INTERPRETER.fullmatch(program):
        return program or None
    return " ".join([program, *_script(arguments[1:])])


def _script(arguments: Sequence[str]) -> list[str]:
    rest = iter(arguments)
    for argument in rest:
        if argument == "-m":
            return ["-m", PurePosixPath(next(rest, "")).name]
        if code := CODE.fullmatch(argument):
            return [f"-{code[1] or 'e'}"]
        if argument in WITH_VALUE:
            next(rest, None)
        elif not argument.startswith("-"):
            return [PurePosixPath(argument).name]
    return []


Listed = Sequence[tuple[int, int | None]]
"""Process ids and their bytes, as one of the driver's lists has them."""


def merge(lists: Mapping[ProcessType, Listed], total_bytes: int | None) -> list[Process]:
    """The processes on a GPU, most memory first, those of unknown memory last, without names.

    A process in both lists is one process, and both lists mean the same memory. A process cannot use more
    than the GPU has.
    """
    limit = 2**53 if total_bytes is None else total_bytes * MEMORY_SLACK
    found: dict[int, Process] = {}
    for kind, entries in lists.items():
        for pid, memory in entries:
            known = memory if memory is not None and memory <= limit else None
            before = found.get(pid)
            if before is None:
                found[pid] = Process(pid=pid, type=kind, memory_used_bytes=known)
                continue
            figures = [figure for figure in (before.memory_used_bytes, known) if figure is not None]
            found[pid] = Process(
                pid=pid,
                type=kind if before.type == kind else "compute+graphics",
                memory_used_bytes=max(figures, default=None),
            )
    ordered = sorted(
        found.values(), key=lambda one: (one.memory_used_bytes is None, -(one.memory_used_bytes or 0), one.pid)
    )
    return ordered[:MAX_PROCESSES]


def always(pid: int) -> bool:
    """Every id is trusted."""
    return pid > 0


def sees_every_process() -> bool:
    """Whether process ids mean here what they mean to the kernel: we are in no container's own namespace."""
    try:
        return str(Path("/proc/self/ns/pid").readlink()) == INITIAL_PID_NAMESPACE
    except OSError:
        return False


def holds_a_gpu(pid: int) -> bool:
    """Whether the process that we know by this id has one of the driver's devices open, as far as we may look."""
    try:
        return any(str(file.readlink()).startswith("/dev/nvidia") for file in Path(f"/proc/{pid}/fd").iterdir())
    except OSError:
        return False
