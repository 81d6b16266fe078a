"""The page of nvidia_gpu_exporter, read as a report of ours.

It runs ``nvidia-smi`` and names its metrics as the fields of ``nvidia-smi --query-gpu`` (or asks NVML itself, with the
same names). Values are in base units: bytes, watts, hertz, and ratios from 0 to 1. UUIDs have lost their ``GPU-``,
which is given back here, or a GPU would be another one on the day its node runs an agent. Processes are told where
the exporter was started with ``--collect.compute-apps``: those that compute.
"""

from collections.abc import Mapping
from typing import Final

from gpumon.errors import WireError
from gpumon.hub.exposition import Series, series
from gpumon.hub.foreign import Board, Boards, index_of, pid_of, program, report
from gpumon.model import Fault, Process, RemappedRows, Report
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
THROTTLING_PREFIXES: Final = ("clocks_event_reasons_", "clocks_throttle_reasons_")
"""The newer name first: drivers before 535 have the other one."""
OTHERS: Final = ("pstate", "compute_mode", "gpu_recovery_action", *REMAPPED, *SWITCHES)
INFO, APP, APPS = "gpu_info", "compute_app_info", "compute_apps"
APP_MEMORY: Final = "compute_app_used_memory_bytes"
APPS_WELL: Final = "compute_apps_last_collect_success"
WELL, WELL_AT = "last_collect_success", "last_collect_success_timestamp_seconds"
EXIT_CODE: Final = "command_exit_code"
RETURN_CODE: Final = "nvml_return_code"
OF_THE_EXPORTER: Final = (WELL, WELL_AT, EXIT_CODE, RETURN_CODE, APPS_WELL)
WANTED: Final = frozenset(
    P + name
    for name in (
        *(*NUMBERS, *OTHERS, INFO, APP, APPS, APP_MEMORY, *OF_THE_EXPORTER),
        *(prefix + reason for prefix in THROTTLING_PREFIXES for reason in THROTTLING),
    )
)
OF_PROCESSES: Final = frozenset({"name", "type", "memory_used_bytes"})


def read(body: bytes, node: str) -> Report:
    """The page as the report of ``node``. Raises :class:`WireError`."""
    boards = Boards()
    raw: dict[int, dict[str, float]] = {}
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
        if name == INFO:
            _identify(board, one.labels, facts)
        elif name in (APP, APP_MEMORY):
            _add_process(board, name, one)
        elif name in NUMBERS:
            board.number(NUMBERS[name][0], one.value, NUMBERS[name][1])
        else:
            raw.setdefault(id(board), {})[name] = one.value
    if not found:
        raise WireError("none of the metrics of nvidia_gpu_exporter are in it")
    for board in boards.all():
        _finish(board, raw.get(id(board), {}), tells_processes=exporter.get(APPS_WELL) == 1)
    moment = _moment(exporter.get(WELL_AT))
    return report(node, boards.gpus(OF_PROCESSES), facts, sampled_at=moment, error=_trouble(exporter))


def _uuid(text: str) -> str:
    return (text if text.upper().startswith(("GPU-", "MIG-")) else f"GPU-{text}")[:256]


def _identify(board: Board, labels: Mapping[str, str], facts: dict[str, str | None]) -> None:
    board.index = index_of(labels.get("index"))
    board.text("name", labels.get("name"))
    board.text("pci_bus_id", labels.get("pci_bus_id"))
    facts["driver_version"] = labels.get("driver_version")
    facts["cuda_version"] = labels.get("cuda_version")


def _add_process(board: Board, name: str, one: Series) -> None:
    pid = pid_of(one.labels.get("pid"))
    if pid is not None:
        used = round(one.value) if name == APP_MEMORY and 0 <= one.value <= 2**53 else None
        called = program(one.labels.get("process_name"))
        board.process(Process(pid=pid, name=called, type="compute", memory_used_bytes=used))


def _finish(board: Board, raw: Mapping[str, float], *, tells_processes: bool) -> None:
    """Put together what is no number by itself."""
    if tells_processes:
        board.tells_processes()
    for name, field in SWITCHES.items():
        if raw.get(name) in (0, 1):
            board.values[field] = raw[name] == 1
    if 0 <= (state := raw.get("pstate", -1)) <= 15:
        board.values["performance_state"] = f"P{state:.0f}"
    board.text("compute_mode", COMPUTE_MODES.get(raw.get("compute_mode", -1)))
    board.text("recovery_action", RECOVERY_ACTIONS.get(raw.get("gpu_recovery_action", -1)))
    if all(0 <= raw.get(name, -1) <= 2**53 for name in REMAPPED):
        correctable, uncorrectable, pending, failure = (int(raw[name]) for name in REMAPPED)
        board.values["remapped_rows"] = RemappedRows(
            correctable=correctable, uncorrectable=uncorrectable, pending=pending > 0, failure=failure > 0
        )
    for prefix in THROTTLING_PREFIXES:
        if any(prefix + reason in raw for reason in THROTTLING):
            board.values["throttle_reasons"] = [one for one in THROTTLING if raw.get(prefix + one) == 1]
            return


def _trouble(exporter: Mapping[str, float]) -> Fault | None:
    """What the exporter says of its last reading of all GPUs, where that failed."""
    code = exporter.get(EXIT_CODE, exporter.get(RETURN_CODE, 0.0))
    if exporter.get(WELL, 1.0) == 1 and code == 0:
        return None
    who = "nvidia-smi ended with status" if EXIT_CODE in exporter else "NVML answered with code"
    return Fault(
        code="exporter_failed",
        message=f"nvidia_gpu_exporter could not read the GPUs there ({who} {code:.0f}).",
        hint="See whether nvidia-smi works there, and the exporter's log.",
    )


def _moment(seconds: float | None) -> str | None:
    try:
        return rfc3339(seconds) if seconds is not None and seconds > 0 else None
    except (ValueError, OverflowError, OSError):
        return None
