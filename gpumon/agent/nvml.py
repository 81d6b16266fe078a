"""The reader's child: the one program, and the one file, that talks to NVIDIA's driver.

Run as ``python -m gpumon.agent.nvml`` by :mod:`gpumon.agent.reader`, which it answers in the words of
:mod:`gpumon.agent.pipe`. The driver's library can hang or kill whoever calls it; so it is called here, by
one thread, initialised once, and never anywhere else.

Every field is read alone: one that cannot be read is null, and the GPU's ``unavailable`` says why. Adding a
metric is one row of :data:`FIELDS`.
"""

# ruff: noqa: ANN401 - the binding has no types: its handles and structures are Any

import contextlib
import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable
from types import FrameType
from typing import Any, BinaryIO, Final

import msgspec
import pynvml as nvml

from gpumon.agent.device import Call, Device, UnavailableError, unavailable
from gpumon.agent.pipe import Doing, Done, FromChild, Pass, Read, Ready, from_reader, line, plain
from gpumon.agent.processes import Listed, ProcessTable, merge
from gpumon.agent.words import (
    COMPUTE_MODES,
    MEASURED,
    NO_GPUS,
    THROTTLE_REASONS,
    driver_fault,
    gpu_fault,
    unread,
)
from gpumon.model import MAX_GPUS, Gpu, MigDevice, Process, ProcessType
from gpumon.timestamp import rfc3339

MAX_MIG_DEVICES = 64
PID_MAX = 2**22

# What the binding decodes strictly is asked for undecoded: names that are not UTF-8 have been seen.


def text(function: Callable[..., Any], *arguments: Any) -> str:
    """The text that ``function`` gives, whatever its bytes."""
    return plain(getattr(function, "__wrapped__", function)(*arguments))


def name(handle: Any) -> str:
    return text(nvml.nvmlDeviceGetName, handle)


def uuid(handle: Any) -> str:
    return text(nvml.nvmlDeviceGetUUID, handle)


def pci_bus_id(device: Device) -> str:
    return plain(device.ask(nvml.nvmlDeviceGetPciInfo_v3).busId)


def memory(device: Device) -> Any:
    """Newest form first: it tells what the driver reserves apart from what is used."""
    told = device.first((nvml.nvmlDeviceGetMemoryInfo, nvml.nvmlMemory_v2), (nvml.nvmlDeviceGetMemoryInfo,))
    if told.total == 0:  # boards without memory of their own
        raise UnavailableError("unsupported")
    return told


def memory_reserved(device: Device) -> int:
    memory(device)
    return int(device.ask(nvml.nvmlDeviceGetMemoryInfo, nvml.nvmlMemory_v2).reserved)


def temperature(device: Device) -> int:
    sensor = nvml.NVML_TEMPERATURE_GPU
    return int(device.first((nvml.nvmlDeviceGetTemperatureV, sensor), (nvml.nvmlDeviceGetTemperature, sensor)))


def field_value(handle: Any, field: int) -> int:
    """A value by its number. The call succeeds as a whole also where the value itself failed."""
    entry = nvml.nvmlDeviceGetFieldValues(handle, (field,))[0]
    if entry.nvmlReturn != nvml.NVML_SUCCESS:
        raise nvml.NVMLError(entry.nvmlReturn)
    member = {
        nvml.NVML_VALUE_TYPE_UNSIGNED_INT: "uiVal",
        nvml.NVML_VALUE_TYPE_UNSIGNED_LONG: "ulVal",
        nvml.NVML_VALUE_TYPE_UNSIGNED_LONG_LONG: "ullVal",
        nvml.NVML_VALUE_TYPE_SIGNED_LONG_LONG: "sllVal",
        nvml.NVML_VALUE_TYPE_SIGNED_INT: "siVal",
    }[entry.valueType]
    return int(getattr(entry.value, member))


def power_limit(device: Device) -> float:
    return float(device.first((nvml.nvmlDeviceGetEnforcedPowerLimit,), (nvml.nvmlDeviceGetPowerManagementLimit,))) / 1e3


def performance_state(device: Device) -> str:
    state = device.ask(nvml.nvmlDeviceGetPerformanceState)
    if state == nvml.NVML_PSTATE_UNKNOWN:
        raise UnavailableError("no_data")
    return f"P{state}"


def throttle_reasons(device: Device) -> list[str]:
    mask = device.first(
        (nvml.nvmlDeviceGetCurrentClocksEventReasons,), (nvml.nvmlDeviceGetCurrentClocksThrottleReasons,)
    )
    return [word for bit, word in THROTTLE_REASONS.items() if mask & bit]


def mig_enabled(device: Device) -> bool:
    device.mig = bool(device.ask(nvml.nvmlDeviceGetMigMode)[0])  # decides what else is supported
    return device.mig


def mig_devices(device: Device) -> list[MigDevice]:
    if not mig_enabled(device):
        return []
    slots = min(device.ask(nvml.nvmlDeviceGetMaxMigDeviceCount), MAX_MIG_DEVICES)
    return [mig_device(device, slot) for slot in range(slots) if has_mig_device(device, slot)]


def has_mig_device(device: Device, slot: int) -> bool:
    try:
        device.ask(nvml.nvmlDeviceGetMigDeviceHandleByIndex, slot)
    except UnavailableError as answer:
        if answer.reason == "no_data":
            return False
        raise
    return True


def mig_device(device: Device, slot: int) -> MigDevice:
    part = Device(device.ask(nvml.nvmlDeviceGetMigDeviceHandleByIndex, slot), {})
    used = optional(part, nvml.nvmlDeviceGetMemoryInfo)
    return MigDevice(
        index=slot,
        uuid=optional(part, uuid),
        name=optional(part, name),
        memory_total_bytes=used and used.total,
        memory_used_bytes=used and used.used,
        memory_free_bytes=used and used.free,
    )


def optional(device: Device, function: Callable[..., Any]) -> Any:
    try:
        return device.ask(function)
    except UnavailableError:
        return None


def listed(handle: Any, function: Callable[..., Any]) -> Listed:
    """Process ids with their memory.

    Early drivers of the 535 series lay these entries out in another way under the same name. Then ids come
    out that cannot be, and all of the list is worthless; the older form of the function is not concerned.
    """
    entries = [(int(entry.pid), entry.usedGpuMemory) for entry in function(handle)]
    if not all(0 < pid <= PID_MAX for pid, _ in entries):
        raise UnavailableError("unsupported" if function.__name__.endswith("_v3") else "error")
    return entries


PROCESS_LISTS: Final[dict[ProcessType, tuple[Call, Call]]] = {
    "compute": (
        (listed, nvml.nvmlDeviceGetComputeRunningProcesses_v3),
        (listed, nvml.nvmlDeviceGetComputeRunningProcesses_v2),
    ),
    "graphics": (
        (listed, nvml.nvmlDeviceGetGraphicsRunningProcesses_v3),
        (listed, nvml.nvmlDeviceGetGraphicsRunningProcesses_v2),
    ),
}


def processes(device: Device) -> list[Process]:
    lists: dict[ProcessType, Listed] = {}
    refusal = None
    for kind, forms in PROCESS_LISTS.items():
        try:
            lists[kind] = device.first(*forms)
        except UnavailableError as answer:
            if answer.reason != "unsupported":  # half of the lists would look like an idle GPU
                raise
            refusal = answer
    if refusal is not None and not lists:
        raise refusal
    try:
        total = memory(device).total
    except UnavailableError:  # its own field tells why
        total = None
    return merge(lists, total)


FIELDS: Final[tuple[tuple[str, Callable[[Device], object]], ...]] = (
    ("uuid", lambda gpu: gpu.ask(uuid)),
    ("mig_enabled", mig_enabled),
    ("name", lambda gpu: gpu.ask(name)),
    ("pci_bus_id", pci_bus_id),
    ("utilization_percent", lambda gpu: gpu.ask(nvml.nvmlDeviceGetUtilizationRates).gpu),
    ("memory_utilization_percent", lambda gpu: gpu.ask(nvml.nvmlDeviceGetUtilizationRates).memory),
    ("encoder_utilization_percent", lambda gpu: gpu.ask(nvml.nvmlDeviceGetEncoderUtilization)[0]),
    ("decoder_utilization_percent", lambda gpu: gpu.ask(nvml.nvmlDeviceGetDecoderUtilization)[0]),
    ("memory_total_bytes", lambda gpu: memory(gpu).total),
    ("memory_used_bytes", lambda gpu: memory(gpu).used),
    ("memory_free_bytes", lambda gpu: memory(gpu).free),
    ("memory_reserved_bytes", memory_reserved),
    ("temperature_celsius", temperature),
    ("memory_temperature_celsius", lambda gpu: gpu.ask(field_value, nvml.NVML_FI_DEV_MEMORY_TEMP)),
    ("fan_speed_percent", lambda gpu: gpu.ask(nvml.nvmlDeviceGetFanSpeed)),
    ("power_draw_watts", lambda gpu: gpu.ask(nvml.nvmlDeviceGetPowerUsage) / 1e3),
    ("power_limit_watts", power_limit),
    ("energy_joules_total", lambda gpu: gpu.ask(nvml.nvmlDeviceGetTotalEnergyConsumption) / 1e3),
    ("sm_clock_megahertz", lambda gpu: gpu.ask(nvml.nvmlDeviceGetClockInfo, nvml.NVML_CLOCK_SM)),
    ("memory_clock_megahertz", lambda gpu: gpu.ask(nvml.nvmlDeviceGetClockInfo, nvml.NVML_CLOCK_MEM)),
    ("performance_state", performance_state),
    ("throttle_reasons", throttle_reasons),
    (
        "ecc_uncorrected_total",
        lambda gpu: gpu.ask(
            nvml.nvmlDeviceGetTotalEccErrors, nvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, nvml.NVML_VOLATILE_ECC
        ),
    ),
    ("pcie_generation", lambda gpu: gpu.ask(nvml.nvmlDeviceGetCurrPcieLinkGeneration)),
    ("pcie_width", lambda gpu: gpu.ask(nvml.nvmlDeviceGetCurrPcieLinkWidth)),
    ("persistence_mode", lambda gpu: bool(gpu.ask(nvml.nvmlDeviceGetPersistenceMode))),
    ("compute_mode", lambda gpu: COMPUTE_MODES[gpu.ask(nvml.nvmlDeviceGetComputeMode)]),
    ("mig_devices", mig_devices),
    ("processes", processes),
)

TYPES: Final = {field.name: field.type for field in msgspec.structs.fields(Gpu)}


def read_gpu(index: int, device: Device) -> Gpu:
    """Every field, each alone; what cannot be had, or lies outside the bounds of a report, is null."""
    values: dict[str, Any] = {}
    refusals: dict[str, UnavailableError] = {}
    sampled_at = rfc3339(time.time())
    for field, read in FIELDS:
        try:
            values[field] = msgspec.convert(read(device), TYPES[field])
        except Exception as error:  # one field never costs another one, whatever is wrong with it
            refusals[field] = unavailable(error)
            if refusals[field].reason == "lost":  # every further call would be one more chance to hang
                return failed_gpu(index, device.uuid, refusals[field])
    serious = [refusal for refusal in refusals.values() if refusal.reason != "unsupported"]
    if serious and not values.keys() & MEASURED:
        return failed_gpu(index, device.uuid, serious[0])
    gpu = Gpu(
        index=index,
        sampled_at=sampled_at,
        unavailable={field: refusal.reason for field, refusal in refusals.items()},
        **values,
    )
    if "reset_required" in gpu.unavailable.values():
        status, fault = gpu_fault("reset_required", None)
        return msgspec.structs.replace(gpu, status=status, error=fault)
    return gpu


def failed_gpu(index: int, known: str | None, refusal: UnavailableError) -> Gpu:
    """A GPU of which nothing can be read. Who it was, the reader knows."""
    status, fault = gpu_fault(refusal.reason, refusal.code)
    return unread(Gpu(index=index, uuid=known, sampled_at=rfc3339(time.time())), status, fault, refusal.reason)


class Child:
    """The conversation with the reader, around one initialisation of the driver's library."""

    def __init__(self, requests: BinaryIO, answers: BinaryIO) -> None:
        self._requests = requests
        self._answers = answers
        self._refusals: dict[Call, float] = {}
        self._processes = ProcessTable()

    def run(self) -> None:
        """Until the reader closes its end."""
        self._say(Doing(step="init"))
        try:
            nvml.nvmlInit()
        except Exception as error:  # there may be anything in place of the library
            status, fault = driver_fault(unavailable(error).code, "start")
            self._say(Ready(status=status, error=fault))
            return
        try:
            self._say(ready())
            for request in self._requests:
                self._pass(from_reader.decode(request))
        finally:
            with contextlib.suppress(nvml.NVMLError):
                nvml.nvmlShutdown()

    def _say(self, message: FromChild) -> None:
        self._answers.write(line(message))
        self._answers.flush()

    def _pass(self, request: Pass) -> None:
        self._say(Doing(step="list"))
        try:
            count = min(nvml.nvmlDeviceGetCount(), MAX_GPUS)
        except Exception as error:  # see unavailable()
            status, fault = driver_fault(unavailable(error).code, "list its GPUs")
            self._say(Done(status=status, error=fault))
            return
        if count == 0:
            self._say(Done(status="no_gpus", error=NO_GPUS))
            return
        pids: set[int] = set()
        for index in range(count) if request.only is None else [request.only]:
            if index not in request.skip_indexes:
                self._say(Doing(step="gpu", index=index))
                gpu = self._gpu(index, request)
                if gpu is not None:
                    pids.update(process.pid for process in gpu.processes or ())
                    self._say(Read(gpu=gpu))
        if request.only is None:
            self._processes.keep(pids)
        self._say(Done())

    def _gpu(self, index: int, request: Pass) -> Gpu | None:
        try:
            device = Device(nvml.nvmlDeviceGetHandleByIndex(index), self._refusals)
        except Exception as error:  # see unavailable()
            return failed_gpu(index, None, unavailable(error))
        try:
            device.uuid = device.ask(uuid)
        except UnavailableError as answer:
            if answer.reason == "lost":
                return failed_gpu(index, None, answer)
        else:
            self._say(Doing(step="gpu", index=index, uuid=device.uuid))
            if device.uuid in request.skip_uuids:
                return None
        listed_at = time.time()
        gpu = read_gpu(index, device)
        if not gpu.processes or not request.describe_processes:
            return gpu
        self._say(Doing(step="processes", index=index))  # a hung process can hang whoever asks for its name
        return msgspec.structs.replace(gpu, processes=[self._named(one, listed_at) for one in gpu.processes])

    def _named(self, process: Process, listed_at: float) -> Process:
        known = self._processes.describe(process.pid, listed_at)
        return msgspec.structs.replace(
            process, name=known.name, user=known.user, command=known.command, started_at=known.started_at
        )


def ready() -> Ready:
    """Who the driver is. Nothing that it cannot tell keeps its GPUs from being read."""
    return Ready(
        driver_version=guarded(lambda: text(nvml.nvmlSystemGetDriverVersion)),
        cuda_version=guarded(lambda: "{}.{}".format(*divmod(nvml.nvmlSystemGetCudaDriverVersion_v2() // 10, 100))),
        nvml_version=guarded(lambda: text(nvml.nvmlSystemGetNVMLVersion)),
    )


def guarded(read: Callable[[], str]) -> str | None:
    try:
        return read()
    except Exception:  # see unavailable()
        return None


def main() -> None:
    signal.signal(signal.SIGTERM, leave)
    end_with_parent()
    # The library may print: what it prints must not reach the pipe.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    try:
        Child(sys.stdin.buffer, answers).run()
    except BrokenPipeError:
        os._exit(0)  # the reader is gone, and what is still to be written with it


def leave(number: int, frame: FrameType | None) -> None:
    """SIGTERM: as at the end of the requests. A call that hangs comes back here only when it ends."""
    del number, frame
    raise SystemExit(0)


def end_with_parent() -> None:
    """Have the kernel kill us when the agent dies while the driver holds us and we cannot see the pipe close."""
    set_parent_death_signal = 1
    ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL, 0, 0, 0)


if __name__ == "__main__":
    main()
