"""What is wrong with a machine's GPUs and what to do, and what is not known of them and why: in lines of text."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Final, NamedTuple

from msgspec import structs

from gpumon.agent.words import MEASURED
from gpumon.model import Fault, Gpu, Reason, Report
from gpumon.terminal import paint, wrap
from gpumon.timestamp import seconds

GIB: Final = 2**30
SLOW_CALL_SECONDS: Final = 0.5

MEANINGS: Final[dict[Reason, str]] = {
    "unsupported": "this board or its driver does not have it",
    "denied": "this user or container may not read it",
    "no_data": "the driver has no value at this moment",
    "lost": "the driver has lost the GPU",
    "reset_required": "the GPU must be reset first",
    "driver": "the driver does not run",
    "timeout": "the driver did not answer in time",
    "error": "the driver's answer was an error, or makes no sense",
    "not_told": "the program that was asked does not tell it",
}
VALUES: Final = tuple(field.name for field in structs.fields(Gpu) if field.name in MEASURED and field.default is None)
NULLABLE: Final = ("uuid", "name", "pci_bus_id", *VALUES)
ALARMS: Final = frozenset({"hw_slowdown", "sw_thermal_slowdown", "hw_thermal_slowdown", "hw_power_brake_slowdown"})
SHORT: Final = {
    "gpu_idle": "idle",
    "applications_clocks_setting": "set clocks",
    "sw_power_cap": "power cap",
    "sw_thermal_slowdown": "thermal",
    "hw_thermal_slowdown": "hw thermal",
    "hw_power_brake_slowdown": "power brake",
}
"""Why a GPU is slower than it could be, for a narrow column; the others by their own names."""
GRAVITY_STYLES: Final = {"critical": "red", "warning": "yellow"}


class Note(NamedTuple):
    """A sentence about some GPUs (none: about the machine), what to do about it, and how it is coloured."""

    gpus: tuple[int, ...]
    text: str
    hint: str | None = None
    style: str = ""


def notes(report: Report, columns: int, *, color: bool) -> list[str]:
    """What is wrong, each with what to do; what is the same of several GPUs, once."""
    found: dict[Note, list[int]] = {}
    for note in _found(report):
        found.setdefault(note._replace(gpus=()), []).extend(note.gpus)
    lines = [""] if found else []
    for note, indexes in found.items():
        label = f"GPU {ranges(indexes)}: " if indexes else ""
        text = wrap(label + note.text, columns, rest=2)
        lines += [paint(one, note.style) if color else one for one in text]
        if note.hint:
            lines += wrap(note.hint, columns, first=2, rest=2)
    return lines


def _found(report: Report) -> Iterator[Note]:
    if report.error is not None:
        yield _fault((), report.status, report.error)
    cost = report.agent
    if cost is not None and cost.slowest_call and (cost.slowest_call_seconds or 0) >= SLOW_CALL_SECONDS:
        text = f"The driver took {cost.slowest_call_seconds:.1f} s for {cost.slowest_call}."
        yield Note((), text, "A driver that gets slow is a sign of a GPU that gets sick.", "yellow")
    for gpu in report.gpus:
        if gpu.error is not None:
            yield _fault((gpu.index,), gpu.status, gpu.error)
    for gpu in report.gpus:
        yield from _condition(gpu)
    for gpu in report.gpus:
        ledger = gpu.memory_ledger
        if ledger is not None and ledger.cause:
            text = f"{ledger.unaccounted_bytes / GIB:.1f} GiB of memory in use are no process's. {ledger.cause}"
            yield Note((gpu.index,), text)
    for one in report.advice:
        yield Note((), one.message, one.hint)


def _fault(gpus: tuple[int, ...], status: str, fault: Fault) -> Note:
    return Note(gpus, f"{status}{'.' if gpus else ':'} {fault.message}", fault.hint, "red")


def _condition(gpu: Gpu) -> Iterator[Note]:
    """What a GPU, and the driver of it, say of its health."""
    one = (gpu.index,)
    if gpu.asleep:
        yield Note(one, "Asleep to save power. It is not read, for that would wake it.")
    for xid in gpu.xids or []:
        often = f"{xid.count} times, last " if xid.count > 1 else ""
        text = f"Xid {xid.code} ({xid.gravity}, {often}{local(xid.last_at)}): {xid.meaning}"
        yield Note(one, text, style=GRAVITY_STYLES.get(xid.gravity, ""))
    if slowed := ALARMS.intersection(gpu.throttle_reasons or ()):
        words = ", ".join(sorted(map(short, slowed)))
        yield Note(one, f"Slowed down to protect itself ({words}).", "Check cooling and power supply.", "yellow")
    if gpu.recovery_action not in (None, "none"):
        action = gpu.recovery_action.replace("_", " ")
        yield Note(one, f"The driver asks for a recovery: {action}.", style="red")
    if gpu.ecc_uncorrected_total:
        errors = gpu.ecc_uncorrected_total
        yield Note(one, f"{errors} uncorrected memory errors since the driver was loaded.", style="red")
    if gpu.suspect:
        text = f"0 for long, though power or memory moves: no measurement, it seems ({', '.join(gpu.suspect)})."
        yield Note(one, text, "The driver tells it so. Another version of it may measure.")
    rows = gpu.remapped_rows
    if rows is not None and rows.failure:
        yield Note(one, "A bad row of memory could not be replaced: no spare row is left.", style="red")
    elif rows is not None and rows.pending:
        yield Note(one, "Bad rows of memory are to be replaced.", "This happens when the GPU is reset.", "yellow")


def absent(gpus: Sequence[Gpu], columns: int, *, color: bool) -> list[str]:
    """Each null with its reason; GPUs of which the same is unknown, together."""
    groups: dict[tuple[tuple[str, str], ...], list[int]] = {}
    for gpu in gpus:
        nulls = [] if gpu.asleep else [name for name in NULLABLE if getattr(gpu, name) is None]
        reasons = set(gpu.unavailable.values())
        default = next(iter(reasons)) if len(reasons) == 1 and gpu.status != "ok" else ""  # of one never seen as well
        if nulls:
            groups.setdefault(tuple((name, gpu.unavailable.get(name, default)) for name in nulls), []).append(gpu.index)
    lines = ["", paint("Not available", "bold") if color else "Not available"] if groups else []
    for pairs, indexes in groups.items():
        lines.append(f"  GPU {ranges(indexes)}")
        fields: dict[str, list[str]] = {}
        for name, reason in pairs:
            fields.setdefault(reason, []).append(name)
        for reason, names in fields.items():
            meaning = next((text for word, text in MEANINGS.items() if word == reason), "no reason is given")
            label = f"{reason} ({meaning})" if reason else meaning
            what = "everything" if set(names) >= set(VALUES) else ", ".join(names)
            lines += wrap(f"{label}: {what}", columns, first=4, rest=6)
    return lines


def short(reason: str) -> str:
    """A throttle reason in a word or two."""
    return SHORT.get(reason, reason.replace("_", " "))


def local(moment: str) -> str:
    """A moment of a report on the clock of whoever looks."""
    try:
        return f"{datetime.fromtimestamp(seconds(moment)).astimezone():%Y-%m-%d %H:%M:%S}"
    except (ValueError, OverflowError, OSError):
        return moment


def ranges(indexes: Sequence[int]) -> str:
    """``0-3, 5``."""
    parts: list[list[int]] = []
    for index in sorted(set(indexes)):
        if parts and parts[-1][-1] == index - 1:
            parts[-1][1:] = [index]
        else:
            parts.append([index])
    return ", ".join("-".join(str(end) for end in part) for part in parts)
