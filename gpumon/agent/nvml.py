"""The reader's child: the one process that talks to NVIDIA's driver.

Run as ``python -m gpumon.agent.nvml`` by :mod:`gpumon.agent.reader`, which it answers in the words of
:mod:`gpumon.agent.pipe`. The driver's library can hang or kill whoever calls it; so it is called here, by
one thread, initialised once, and never anywhere else.
"""

# ruff: noqa: ANN401 - the binding has no types: its handles and structures are Any

import contextlib
import ctypes
import gc
import os
import signal
import sys
import time
from collections.abc import Callable
from types import FrameType
from typing import Any, BinaryIO

import pynvml as nvml
from msgspec.structs import replace

from gpumon.agent.aside import Answers
from gpumon.agent.device import Device, UnavailableError, unavailable
from gpumon.agent.driver import explained, is_open, loaded_version
from gpumon.agent.events import Events
from gpumon.agent.fields import Beat
from gpumon.agent.gpu import Reading, Table, failed_gpu
from gpumon.agent.meter import Meter
from gpumon.agent.pipe import Done, Happened, Pass, Read, Ready, Start, first_from_reader, from_reader
from gpumon.agent.presence import Presence
from gpumon.agent.processes import ProcessTable
from gpumon.agent.strings import system_text, uuid
from gpumon.agent.words import NO_GPUS, of_windows
from gpumon.model import MAX_GPUS, Gpu, Process


class Child:
    """The conversation with the reader, around one initialisation of the driver's library."""

    def __init__(self, requests: BinaryIO, answers: BinaryIO) -> None:
        self._requests = requests
        self._answers = Answers(answers)
        self._meter = Meter()
        self._events = Events(self._meter)
        self._table = Table(("xids", "fast", self._events.watch))
        self._count: int | None = None
        self._readings: dict[int, Reading] = {}  # by index, which is only today's
        self._processes = ProcessTable()
        self._presence = Presence(Start())

    def run(self) -> None:
        """Until the reader closes its end."""
        first = self._requests.readline()
        if not first:
            return
        start = first_from_reader.decode(first)
        self._answers.aside(start.aside)
        self._answers.doing("init")
        self._presence = Presence(start)
        self._presence.look(0.0)
        if self._presence.all_asleep:
            self._doze()
            return
        try:
            nvml.nvmlInit()
        except Exception as error:  # there may be anything in place of the library
            status, fault = explained(unavailable(error).code, "start", self._presence.platform)
            self._answers.over(Ready(status=status, error=fault))
            return
        try:
            self._answers.over(ready(self._presence.kernel_module()))
            for request in self._requests:
                self._pass(from_reader.decode(request))
        finally:
            self._events.close()
            with contextlib.suppress(nvml.NVMLError):
                nvml.nvmlShutdown()

    def _doze(self) -> None:
        """While all GPUs sleep: even to initialise the driver may wake them."""
        kernel = self._presence.kernel_module()
        self._answers.over(Ready(driver_version=loaded_version(kernel), open_kernel_module=is_open(kernel)))
        for line_of_request in self._requests:
            self._meter.begin()
            self._presence.look(from_reader.decode(line_of_request).beats.static_seconds)
            if not self._presence.all_asleep:
                self._answers.over(Done(recycle=True))
                return
            for gpu in self._presence.sleepers():
                self._answers.read(Read(gpu=gpu))
            self._answers.over(Done(cost=self._meter.cost()))

    def _timed(self, function: Callable[..., Any], *arguments: Any) -> Any:
        began = time.perf_counter()
        try:
            return function(*arguments)
        finally:
            self._meter.took(function.__name__, time.perf_counter() - began)

    # ---- a pass ----

    def _pass(self, request: Pass) -> None:
        self._meter.begin()
        self._presence.look(request.beats.static_seconds)
        known = self._count if self._presence.all_quiet else None
        self._answers.doing("list")
        try:
            count = min(self._timed(nvml.nvmlDeviceGetCount), MAX_GPUS) if known is None else known
        except Exception as error:  # see unavailable()
            status, fault = explained(unavailable(error).code, "list its GPUs", self._presence.platform)
            self._answers.over(Done(status=status, error=fault))
            return
        self._events.off = not request.watch_events
        before, self._readings = self._readings, self._readings if count == self._count else {}
        self._count = count
        described = False
        for index in range(count) if request.only is None else [request.only]:
            if index not in request.skip_indexes:
                described |= self._turn(index, request, before)
        if described:
            self._keep_processes()
        if count == 0:
            fault = NO_GPUS if self._presence.platform == "linux" else of_windows(NO_GPUS)
            self._answers.over(Done(status="no_gpus", error=fault, cost=self._meter.cost()))
            return
        happened = self._happened() if request.only is None and not self._events.off and known is None else []
        missing = self._presence.missing(count, self._addresses)
        self._answers.over(Done(happened=happened, missing=missing, cost=self._meter.cost()))

    def _happened(self) -> list[Happened]:
        self._answers.doing("events")
        return self._events.happened()

    def _turn(self, index: int, request: Pass, before: dict[int, Reading]) -> bool:
        """One GPU's turn. Whether its processes were looked up."""
        reading = self._readings.get(index)
        if self._sleeps(index, reading):
            return False
        due: frozenset[Beat] = reading.due(index, request.beats) if reading is not None else frozenset()
        self._answers.doing("gpu", index, reading.device.uuid if reading else None)
        if reading is None or "static" in due:
            known = reading
            try:
                reading = self._identified(index, {one.device.uuid: one for one in before.values()})
            except UnavailableError as answer:
                self._answers.read(Read(gpu=failed_gpu(index, None, answer)))
                return False
            if reading is not known:
                due = reading.due(index, request.beats)
            if reading.device.uuid is not None:
                self._answers.doing("gpu", index, reading.device.uuid)
        if reading.device.uuid in request.skip_uuids:
            return False
        listed_at = time.time()
        gpu = reading.read(index, due)
        if gpu.uuid != reading.device.uuid and gpu.uuid is not None:  # another board: nothing that is known holds
            self._readings.pop(index, None)
            return self._turn(index, request, {})
        if gpu.uuid is None or not reading.is_well:
            self._readings.pop(index, None)
        describes = "slow" in due and request.describe_processes and has_processes(gpu)
        if describes:
            self._answers.doing("processes", index)  # a hung process can hang whoever asks for its name
            gpu = self._described(reading, gpu, listed_at)
        self._answers.read(Read(gpu=gpu))
        self._presence.was_read(gpu)
        return describes

    def _sleeps(self, index: int, reading: Reading | None) -> bool:
        """Whether it sleeps, or is left alone so that it can: that is said, and the driver is not asked."""
        gpu = self._presence.sleeper(index, self._count or 0, self._addresses)
        if gpu is None:
            return False
        if reading is not None and gpu.asleep:
            reading.renew()
            gpu = replace(gpu, uuid=reading.device.uuid, name=reading.values.get("name"))
        self._answers.read(Read(gpu=gpu))
        return True

    def _addresses(self) -> dict[int, str]:
        told = {index: reading.values.get("pci_bus_id") for index, reading in self._readings.items()}
        return {index: address for index, address in told.items() if address is not None}

    def _identified(self, index: int, known: dict[str | None, Reading]) -> Reading:
        """Whose turn it is. Raises :class:`UnavailableError`."""
        self._readings.pop(index, None)
        try:
            handle = self._timed(nvml.nvmlDeviceGetHandleByIndex, index)
        except Exception as error:
            raise unavailable(error) from error
        device = Device(handle, self._meter)
        try:
            device.uuid = uuid(device)
        except UnavailableError as answer:
            if answer.reason == "lost":
                raise
            return Reading(device, self._table)
        reading = known.get(device.uuid)
        if reading is None:
            reading = Reading(device, self._table)
            self._events.forget(device.uuid)
        else:
            reading.device.handle = handle
        self._readings[index] = reading
        return reading

    # ---- processes ----

    def _described(self, reading: Reading, gpu: Gpu, listed_at: float) -> Gpu:
        processes = gpu.processes and [self._named(one, listed_at) for one in gpu.processes]
        parts = gpu.mig_devices and [
            replace(part, processes=part.processes and [self._named(one, listed_at) for one in part.processes])
            for part in gpu.mig_devices
        ]
        for field, value in (("processes", processes), ("mig_devices", parts)):
            if value:
                reading.values[field] = value
        return replace(gpu, processes=processes, mig_devices=parts)

    def _named(self, process: Process, listed_at: float) -> Process:
        known = self._processes.describe(process.pid, listed_at)
        return replace(
            process,
            name=known.name,
            user=known.user,
            command=known.command,
            started_at=known.started_at,
            container=known.container,
            job=known.job,
        )

    def _keep_processes(self) -> None:
        kept: set[int] = set()
        for reading in self._readings.values():
            kept.update(process.pid for process in reading.values.get("processes") or ())
            for part in reading.device.parts.values():
                kept.update(process.pid for process in part.processes)
        self._processes.keep(kept)


def has_processes(gpu: Gpu) -> bool:
    return bool(gpu.processes) or any(part.processes for part in gpu.mig_devices or ())


def ready(kernel: str) -> Ready:
    """Who the driver is. Nothing that it cannot tell keeps its GPUs from being read."""
    return Ready(
        driver_version=guarded(lambda: system_text("nvmlSystemGetDriverVersion")),
        cuda_version=guarded(lambda: "{}.{}".format(*divmod(nvml.nvmlSystemGetCudaDriverVersion_v2() // 10, 100))),
        nvml_version=guarded(lambda: system_text("nvmlSystemGetNVMLVersion")),
        open_kernel_module=is_open(kernel),
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
    gc.freeze()  # what is loaded by now stays, and need not be looked through again and again
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
