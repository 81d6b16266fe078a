"""GPUs as programs tell of them that are not gpumon: values in our units and bounds, a reason for each that is null.

Two reasons are given here: ``not_told`` for what an answer tells of no GPU at all, ``no_data`` for what it tells of
others, or has a place for. A number that makes no sense is null as well (``error``), and nobody else's fault.
"""

import math
import re
from collections.abc import Iterable, Mapping, Sequence, Set
from functools import cache
from itertools import count
from operator import itemgetter
from pathlib import PurePosixPath
from typing import Final

from msgspec import inspect, structs

from gpumon.command import redacted, short_command
from gpumon.errors import WireError
from gpumon.model import MAX_GPUS, MAX_PROCESSES, Fault, Gpu, Host, Process, Reason, Report
from gpumon.text import printable
from gpumon.wire import check_counts

MIB: Final = 2**20
MOST_SLICES: Final = 64
"""Of one GPU."""
TEXT_LENGTH: Final = 256
COMMAND_LENGTH: Final = 1024
NULLABLE: Final = tuple(
    field.name for field in structs.fields(Gpu) if field.default is None and field.name not in ("error", "sampled_at")
)
_OF_WINDOWS: Final = re.compile(r"[A-Za-z]:\\|\\\\")
_NO_NAME: Final = re.compile(r"\[[A-Z].*\]")
THROTTLING: Final = (
    "gpu_idle",
    "applications_clocks_setting",
    "sw_power_cap",
    "hw_slowdown",
    "sync_boost",
    "sw_thermal_slowdown",
    "hw_thermal_slowdown",
    "hw_power_brake_slowdown",
)
"""Reasons for throttling, by their bits in NVML (``nvmlClocksEventReason*`` in ``nvml.h``), from the lowest."""
OF_A_PROCESS: Final = tuple(field.name for field in structs.fields(Process) if field.default is None)
LOST: Final = Fault(
    code="lost",
    message="The driver has lost this GPU: it has most likely fallen off the bus.",
    hint="Reboot the machine; if it happens again, check power, seating and the Xid lines in 'dmesg'.",
)
UNREADABLE: Final = Fault(
    code="error",
    message="The driver gives no access to this GPU.",
    hint="See what nvidia-smi and the Xid lines in 'dmesg' say of it.",
)


class Board:
    """One GPU, gathered from an answer piece by piece."""

    def __init__(self, index: int | None = None) -> None:
        self.index = index
        self.values: dict[str, object] = {}
        self.reasons: dict[str, Reason] = {}
        self.fault: Fault | None = None
        self._processes: dict[int, Process] | None = None

    def number(self, field: str, value: float | None, scale: float = 1.0) -> None:
        """``value`` times ``scale`` is that of a field of :class:`Gpu`; None and NaN are none."""
        if value is None or math.isnan(value):
            self.missing(field, "no_data")
            return
        least, most, is_whole = _bounds()[field]
        scaled = round(value * scale, 6)
        if not least <= scaled <= most:
            self.missing(field, "error")
            return
        self.values[field] = round(scaled) if is_whole else scaled
        self.reasons.pop(field, None)

    def missing(self, field: str, reason: Reason) -> None:
        """The field is null, unless it has a value already."""
        if self.values.get(field) is None:
            self.reasons[field] = reason

    def text(self, field: str, value: str | None) -> None:
        if value:
            self.values[field] = printable(value)[:TEXT_LENGTH]

    def tells_processes(self) -> None:
        """Who computes here is told, be it nobody."""
        self._processes = self._processes or {}

    def process(self, process: Process) -> None:
        """One more of its processes; what is told again of one is added to what is known."""
        self.tells_processes()
        assert self._processes is not None
        known = self._processes.get(process.pid)
        if known is not None:
            told = {name: value for name in OF_A_PROCESS if (value := getattr(process, name)) is not None}
            process = structs.replace(known, **told)
        self._processes[process.pid] = process

    @property
    def told(self) -> Set[str]:
        """Those fields that something is told of."""
        return frozenset() if self.fault is not None else self.values.keys() | self.reasons.keys()

    def unread(self, fault: Fault, reason: Reason) -> None:
        """Nothing is known of it, and why."""
        self.fault = fault
        self.reasons |= dict.fromkeys(NULLABLE, reason)

    def gpu(self, index: int, told: Set[str], of_processes: Set[str]) -> Gpu:
        """The GPU. ``told``: what the answer tells of any GPU; ``of_processes``: what such answers tell of each."""
        values = dict(self.values)
        unavailable = {
            name: self.reasons.get(name) or ("no_data" if name in told else "not_told")
            for name in NULLABLE
            if values.get(name) is None
        }
        if self._processes is not None:
            largest = sorted(self._processes.values(), key=_by_memory)
            values["processes"] = largest[:MAX_PROCESSES]
            values["processes_truncated"] = len(largest[MAX_PROCESSES:])
            del unavailable["processes"]
            unavailable |= {f"processes.{name}": "not_told" for name in OF_A_PROCESS if name not in of_processes}
        status = "ok" if self.fault is None else "lost" if self.fault.code == "lost" else "error"
        fixed = {"index": index, "status": status, "error": self.fault, "unavailable": unavailable}
        return structs.replace(Gpu(index=index), **values | fixed)


class Boards:
    """The GPUs of one answer, by what identifies them there."""

    def __init__(self) -> None:
        self._boards: dict[str, Board] = {}

    def __len__(self) -> int:
        return len(self._boards)

    def at(self, identity: str, index: int | None = None) -> Board:
        """The GPU of this ``identity``, which the driver calls ``index``. Raises :class:`WireError`: one too many."""
        if (board := self._boards.get(identity)) is None:
            if len(self._boards) == MAX_GPUS:
                raise WireError(f"more than {MAX_GPUS} GPUs of one node")
            board = self._boards[identity] = Board()
        if board.index is None:
            board.index = index
        return board

    def all(self) -> Iterable[Board]:
        return self._boards.values()

    def gpus(self, of_processes: Set[str] = frozenset()) -> list[Gpu]:
        """All of them, each with an index of its own. ``of_processes`` is as for :meth:`Board.gpu`.

        Those that have none, and those whose index another one has as well, get what is free.
        """
        boards = self._boards.values()
        told = frozenset().union(*(one.told for one in boards))
        placed = {one.index: one for one in reversed(boards) if one.index is not None}  # the first that says so
        others = [one for one in boards if one.index is None or placed[one.index] is not one]
        free = (index for index in count() if index not in placed)
        placed |= dict(zip(free, others, strict=False))
        return [one.gpu(index, told, of_processes) for index, one in sorted(placed.items(), key=itemgetter(0))]


def report(
    node: str,
    gpus: list[Gpu],
    facts: Mapping[str, str | None],
    *,
    host: Host | None = None,
    sampled_at: str | None = None,
    error: Fault | None = None,
) -> Report:
    """What ``node`` reports; ``facts`` are texts of :class:`Report`, ``error`` is what is wrong with it as a whole.

    Raises:
        WireError: there is more in it than a node has.
    """
    status = "error" if error is not None else "ok" if gpus else "no_gpus"
    if gpus and any(gpu.status != "ok" for gpu in gpus):
        status = "degraded"
    texts = {name: printable(value)[:TEXT_LENGTH] for name, value in facts.items() if value}
    made = structs.replace(
        Report(node=node), **texts, status=status, error=error, host=host, sampled_at=sampled_at, gpus=gpus
    )
    check_counts(made)
    return made


def index_of(text: str | None) -> int | None:
    """The index of a GPU, written in a label."""
    return int(text) if text is not None and re.fullmatch("[0-9]{1,4}", text) else None


def pid_of(text: str | None) -> int | None:
    """The number of a process, written in a label."""
    return int(text) if text is not None and re.fullmatch("[0-9]{1,10}", text) else None


def program(path: str | None) -> str | None:
    """The name of a program, by its path on Linux or Windows: without folders, which tell whose it is, or secrets.

    What has spaces is read as a title that a process has written over its arguments, so only its first word is told,
    and nothing where that may be half the name of a folder; on Windows folders have spaces, and nobody writes titles.
    Brackets are nvidia-smi's own words: it knows no name.
    """
    text = (path or "").partition(" -")[0]
    if _NO_NAME.fullmatch(text):
        return None
    if not _OF_WINDOWS.match(text):
        first, *others = text.split() or [""]
        if first.startswith("/") and any("/" in word for word in others):
            return None
        text = first.rstrip(":")
    name = re.split(r"[/\\]", text)[-1]
    return printable(redacted(name))[:TEXT_LENGTH] or None


def command(arguments: Sequence[str]) -> str | None:
    """What of a command line may be shown: what our own agent would tell of it.

    A single argument may be a whole line, in which nobody knows any more where arguments begin and end.
    """
    # Behind a title that is shorter than what it was written over there are empty ones.
    name = PurePosixPath(arguments[0]).name if any(arguments[1:]) else ""
    told = short_command("\0".join(arguments).encode(errors="replace"), name)
    return None if told is None else printable(told)[:COMMAND_LENGTH]


def _by_memory(process: Process) -> tuple[float, int]:
    """Most memory first, what is not known last."""
    used = process.memory_used_bytes
    return math.inf if used is None else -used, process.pid


@cache
def _bounds() -> dict[str, tuple[float, float, bool]]:
    """Of each numeric field of :class:`Gpu` the least and the most, and whether it is a whole number."""
    found: dict[str, tuple[float, float, bool]] = {}
    kind = inspect.type_info(Gpu)
    assert isinstance(kind, inspect.StructType)
    for field in kind.fields:
        for one in field.type.types if isinstance(field.type, inspect.UnionType) else ():
            if isinstance(one, inspect.IntType | inspect.FloatType):
                least, most = one.ge, one.le
                assert least is not None
                assert most is not None
                found[field.name] = least, most, isinstance(one, inspect.IntType)
    return found
