"""The names of NVIDIA's dcgm-exporter, so that boards and alerts that were made for it go on working.

Names, units and labels are those of its ``etc/default-counters.csv``: mebibytes, millijoules, percent. It has series
for slices of MIG and labels of Kubernetes as well, which we do not have. Its counters do not end in ``_total``, as
OpenMetrics asks of a counter; so they are of no type here, which makes no difference to a query.
"""

from collections.abc import Callable
from typing import Final, NamedTuple

from gpumon.catalog import METRICS
from gpumon.model import Gpu, Report
from gpumon.prometheus import Family, Kind, labels

MIB: Final = 2**20
PREFIX: Final = "DCGM_FI_DEV_"
VALUES: Final = (
    ("SM_CLOCK", "sm_clock_megahertz", "MHz", 1),
    ("MEM_CLOCK", "memory_clock_megahertz", "MHz", 1),
    ("GPU_TEMP", "temperature_celsius", "°C", 1),
    ("MEMORY_TEMP", "memory_temperature_celsius", "°C", 1),
    ("POWER_USAGE", "power_draw_watts", "W", 1),
    ("TOTAL_ENERGY_CONSUMPTION", "energy_joules_total", "mJ", 1000),
    ("GPU_UTIL", "utilization_percent", "%", 1),
    ("MEM_COPY_UTIL", "memory_utilization_percent", "%", 1),
    ("ENC_UTIL", "encoder_utilization_percent", "%", 1),
    ("DEC_UTIL", "decoder_utilization_percent", "%", 1),
    ("FAN_SPEED", "fan_speed_percent", "%", 1),
    ("FB_FREE", "memory_free_bytes", "MiB", 1 / MIB),
    ("FB_USED", "memory_used_bytes", "MiB", 1 / MIB),
    ("FB_RESERVED", "memory_reserved_bytes", "MiB", 1 / MIB),
    ("ECC_SBE_VOL_TOTAL", "ecc_corrected_total", "errors", 1),
    ("ECC_DBE_VOL_TOTAL", "ecc_uncorrected_total", "errors", 1),
    ("ECC_SBE_AGG_TOTAL", "ecc_corrected_lifetime_total", "errors", 1),
    ("ECC_DBE_AGG_TOTAL", "ecc_uncorrected_lifetime_total", "errors", 1),
)
"""NVIDIA's field, ours, and NVIDIA's unit: so many of it are one of ours."""


class _Field(NamedTuple):
    family: Family
    read: Callable[[Gpu], float | None]
    is_fault: bool
    """Told of a GPU also after it is lost."""


class DcgmNames:
    """The metrics of any number of GPUs under NVIDIA's names."""

    def __init__(self) -> None:
        self._fields = [*map(_value, VALUES)]
        self._fields += [
            _fault("XID_ERRORS", "Number of the newest Xid error, 0 if there was none", _last_xid),
            _rows("UNCORRECTABLE_REMAPPED_ROWS", "uncorrectable", "Rows replaced for uncorrectable errors", "unknown"),
            _rows("CORRECTABLE_REMAPPED_ROWS", "correctable", "Rows replaced for correctable errors", "unknown"),
            _rows("ROW_REMAP_FAILURE", "failure", "1 if a row could not be replaced", "gauge"),
        ]

    @property
    def families(self) -> list[Family]:
        return [field.family for field in self._fields]

    def add(self, node: str, report: Report, gpu: Gpu) -> None:
        """Add what is known of ``gpu``. The host is called as its node, which is no other's name."""
        own = labels(
            gpu=gpu.index,
            UUID=gpu.uuid or "",
            pci_bus_id=gpu.pci_bus_id or "",
            device=f"nvidia{gpu.index}",
            modelName=gpu.name or "",
            Hostname=node,
            DCGM_FI_DRIVER_VERSION=report.driver_version or "",
        )
        is_well = gpu.status == "ok"
        for family, read, is_fault in self._fields:
            if is_well or is_fault:
                family.add(own, read(gpu))


def _value(row: tuple[str, str, str, float]) -> _Field:
    name, field, unit, factor = row
    metric = next(one for one in METRICS if one.field == field)

    def read(gpu: Gpu) -> float | None:
        value: float | None = getattr(gpu, field)
        return None if value is None else value * factor

    kind: Kind = "unknown" if metric.kind == "counter" else "gauge"
    return _Field(Family(PREFIX + name, f"{metric.help} ({unit}).", kind), read, is_fault=False)


def _fault(name: str, help: str, read: Callable[[Gpu], float | None], kind: Kind = "gauge") -> _Field:
    return _Field(Family(PREFIX + name, f"{help}.", kind), read, is_fault=True)


def _rows(name: str, field: str, help: str, kind: Kind) -> _Field:
    def read(gpu: Gpu) -> float | None:
        return None if gpu.remapped_rows is None else int(getattr(gpu.remapped_rows, field))

    return _fault(name, help, read, kind)


def _last_xid(gpu: Gpu) -> float | None:
    """The newest is told first."""
    return None if gpu.xids is None else gpu.xids[0].code if gpu.xids else 0
