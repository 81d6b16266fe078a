"""One GPU over many passes: what is due in each, and what is kept in between."""

import math
import time
from typing import Any, Final, NamedTuple

import msgspec

from gpumon.agent.device import Device, UnavailableError, unavailable
from gpumon.agent.fields import FIELDS, Beat, Read, Row
from gpumon.agent.pipe import Beats
from gpumon.agent.words import MEASURED, gpu_fault, unread
from gpumon.model import Gpu, Reason
from gpumon.timestamp import rfc3339

TYPES: Final = {field.name: field.type for field in msgspec.structs.fields(Gpu)}
PROVES_NOTHING: Final = frozenset({"xids", "memory_kind"})  # may be had of a GPU that cannot be read at all
PROOFS: Final = frozenset(MEASURED) - PROVES_NOTHING
BEATS: Final[dict[tuple[bool, bool], frozenset[Beat]]] = {
    (False, False): frozenset({"fast"}),
    (True, False): frozenset({"fast", "slow"}),
    (False, True): frozenset({"fast", "static"}),
    (True, True): frozenset({"fast", "slow", "static"}),
}
STATIC_SPREAD: Final = 16


class Due(NamedTuple):
    """What is read in a pass: the rows, and those of their fields that prove that the GPU answers."""

    rows: tuple[tuple[str, Read], ...]
    proofs: frozenset[str]


class Table:
    """The rows that are due where certain beats are, worked out once."""

    def __init__(self, *more: Row) -> None:
        self._rows = (*FIELDS, *more)
        self._due: dict[frozenset[Beat], Due] = {}

    def due(self, beats: frozenset[Beat]) -> Due:
        due = self._due.get(beats)
        if due is None:
            rows = tuple((field, read) for field, beat, read in self._rows if beat in beats)
            due = self._due[beats] = Due(rows, PROOFS.intersection(field for field, _ in rows))
        return due


class Reading:
    """What is known of one GPU, for as long as it is the same GPU: values, and why others are null."""

    def __init__(self, device: Device, table: Table) -> None:
        self.device = device
        self._refusals: dict[str, UnavailableError] = {}
        self._reasons: dict[str, Reason] = {}  # of these refusals
        self.values: dict[str, Any] = {"unavailable": self._reasons}
        self.is_well = True
        self._table = table
        self._passes = 0
        self._slow_at = self._static_at = -math.inf

    def renew(self) -> None:
        """In the next pass everything is due, as in the first."""
        self._slow_at = self._static_at = -math.inf

    def due(self, index: int, beats: Beats) -> frozenset[Beat]:
        """What to read in the pass that begins now. The GPUs take turns with what is slow."""
        now = time.monotonic()
        first = self._slow_at == -math.inf
        self._passes += 1
        slow = first or (self._passes >= beats.slow_passes and now >= self._slow_at + beats.slow_seconds)
        together = beats.slow_passes <= 1
        static = first or (now >= self._static_at + beats.static_seconds and (together or not slow))
        if slow:
            turn = index % max(beats.slow_passes, 1) if first else 0
            self._passes = turn
            self._slow_at = now - beats.slow_seconds * turn / max(beats.slow_passes, 1)
        if static:
            self.device.wanted.clear()  # what was refused long ago is asked for again
            self._static_at = now - (beats.static_seconds * (index % STATIC_SPREAD) / STATIC_SPREAD if first else 0)
        return BEATS[slow, static]

    def read(self, index: int, beats: frozenset[Beat]) -> Gpu:
        """Every field that is due, each alone; what cannot be had, or lies outside the bounds, is null."""
        sampled_at = rfc3339(time.time())
        self.device.full = "slow" in beats
        due = self._table.due(beats)
        lost = self._read(due.rows)
        self.device.end()
        self.is_well = False
        if lost is not None:
            return failed_gpu(index, self.device.uuid, lost)
        gpu = self._checked(index, sampled_at)
        if due.proofs.isdisjoint(self.values):
            serious = [refusal for refusal in self._refusals.values() if refusal.reason != "unsupported"]
            if serious:
                return failed_gpu(index, self.device.uuid, serious[0])
        self.is_well = True
        if "reset_required" in gpu.unavailable.values():
            status, fault = gpu_fault("reset_required", None)
            return msgspec.structs.replace(gpu, status=status, error=fault)
        return gpu

    def _read(self, rows: tuple[tuple[str, Read], ...]) -> UnavailableError | None:
        """Keep what each row gives, or why it does not. Ends early, and says so, where the GPU is lost."""
        values, reasons, device = self.values, self._reasons, self.device
        for field, read in rows:
            try:
                values[field] = read(device)
            except Exception as error:  # one field never costs another one, whatever is wrong with it
                refusal = unavailable(error)
                self._refuse(field, refusal)
                if refusal.reason == "lost":  # every further call would be one more chance to hang
                    return refusal
            else:
                if field in reasons:
                    del reasons[field], self._refusals[field]
        return None

    def _refuse(self, field: str, refusal: UnavailableError) -> None:
        self.values.pop(field, None)
        self._refusals[field] = refusal
        self._reasons[field] = refusal.reason

    def _checked(self, index: int, sampled_at: str) -> Gpu:
        """All at once, for that is what usually passes; one by one where it does not."""
        self.values.update(index=index, sampled_at=sampled_at, processes_truncated=self.device.truncated)
        try:
            return msgspec.convert(self.values, Gpu)
        except msgspec.ValidationError:
            for field in list(self.values):
                try:
                    msgspec.convert(self.values[field], TYPES[field])
                except msgspec.ValidationError:
                    self._refuse(field, UnavailableError("error"))
            return msgspec.convert(self.values, Gpu)


def failed_gpu(index: int, known: str | None, refusal: UnavailableError) -> Gpu:
    """A GPU of which nothing can be read. Who it was, the reader knows."""
    status, fault = gpu_fault(refusal.reason, refusal.code)
    return unread(Gpu(index=index, uuid=known, sampled_at=rfc3339(time.time())), status, fault, refusal.reason)
