"""Who is behind a process id: name, user, short command, start, container, job.

What a process is called is chosen by whoever runs it, and its arguments may hold secrets: of the command line
only the program and the name of its script leave the machine (:mod:`gpumon.command`). A wrong name is
worse than none, so whatever is in doubt (the process has gone, the id was given to another one, the id is
another container's) stays null.

Of ``/proc/PID`` are read ``stat``, ``status``, ``cmdline`` and ``cgroup``. ``environ`` is read only where the
cgroup tells of no job and the system lets us; of it only the ids under :data:`JOB_VARIABLES` are looked for,
each believed only if it is wholly of the scheduler's form, and nothing else is kept.
"""

import os
import pwd
import re
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from gpumon.agent.cgroup import TEXT_LIMIT, place
from gpumon.agent.machine import INITIAL_PID_NAMESPACE
from gpumon.agent.pipe import plain
from gpumon.command import LIMIT_BYTES, redacted, short_command
from gpumon.model import MAX_PROCESSES, Process, ProcessType
from gpumon.timestamp import rfc3339

PROC = Path("/proc")
NAME_LIMIT = 64
COMMAND_LIMIT = 200
STATUS_LIMIT = 64 * 1024
ENVIRONMENT_LIMIT = 256 * 1024
KERNEL_NAME_BYTES = 15  # longer names are cut off there
MEMORY_SLACK = 1.05  # of what the GPU has: drivers round
CLOCK_SLACK_SECONDS = 0.1  # between two clocks, one of which may be being set right
USER_NAMES_SECONDS = 600.0  # for which a user's name is believed
MAX_USER_NAMES = 4096
NOBODY = 65534  # also what a user looks like who has no number in a container's own user namespace
EVERY_USER = ["0", "0", "4294967295"]

JOB_VARIABLES = (
    ("SLURM_JOB_ID", "slurm", re.compile(rb"[0-9]{1,12}")),
    ("PBS_JOBID", "pbs", re.compile(rb"[0-9]{1,12}(\[[0-9]{0,8}\])?(\.[A-Za-z0-9.-]{1,64})?")),
    ("LSB_JOBID", "lsf", re.compile(rb"[0-9]{1,12}")),
    ("JOB_ID", "job", re.compile(rb"[0-9]{1,12}")),  # Grid Engine's, but the name is anybody's
)


@dataclass(frozen=True, slots=True)
class Description:
    """What ``/proc`` tells of a process. Null where it does not, or where it cannot be trusted."""

    name: str | None = None
    user: str | None = None
    command: str | None = None
    started_at: str | None = None
    container: str | None = None
    job: str | None = None


UNKNOWN = Description()


class Identity(NamedTuple):
    """Which process it is: ids are given away again, but not with the same start (in ticks since boot).

    The kernel's name for it changes when it becomes another program or gives itself a title.
    """

    started: int
    name: bytes


class ProcessTable:
    """Descriptions by process id, each looked up once in the life of its process and its name.

    ``trusted`` says whether the id that the driver gave is the id that we see; by default every id outside
    containers, and inside one only those of processes that visibly hold a GPU.
    """

    def __init__(self, trusted: Callable[[int], bool] | None = None, proc: Path = PROC) -> None:
        self._trusted = trusted or (always if sees_every_process() else holds_a_gpu)
        self._proc = str(proc)
        self._ticks = os.sysconf("SC_CLK_TCK")
        self._known: dict[int, tuple[Identity, Description]] = {}
        self._users: dict[int, tuple[float, str | None]] = {}

    def describe(self, pid: int, listed_at: float) -> Description:
        """The process that had the id ``pid`` when the driver listed it, at ``listed_at`` (since the epoch)."""
        try:
            identity = self._identity(pid)
            known = self._known.get(pid)
            if known is not None and known[0] == identity:
                return known[1]
            self._known.pop(pid, None)
            began = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) + identity.started / self._ticks
            if began > listed_at + CLOCK_SLACK_SECONDS or not self._trusted(pid):
                return UNKNOWN
            description = self._describe(pid, identity, began)
            if self._identity(pid) != identity:  # so some of it may be another one's
                return UNKNOWN
        except (OSError, ValueError, IndexError):
            self._known.pop(pid, None)
            return UNKNOWN
        if description.command is not None:  # a program that is just being started has none yet
            self._known[pid] = (identity, description)
        return description

    def keep(self, pids: Iterable[int]) -> None:
        """Forget all others."""
        wanted = set(pids)
        self._known = {pid: entry for pid, entry in self._known.items() if pid in wanted}

    # ---- /proc ----

    def _read(self, pid: int, name: str, limit: int) -> bytes:
        """The first bytes of a file of a process, in one go. Raises OSError."""
        file = os.open(f"{self._proc}/{pid}/{name}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            return os.read(file, limit)
        finally:
            os.close(file)

    def _read_or_nothing(self, pid: int, name: str, limit: int) -> bytes:
        try:
            return self._read(pid, name, limit)
        except OSError:
            return b""

    def _identity(self, pid: int) -> Identity:
        """Raises OSError where there is no such process."""
        stat = self._read(pid, "stat", LIMIT_BYTES)
        end = stat.rindex(b")")  # a name may hold any sign
        return Identity(int(stat[end + 2 :].split(None, 20)[19]), stat[stat.index(b"(") + 1 : end])

    def _describe(self, pid: int, identity: Identity, began: float) -> Description:
        line = self._read_or_nothing(pid, "cmdline", LIMIT_BYTES + 1)
        name = identity.name.decode(errors="replace")
        where = place(self._read_or_nothing(pid, "cgroup", TEXT_LIMIT).decode(errors="replace"))
        return Description(
            name=_shown(redacted(_whole_name(identity.name, line)), NAME_LIMIT),
            user=self._user(pid),
            command=_shown(short_command(line, name), COMMAND_LIMIT),
            started_at=rfc3339(began),
            container=where.container,
            job=where.job or job_of(self._read_or_nothing(pid, "environ", ENVIRONMENT_LIMIT)),
        )

    # ---- users ----

    def _user(self, pid: int) -> str | None:
        """The name of the real user; the number where it has no name here."""
        status = self._read_or_nothing(pid, "status", STATUS_LIMIT)
        found = re.search(rb"^Uid:\s+([0-9]+)", status, re.MULTILINE)
        if found is None:
            return None
        uid, now = int(found[1]), time.monotonic()
        asked_at, name = self._users.get(uid, (-USER_NAMES_SECONDS, None))
        if now - asked_at >= USER_NAMES_SECONDS:
            name = self._name_of(uid)
            if len(self._users) >= MAX_USER_NAMES:
                self._users.clear()
            self._users[uid] = (now, name)
        return name

    def _name_of(self, uid: int) -> str | None:
        if uid == NOBODY and not self._knows_every_user():
            return None
        try:
            return _shown(pwd.getpwuid(uid).pw_name, NAME_LIMIT)
        except (KeyError, OverflowError):
            return str(uid)

    def _knows_every_user(self) -> bool:
        try:
            return Path(self._proc, "self", "uid_map").read_text(encoding="ascii").split() == EVERY_USER
        except (OSError, ValueError):
            return True


def _shown(text: str | None, limit: int) -> str | None:
    return plain(text, limit) if text else None


def _whole_name(name: bytes, line: bytes) -> str:
    """The kernel's name of a process, completed from its command line where it was cut off."""
    program = PurePosixPath(line.partition(b"\0")[0].decode(errors="replace")).name
    kernel = name.decode(errors="replace")
    return program if len(name) == KERNEL_NAME_BYTES and program.startswith(kernel) else kernel


def job_of(environment: bytes) -> str | None:
    """The batch job that a process says it belongs to, such as ``slurm:123456``, ``pbs:7.server``, ``lsf:42``.

    Whoever starts a process chooses its environment: unlike a cgroup's, this is the process's own word.
    """
    variables = b"\0" + environment
    for variable, scheduler, form in JOB_VARIABLES:
        _, found, rest = variables.partition(f"\0{variable}=".encode())
        value, end, _ = rest[:LIMIT_BYTES].partition(b"\0")
        if found and end and form.fullmatch(value):
            return f"{scheduler}:{value.decode('ascii')}"
    return None


# ---- what the driver lists ----

Listed = Sequence[tuple[int, int | None]]
"""Process ids and their bytes, as one of the driver's lists has them."""


def merge(lists: Mapping[ProcessType, Listed], total_bytes: int | None) -> list[Process]:
    """The processes on a GPU, most memory first, those of unknown memory last, without names.

    A process in both lists is one process, and both lists mean the same memory. A process cannot use more
    than the GPU has.
    """
    limit = 2**53 if total_bytes is None else total_bytes * MEMORY_SLACK
    found: dict[int, tuple[ProcessType, int]] = {}
    unknown = -1
    for kind, entries in lists.items():
        for pid, memory in entries:
            known = memory if memory is not None and memory <= limit else unknown
            kind_before, before = found.get(pid, (kind, unknown))
            found[pid] = (kind if kind_before == kind else "compute+graphics", max(before, known))
    largest = sorted(found.items(), key=lambda entry: (-entry[1][1], entry[0]))[:MAX_PROCESSES]
    return [
        Process(pid=pid, type=kind, memory_used_bytes=None if memory == unknown else memory)
        for pid, (kind, memory) in largest
    ]


Utilized = tuple[int, int, int]
"""A process id, a moment on the driver's clock (microseconds), a share of the time until then in percent."""


def utilization(samples: Iterable[Utilized], newest: int, pids: Collection[int]) -> tuple[dict[int, float], int]:
    """How busy each of ``pids`` keeps the GPU, in percent, and the newest moment that is known now.

    ``newest`` is what the last call gave (at first 0), and what the driver was asked to begin after. Drivers
    give older samples nevertheless, and for processes that are gone samples of memory that was never written:
    moment 0, hundreds of percent, ids of nobody. Those are left out, not made to fit. A process without a
    sample is not told: idle, or too new.

    Where every sample is older than ``newest``, the driver's clock was set back: it begins anew from them.
    """
    found: dict[int, tuple[int, int]] = {}
    moment = 0
    for pid, at, percent in samples:
        if at > 0 and 0 <= percent <= 100 and pid in pids:
            moment = max(moment, at)
            if at > newest and (at, percent) > found.get(pid, (0, 0)):
                found[pid] = (at, percent)
    return {pid: float(percent) for pid, (_, percent) in found.items()}, moment or newest


# ---- whose ids these are ----


def always(pid: int) -> bool:
    """Every id is trusted."""
    return pid > 0


def sees_every_process(proc: Path = PROC) -> bool:
    """Whether process ids mean here what they mean to the kernel.

    They do not in a container's own namespace, nor where somebody else's ``/proc`` is shown to us.
    """
    try:
        is_initial = str((proc / "self/ns/pid").readlink()) == INITIAL_PID_NAMESPACE
        return is_initial and str((proc / "self").readlink()) == str(os.getpid())
    except OSError:
        return False


def holds_a_gpu(pid: int, proc: Path = PROC) -> bool:
    """Whether the process that we know by this id has one of the driver's devices open, as far as we may look."""
    try:
        return any(str(file.readlink()).startswith("/dev/nvidia") for file in (proc / str(pid) / "fd").iterdir())
    except OSError:
        return False
