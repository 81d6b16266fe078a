"""A fleet as lines of text: what it is altogether, a table of GPUs or of nodes, and what is wrong.

Names and commands are chosen by strangers: :mod:`gpumon.terminal` makes each cell harmless, and no colour is taken from
what they say.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from gpumon.availability import State
from gpumon.client.figures import NULL, bar, figure, gib, pair, share, watts
from gpumon.client.rows import GpuRow, NodeRow
from gpumon.model import Fault, Node, NodeStatus, Process
from gpumon.sums import Sum, sum_of
from gpumon.terminal import Cell, Column, Grid, cut, paint, spans, width, wrap
from gpumon.text import printable
from gpumon.timestamp import seconds

Line = list[tuple[str, str]]
"""Pieces of a line: the style of each (words of :data:`gpumon.terminal.STYLES`), and its text."""

BETWEEN: Final = " · "
BAR_COLUMNS: Final = 8
HOT_WITHIN_CELSIUS: Final = 5
"""So near to the temperature at which it slows itself down a GPU is hot, as on the page."""
MOST_PROCESSES: Final = 8
ROOMY_COLUMNS: Final = 120
ROOMY_LEAST: Final = 28
"""In a terminal of that width the model is told in whole before the rest is filled with processes."""
STATE_STYLES: Final[dict[State, str]] = {
    "free": "green bold",
    "busy": "",
    "held": "yellow",
    "fault": "red bold",
    "unknown": "grey",
}
STATE_WORDS: Final[dict[State, str]] = {
    "free": "free",
    "busy": "busy",
    "held": "idle-held",
    "fault": "fault",
    "unknown": "unknown",
}
STATUS_STYLES: Final[dict[NodeStatus, str]] = {
    "online": "",
    "stale": "yellow",
    "offline": "red bold",
    "pending": "grey",
}

GPU_COLUMNS: Final = (
    Column("NODE", least=20, right=False),
    Column("GPU"),
    Column("STATE", right=False),
    Column("MODEL", least=10, leave=4, right=False),
    Column("UTIL"),
    Column("", leave=7, right=False),
    Column("MEMORY GiB"),
    Column("", leave=8, right=False),
    Column("°C", leave=2),
    Column("POWER W", leave=6),
    Column("TAGS", least=8, leave=9, right=False),
    Column("PROCESSES", least=12, leave=3, right=False),
)
GPU_TAGS: Final = 10

NODE_COLUMNS: Final = (
    Column("NODE", least=20, right=False),
    Column("STATUS", right=False),
    Column("FREE"),
    Column("MODEL", least=10, leave=4, right=False),
    Column("UTIL"),
    Column("", leave=7, right=False),
    Column("MEMORY GiB", leave=2),
    Column("HOTTEST °C", leave=5),
    Column("POWER W", leave=6),
    Column("DRIVER", least=9, leave=8, right=False),
    Column("TAGS", least=8, leave=9, right=False),
    Column("USERS", least=8, leave=3, right=False),
)
NODE_TAGS: Final = 10


def summary(rows: Sequence[GpuRow]) -> list[Cell]:
    """The fleet in a few words."""
    nodes = {row.node.name: row.node for row in rows}.values()
    states = Counter(row.state for row in rows if row.gpu is not None)
    online = sum(node.status == "online" for node in nodes)
    simulated = sum(node.report is not None and node.report.simulated for node in nodes)
    power = sum_of(row.gpu.power_draw_watts for row in rows if row.gpu and row.node.status == "online")
    rest: tuple[State, ...] = ("busy", "held", "fault", "unknown")
    return [
        Cell(f"{states['free']} of {states.total()} GPUs free", "green bold"),
        *(Cell(f"{states[state]} {STATE_WORDS[state]}", STATE_STYLES[state]) for state in rest if states[state]),
        Cell(f"{online} of {len(nodes)} nodes online"),
        *([] if power.value is None else [Cell(power.marked(watts(power.value)))]),
        *([Cell(f"{simulated} simulated: numbers invented", "yellow")] if simulated else []),
    ]


def running(parts: Sequence[Cell], columns: int) -> list[Line]:
    """The parts one after the other, as many on a line as there is room for."""
    lines: list[Line] = [[]]
    used = 0
    for part in parts:
        text = cut(printable(part.text), columns)
        if used and used + len(BETWEEN) + width(text) > columns:
            lines.append([])
            used = 0
        if used:
            lines[-1].append(("", BETWEEN))
            used += len(BETWEEN)
        lines[-1].append((part.style, text))
        used += width(text)
    return lines


def gpu_table(rows: Sequence[GpuRow], columns: int, *, sorted_by: str = "") -> list[Line]:
    """The heading, and a line a row."""
    return _table(GPU_COLUMNS, GPU_TAGS, [_gpu_cells(row) for row in rows], columns, sorted_by)


def node_table(rows: Sequence[NodeRow], columns: int, *, sorted_by: str = "") -> list[Line]:
    """The same of nodes."""
    return _table(NODE_COLUMNS, NODE_TAGS, [_node_cells(row) for row in rows], columns, sorted_by)


def notices(faults: Iterable[Fault], columns: int) -> list[Line]:
    """What is wrong with the hub as a whole, in sentences."""
    said = [f"hub: {fault.message} {fault.hint or ''}".strip() for fault in faults]
    return [[("yellow", line)] for one in said for line in wrap(one, columns, rest=2)]


def troubles(nodes: Iterable[Node], columns: int) -> list[Line]:
    """What is wrong with nodes, and with each of their GPUs, in sentences."""
    return [[("yellow", line)] for node in nodes for said in _troubles_of(node) for line in wrap(said, columns, rest=2)]


def painted(lines: Iterable[Line], *, color: bool) -> str:
    """Lines as text for standard output."""
    return "".join(
        "".join(paint(text, style) if color else text for style, text in line).rstrip() + "\n" for line in lines
    )


def _table(
    columns: Sequence[Column], tags: int, rows: Sequence[Sequence[Cell]], total: int, sorted_by: str
) -> list[Line]:
    aligned = [[cell._replace(right=column.right) for cell, column in zip(row, columns, strict=True)] for row in rows]
    used = [place for place in range(len(columns)) if place != tags or any(row[tags].text for row in rows)]
    if total >= ROOMY_COLUMNS:
        columns = [column._replace(least=ROOMY_LEAST) if column.head == "MODEL" else column for column in columns]
    grid = Grid(columns, aligned, headed=True)
    shown = grid.that_fit(used, total)
    widths = grid.widths(shown, total)
    heads = [
        Cell(columns[place].head, "bold" if columns[place].head == sorted_by else "grey", columns[place].right)
        for place in shown
    ]
    return [spans(heads, widths), *(spans([row[place] for place in shown], widths) for row in aligned)]


def _gpu_cells(row: GpuRow) -> list[Cell]:
    node, gpu = row.node, row.gpu
    is_old = node.status != "online"  # what is known is from before
    grey = "grey" if is_old else ""
    state = Cell(node.status, STATUS_STYLES[node.status]) if is_old else _state_cell(row)
    name = Cell(_name(node), grey or "bold")
    tags = Cell(" ".join(node.tags), grey)
    if gpu is None:
        blank = [Cell(NULL, "grey")]
        return [name, *blank, state, *blank * 2, Cell(""), *blank, Cell(""), *blank * 2, tags, *blank]
    memory = share(gpu.memory_used_bytes, gpu.memory_total_bytes)
    load = None if gpu.utilization_percent is None else gpu.utilization_percent / 100
    limit = gpu.slowdown_temperature_celsius
    is_hot = gpu.temperature_celsius is not None and limit is not None
    is_hot = is_hot and (gpu.temperature_celsius or 0) >= (limit or 0) - HOT_WITHIN_CELSIUS
    return [
        name,
        Cell(str(gpu.index), grey or "cyan"),
        state,
        Cell(row.model or NULL, grey),
        Cell(figure(gpu.utilization_percent, "%"), grey),
        Cell("" if is_old else bar(load, BAR_COLUMNS), "green"),
        Cell(pair(gib(gpu.memory_used_bytes), gib(gpu.memory_total_bytes)), grey),
        Cell("" if is_old else bar(memory, BAR_COLUMNS), "cyan"),
        Cell(figure(gpu.temperature_celsius), grey or ("red bold" if is_hot else "")),
        Cell(pair(figure(gpu.power_draw_watts), figure(gpu.power_limit_watts)), grey),
        tags,
        Cell(_processes(row), grey),
    ]


def _state_cell(row: GpuRow) -> Cell:
    if row.gpu is None:
        return Cell("no GPU", "grey")
    is_asleep = row.gpu.asleep and row.state == "free"
    return Cell("asleep" if is_asleep else STATE_WORDS[row.state], STATE_STYLES[row.state])


def _node_cells(row: NodeRow) -> list[Cell]:
    node, report = row.node, row.node.report
    grey = "" if node.status == "online" else "grey"
    load = None if row.utilization_percent is None else row.utilization_percent / 100
    free = f"{row.states['free']}/{row.gpu_count}" if row.gpu_count else NULL
    models = row.models[0] + (f" +{len(row.models) - 1}" if len(row.models) > 1 else "") if row.models else NULL
    status = "flapping" if node.flapping and node.status == "online" else node.status
    return [
        Cell(_name(node), grey or "bold"),
        Cell(status, "yellow" if status == "flapping" else STATUS_STYLES[node.status]),
        Cell(free, grey or ("green bold" if row.states["free"] else "")),
        Cell(models, grey),
        Cell(figure(row.utilization_percent, "%"), grey),
        Cell(bar(load, BAR_COLUMNS), "green"),
        Cell(pair(_marked(row.memory_used_bytes, gib), _marked(row.memory_total_bytes, gib)), grey),
        Cell(figure(row.temperature_celsius), grey),
        Cell(_marked(row.power_draw_watts, figure), grey),
        Cell((report.driver_version if report is not None else None) or NULL, grey),
        Cell(" ".join(node.tags), grey),
        Cell(", ".join(row.users) or NULL, grey),
    ]


def _marked(total: Sum, show: Callable[[float | None], str]) -> str:
    return total.marked(show(total.value))


def _name(node: Node) -> str:
    return node.name if node.alias in ("", node.name) else f"{node.alias} ({node.name})"


def _processes(row: GpuRow) -> str:
    gpu = row.gpu
    if gpu is None:
        return NULL
    if gpu.unavailable.get("processes") == "private":
        return f"{gpu.processes_truncated}, private" if gpu.processes_truncated else NULL
    are_users_told = gpu.unavailable.get("processes.user") != "private"
    told = [_told(process, are_users_told=are_users_told) for process in row.processes[:MOST_PROCESSES]]
    more = len(row.processes) - len(told) + gpu.processes_truncated
    return ", ".join([*told, *([f"and {more} more"] if more else [])]) or NULL


def _told(process: Process, *, are_users_told: bool) -> str:
    program = process.command or process.name or str(process.pid)
    return f"{process.user or '?'}: {program}" if are_users_told else program


def _troubles_of(node: Node) -> Iterable[str]:
    fault = node.verdict or node.error
    parts = []
    if node.status != "online":
        seen = f", last seen {_clock(node.last_seen_at)}" if node.last_seen_at is not None else ""
        parts.append(f"{node.status}{seen}")
    if fault is not None:
        parts.append(f"{fault.message} {fault.hint or ''}".strip())
    if parts:
        yield f"{node.alias or node.name}: {'; '.join(parts)}"
    for gpu in node.report.gpus if node.report is not None and node.status == "online" else ():
        if gpu.error is not None and (fault is None or gpu.error.message not in fault.message):
            yield f"{node.alias or node.name}, GPU {gpu.index}: {gpu.error.message} {gpu.error.hint or ''}".strip()


def _clock(moment: str) -> str:
    try:
        return local_time(seconds(moment))
    except (ValueError, OverflowError, OSError):
        return NULL


def local_time(at: float) -> str:
    """A moment, in seconds since the epoch, by the clock on the wall: with the day, where that is not today."""
    told = time.localtime(at)
    is_today = time.strftime("%Y-%m-%d", told) == time.strftime("%Y-%m-%d")
    return time.strftime("%H:%M:%S" if is_today else "%Y-%m-%d %H:%M:%S", told)
