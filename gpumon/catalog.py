"""One row per metric: whatever lists metrics reads it here.

Adding a metric is a field of :class:`gpumon.model.Gpu`, the line that reads it in the agent, and a row.
"""

from typing import Literal

from msgspec import Struct

Kind = Literal["gauge", "counter"]


class Metric(Struct, frozen=True, kw_only=True):
    """A number that a GPU has. ``field`` is its name in a report; ``unit`` is the field's own.

    The hub remembers what is ``in_history`` (:mod:`gpumon.hub.history`). What is ``derived`` stands in no report: it is
    made of what does.
    """

    field: str
    unit: str
    kind: Kind
    help: str
    in_history: bool = False
    derived: bool = False


def _gauge(field: str, unit: str, help: str, *, in_history: bool = False) -> Metric:
    return Metric(field=field, unit=unit, kind="gauge", help=help, in_history=in_history)


def _counter(field: str, unit: str, help: str) -> Metric:
    return Metric(field=field, unit=unit, kind="counter", help=help)


METRICS: tuple[Metric, ...] = (
    _gauge(
        "utilization_percent",
        "percent",
        "Share of the last sample period in which a kernel was running",
        in_history=True,
    ),
    _gauge("memory_utilization_percent", "percent", "Share of the last sample period with memory traffic"),
    _gauge("encoder_utilization_percent", "percent", "Time that the video encoder was busy"),
    _gauge("decoder_utilization_percent", "percent", "Time that the video decoder was busy"),
    _gauge("memory_total_bytes", "bytes", "Memory that the GPU has"),
    _gauge("memory_used_bytes", "bytes", "Memory that is allocated, without what the driver reserves", in_history=True),
    _gauge("memory_free_bytes", "bytes", "Memory that can still be allocated"),
    _gauge("memory_reserved_bytes", "bytes", "Memory that the driver and the firmware keep for themselves"),
    _gauge("temperature_celsius", "celsius", "Temperature of the GPU", in_history=True),
    _gauge("memory_temperature_celsius", "celsius", "Temperature of the memory", in_history=True),
    _gauge("slowdown_temperature_celsius", "celsius", "Temperature at which the GPU slows itself down"),
    _gauge("fan_speed_percent", "percent", "Fan speed that is asked for, as a share of the maximum", in_history=True),
    _gauge(
        "power_draw_watts",
        "watts",
        "Power drawn by the board (averaged over about a second on newer boards)",
        in_history=True,
    ),
    _gauge("power_draw_average_watts", "watts", "Power drawn by the board, averaged by the driver"),
    _gauge("power_draw_instant_watts", "watts", "Power drawn by the board at this moment"),
    _gauge("power_limit_watts", "watts", "Power limit in force"),
    _counter("energy_joules_total", "joules", "Energy used since the driver was loaded"),
    _gauge("sm_clock_megahertz", "megahertz", "Clock of the streaming multiprocessors", in_history=True),
    _gauge("sm_clock_max_megahertz", "megahertz", "Highest clock of the streaming multiprocessors"),
    _gauge("memory_clock_megahertz", "megahertz", "Clock of the memory"),
    _gauge("memory_clock_max_megahertz", "megahertz", "Highest clock of the memory"),
    _counter("ecc_uncorrected_total", "errors", "Uncorrected memory errors since the driver was loaded"),
    _counter("ecc_corrected_total", "errors", "Corrected memory errors since the driver was loaded"),
    _counter("ecc_uncorrected_lifetime_total", "errors", "Uncorrected memory errors in the life of the board"),
    _counter("ecc_corrected_lifetime_total", "errors", "Corrected memory errors in the life of the board"),
    _gauge("pcie_generation", "generation", "PCIe generation of the link now"),
    _gauge("pcie_generation_max", "generation", "PCIe generation that board and slot could use"),
    _gauge("pcie_width", "lanes", "PCIe lanes in use now"),
    _gauge("pcie_width_max", "lanes", "PCIe lanes that board and slot could use"),
    _gauge("nvlink_active_count", "links", "NVLinks that are up"),
    _gauge("nvlink_count", "links", "NVLinks that the GPU has"),
    Metric(
        field="throttled_percent",
        unit="percent",
        kind="gauge",
        help="Share of the time in which heat, the power supply or a fault slowed the GPU down; no mere power cap",
        in_history=True,
        derived=True,
    ),
)
