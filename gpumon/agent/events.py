"""The driver's stream of Xids, looked into once a pass and never waited for.

Only an event, or the answer that there was none, proves that the stream is alive; after any other answer it
is made anew, and until then there is no telling whether there were Xids.
"""

# ruff: noqa: ANN401 - the binding has no types: its handles and structures are Any

import contextlib
import ctypes
import time
from typing import Any, Final

import pynvml as nvml

from gpumon.agent.device import Device, UnavailableError, unavailable
from gpumon.agent.meter import Meter
from gpumon.agent.pipe import Happened

MAX_EVENTS: Final = 256  # a pass


class Events:
    """One event set of the driver, with every GPU that can be watched in it."""

    def __init__(self, meter: Meter) -> None:
        self.off = False  # not to be asked: it has held whoever asked
        self._meter = meter
        self._set: Any = None
        self._death: UnavailableError | None = None  # what the stream ended with, until a new one is seen to live
        self._watched: dict[str, int] = {}  # UUID -> address of the handle

    def watch(self, device: Device) -> list[object]:
        """From now on this GPU's Xids are seen: none so far. Raises :class:`UnavailableError` where they are not."""
        if self.off:
            raise UnavailableError("timeout")
        if device.uuid is None:
            raise UnavailableError("no_data")
        if device.uuid not in self._watched:
            if self._set is None:
                self._set = nvml.nvmlEventSetCreate()
            device.ask(self._register, "nvmlDeviceRegisterEvents")
            self._watched[device.uuid] = address(device.handle)
        if self._death is not None:
            raise unavailable(self._death)
        return []

    def _register(self, handle: Any, function: str) -> None:
        getattr(nvml, function)(handle, nvml.nvmlEventTypeXidCriticalError, self._set)

    def happened(self) -> list[Happened]:
        """The Xids since the last pass."""
        found: list[Happened] = []
        while self._watched and len(found) < MAX_EVENTS:
            began = time.perf_counter()
            try:
                event = nvml.nvmlEventSetWait_v2(self._set, 0)
            except Exception as error:  # see unavailable()
                answer = unavailable(error)
                self._death = None if answer.reason == "timeout" else answer
                break
            finally:
                self._meter.took("nvmlEventSetWait_v2", time.perf_counter() - began)
            if event.eventType & nvml.nvmlEventTypeXidCriticalError:
                uuids = [uuid for uuid, where in self._watched.items() if where == address(event.device)]
                found += [Happened(uuid=uuid, xid=event.eventData) for uuid in uuids]
        if self._death is not None:
            self.close()
        return found

    def forget(self, uuid: str | None) -> None:
        """The handle of this GPU is no longer valid."""
        if uuid is not None:
            self._watched.pop(uuid, None)

    def close(self) -> None:
        """The stream is at its end."""
        self._watched.clear()
        if self._set is not None:
            with contextlib.suppress(Exception):
                nvml.nvmlEventSetFree(self._set)
        self._set = None


def address(handle: Any) -> int:
    return ctypes.cast(handle, ctypes.c_void_p).value or 0
