"""Functions of the driver's library that write down figures, called without the binding's wrapper around each.

The binding makes a structure that can print itself and looks the function up, anew for each call, which costs more
than all that is done with the answer. Here a place for the answer is plain memory. It is a new one each time, for
what a driver leaves unwritten must not look like the figure of another GPU. What a call means and how it is laid
out is the binding's.
"""

# ruff: noqa: ANN401 - the binding has no types: its handles and structures are Any

import ctypes
from collections.abc import Callable
from functools import cache
from typing import Any, Final

import pynvml as nvml

SUCCESS: Final = nvml.NVML_SUCCESS


class Utilization(ctypes.Structure):
    """Percent."""

    _fields_ = nvml.c_nvmlUtilization_t._fields_


class MemoryInfo(ctypes.Structure):
    """Bytes; what the driver keeps for itself stands apart from what is used."""

    _fields_ = nvml.c_nvmlMemory_v2_t._fields_


class Temperature(ctypes.Structure):
    """Degrees Celsius at a sensor."""

    _fields_ = nvml.c_nvmlTemperature_v1_t._fields_


class Entry(ctypes.Structure):
    """A process with its memory, as the newer forms of the lists have it."""

    _fields_ = nvml.c_nvmlProcessInfo_v2_t._fields_


class OldEntry(ctypes.Structure):
    """As the first form of the lists has it, for drivers older than the 470 series."""

    _fields_ = (("pid", ctypes.c_uint), ("usedGpuMemory", ctypes.c_ulonglong))


class Share(ctypes.Structure):
    """How busy a process has kept the GPU."""

    _fields_ = nvml.c_nvmlProcessUtilizationSample_t._fields_


@cache
def library(name: str) -> Any:
    """A function of the library. Raises NVMLError where this driver's library does not have it."""
    try:
        return getattr(nvml.nvmlLib, name)
    except AttributeError:
        raise nvml.NVMLError(nvml.NVML_ERROR_FUNCTION_NOT_FOUND) from None


def figure(name: str, *arguments: int, kind: Any = ctypes.c_uint, unread: int = 0) -> Callable[[Any], int]:
    """The function ``name``, which takes ``arguments`` and writes down one figure, and some more that nobody reads."""
    others = [ctypes.byref(kind()) for _ in range(unread)]

    def asked(handle: Any) -> int:
        place = kind()
        code = library(name)(handle, *arguments, ctypes.byref(place), *others)
        if code != SUCCESS:
            raise nvml.NVMLError(code)
        told: int = place.value
        return told

    asked.__name__ = name
    return asked


def structure(name: str, kind: Any, *beginning: int) -> Callable[[Any], Any]:
    """The function ``name``, which fills in a structure that has this ``beginning``, such as its version."""

    def asked(handle: Any) -> Any:
        place = kind(*beginning)
        code = library(name)(handle, ctypes.byref(place))
        if code != SUCCESS:
            raise nvml.NVMLError(code)
        return place

    asked.__name__ = name
    return asked


utilization_rates: Final = structure("nvmlDeviceGetUtilizationRates", Utilization)
memory_info: Final = structure("nvmlDeviceGetMemoryInfo_v2", MemoryInfo, nvml.nvmlMemory_v2)
temperature: Final = structure(
    "nvmlDeviceGetTemperatureV", Temperature, nvml.nvmlTemperature_v1, nvml.NVML_TEMPERATURE_GPU
)
power_usage: Final = figure("nvmlDeviceGetPowerUsage")
sm_clock: Final = figure("nvmlDeviceGetClockInfo", nvml.NVML_CLOCK_SM)
memory_clock: Final = figure("nvmlDeviceGetClockInfo", nvml.NVML_CLOCK_MEM)
clocks_event_reasons: Final = figure("nvmlDeviceGetCurrentClocksEventReasons", kind=ctypes.c_ulonglong)
performance_state: Final = figure("nvmlDeviceGetPerformanceState")
pcie_generation: Final = figure("nvmlDeviceGetCurrPcieLinkGeneration")
pcie_width: Final = figure("nvmlDeviceGetCurrPcieLinkWidth")
mig_mode: Final = figure("nvmlDeviceGetMigMode", unread=1)  # what it will be after a reset
encoder_utilization: Final = figure("nvmlDeviceGetEncoderUtilization", unread=1)  # over how long
decoder_utilization: Final = figure("nvmlDeviceGetDecoderUtilization", unread=1)
persistence_mode: Final = figure("nvmlDeviceGetPersistenceMode")
