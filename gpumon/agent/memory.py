"""The memory of a GPU: whose it is, how it is told, and where it goes."""

import re
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Final, NamedTuple

import pynvml as nvml

from gpumon.agent import calls
from gpumon.agent.device import Device, UnavailableError
from gpumon.model import MemoryKind, MemoryLedger, Process

MEMINFO: Final = Path("/proc/meminfo")
MIB: Final = 2**20
TRIFLE_BYTES: Final = 256 * MIB  # of used memory that belongs to no process, or this share of all
TRIFLE_SHARE: Final = 0.02

INTEGRATED: Final = re.compile(r"\b(GB10|N1X?|Thor|Orin|Xavier|Tegra|nvgpu)\b")
"""Names of GPUs that share their memory with the processor."""


class Memory(NamedTuple):
    """Bytes. ``reserved`` is null where the driver counts what it reserves as used."""

    kind: MemoryKind
    total: int
    used: int
    free: int
    reserved: int | None


def is_integrated(device: Device) -> bool:
    return names_integrated(device.name)


@lru_cache(maxsize=64)
def names_integrated(name: str) -> bool:
    return INTEGRATED.search(name) is not None


def memory(device: Device) -> Memory:
    """What the driver tells; of a GPU that shares the machine's memory, what the kernel tells.

    The newest form of the call comes first: it tells what the driver reserves apart from what is used.
    Drivers of GPUs without memory of their own refuse the call, or answer that there is none.
    """
    try:
        return _dedicated(device)
    except UnavailableError as refusal:
        if refusal.reason != "unsupported" or not (is_integrated(device) or _is_on_no_pci_bus(device)):
            raise
    return system_memory()


def _dedicated(device: Device) -> Memory:
    kind: MemoryKind = "unified" if is_integrated(device) else "dedicated"
    try:
        told = device.ask(calls.memory_info)
        reserved = told.reserved
    except UnavailableError as refusal:
        if refusal.reason != "unsupported":
            raise
        told, reserved = device.ask(nvml.nvmlDeviceGetMemoryInfo), None
    if told.total == 0:
        raise UnavailableError("unsupported")
    return Memory(kind, told.total, told.used, told.free, reserved)


def _is_on_no_pci_bus(device: Device) -> bool:
    try:
        return bool(device.ask(nvml.nvmlDeviceGetBusType) == nvml.NVML_BUS_TYPE_FPCI)
    except UnavailableError:
        return False


def system_memory(meminfo: Path = MEMINFO) -> Memory:
    """The machine's own memory, as that of its integrated GPU: what is available to it is free."""
    try:
        lines = meminfo.read_text(encoding="ascii", errors="replace").splitlines()
        kibibytes = {name: int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in lines) if rest}
        total, free = kibibytes["MemTotal"] * 1024, kibibytes["MemAvailable"] * 1024
    except (OSError, ValueError, LookupError):
        raise UnavailableError("unsupported") from None
    return Memory("unified", total, total - free, free, None)


def memory_reserved(device: Device) -> int:
    reserved: int | None = device.once(memory).reserved
    if reserved is None:
        raise UnavailableError("unsupported")
    return reserved


def is_more_than_a_trifle(amount: int, total: int) -> bool:
    return amount > max(TRIFLE_BYTES, TRIFLE_SHARE * total)


def ledger(now: Memory, processes: Iterable[Process] | None) -> MemoryLedger:
    """Where the used memory goes. ``processes`` is None where they cannot be seen from here.

    Raises :class:`UnavailableError` where used memory is not the GPU's alone.
    """
    if now.kind == "unified":
        raise UnavailableError("unsupported")
    seen = list(processes or ())
    held = sum(process.memory_used_bytes or 0 for process in seen)
    unaccounted = max(0, now.used - held)
    told = is_more_than_a_trifle(unaccounted, now.total)
    return MemoryLedger(
        processes_bytes=held,
        reserved_bytes=now.reserved,
        unaccounted_bytes=unaccounted,
        cause=_cause(seen, visible=processes is not None, reserved=now.reserved) if told else None,
    )


def _cause(seen: list[Process], *, visible: bool, reserved: int | None) -> str:
    """What most likely holds the memory that no process accounts for."""
    if not visible:
        return "Processes that are not visible from here, such as those of other containers."
    unknown = sum(process.memory_used_bytes is None for process in seen)
    causes = []
    if unknown:
        which = "1 process" if unknown == 1 else f"{unknown} processes"
        causes.append(f"{which} here whose memory the driver does not tell")
    if any(process.type != "compute" for process in seen):
        causes.append("what the display and other graphics keep")
    if reserved is None:
        causes.append("what the driver keeps for itself, which this version counts as used")
    if not unknown:
        causes.append("managed memory, or memory of a process that has ended but is not cleaned up")
    text = "; or ".join(causes)
    return f"{text[0].upper()}{text[1:]}."
