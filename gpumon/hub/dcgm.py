"""The page of NVIDIA's dcgm-exporter, read as a report of ours.

Its metrics are named as the fields of DCGM, whose units they have: memory in MiB, power in W, energy in mJ, clocks in
MHz. Which of them are there its administrator decides (a file of counters); the default ones are a part of those
that are read here. It tells no processes.

While a GPU is partitioned by MIG the exporter watches its slices: what belongs to the board, as its temperature, is
then told with each of them, and memory and utilisation are a slice's own.

Older exporters also write down what DCGM has no value for, by numbers that stand for "blank" (``DCGM_*_BLANK`` in
``dcgm_structs.h``): up to 15 above 2^31 - 16, 2^47 or 2^63 - 16.
"""

from dataclasses import dataclass, field
from typing import Final

from msgspec import structs

from gpumon.errors import WireError
from gpumon.hub.exposition import Series, series
from gpumon.hub.foreign import MIB, MOST_SLICES, THROTTLING, Board, Boards, index_of, report
from gpumon.model import MigDevice, Reason, RemappedRows, Report

OF_THE_BOARD: Final = {
    "DCGM_FI_DEV_GPU_TEMP": ("temperature_celsius", 1.0),
    "DCGM_FI_DEV_MEMORY_TEMP": ("memory_temperature_celsius", 1.0),
    "DCGM_FI_DEV_SLOWDOWN_TEMP": ("slowdown_temperature_celsius", 1.0),
    "DCGM_FI_DEV_FAN_SPEED": ("fan_speed_percent", 1.0),
    "DCGM_FI_DEV_POWER_USAGE": ("power_draw_watts", 1.0),
    "DCGM_FI_DEV_POWER_USAGE_INSTANT": ("power_draw_instant_watts", 1.0),
    "DCGM_FI_DEV_ENFORCED_POWER_LIMIT": ("power_limit_watts", 1.0),
    "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION": ("energy_joules_total", 0.001),
    "DCGM_FI_DEV_SM_CLOCK": ("sm_clock_megahertz", 1.0),
    "DCGM_FI_DEV_MEM_CLOCK": ("memory_clock_megahertz", 1.0),
    "DCGM_FI_DEV_MAX_SM_CLOCK": ("sm_clock_max_megahertz", 1.0),
    "DCGM_FI_DEV_MAX_MEM_CLOCK": ("memory_clock_max_megahertz", 1.0),
    "DCGM_FI_DEV_ECC_DBE_VOL_TOTAL": ("ecc_uncorrected_total", 1.0),
    "DCGM_FI_DEV_ECC_SBE_VOL_TOTAL": ("ecc_corrected_total", 1.0),
    "DCGM_FI_DEV_ECC_DBE_AGG_TOTAL": ("ecc_uncorrected_lifetime_total", 1.0),
    "DCGM_FI_DEV_ECC_SBE_AGG_TOTAL": ("ecc_corrected_lifetime_total", 1.0),
    "DCGM_FI_DEV_PCIE_LINK_GEN": ("pcie_generation", 1.0),
    "DCGM_FI_DEV_PCIE_MAX_LINK_GEN": ("pcie_generation_max", 1.0),
    "DCGM_FI_DEV_PCIE_LINK_WIDTH": ("pcie_width", 1.0),
    "DCGM_FI_DEV_PCIE_MAX_LINK_WIDTH": ("pcie_width_max", 1.0),
}
OF_A_SLICE: Final = {
    "DCGM_FI_DEV_GPU_UTIL": ("utilization_percent", 1.0),
    "DCGM_FI_DEV_MEM_COPY_UTIL": ("memory_utilization_percent", 1.0),
    "DCGM_FI_DEV_ENC_UTIL": ("encoder_utilization_percent", 1.0),
    "DCGM_FI_DEV_DEC_UTIL": ("decoder_utilization_percent", 1.0),
    "DCGM_FI_DEV_FB_TOTAL": ("memory_total_bytes", MIB),
    "DCGM_FI_DEV_FB_USED": ("memory_used_bytes", MIB),
    "DCGM_FI_DEV_FB_FREE": ("memory_free_bytes", MIB),
    "DCGM_FI_DEV_FB_RESERVED": ("memory_reserved_bytes", MIB),
}
REMAPPED: Final = (
    "DCGM_FI_DEV_CORRECTABLE_REMAPPED_ROWS",
    "DCGM_FI_DEV_UNCORRECTABLE_REMAPPED_ROWS",
    "DCGM_FI_DEV_ROW_REMAP_PENDING",
    "DCGM_FI_DEV_ROW_REMAP_FAILURE",
)
STATE: Final = "DCGM_FI_DEV_PSTATE"
MIG_MODE: Final = "DCGM_FI_DEV_MIG_MODE"
REASONS: Final = ("DCGM_FI_DEV_CLOCKS_EVENT_REASONS", "DCGM_FI_DEV_CLOCK_THROTTLE_REASONS")
"""Bits of NVML; the newer name first."""
METRICS: Final = OF_THE_BOARD | OF_A_SLICE
WANTED: Final = frozenset({*METRICS, *REMAPPED, *REASONS, STATE, MIG_MODE})
_BLANKS: Final = (2.0**31 - 16, 2.0**47, 2.0**63 - 16)
_BLANK_WORDS: Final[dict[float, Reason]] = {2: "unsupported", 3: "denied"}


@dataclass(slots=True)
class _Gpu:
    """A GPU, what is told of it that is no field by itself, and its slices: the board of each, by its id."""

    board: Board
    others: dict[str, float] = field(default_factory=dict)
    slices: dict[int, Board] = field(default_factory=dict)


def read(body: bytes, node: str) -> Report:
    """The page as the report of ``node``. Raises :class:`WireError`."""
    boards = Boards()
    gpus: dict[int, _Gpu] = {}
    hostname = driver = None
    for one in series(body, WANTED):
        labels = one.labels
        uuid, index = labels.get("UUID") or labels.get("uuid"), index_of(labels.get("gpu"))
        if uuid is None and index is None:  # of a link, a switch or a processor, or of nobody
            continue
        board = boards.at(uuid or f"#{index}", index)
        board.text("uuid", uuid)
        board.text("name", labels.get("modelName"))
        board.text("pci_bus_id", labels.get("pci_bus_id"))
        _take(gpus.setdefault(id(board), _Gpu(board)), one)
        hostname = hostname or labels.get("Hostname") or labels.get("hostname")
        driver = driver or labels.get("DCGM_FI_DRIVER_VERSION")
    if not len(boards):
        raise WireError("none of the metrics of dcgm-exporter are in it, or none says of which GPU it is")
    for gpu in gpus.values():
        _finish(gpu)
    return report(node, boards.gpus(), {"hostname": hostname, "driver_version": driver})


def _take(gpu: _Gpu, one: Series) -> None:
    if one.name not in METRICS:
        gpu.others[one.name] = one.value
        return
    board = gpu.board
    instance = index_of(one.labels.get("GPU_I_ID"))
    if instance is not None and one.name in OF_A_SLICE:
        if instance not in gpu.slices and len(gpu.slices) == MOST_SLICES:
            raise WireError(f"more than {MOST_SLICES} MIG devices of one GPU")
        board = gpu.slices.setdefault(instance, Board(instance))
        board.text("profile", one.labels.get("GPU_I_PROFILE"))
    name, scale = METRICS[one.name]
    if (blank := _blank(one.value)) is not None:
        board.missing(name, blank)
    else:
        board.number(name, one.value, scale)


def _blank(value: float) -> Reason | None:
    """Why DCGM has no value, where this number stands for that."""
    over = next((value - least for least in _BLANKS if 0 <= value - least < 16), None)
    return None if over is None else _BLANK_WORDS.get(over, "no_data")


def _finish(gpu: _Gpu) -> None:
    """Put together what takes more than one metric."""
    board, others = gpu.board, gpu.others
    _add_up(board)
    if 0 <= (state := others.get(STATE, -1)) <= 15:
        board.values["performance_state"] = f"P{state:.0f}"
    told = next((others[name] for name in REASONS if others.get(name, -1) >= 0 and _blank(others[name]) is None), None)
    if told is not None and told < 2**53:
        board.values["throttle_reasons"] = [one for bit, one in enumerate(THROTTLING) if int(told) >> bit & 1]
    if all(0 <= others.get(name, -1) < 2**31 - 16 for name in REMAPPED):
        correctable, uncorrectable, pending, failure = (int(others[name]) for name in REMAPPED)
        board.values["remapped_rows"] = RemappedRows(
            correctable=correctable, uncorrectable=uncorrectable, pending=pending > 0, failure=failure > 0
        )
    if gpu.slices or others.get(MIG_MODE) in (0, 1):
        board.values["mig_enabled"] = bool(gpu.slices) or others[MIG_MODE] == 1
    if gpu.slices:
        board.values["mig_devices"] = [_slice(place, one) for place, one in enumerate(gpu.slices.values())]
    elif board.values.get("mig_enabled") is False:
        board.values["mig_devices"] = []


def _add_up(board: Board) -> None:
    """The size of a memory that is told in parts only. Older exporters leave out what is reserved."""
    used, free, reserved = (board.values.get(f"memory_{part}_bytes") for part in ("used", "free", "reserved"))
    if "memory_total_bytes" not in board.values and isinstance(used, int) and isinstance(free, int):
        board.number("memory_total_bytes", used + free + (reserved if isinstance(reserved, int) else 0))


def _slice(place: int, board: Board) -> MigDevice:
    _add_up(board)
    names = ("profile", "memory_total_bytes", "memory_used_bytes", "memory_free_bytes")
    told = {name: board.values[name] for name in names if name in board.values}
    return structs.replace(MigDevice(index=place, gpu_instance_id=board.index), **told)
