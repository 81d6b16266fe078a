"""The page of nvidia_gpu_exporter, read as a report of ours.

It runs ``nvidia-smi`` and names its metrics as the fields of ``nvidia-smi --query-gpu`` (or asks NVML itself, with the
same names). Values are in base units: bytes, watts, hertz, and ratios from 0 to 1. UUIDs have lost their ``GPU-``,
which is given back here, or a GPU would be another one on the day its node runs an agent. Processes are told where
the exporter was started with ``--collect.compute-apps``: those that compute. Slices of MIG are told where it asks NVML.

Version 1 writes down a word by the number that is in it, if it is only one: a pending "Drain P2P" is 2 there, which is
"Node Reboot" in version 2. So words are read from version 2 alone, which says when it has read the GPUs well.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from msgspec import structs

from gpumon.errors import WireError
from gpumon.hub.exposition import Series, series
from gpumon.hub.foreign import MOST_SLICES, THROTTLING, Board, Boards, index_of, pid_of, program, report
from gpumon.model import Fault, MigDevice, Process, RemappedRows, Report
from gpumon.timestamp import rfc3339

P: Final = "nvidia_smi_"
NUMBERS: Final = {
    "utilization_gpu_ratio": ("utilization_percent", 100.0),
    "utilization_memory_ratio": ("memory_utilization_percent", 100.0),
    "utilization_encoder_ratio": ("encoder_utilization_percent", 100.0),
    "utilization_decoder_ratio": ("decoder_utilization_percent", 100.0),
    "memory_total_bytes": ("memory_total_bytes", 1.0),
    "memory_used_bytes": ("memory_used_bytes", 1.0),
    "memory_free_bytes": ("memory_free_bytes", 1.0),
    "memory_reserved_bytes": ("memory_reserved_bytes", 1.0),
    "temperature_gpu": ("temperature_celsius", 1.0),
    "temperature_memory": ("memory_temperature_celsius", 1.0),
    "fan_speed_ratio": ("fan_speed_percent", 100.0),
    "power_draw_watts": ("power_draw_watts", 1.0),
    "power_draw_average_watts": ("power_draw_average_watts", 1.0),
    "power_draw_instant_watts": ("power_draw_instant_watts", 1.0),
    "enforced_power_limit_watts": ("power_limit_watts", 1.0),
    "energy_joules_total": ("energy_joules_total", 1.0),
    "clocks_current_sm_clock_hz": ("sm_clock_megahertz", 1e-6),
    "clocks_current_memory_clock_hz": ("memory_clock_megahertz", 1e-6),
    "clocks_max_sm_clock_hz": ("sm_clock_max_megahertz", 1e-6),
    "clocks_max_memory_clock_hz": ("memory_clock_max_megahertz", 1e-6),
    "ecc_errors_uncorrected_volatile_total": ("ecc_uncorrected_total", 1.0),
    "ecc_errors_corrected_volatile_total": ("ecc_corrected_total", 1.0),
    "ecc_errors_uncorrected_aggregate_total": ("ecc_uncorrected_lifetime_total", 1.0),
    "ecc_errors_corrected_aggregate_total": ("ecc_corrected_lifetime_total", 1.0),
    "pcie_link_gen_current": ("pcie_generation", 1.0),
    "pcie_link_gen_max": ("pcie_generation_max", 1.0),
    "pcie_link_width_current": ("pcie_width", 1.0),
    "pcie_link_width_max": ("pcie_width_max", 1.0),
}
SWITCHES: Final = {"persistence_mode": "persistence_mode", "mig_mode_current": "mig_enabled"}
COMPUTE_MODES: Final[Mapping[float, str]] = {
    0: "default",
    1: "exclusive_thread",
    2: "prohibited",
    3: "exclusive_process",
}
RECOVERY_ACTIONS: Final[Mapping[float, str]] = {
    0: "none",
    1: "gpu_reset",
    2: "node_reboot",
    3: "drain_p2p",
    4: "drain_and_reset",
}
REMAPPED: Final = tuple(f"remapped_rows_{part}" for part in ("correctable", "uncorrectable", "pending", "failure"))
THROTTLING_PREFIXES: Final = ("clocks_event_reasons_", "clocks_throttle_reasons_")
"""The newer name first: drivers before 535 have the other one."""
OTHERS: Final = ("index", "pstate", "compute_mode", "gpu_recovery_action", *REMAPPED, *SWITCHES)
INFO, APP, APPS = "gpu_info", "compute_app_info", "compute_apps"
SLICE: Final = "mig_info"
OF_A_SLICE: Final = {f"mig_memory_{part}_bytes": f"memory_{part}_bytes" for part in ("total", "used", "free")}
APP_MEMORY: Final = "compute_app_used_memory_bytes"
APPS_WELL: Final = "compute_apps_last_collect_success"
WELL, WELL_AT = "last_collect_success", "last_collect_success_timestamp_seconds"
EXIT_CODE: Final = "command_exit_code"
RETURN_CODE: Final = "nvml_return_code"
OF_THE_EXPORTER: Final = (WELL, WELL_AT, EXIT_CODE, RETURN_CODE, APPS_WELL)
WANTED: Final = frozenset(
    P + name
    for name in (
        *(*NUMBERS, *OTHERS, INFO, APP, APPS, APP_MEMORY, SLICE, *OF_A_SLICE, *OF_THE_EXPORTER),
        *(prefix + reason for prefix in THROTTLING_PREFIXES for reason in THROTTLING),
    )
)
OF_PROCESSES: Final = frozenset({"name", "type", "memory_used_bytes"})


@dataclass(slots=True)
class _Gpu:
    """A GPU, what is told of it that is no field by itself, its slices, and the memory of a GPU instance by its id."""

    board: Board
    others: dict[str, float] = field(default_factory=dict)
    slices: list[MigDevice] = field(default_factory=list)
    memories: dict[int | None, Board] = field(default_factory=dict)


def read(body: bytes, node: str) -> Report:
    """The page as the report of ``node``. Raises :class:`WireError`."""
    boards = Boards()
    gpus: dict[int, _Gpu] = {}
    exporter: dict[str, float] = {}
    facts: dict[str, str | None] = {}
    found = series(body, WANTED)
    for one in found:
        uuid, name = one.labels.get("uuid"), one.name.removeprefix(P)
        if uuid is None:
            exporter[name] = one.value
            continue
        board = boards.at(uuid)
        board.values["uuid"] = _uuid(uuid)
        gpu = gpus.setdefault(id(board), _Gpu(board))
        if name == INFO:
            _identify(board, one.labels, facts)
        else:
            _take(gpu, name, one)
    if not found:
        raise WireError("none of the metrics of nvidia_gpu_exporter are in it")
    for gpu in gpus.values():
        _finish(gpu, exporter)
    moment = _moment(exporter.get(WELL_AT))
    return report(node, boards.gpus(OF_PROCESSES), facts, sampled_at=moment, error=_trouble(exporter))


def _uuid(text: str) -> str:
    """A UUID as the driver writes it: the exporter leaves ``GPU-`` out and makes letters small."""
    kind, _, rest = text.partition("-")
    return (f"{kind.upper()}-{rest}" if kind.upper() in ("GPU", "MIG") else f"GPU-{text}")[:256]


def _identify(board: Board, labels: Mapping[str, str], facts: dict[str, str | None]) -> None:
    board.index = index_of(labels.get("index"))
    board.text("name", labels.get("name"))
    board.text("pci_bus_id", labels.get("pci_bus_id"))
    facts["driver_version"] = labels.get("driver_version")
    facts["cuda_version"] = labels.get("cuda_version")


def _take(gpu: _Gpu, name: str, one: Series) -> None:
    if name in (APP, APP_MEMORY):
        _add_process(gpu.board, name, one)
    elif name == SLICE:
        _add_slice(gpu, one.labels)
    elif name in OF_A_SLICE:
        instance = index_of(one.labels.get("gpu_instance_id"))
        if len(gpu.memories) < MOST_SLICES:
            gpu.memories.setdefault(instance, Board(instance)).number(OF_A_SLICE[name], one.value)
    elif name in NUMBERS:
        gpu.board.number(NUMBERS[name][0], one.value, NUMBERS[name][1])
    else:
        gpu.others[name] = one.value


def _add_slice(gpu: _Gpu, labels: Mapping[str, str]) -> None:
    place, uuid, profile = len(gpu.slices), labels.get("mig_uuid"), labels.get("profile")
    if place == MOST_SLICES:
        raise WireError(f"more than {MOST_SLICES} MIG devices of one GPU")
    gpu.slices.append(
        MigDevice(
            index=place,
            uuid=_uuid(uuid) if uuid else None,
            profile=profile[:256] if profile else None,
            gpu_instance_id=index_of(labels.get("gpu_instance_id")),
            compute_instance_id=index_of(labels.get("compute_instance_id")),
        )
    )


def _add_process(board: Board, name: str, one: Series) -> None:
    pid = pid_of(one.labels.get("pid"))
    if pid is not None:
        used = round(one.value) if name == APP_MEMORY and 0 <= one.value <= 2**53 else None
        called = program(one.labels.get("process_name"))
        board.process(Process(pid=pid, name=called, type="compute", memory_used_bytes=used))


def _finish(gpu: _Gpu, exporter: Mapping[str, float]) -> None:
    """Put together what is no number by itself."""
    board, raw = gpu.board, gpu.others
    if exporter.get(APPS_WELL) == 1:
        board.tells_processes()
    if board.index is None and "index" in raw:  # version 1 has it here only
        board.index = index_of(f"{raw['index']:.0f}")
    for name, field_ in SWITCHES.items():
        if raw.get(name) in (0, 1):
            board.values[field_] = raw[name] == 1
    if 0 <= (state := raw.get("pstate", -1)) <= 15:
        board.values["performance_state"] = f"P{state:.0f}"
    board.text("compute_mode", COMPUTE_MODES.get(raw.get("compute_mode", -1)))
    if WELL in exporter:
        board.text("recovery_action", RECOVERY_ACTIONS.get(raw.get("gpu_recovery_action", -1)))
    if all(0 <= raw.get(name, -1) <= 2**53 for name in REMAPPED):
        correctable, uncorrectable, pending, failure = (int(raw[name]) for name in REMAPPED)
        board.values["remapped_rows"] = RemappedRows(
            correctable=correctable, uncorrectable=uncorrectable, pending=pending > 0, failure=failure > 0
        )
    if gpu.slices or board.values.get("mig_enabled") is False:
        board.values["mig_devices"] = [_with_memory(one, gpu.memories) for one in gpu.slices]
    for prefix in THROTTLING_PREFIXES:
        if any(prefix + reason in raw for reason in THROTTLING):
            board.values["throttle_reasons"] = [one for one in THROTTLING if raw.get(prefix + one) == 1]
            return


def _with_memory(one: MigDevice, memories: Mapping[int | None, Board]) -> MigDevice:
    """A slice with the memory of its GPU instance, which its compute instances share."""
    memory = memories.get(one.gpu_instance_id)
    return one if memory is None else structs.replace(one, **memory.values)


def _trouble(exporter: Mapping[str, float]) -> Fault | None:
    """What the exporter says of its last reading of all GPUs, where that failed."""
    code = exporter.get(EXIT_CODE, exporter.get(RETURN_CODE))
    if exporter.get(WELL, 1.0) == 1 and not code:
        return None
    why = "it has not tried yet"
    if code is not None:
        who = "nvidia-smi ended with status" if EXIT_CODE in exporter else "NVML answered with code"
        why = f"{who} {code:.0f}"
    return Fault(
        code="exporter_failed",
        message=f"nvidia_gpu_exporter could not read the GPUs there ({why}).",
        hint="See whether nvidia-smi works there, and the exporter's log.",
    )


def _moment(seconds: float | None) -> str | None:
    try:
        return rfc3339(seconds) if seconds is not None and seconds > 0 else None
    except (ValueError, OverflowError, OSError):
        return None
