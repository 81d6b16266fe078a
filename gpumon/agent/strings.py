"""Texts of the driver. The binding decodes them strictly; names that are not UTF-8 have been seen."""

# ruff: noqa: ANN401 - the binding has no types: its handles and structures are Any

from typing import Any

import pynvml as nvml

from gpumon.agent.device import Device
from gpumon.agent.pipe import plain


def text(handle: Any, function: str) -> str:
    """The text that ``function`` gives, whatever its bytes."""
    call = getattr(nvml, function)
    return plain(getattr(call, "__wrapped__", call)(handle))


def name(device: Device) -> str:
    return str(device.ask(text, "nvmlDeviceGetName"))


def uuid(device: Device) -> str:
    return str(device.ask(text, "nvmlDeviceGetUUID"))


def pci_bus_id(device: Device) -> str:
    return plain(device.ask(nvml.nvmlDeviceGetPciInfo_v3).busId)


def system_text(function: str) -> str:
    call = getattr(nvml, function)
    return plain(getattr(call, "__wrapped__", call)())
