"""A report as lines of text: what a person sees of ``gpumon probe``.

One line a GPU, its slices and processes below it; then what is wrong and what to do; then what is not known
and why. A line keeps to the width that it is given: what matters least is left out first.
"""

from collections.abc import Callable, Sequence
from typing import Final

from gpumon.agent.notes import ALARMS, absent, local, notes, short
from gpumon.model import Gpu, Process, Report
from gpumon.terminal import GAP, Cell, Column, Grid, line, width
from gpumon.text import printable
from gpumon.timestamp import seconds

GIB: Final = 2**30
NULL: Final = "-"
INDENT: Final = "   "
BUSY_PERCENT: Final = 30
PLAIN_COLUMNS: Final = 4
"""Those that are left out no sooner than this are worth more than whole names."""
HOT_MARGIN_CELSIUS: Final = 5

STATUS_STYLES: Final = {"ok": "green", "degraded": "yellow"}  # all others are red

GPU_COLUMNS: Final = (
    Column("#"),
    Column("GPU", least=16, right=False),
    Column("UTIL"),
    Column("MEMORY GiB"),
    Column("°C", leave=1),
    Column("POWER W", leave=2),
    Column("FAN", leave=3),
    Column("SM MHz", leave=4),
    Column("MEM MHz", leave=6),
    Column("PCIe", leave=7),
    Column("NVLINK", leave=8),
    Column("BUS", leave=5, right=False),
    Column("UUID", leave=9, right=False),
    Column("STATE", least=18, right=False),
)
PROCESS_COLUMNS: Final = (
    Column("USER", least=8),
    Column("COMMAND", least=24),
    Column("PID", leave=2),
    Column("TYPE", leave=4),
    Column("MEMORY"),
    Column("UTIL", leave=3),
    Column("TIME", leave=1),
    Column("JOB", leave=5),
    Column("CONTAINER", leave=6),
)
ALWAYS: Final = frozenset({"#", "GPU", "UTIL", "MEMORY GiB", "°C", "POWER W", "STATE"})


def table(report: Report, columns: int, *, color: bool, now: float) -> list[str]:
    """The lines, each at most ``columns`` wide. ``now`` is the moment from which running times count."""
    lines = _head(report, columns, color=color)
    if report.gpus:
        lines += ["", *_gpus(report, columns, color=color, now=now)]
    lines += notes(report, columns, color=color)
    return lines + absent(report.gpus, columns, color=color)


def _head(report: Report, columns: int, *, color: bool) -> list[str]:
    """Who, when, how, and by which driver: piece by piece, as many on a line as it takes."""
    pieces = [
        Cell(report.node, "bold"),
        Cell(local(report.sampled_at or NULL)),
        Cell(report.status, STATUS_STYLES.get(report.status, "red bold")),
        *([Cell("SIMULATED", "yellow")] if report.simulated else []),
        Cell(f"driver {report.driver_version or NULL}"),
        Cell(f"CUDA {report.cuda_version or NULL}"),
        Cell(f"NVML {report.nvml_version or NULL}"),
    ]
    rows: list[list[Cell]] = [[]]
    for piece in pieces:
        if rows[-1] and sum(width(printable(one.text)) + len(GAP) for one in [*rows[-1], piece]) - len(GAP) > columns:
            rows.append([])
        rows[-1].append(piece)
    return [line(row, [min(width(printable(one.text)), columns) for one in row], color=color) for row in rows]


def _gpus(report: Report, columns: int, *, color: bool, now: float) -> list[str]:
    rows = [_gpu_cells(gpu) for gpu in report.gpus]
    shown = [
        place
        for place, column in enumerate(GPU_COLUMNS)
        if column.head in ALWAYS or any(row[place].text != NULL for row in rows)
    ]
    grid = Grid(GPU_COLUMNS, rows, headed=True)
    shown = grid.that_fit(shown, columns, whole=True, keep=PLAIN_COLUMNS)  # names before extras
    shown = grid.that_fit(shown, columns)
    if grid.natural(shown) > columns:
        rows = [[row[0], _without_maker(row[1], simulated=report.simulated), *row[2:]] for row in rows]
        grid = Grid(GPU_COLUMNS, rows, headed=True)
    widths = grid.widths(shown, columns)
    heads = [Cell(GPU_COLUMNS[place].head, "grey", GPU_COLUMNS[place].right) for place in shown]
    lines = [line(heads, widths, color=color)]
    below = _Below(report.gpus, columns, color=color, now=now)
    for gpu, row in zip(report.gpus, rows, strict=True):
        lines.append(line([row[place] for place in shown], widths, color=color))
        lines += below.lines(gpu)
    return lines


def _without_maker(cell: Cell, *, simulated: bool) -> Cell:
    """A shorter name. That a GPU is simulated, the line at the top says."""
    name = cell.text.removeprefix("NVIDIA ")
    return cell._replace(text=name.removesuffix(" (simulated)") if simulated else name)


# ---- cells ----


def _gpu_cells(gpu: Gpu) -> list[Cell]:
    temperature, slowdown = gpu.temperature_celsius, gpu.slowdown_temperature_celsius
    hot = temperature is not None and slowdown is not None and temperature >= slowdown - HOT_MARGIN_CELSIUS
    busy = (gpu.utilization_percent or 0) >= BUSY_PERCENT
    stale = gpu.status != "ok"
    cells = [
        Cell(str(gpu.index), "cyan"),
        Cell(gpu.name or "unknown GPU", "blue"),
        Cell(_figure(gpu.utilization_percent, "%"), "green bold" if busy else "green"),
        Cell(_pair(gpu.memory_used_bytes, gpu.memory_total_bytes, _gib), "yellow"),
        Cell(_figure(temperature), "red bold" if hot else ""),
        Cell(_pair(gpu.power_draw_watts, gpu.power_limit_watts, _figure), "magenta"),
        Cell(_figure(gpu.fan_speed_percent, "%")),
        Cell(_figure(gpu.sm_clock_megahertz)),
        Cell(_figure(gpu.memory_clock_megahertz)),
        Cell(NULL if gpu.pcie_generation is None else f"{gpu.pcie_generation}x{_figure(gpu.pcie_width)}"),
        Cell(_pair(gpu.nvlink_active_count, gpu.nvlink_count, _figure)),
        Cell(gpu.pci_bus_id[-12:] if gpu.pci_bus_id else NULL),
        Cell(gpu.uuid or NULL),
        _state(gpu),
    ]
    if stale:  # what is known is from before
        cells = [
            cells[0],
            cells[1]._replace(style="red"),
            *(one._replace(style="grey") for one in cells[2:-1]),
            cells[-1],
        ]
    return [cell._replace(right=column.right) for cell, column in zip(cells, GPU_COLUMNS, strict=True)]


def _state(gpu: Gpu) -> Cell:
    if gpu.status != "ok":
        return Cell(gpu.status, "red bold")
    reasons = gpu.throttle_reasons or []
    words = [short(word) for word in reasons]
    text = " ".join(
        part for part in (gpu.performance_state, ", ".join(words), "MIG" if gpu.mig_enabled else "") if part
    )
    return Cell(text or "ok", "red" if ALARMS & set(reasons) else "")


def _process_cells(process: Process, now: float) -> list[Cell]:
    memory = NULL if process.memory_used_bytes is None else f"{_gib(process.memory_used_bytes)} GiB"
    kind = {"compute": "C", "graphics": "G", "compute+graphics": "C+G"}.get(process.type or "", NULL)
    return [
        Cell(process.user or NULL, "grey"),
        Cell(process.command or process.name or NULL),
        Cell(str(process.pid), "grey", right=True),
        Cell(kind, "grey"),
        Cell(memory, "yellow", right=True),
        Cell(_figure(process.utilization_percent, "%"), "green", right=True),
        Cell(_running(process.started_at, now), right=True),
        Cell(process.job or NULL, "grey"),
        Cell(process.container or NULL, "grey"),
    ]


def _figure(value: float | None, unit: str = "") -> str:
    return NULL if value is None else f"{value:.0f}{unit}"


def _gib(value: float | None) -> str:
    return NULL if value is None else f"{value / GIB:.1f}"


def _pair(one: float | None, of: float | None, show: Callable[[float | None], str]) -> str:
    return NULL if one is None and of is None else f"{show(one)}/{show(of)}"


def _running(started_at: str | None, now: float) -> str:
    """For how long, in its two greatest units."""
    try:
        whole = max(int(now - seconds(started_at or "")), 0)
    except ValueError:
        return NULL
    days, hours, minutes = whole // 86400, whole // 3600 % 24, whole // 60 % 60
    if days:
        return f"{days}d {hours}h"
    return f"{hours}h {minutes}m" if hours else f"{minutes}m {whole % 60}s"


# ---- below a GPU ----


class _Below:
    """The slices and processes of the GPUs, all in the same columns."""

    def __init__(self, gpus: Sequence[Gpu], columns: int, *, color: bool, now: float) -> None:
        self._columns = columns - len(INDENT)
        self._color = color
        self._now = now
        everyone = [one for gpu in gpus for one in _everyone(gpu)]
        rows = [_process_cells(process, now) for process in everyone]
        shown = [
            place for place in range(len(PROCESS_COLUMNS)) if place < 2 or any(row[place].text != NULL for row in rows)
        ]
        grid = Grid(PROCESS_COLUMNS, rows, headed=False)
        self._shown = grid.that_fit(shown, self._columns) if rows else []
        self._widths = grid.widths(self._shown, self._columns) if rows else []

    def lines(self, gpu: Gpu) -> list[str]:
        lines, told = [], set()
        for device in gpu.mig_devices or []:
            memory = _pair(device.memory_used_bytes, device.memory_total_bytes, _gib)
            text = GAP.join((f"MIG {device.index}", device.profile or device.name or NULL, f"{memory} GiB"))
            lines.append(INDENT + line([Cell(text, "cyan")], [self._columns], color=self._color))
            for process in device.processes or []:
                told.add(process.pid)
                lines.append(self._process(process))
        lines += [self._process(process) for process in gpu.processes or [] if process.pid not in told]
        if gpu.processes_truncated:
            lines.append(f"{INDENT}… and {gpu.processes_truncated} more processes")
        return lines

    def _process(self, process: Process) -> str:
        cells = _process_cells(process, self._now)
        return INDENT + line([cells[place] for place in self._shown], self._widths, color=self._color)


def _everyone(gpu: Gpu) -> list[Process]:
    return [*(gpu.processes or []), *(one for device in gpu.mig_devices or [] for one in device.processes or [])]
