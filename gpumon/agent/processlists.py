"""The driver's lists of processes, in whichever form this driver has them.

Three forms of each list have been in use, and early drivers of the 535 series lay the entries of the newest
one out in another way under the same name. The size of a list is not asked for first, for that would be one
more call, and drivers have answered it wrongly: there is room for a usual list, and for more if it does not do.
"""

# ruff: noqa: ANN401 - the binding has no types: its handles and structures are Any

import ctypes
from functools import cache
from typing import Any, Final

import pynvml as nvml
from msgspec.structs import replace

from gpumon.agent import calls
from gpumon.agent.device import Call, Device, UnavailableError
from gpumon.agent.memory import Memory, is_more_than_a_trifle, ledger, memory
from gpumon.agent.processes import Listed, Utilized, merge, sees_every_process, utilization
from gpumon.model import MemoryLedger, Process, ProcessType

PID_MAX: Final = 2**22
ROOM: Final = 64  # entries
ATTEMPTS: Final = 4
NOT_TOLD: Final = 2**64 - 1  # what stands in the place of a figure that the driver does not know


FORMS: Final = (("_v3", calls.Entry), ("_v2", calls.Entry), ("", calls.OldEntry))
STEMS: Final[dict[ProcessType, str]] = {
    "compute": "nvmlDeviceGetComputeRunningProcesses",
    "graphics": "nvmlDeviceGetGraphicsRunningProcesses",
}


def filled(function: str, entry: Any, handle: Any, since: int | None = None) -> Any:
    """What ``function`` writes into as many ``entry`` as it takes; what is newer than ``since``, if that is given."""
    call = calls.library(function)
    size = ROOM
    for _ in range(ATTEMPTS):
        count, entries = ctypes.c_uint(size), (entry * size)()
        if since is None:
            code = call(handle, ctypes.byref(count), entries)
        else:
            code = call(handle, entries, ctypes.byref(count), ctypes.c_ulonglong(since))
        if code != nvml.NVML_ERROR_INSUFFICIENT_SIZE:
            break
        size = 2 * max(size, count.value)
        if size > PID_MAX:
            break
    if code != nvml.NVML_SUCCESS:
        raise nvml.NVMLError(code)
    return entries[: min(count.value, size)]


def listed(handle: Any, function: str, entry: Any) -> Listed:
    """Process ids with their memory. Of a list with ids that cannot be, nothing is believed."""
    entries = filled(function, entry, handle)
    found = [(one.pid, None if (held := one.usedGpuMemory) == NOT_TOLD else held) for one in entries]
    if not all(0 < pid <= PID_MAX for pid, _ in found):
        raise UnavailableError("unsupported" if function.endswith("_v3") else "error")
    return found


def forms(kind: ProcessType) -> list[Call]:
    return [(listed, f"{STEMS[kind]}{version}", entry) for version, entry in FORMS]


CALLS: Final[dict[ProcessType, list[Call]]] = {kind: forms(kind) for kind in STEMS}


def running(device: Device, total_bytes: int | None) -> tuple[list[Process], int]:
    """The processes on a GPU, and how many more there are than a report has room for."""
    lists: dict[ProcessType, Listed] = {}
    refusal = None
    for kind, ways in CALLS.items():
        try:
            lists[kind] = device.first(*ways)
        except UnavailableError as answer:
            if answer.reason != "unsupported":  # half of the lists would look like an idle GPU
                raise
            refusal = answer
    if refusal is not None and not lists:
        raise refusal
    merged = merge(lists, total_bytes)
    every = {pid for entries in lists.values() for pid, _ in entries}
    return merged, len(every) - len(merged)


SHARES: Final = "nvmlDeviceGetProcessUtilization"


def shares(handle: Any, function: str, since: int) -> list[Utilized]:
    """How busy processes kept the GPU, as the driver has it."""
    entries = filled(function, calls.Share, handle, since)
    return [(one.pid, one.timeStamp, one.smUtil) for one in entries]


def with_shares(device: Device, found: list[Process]) -> list[Process]:
    """``found`` with how busy each keeps the GPU, where the driver tells. It tells nothing while the GPU idles."""
    if not found or device.mig:
        return found
    try:
        samples = device.ask(shares, SHARES, device.shares_at)
    except UnavailableError:
        return found
    percent, device.shares_at = utilization(samples, device.shares_at, {one.pid for one in found})
    return [replace(one, utilization_percent=percent.get(one.pid)) for one in found]


def processes(device: Device) -> list[Process]:
    """Those of the GPU as a whole. "None" and "not visible from here" are two things."""
    now = _memory_or_none(device)
    device.truncated = 0
    found, device.truncated = running(device, now and now.total)
    if found or now is None or device.mig or namespace_is_the_machines():
        return with_shares(device, found)
    if is_hidden(now, _utilization(device)):
        raise UnavailableError("denied")
    return []


@cache
def namespace_is_the_machines() -> bool:
    return sees_every_process()


def is_hidden(now: Memory, utilization: int) -> bool:
    """Whether a GPU without a process is not idle, so that its processes are only not shown in this container.

    Where the driver counts what it reserves as used, used memory alone proves nothing.
    """
    held = is_more_than_a_trifle(now.used, now.total)
    return now.kind == "dedicated" and held and (now.reserved is not None or utilization > 0)


def _utilization(device: Device) -> int:
    try:
        return int(device.ask(calls.utilization_rates).gpu)
    except UnavailableError:
        return 0


def _memory_or_none(device: Device) -> Memory | None:
    try:
        now: Memory = device.once(memory)
    except UnavailableError:  # its own fields tell why
        return None
    return now


def memory_ledger(device: Device) -> MemoryLedger:
    now: Memory = device.once(memory)
    try:
        seen: list[Process] = device.once(processes)
    except UnavailableError as refusal:
        if refusal.reason != "denied":
            raise
        return ledger(now, None)
    inside = [process for part in device.parts.values() for process in part.processes]
    return ledger(now, inside or seen)
