"""One table: what a report tells of a GPU, how it is read, and how often.

Adding a metric is one row of :data:`FIELDS`. ``fast`` values are read in every pass; ``slow`` ones, which
cost more or change less, on a beat of their own; ``static`` ones once a minute.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final, Literal

import pynvml as nvml

from gpumon.agent import calls
from gpumon.agent.device import Device, UnavailableError
from gpumon.agent.fieldvalues import field, field_or, nvlink_active_count, nvlink_count
from gpumon.agent.memory import is_integrated, memory, memory_reserved
from gpumon.agent.mig import mig_devices, mig_enabled
from gpumon.agent.processlists import memory_ledger, processes
from gpumon.agent.strings import name, pci_bus_id, uuid
from gpumon.agent.words import COMPUTE_MODES, RECOVERY_ACTIONS, THROTTLE_REASONS

Beat = Literal["fast", "slow", "static"]
Read = Callable[[Device], object]


def remembered_name(device: Device) -> str:
    device.name = ""
    device.name = name(device)  # decides what kind of board it is
    return device.name


def unless_mig(read: Read) -> Read:
    """Of a GPU that is partitioned the driver does not know it; some have answered nonsense."""

    def guarded(device: Device) -> object:
        if device.mig:
            raise UnavailableError("unsupported")
        return read(device)

    return guarded


def on_pci(function: Callable[[Any], int]) -> Read:
    """Boards that are one with the processor have no such link, though they tell of one."""

    def guarded(device: Device) -> object:
        if is_integrated(device):
            raise UnavailableError("unsupported")
        return device.ask(function)

    return guarded


def temperature(device: Device) -> int:
    told = device.first((calls.temperature,), (nvml.nvmlDeviceGetTemperature, nvml.NVML_TEMPERATURE_GPU))
    return int(told if isinstance(told, int) else told.temperature)


def slowdown_temperature(device: Device) -> int:
    threshold = int(device.ask(nvml.nvmlDeviceGetTemperatureThreshold, nvml.NVML_TEMPERATURE_THRESHOLD_SLOWDOWN))
    if threshold == 0:  # so say boards that slow down at no temperature of their own
        raise UnavailableError("no_data")
    return threshold


def power_limit(device: Device) -> float:
    def by_function(device: Device) -> int:
        return int(device.first((nvml.nvmlDeviceGetEnforcedPowerLimit,), (nvml.nvmlDeviceGetPowerManagementLimit,)))

    return float(field_or(device, nvml.NVML_FI_DEV_POWER_CURRENT_LIMIT, by_function)) / 1e3


def energy(device: Device) -> float:
    number = nvml.NVML_FI_DEV_TOTAL_ENERGY_CONSUMPTION
    return float(field_or(device, number, lambda gpu: gpu.ask(nvml.nvmlDeviceGetTotalEnergyConsumption))) / 1e3


def milli(number: int) -> Read:
    return lambda device: field(device, number) / 1e3


def ecc(number: int, error: int, counter: int) -> Read:
    return lambda device: field_or(
        device, number, lambda gpu: gpu.ask(nvml.nvmlDeviceGetTotalEccErrors, error, counter)
    )


CORRECTED, UNCORRECTED = nvml.NVML_MEMORY_ERROR_TYPE_CORRECTED, nvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED
VOLATILE, LIFETIME = nvml.NVML_VOLATILE_ECC, nvml.NVML_AGGREGATE_ECC
REMAPPED: Final = (
    nvml.NVML_FI_DEV_REMAPPED_COR,
    nvml.NVML_FI_DEV_REMAPPED_UNC,
    nvml.NVML_FI_DEV_REMAPPED_PENDING,
    nvml.NVML_FI_DEV_REMAPPED_FAILURE,
)


def remapped_rows(device: Device) -> dict[str, object]:
    try:
        figures = [field(device, number) for number in REMAPPED]
    except UnavailableError as refusal:
        if refusal.reason != "unsupported":
            raise
        figures = device.ask(nvml.nvmlDeviceGetRemappedRows)
    correctable, uncorrectable, pending, failure = figures
    return {
        "correctable": correctable,
        "uncorrectable": uncorrectable,
        "pending": bool(pending),
        "failure": bool(failure),
    }


def recovery_action(device: Device) -> str:
    return RECOVERY_ACTIONS.get(field(device, nvml.NVML_FI_DEV_GET_GPU_RECOVERY_ACTION), "unknown")


def performance_state(device: Device) -> str:
    state = device.ask(calls.performance_state)
    if state == nvml.NVML_PSTATE_UNKNOWN:
        raise UnavailableError("no_data")
    return f"P{state}"


def throttle_reasons(device: Device) -> tuple[str, ...]:
    return in_words(device.first((calls.clocks_event_reasons,), (nvml.nvmlDeviceGetCurrentClocksThrottleReasons,)))


@lru_cache(maxsize=64)
def in_words(mask: int) -> tuple[str, ...]:
    return tuple(word for bit, word in THROTTLE_REASONS.items() if mask & bit)


def asked(function: Callable[[Any], int]) -> Read:
    return lambda device: device.ask(function)


def clock_max(kind: int) -> Read:
    return lambda device: device.ask(nvml.nvmlDeviceGetMaxClockInfo, kind)


Row = tuple[str, Beat, Read]

FIELDS: Final[tuple[Row, ...]] = (
    # Name and MIG mode come first: they decide what else there is to read.
    ("uuid", "slow", uuid),
    ("name", "static", remembered_name),
    ("mig_enabled", "slow", mig_enabled),
    ("utilization_percent", "fast", unless_mig(lambda gpu: gpu.ask(calls.utilization_rates).gpu)),
    ("memory_utilization_percent", "fast", unless_mig(lambda gpu: gpu.ask(calls.utilization_rates).memory)),
    ("memory_total_bytes", "fast", lambda gpu: gpu.once(memory).total),
    ("memory_used_bytes", "fast", lambda gpu: gpu.once(memory).used),
    ("memory_free_bytes", "fast", lambda gpu: gpu.once(memory).free),
    ("memory_reserved_bytes", "fast", memory_reserved),
    ("memory_kind", "fast", lambda gpu: gpu.once(memory).kind),
    ("temperature_celsius", "fast", temperature),
    ("memory_temperature_celsius", "fast", lambda gpu: field(gpu, nvml.NVML_FI_DEV_MEMORY_TEMP)),
    ("power_draw_watts", "fast", lambda gpu: gpu.ask(calls.power_usage) / 1e3),
    ("power_draw_average_watts", "fast", milli(nvml.NVML_FI_DEV_POWER_AVERAGE)),
    ("power_draw_instant_watts", "fast", milli(nvml.NVML_FI_DEV_POWER_INSTANT)),
    ("power_limit_watts", "fast", power_limit),
    ("energy_joules_total", "fast", energy),
    ("sm_clock_megahertz", "fast", asked(calls.sm_clock)),
    ("throttle_reasons", "fast", throttle_reasons),
    ("memory_clock_megahertz", "slow", asked(calls.memory_clock)),
    ("performance_state", "slow", performance_state),
    ("encoder_utilization_percent", "slow", unless_mig(lambda gpu: gpu.ask(calls.encoder_utilization))),
    ("decoder_utilization_percent", "slow", unless_mig(lambda gpu: gpu.ask(calls.decoder_utilization))),
    ("fan_speed_percent", "slow", lambda gpu: gpu.ask(nvml.nvmlDeviceGetFanSpeed)),
    ("ecc_corrected_total", "slow", ecc(nvml.NVML_FI_DEV_ECC_SBE_VOL_TOTAL, CORRECTED, VOLATILE)),
    ("ecc_uncorrected_total", "slow", ecc(nvml.NVML_FI_DEV_ECC_DBE_VOL_TOTAL, UNCORRECTED, VOLATILE)),
    ("ecc_corrected_lifetime_total", "slow", ecc(nvml.NVML_FI_DEV_ECC_SBE_AGG_TOTAL, CORRECTED, LIFETIME)),
    ("ecc_uncorrected_lifetime_total", "slow", ecc(nvml.NVML_FI_DEV_ECC_DBE_AGG_TOTAL, UNCORRECTED, LIFETIME)),
    ("remapped_rows", "slow", remapped_rows),
    ("recovery_action", "slow", recovery_action),
    ("nvlink_count", "slow", nvlink_count),
    ("nvlink_active_count", "slow", nvlink_active_count),
    ("pcie_generation", "slow", on_pci(calls.pcie_generation)),
    ("pcie_width", "slow", on_pci(calls.pcie_width)),
    ("persistence_mode", "slow", lambda gpu: bool(gpu.ask(calls.persistence_mode))),
    ("mig_devices", "slow", mig_devices),
    ("processes", "slow", lambda gpu: gpu.once(processes)),
    ("memory_ledger", "slow", memory_ledger),
    ("pci_bus_id", "static", pci_bus_id),
    ("compute_mode", "static", lambda gpu: COMPUTE_MODES[gpu.ask(nvml.nvmlDeviceGetComputeMode)]),
    ("slowdown_temperature_celsius", "static", slowdown_temperature),
    ("sm_clock_max_megahertz", "static", clock_max(nvml.NVML_CLOCK_SM)),
    ("memory_clock_max_megahertz", "static", clock_max(nvml.NVML_CLOCK_MEM)),
    ("pcie_generation_max", "static", on_pci(nvml.nvmlDeviceGetMaxPcieLinkGeneration)),
    ("pcie_width_max", "static", on_pci(nvml.nvmlDeviceGetMaxPcieLinkWidth)),
)
