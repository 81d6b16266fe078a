"""What ``gpumon check`` found, for a program (as JSON) and for a person (as lines of text).

One row a node; below them, what is wrong and what to do. A line keeps to the width that it is given.
"""

from pathlib import Path
from typing import Final

from msgspec import Struct

from gpumon.config import DEFAULT_FILE
from gpumon.hub.posture import Line
from gpumon.model import Fault, GpuStatus, Kind, ReportStatus, Resolution
from gpumon.terminal import Cell, Column, Grid, line, paint, wrap

COLUMNS: Final = (
    Column("NODE", least=12, right=False),
    Column("ALIAS", least=14, leave=3, right=False),
    Column("AT", least=24, leave=1, right=False),
    Column("ADDRESS", leave=2, right=False),
    Column("RESOLVED BY", least=10, leave=4, right=False),
    Column("RESULT", least=30, right=False),
)
NULL: Final = "-"
INDENT: Final = 2
GRADE_COLUMNS: Final = 8
GRADE_STYLES: Final = {"bad": "red", "weak": "yellow", "good": "green"}
CLOCK_SECONDS: Final = 2.0
"""What a node's clock may be wrong before it is told."""
USUAL_INTERVAL_SECONDS: Final = 5.0

WORDS: Final = {
    "name_unknown": "name unknown",
    "name_unanswered": "name not answered",
    "refused": "refused: no agent at this port",
    "unreachable": "no connection",
    "no_answer": "no answer",
    "bad_status": "not well",
    "bad_answer": "not an agent's answer",
    "answer_too_long": "not an agent's answer",
    "untrusted": "not to be trusted",
    "forbidden_address": "not asked: never at this address",
    "internal": "not tried",
}
STATUS_WORDS: Final = {
    "degraded": "degraded",
    "no_driver": "no driver",
    "driver_mismatch": "driver mismatch",
    "no_gpus": "no GPUs",
    "error": "error",
}


class NameServerFinding(Struct, frozen=True, kw_only=True):
    """The DNS server of the configuration, and whether it answers questions at all."""

    address: str
    port: int
    answers: bool


class Finding(Struct, frozen=True, kw_only=True):
    """What was found of one node. ``fault``: what is wrong between us and it, or with its driver."""

    name: str
    alias: str
    kind: Kind
    host: str
    port: int
    address: str | None
    resolution: Resolution | None
    is_well: bool
    fault: Fault | None
    seconds: float
    status: ReportStatus | None = None
    gpus: list[GpuStatus] = []
    gpu_faults: list[Fault] = []
    agent_version: str | None = None
    driver_version: str | None = None
    is_legacy: bool = False
    simulated: bool = False
    interval_seconds: float | None = None
    clock_offset_seconds: float | None = None


class Findings(Struct, frozen=True, kw_only=True):
    """All of it."""

    file: str | None
    name_server: NameServerFinding | None
    posture: list[Line]
    nodes: list[Finding]


def head(path: Path | None, nodes: int, server: NameServerFinding | None, columns: int, *, color: bool) -> list[str]:
    """What is tried, and who is asked for names."""
    if path is None:
        said = f"{DEFAULT_FILE}: there is none in this folder; this is what holds without. --config names another."
    else:
        said = f"{path}: nothing wrong with the file, {_count(nodes, 'node')}."
    if nodes == 0:
        said += " The hub shows whoever pushes to it."
    if server is None:
        return [*wrap(said, columns), *wrap("Names: asked of the system's resolver.", columns)]
    who = f"DNS server {server.address} port {server.port}"
    if server.answers:
        return [*wrap(said, columns), *wrap(f"Names: {who} answers.", columns)]
    instead = ", names that end in .local by multicast DNS" if server.port == 5353 else ""
    lines = wrap(f"Names: {who} does not answer. The system's resolver is asked instead{instead}.", columns)
    return [*wrap(said, columns), *(paint(one, "yellow") if color else one for one in lines)]


def safety(posture: list[Line], columns: int, *, color: bool) -> list[str]:
    """How safe it is, worst first: each line with its grade, and with the key that changes it."""
    lines = ["", "How safe it is, worst first:"]
    for one in posture:
        key = f" ({one.key})" if one.key else ""
        first, *more = wrap(f"{one.text}{key}", columns, first=GRADE_COLUMNS, rest=GRADE_COLUMNS)
        grade = paint(one.grade, GRADE_STYLES[one.grade]) if color else one.grade
        gap = " " * (GRADE_COLUMNS - INDENT - len(one.grade))
        lines += [f"{' ' * INDENT}{grade}{gap}{first.lstrip()}", *more]
    return lines


def table(nodes: list[Finding], columns: int, *, color: bool) -> list[str]:
    """One row a node, then what is wrong with whom."""
    if not nodes:
        return []
    rows = [_cells(one) for one in nodes]
    shown = [place for place, column in enumerate(COLUMNS) if column.head != "ALIAS" or _has_aliases(nodes)]
    grid = Grid(COLUMNS, rows, headed=True)
    shown = grid.that_fit(shown, columns)
    widths = grid.widths(shown, columns)
    lines = ["", line([Cell(COLUMNS[place].head, "grey") for place in shown], widths, color=color)]
    lines += [line([row[place] for place in shown], widths, color=color) for row in rows]
    for one in nodes:
        lines += _wrong(one, columns, color=color)
    return [*lines, "", _sum(nodes, color=color)]


def _has_aliases(nodes: list[Finding]) -> bool:
    return any(one.alias != one.name for one in nodes)


def _cells(one: Finding) -> list[Cell]:
    host = f"[{one.host}]" if ":" in one.host else one.host
    resolution = one.resolution
    server = NULL if resolution is None else resolution.server + (" (earlier)" if resolution.is_kept else "")
    return [
        Cell(one.name, "cyan" if one.is_well else "red"),
        Cell(one.alias if one.alias != one.name else NULL),
        Cell(f"{host}:{one.port}"),
        Cell(one.address or NULL),
        Cell(server, "grey"),
        _result(one),
    ]


def _result(one: Finding) -> Cell:
    if one.status is None:
        assert one.fault is not None
        said = WORDS.get(one.fault.code, one.fault.code)
        if one.kind != "gpumon":
            said = said.replace("no agent", f"no {one.kind}").replace("an agent's", f"{one.kind}'s")
        return Cell(said, "red")
    gpus = _count(len(one.gpus), "GPU")
    unwell = len([status for status in one.gpus if status != "ok"])
    words = [
        gpus if one.is_well else STATUS_WORDS[one.status],
        f"{unwell} of {gpus} not well" if unwell else "",
        _clock(one),
        "simulated" if one.simulated else "",
        _program(one),
        f"driver {one.driver_version.removesuffix(' (simulated)')}" if one.driver_version else "",
    ]
    style = "green" if one.is_well and not _clock(one) else "yellow" if one.status in ("ok", "degraded") else "red"
    return Cell(", ".join(word for word in words if word), style)


def _program(one: Finding) -> str:
    """What answered."""
    if one.kind != "gpumon":
        return f"via {one.kind}"
    return "the Go program" if one.is_legacy else f"agent {one.agent_version or 'of unknown version'}"


def _clock(one: Finding) -> str:
    """How wrong its clock is, if it is. A sample is up to an interval old when it is fetched."""
    offset = one.clock_offset_seconds
    if offset is None:
        return ""
    if offset > CLOCK_SECONDS:
        return f"clock {_time(offset)} ahead"
    if offset < -CLOCK_SECONDS - (one.interval_seconds or USUAL_INTERVAL_SECONDS):
        return f"clock {_time(-offset)} behind, or numbers so old"
    return ""


def _time(seconds: float) -> str:
    for unit, length in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def _wrong(one: Finding, columns: int, *, color: bool) -> list[str]:
    """What is wrong with a node in whole sentences, and what to do."""
    faults = [*([one.fault] if one.fault else []), *one.gpu_faults]
    if not faults:
        return []
    lines = ["", *(paint(part, "bold") if color else part for part in wrap(one.name, columns))]
    for fault in dict.fromkeys((fault.message, fault.hint) for fault in faults):
        for text, style in zip(fault, ("", "grey"), strict=True):
            wrapped = wrap(text, columns, first=INDENT, rest=INDENT) if text else []
            lines += [paint(part, style) if color else part for part in wrapped]
    return lines


def _sum(nodes: list[Finding], *, color: bool) -> str:
    unwell = sum(not one.is_well for one in nodes)
    if not unwell:
        text = "All nodes are well." if len(nodes) > 1 else "The node is well."
        return paint(text, "green") if color else text
    text = f"{unwell} of {_count(len(nodes), 'node')} {'is' if unwell == 1 else 'are'} not well."
    return paint(text, "red") if color else text


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
