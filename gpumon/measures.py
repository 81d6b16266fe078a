"""What reports say, as metrics for Prometheus: what the catalogue lists of a GPU, in base units, and what is around it.

A value that is not known has no sample, and one that is not current has none either: of a GPU that does not answer
there is its state and no number. Labels are bounded: by what a report may hold (:mod:`gpumon.model`), and where that is
a text for which there are words, by those words. No process has a series of its own.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from operator import attrgetter
from typing import Final, NamedTuple, get_args

from gpumon.catalog import METRICS, Metric
from gpumon.dcgmnames import DcgmNames
from gpumon.model import SLOWDOWNS, Cost, Gpu, GpuStatus, Host, MigDevice, Report, ReportStatus
from gpumon.prometheus import Family, escaped, labels

Scale = Callable[[float], float]
UNITS: Final[dict[str, tuple[str, Scale | None]]] = {
    "percent": ("ratio", lambda value: value / 100),
    "bytes": ("bytes", None),
    "celsius": ("celsius", None),
    "watts": ("watts", None),
    "joules": ("joules", None),
    "megahertz": ("hertz", lambda value: value * 1_000_000),
    "seconds": ("seconds", None),
    "errors": ("errors", None),
    "lanes": ("lanes", None),
    "links": ("links", None),
    "generation": ("", None),
}
"""Prometheus' unit for each of ours, and how one becomes the other."""
THROTTLE_REASONS: Final = (*sorted(SLOWDOWNS), "sw_power_cap")
"""Those that have a series: whatever slows a GPU down against its user's will."""
GPU_STATES: Final = (*get_args(GpuStatus), "asleep")
REPORT_STATES: Final[tuple[str, ...]] = get_args(ReportStatus)
MOST_XIDS: Final = 16
"""Of one GPU."""
MOST_USERS: Final = 32
"""Of one node, those with the most memory; the rest are :data:`OTHERS`, and so is who is called that."""
OTHERS: Final = "(others)"


class Column(NamedTuple):
    """A number of a report: the field that holds it, and the metric that it becomes."""

    field: str
    family: Family
    scale: Scale | None


def gpu_column(metric: Metric) -> Column:
    """What a row of the catalogue becomes: ``sm_clock_megahertz`` is ``gpumon_gpu_sm_clock_hertz``."""
    return column("gpumon_gpu", metric.field, metric.unit, metric.help, is_counter=metric.kind == "counter")


def column(prefix: str, field: str, unit: str, help: str, *, is_counter: bool = False) -> Column:
    """``field`` as a metric, whose name is that of the field with the base unit in place of the field's own.

    Raises:
        KeyError: :data:`UNITS` does not know the unit.
    """
    base, scale = UNITS[unit]
    stem = field.removesuffix("_total") if is_counter else field
    stem = stem.removesuffix("_count").removesuffix(f"_{unit}" if base else "")
    family = Family(f"{prefix}_{stem}", f"{help}.", "counter" if is_counter else "gauge", base)
    return Column(field, family, scale)


HOST: Final = (
    ("cpu_count", "", "Processors of the machine"),
    ("cpu_utilization_percent", "percent", "Share of the time in which the processors were busy"),
    ("load_average_1m", "", "Load average over a minute"),
    ("memory_total_bytes", "bytes", "Memory that the machine has"),
    ("memory_available_bytes", "bytes", "Memory that new programs could have without swapping"),
    ("swap_total_bytes", "bytes", "Swap space that the machine has"),
    ("swap_used_bytes", "bytes", "Swap space in use"),
    ("disk_total_bytes", "bytes", "Size of the root file system"),
    ("disk_free_bytes", "bytes", "Free room on the root file system"),
    ("uptime_seconds", "seconds", "Time since the machine was started"),
)
COST: Final = (
    ("cpu_seconds_total", "seconds", "Processor time of the agent and of its reader"),
    ("resident_bytes", "bytes", "Memory of the agent and of its reader"),
    ("sample_seconds", "seconds", "Time that the newest sample took"),
    ("slowest_call_seconds", "seconds", "Longest call of the driver in the newest sample"),
)


def _columns(prefix: str, rows: Iterable[tuple[str, str, str]]) -> list[Column]:
    found = []
    for field, unit, what in rows:
        if unit:
            found.append(column(prefix, field, unit, what, is_counter=field.endswith("seconds_total")))
        else:
            name = {"cpu_count": "cpus", "load_average_1m": "load1"}[field]
            found.append(Column(field, Family(f"{prefix}_{name}", f"{what}."), None))
    return found


class Measures:
    """The metrics of any number of reports; with those of NVIDIA's exporter beside them if ``dcgm_names``."""

    def __init__(self, *, dcgm_names: bool = False) -> None:
        self._info = Family("gpumon_gpu", "A GPU; the value is always 1.", "info")
        self._status = Family("gpumon_gpu_status", "1 for the state that the GPU is in, else 0.")
        self._columns = [gpu_column(metric) for metric in METRICS if not metric.derived]
        self._writers = [(one.family.lines.append, one.family.sample, one.scale) for one in self._columns]
        self._values = attrgetter(*(column.field for column in self._columns))
        self._throttled = Family("gpumon_gpu_throttled", "1 while the GPU is slowed down for this reason, else 0.")
        self._xids = Family(
            "gpumon_gpu_xid", "Errors that the driver reported of the GPU since the agent started.", "counter", "errors"
        )
        self._remapped = Family("gpumon_gpu_remapped_rows", "Rows of memory that were replaced by spare ones.")
        self._remap_pending = Family("gpumon_gpu_row_remap_pending", "1 while rows wait for a reset to be replaced.")
        self._remap_failed = Family("gpumon_gpu_row_remap_failed", "1 if a row could not be replaced.")
        self._processes = Family("gpumon_gpu_processes", "Processes that compute on the GPU.")
        self._idle = Family(
            "gpumon_gpu_idle", "For how long utilisation has been below 2 %; 0 while it is not.", unit="seconds"
        )
        self._mig = _columns(
            "gpumon_mig",
            (
                ("memory_total_bytes", "bytes", "Memory that the slice has"),
                ("memory_used_bytes", "bytes", "Memory of the slice that is allocated"),
            ),
        )
        self._user_gpus = Family("gpumon_user_gpus", "GPUs on which the user computes.")
        self._user_memory = Family(
            "gpumon_user_gpu_memory", "GPU memory of the user's processes, of those that tell theirs.", unit="bytes"
        )
        self._report = Family("gpumon_report_status", "1 for the state that the node's newest report tells, else 0.")
        self._sampled = _columns("gpumon_host", HOST), _columns("gpumon_cost", COST)
        self._dcgm = DcgmNames() if dcgm_names else None

    @property
    def families(self) -> list[Family]:
        """All of them, in order."""
        host, cost = self._sampled
        return [
            self._info,
            self._status,
            *(column.family for column in self._columns),
            self._throttled,
            self._xids,
            self._remapped,
            self._remap_pending,
            self._remap_failed,
            self._processes,
            self._idle,
            *(column.family for column in self._mig),
            self._user_gpus,
            self._user_memory,
            self._report,
            *(column.family for column in (*host, *cost)),
            *(self._dcgm.families if self._dcgm else ()),
        ]

    def settle(self) -> None:
        """Put together what was added since the last time."""
        for family in self.families:
            family.settle()

    def add(
        self,
        node: str,
        report: Report,
        *,
        shows_users: bool,
        idle_seconds: Callable[[Gpu], float | None] = lambda _: None,
    ) -> None:
        """Add what the present report of ``node`` says; of users if that may be told."""
        own = labels(node=node)
        self._report.add_states(own, "status", report.status, REPORT_STATES)
        for part, columns in zip((report.host, report.agent), self._sampled, strict=True):
            if part is not None:
                _add_values(own, part, columns)
        seen = set()
        for gpu in report.gpus:
            if (gpu.index, gpu.uuid) not in seen:  # or whoever reads would refuse the whole
                seen.add((gpu.index, gpu.uuid))
                self._add_gpu(node, report, gpu, idle_seconds(gpu))
        if shows_users:
            self._add_users(node, report.gpus)

    def _add_gpu(self, node: str, report: Report, gpu: Gpu, idle_seconds: float | None) -> None:
        own = f'gpu="{gpu.index}",node="{escaped(node)}",uuid="{escaped(gpu.uuid or "")}"'
        named = labels(name=gpu.name or "", pci_bus_id=gpu.pci_bus_id or "", driver_version=report.driver_version or "")
        self._info.add(f"{own},{named}", 1)
        status = "asleep" if gpu.asleep and gpu.status == "ok" else gpu.status
        self._status.add_states(own, "status", status, GPU_STATES)
        self._add_faults(own, gpu)
        if self._dcgm is not None:
            self._dcgm.add(node, report, gpu)
        if gpu.status != "ok":
            return
        braces = f"{{{own}}}"
        for (append, sample, scale), value in zip(self._writers, self._values(gpu), strict=True):
            if value is not None:  # written here, since this is most of the work
                append(f"{sample}{braces} {value if scale is None else scale(value)}\n")
        if gpu.throttle_reasons is not None:
            for reason in THROTTLE_REASONS:
                self._throttled.add(f'{own},reason="{reason}"', int(reason in gpu.throttle_reasons))
        if gpu.processes is not None:
            computing = sum(process.type != "graphics" for process in gpu.processes)
            self._processes.add(own, computing + gpu.processes_truncated)
        self._idle.add(own, idle_seconds)
        for one in _without_twins(gpu.mig_devices or ()):
            slice_ = labels(mig=one.index, mig_uuid=one.uuid or "", profile=one.profile or "")
            _add_values(f"{own},{slice_}", one, self._mig)

    def _add_faults(self, own: str, gpu: Gpu) -> None:
        """What is told of a GPU also after it is lost."""
        found: defaultdict[int, int] = defaultdict(int)
        for xid in (gpu.xids or ())[:MOST_XIDS]:
            found[xid.code] += xid.count
        for code, count in found.items():
            self._xids.add(f'{own},xid="{code}"', count)
        if (rows := gpu.remapped_rows) is not None:
            self._remapped.add(f'{own},cause="correctable"', rows.correctable)
            self._remapped.add(f'{own},cause="uncorrectable"', rows.uncorrectable)
            self._remap_pending.add(own, int(rows.pending))
            self._remap_failed.add(own, int(rows.failure))

    def _add_users(self, node: str, gpus: Sequence[Gpu]) -> None:
        memory: defaultdict[str, int] = defaultdict(int)
        used: defaultdict[str, set[int]] = defaultdict(set)
        for gpu in gpus:
            if gpu.status != "ok":
                continue
            for process in gpu.processes or ():
                if process.user is not None and process.type != "graphics":
                    used[process.user].add(gpu.index)
                    if process.memory_used_bytes is not None:
                        memory[process.user] += process.memory_used_bytes
        users = sorted(used, key=lambda one: (one == OTHERS, -memory.get(one, 0), one))
        named = [one for one in users[:MOST_USERS] if one != OTHERS]
        for user in named:
            own = labels(node=node, user=user)
            self._user_gpus.add(own, len(used[user]))
            self._user_memory.add(own, memory.get(user))
        if rest := users[len(named) :]:
            own = labels(node=node, user=OTHERS)
            self._user_gpus.add(own, len(set().union(*(used[one] for one in rest))))
            known = [memory[one] for one in rest if one in memory]
            self._user_memory.add(own, sum(known) if known else None)


def _add_values(own: str, part: Host | Cost | MigDevice, columns: Iterable[Column]) -> None:
    for field, family, scale in columns:
        value = getattr(part, field)
        family.add(own, value if value is None or scale is None else scale(value))


def _without_twins(slices: Sequence[MigDevice]) -> Iterable[MigDevice]:
    """One of each index: a report that has two is wrong."""
    return {one.index: one for one in slices}.values()
