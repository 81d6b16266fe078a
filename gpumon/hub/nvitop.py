"""The page of nvitop-exporter, read as a report of ours.

Of it by ``prometheus_client``: units stand at the end of the names. Memory is in MiB; what it cannot read is NaN, and
nobody learns why. Slices of MIG have an index of two numbers (``0:1``) and a UUID of their own. A process has its whole
command line in it, of which no more is shown than our own agent would tell.
"""

from collections.abc import Mapping
from typing import Final

from msgspec import structs

from gpumon.errors import WireError
from gpumon.hub.exposition import Series, series
from gpumon.hub.foreign import MIB, MOST_SLICES, TEXT_LENGTH, Board, Boards, command, index_of, pid_of, program, report
from gpumon.model import Host, MigDevice, Process, Report

NUMBERS: Final = {
    "gpu_utilization_Percentage": ("utilization_percent", 1.0),
    "gpu_memory_utilization_Percentage": ("memory_utilization_percent", 1.0),
    "gpu_encoder_utilization_Percentage": ("encoder_utilization_percent", 1.0),
    "gpu_decoder_utilization_Percentage": ("decoder_utilization_percent", 1.0),
    "gpu_memory_total_MiB": ("memory_total_bytes", MIB),
    "gpu_memory_used_MiB": ("memory_used_bytes", MIB),
    "gpu_memory_free_MiB": ("memory_free_bytes", MIB),
    "gpu_clock_sm_MHz": ("sm_clock_megahertz", 1.0),
    "gpu_clock_memory_MHz": ("memory_clock_megahertz", 1.0),
    "gpu_power_usage_W": ("power_draw_watts", 1.0),
    "gpu_power_limit_W": ("power_limit_watts", 1.0),
    "gpu_temperature_C": ("temperature_celsius", 1.0),
    "gpu_fan_speed_Percentage": ("fan_speed_percent", 1.0),
}
OF_THE_HOST: Final = {
    "host_uptime_Second": "uptime_seconds",
    "host_cpu_percent_Percentage": "cpu_utilization_percent",
    "host_load_average_1m_Percentage": "load_average_1m",
    "host_load_average_5m_Percentage": "load_average_5m",
    "host_load_average_15m_Percentage": "load_average_15m",
    "host_virtual_memory_total_MiB": "memory_total_bytes",
    "host_virtual_memory_percent_Percentage": "",
    "host_swap_memory_total_MiB": "swap_total_bytes",
    "host_swap_memory_used_MiB": "swap_used_bytes",
    "host_disk_usage_total_MiB": "disk_total_bytes",
    "host_disk_usage_free_MiB": "disk_free_bytes",
}
"""Loads are no percentages, whatever they are called there."""
INFO: Final = "nvitop_info"
PROCESS: Final = "process_info_info"
PROCESS_MEMORY: Final = "process_gpu_memory_MiB"
PROCESS_LOAD: Final = "process_gpu_sm_utilization_Percentage"
WANTED: Final = frozenset({*NUMBERS, *OF_THE_HOST, INFO, PROCESS, PROCESS_MEMORY, PROCESS_LOAD})
OF_PROCESSES: Final = frozenset({"name", "user", "command", "memory_used_bytes", "utilization_percent"})


def read(body: bytes, node: str) -> Report:
    """The page as the report of ``node``. Raises :class:`WireError`."""
    boards, slices = Boards(), Boards()
    facts: dict[str, str | None] = {}
    host: dict[str, float] = {}
    found = series(body, WANTED)
    for one in found:
        if one.name in OF_THE_HOST:
            if one.labels.get("mountpoint", "/") == "/":
                host[one.name] = one.value
        elif one.name == INFO:
            facts["hostname"] = one.labels.get("hostname")
            facts["driver_version"] = _known(one.labels.get("driver_version"))
            facts["cuda_version"] = _known(one.labels.get("cuda_driver_version"))
        else:
            _take(boards, slices, one)
    if INFO not in {one.name for one in found}:
        raise WireError("none of the metrics of nvitop-exporter are in it")
    _partition(boards, slices)
    return report(node, boards.gpus(OF_PROCESSES), facts, host=_host(host))


def _take(boards: Boards, slices: Boards, one: Series) -> None:
    index, _, of_slice = one.labels.get("index", "").partition(":")
    uuid = one.labels.get("uuid")
    board = (slices if of_slice else boards).at(uuid or one.labels.get("index", ""), index_of(index))
    board.text("uuid", uuid)
    board.text("name", one.labels.get("devicename"))
    board.tells_processes()
    if one.name in NUMBERS:
        name, scale = NUMBERS[one.name]
        board.number(name, one.value, scale)
    elif (pid := pid_of(one.labels.get("pid"))) is not None:
        board.process(_process(pid, one))


def _process(pid: int, one: Series) -> Process:
    user = _known(one.labels.get("username"))
    process = Process(pid=pid, user=user[:TEXT_LENGTH] if user else None)
    if one.name == PROCESS:
        line = _known(one.labels.get("command")) or ""
        return structs.replace(process, name=program(line.partition(" ")[0].strip("\"'")), command=command([line]))
    if one.name == PROCESS_MEMORY:
        return structs.replace(process, memory_used_bytes=_bytes(one.value))
    return structs.replace(process, utilization_percent=one.value if 0 <= one.value <= 100 else None)


def _partition(boards: Boards, slices: Boards) -> None:
    """Give each GPU its slices."""
    for board in boards.all():
        mine = [one for one in slices.all() if one.index is not None and one.index == board.index]
        if len(mine) > MOST_SLICES:
            raise WireError(f"more than {MOST_SLICES} MIG devices of one GPU")
        if mine:
            board.values["mig_enabled"] = True
            board.values["mig_devices"] = [_slice(place, one) for place, one in enumerate(mine)]


def _slice(place: int, board: Board) -> MigDevice:
    gpu = board.gpu(place, frozenset(), OF_PROCESSES)
    profile = (gpu.name or "").rpartition("MIG ")[2]
    return MigDevice(
        index=place,
        uuid=gpu.uuid,
        name=gpu.name,
        profile=profile if profile != gpu.name else None,
        memory_total_bytes=gpu.memory_total_bytes,
        memory_used_bytes=gpu.memory_used_bytes,
        memory_free_bytes=gpu.memory_free_bytes,
        processes=gpu.processes,
    )


def _host(told: Mapping[str, float]) -> Host | None:
    values: dict[str, float | int] = {}
    for name, value in told.items():
        field = OF_THE_HOST[name]
        most = 100.0 if field == "cpu_utilization_percent" else 2.0**53
        if field.endswith("_bytes"):
            if (size := _bytes(value)) is not None:
                values[field] = size
        elif field and 0 <= value <= most:
            values[field] = value
    used = told.get("host_virtual_memory_percent_Percentage", -1.0)
    if "memory_total_bytes" in values and 0 <= used <= 100:  # psutil's percentage is of what is not available
        values["memory_available_bytes"] = round(values["memory_total_bytes"] * (100 - used) / 100)
    return structs.replace(Host(), **values) if values else None


def _bytes(mebibytes: float) -> int | None:
    return round(mebibytes * MIB) if 0 <= mebibytes <= 2**33 else None


def _known(text: str | None) -> str | None:
    return None if text in (None, "", "N/A") else text
