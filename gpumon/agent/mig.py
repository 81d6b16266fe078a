"""The slices of a GPU that is partitioned by MIG: each with memory and processes of its own."""

# ruff: noqa: ANN401 - the binding has no types: its handles and structures are Any

import re
from collections.abc import Callable
from typing import Any, Final

import pynvml as nvml

from gpumon.agent import calls
from gpumon.agent.device import Device, UnavailableError
from gpumon.agent.processlists import running
from gpumon.agent.strings import name, uuid
from gpumon.model import Process

MAX_MIG_DEVICES: Final = 64
PROFILE: Final = re.compile(r"\bMIG\s+(\S+)")


def mig_enabled(device: Device) -> bool:
    device.mig = bool(device.ask(calls.mig_mode))  # decides what else is supported
    return device.mig


def mig_devices(device: Device) -> list[dict[str, Any]]:
    if not mig_enabled(device):
        device.parts.clear()
        return []
    slots = min(device.ask(nvml.nvmlDeviceGetMaxMigDeviceCount), MAX_MIG_DEVICES)
    parts = {slot: part for slot in range(slots) if (part := _part(device, slot)) is not None}
    device.parts = {part.uuid: part for part in parts.values() if part.uuid is not None}
    return [_mig_device(slot, part) for slot, part in parts.items()]


def _part(device: Device, slot: int) -> Device | None:
    """What is in this slot, if anything. Numbers are used again for new instances; a UUID is not."""
    try:
        handle = device.ask(nvml.nvmlDeviceGetMigDeviceHandleByIndex, slot)
    except UnavailableError as answer:
        if answer.reason == "no_data":
            return None
        raise
    part = Device(handle, device.meter)
    part.uuid = optional(part, uuid)
    known = device.parts.get(part.uuid or "")
    if known is None:
        return part
    known.handle = handle
    known.end()
    return known


def _mig_device(slot: int, part: Device) -> dict[str, Any]:
    memory = optional(part, lambda one: one.ask(nvml.nvmlDeviceGetMemoryInfo))
    total = memory.total if memory else None
    part.name = optional(part, name) or ""
    processes: list[Process] | None = optional(part, lambda one: running(one, total)[0])
    part.processes = processes or []
    return {
        "index": slot,
        "uuid": part.uuid,
        "name": part.name or None,
        "profile": optional(part, profile),
        "gpu_instance_id": optional(part, lambda one: one.ask(nvml.nvmlDeviceGetGpuInstanceId)),
        "compute_instance_id": optional(part, lambda one: one.ask(nvml.nvmlDeviceGetComputeInstanceId)),
        "memory_total_bytes": total,
        "memory_used_bytes": memory.used if memory else None,
        "memory_free_bytes": memory.free if memory else None,
        "processes": processes,
    }


def profile(part: Device) -> str:
    """How large the slice is: from its name, or from what it has."""
    if found := PROFILE.search(part.name):
        return found[1]
    has = part.ask(nvml.nvmlDeviceGetAttributes_v2)
    whole, slices = has.gpuInstanceSliceCount, has.computeInstanceSliceCount
    size = f"{whole}g.{round(has.memorySizeMB / 1024)}gb"
    return size if slices == whole else f"{slices}c.{size}"


def optional(device: Device, read: Callable[[Device], Any]) -> Any:
    try:
        return read(device)
    except Exception:  # whatever the binding raises: the slice is listed with what can be had of it
        return None
