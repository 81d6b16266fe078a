"""What kinds of GPU are like, for simulations: their size, and what their drivers answer for.

A field that a board's driver does not know is in ``unsupported``: it is null in a report, with that reason.
Sizes and limits are those of the boards' data sheets; the rest is what such boards are usually seen to tell.
"""

from typing import Final

from msgspec import Struct, structs

from gpumon.model import MemoryKind

MIB: Final = 1024 * 1024


class Board(Struct, frozen=True, kw_only=True):
    """A kind of GPU. ``mig`` is the profile of the slices that it is cut into, and how many there are."""

    name: str
    memory_mib: int
    memory_kind: MemoryKind = "dedicated"
    reserved_mib: int = 0
    idle_watts: float
    power_limit_watts: float
    slowdown_celsius: float
    sm_clock_megahertz: float
    idle_sm_clock_megahertz: float
    memory_clock_megahertz: float
    idle_memory_clock_megahertz: float
    pcie_generation: int = 0
    pcie_width: int = 16
    nvlink_count: int = 0
    draws_desktop: bool = False
    mig: tuple[str, int, int] | None = None  # profile, how many, MiB of each
    unsupported: frozenset[str] = frozenset()

    @property
    def has_ecc(self) -> bool:
        """Whether its memory tells of errors."""
        return "ecc_uncorrected_total" not in self.unsupported


_FANLESS = frozenset({"fan_speed_percent"})
_ECC = frozenset(
    {
        "ecc_uncorrected_total",
        "ecc_corrected_total",
        "ecc_uncorrected_lifetime_total",
        "ecc_corrected_lifetime_total",
        "remapped_rows",
        "recovery_action",
    }
)
_NO_MIG = frozenset({"mig_enabled", "mig_devices"})
_NO_NVLINK = frozenset({"nvlink_active_count", "nvlink_count"})
_PCIE = frozenset({"pcie_generation", "pcie_generation_max", "pcie_width", "pcie_width_max"})
_RATES = frozenset(
    {
        "utilization_percent",
        "memory_utilization_percent",
        "encoder_utilization_percent",
        "decoder_utilization_percent",
    }
)

_A100 = Board(
    name="NVIDIA A100-SXM4-80GB",
    memory_mib=81_920,
    reserved_mib=599,
    idle_watts=56,
    power_limit_watts=400,
    slowdown_celsius=92,
    sm_clock_megahertz=1410,
    idle_sm_clock_megahertz=210,
    memory_clock_megahertz=1593,
    idle_memory_clock_megahertz=1593,
    pcie_generation=4,
    nvlink_count=12,
    unsupported=_FANLESS | {"power_draw_average_watts"},  # its chip is the last that only knows the instant
)

BOARDS: Final[dict[str, Board]] = {
    "h200": Board(
        name="NVIDIA H200",
        memory_mib=143_771,
        reserved_mib=625,
        idle_watts=78,
        power_limit_watts=700,
        slowdown_celsius=92,
        sm_clock_megahertz=1980,
        idle_sm_clock_megahertz=345,
        memory_clock_megahertz=3201,
        idle_memory_clock_megahertz=3201,
        pcie_generation=5,
        nvlink_count=18,
        unsupported=_FANLESS,
    ),
    "a100": _A100,
    "a100-mig": structs.replace(
        _A100,
        nvlink_count=0,
        mig=("1g.10gb", 7, 9728),
        unsupported=_A100.unsupported | _RATES | _NO_NVLINK,  # a partitioned GPU tells no rates, its slices neither
    ),
    "rtx5090": Board(
        name="NVIDIA GeForce RTX 5090",
        memory_mib=32_607,
        reserved_mib=480,
        idle_watts=14,
        power_limit_watts=575,
        slowdown_celsius=90,
        sm_clock_megahertz=2850,
        idle_sm_clock_megahertz=180,
        memory_clock_megahertz=14_001,
        idle_memory_clock_megahertz=405,
        pcie_generation=5,
        draws_desktop=True,
        unsupported=_ECC | _NO_MIG | _NO_NVLINK | {"memory_temperature_celsius"},
    ),
    "gb10": Board(
        name="NVIDIA GB10",
        memory_mib=122_570,
        memory_kind="unified",
        idle_watts=5,
        power_limit_watts=100,
        slowdown_celsius=95,
        sm_clock_megahertz=2418,
        idle_sm_clock_megahertz=208,
        memory_clock_megahertz=0,
        idle_memory_clock_megahertz=0,
        draws_desktop=True,
        unsupported=_FANLESS
        | _ECC
        | _NO_MIG
        | _NO_NVLINK
        | _PCIE
        | {
            "memory_utilization_percent",
            "memory_reserved_bytes",
            "memory_ledger",
            "memory_temperature_celsius",
            "power_limit_watts",
            "memory_clock_megahertz",
            "memory_clock_max_megahertz",
        },
    ),
}
"""By the names under which a simulation is asked for."""
