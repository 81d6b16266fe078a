"""One GPU over many passes: what is due in each, and what is kept in between."""

import math
import time
from typing import Any, Final

import msgspec

from gpumon.agent.device import Device, UnavailableError, unavailable
from gpumon.agent.fields import FIELDS, Beat, Row
from gpumon.agent.pipe import Beats
from gpumon.agent.words import MEASURED, gpu_fault, unread
from gpumon.model import Gpu, Reason
from gpumon.timestamp import rfc3339

TYPES: Final = {field.name: field.type for field in msgspec.structs.fields(Gpu)}
PROVES_NOTHING: Final = frozenset({"xids", "memory_kind"})  # may be had of a GPU that cannot be read at all
STATIC_SPREAD: Final = 16


class Table:
    """The rows that are due where certain beats are, worked out once."""

    def __init__(self, *more: Row) -> None:
        self._rows = (*FIELDS, *more)
        self._due: dict[frozenset[Beat], tuple[Row, ...]] = {}

    def due(self, beats: frozenset[Beat]) -> tuple[Row, ...]:
        rows = self._due.get(beats)
        if rows is None:
            rows = self._due[beats] = tuple(row for row in self._rows if row[1] in beats)
        return rows


class Reading:
    """What is known of one GPU, for as long as it is the same GPU: values, and why others are null."""

    def __init__(self, device: Device, table: Table) -> None:
        self.device = device
        self.values: dict[str, Any] = {}
        self._refusals: dict[str, UnavailableError] = {}
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
        turn = index % max(beats.slow_passes, 1) if first else 0
        if slow:
            self._passes = turn
            self._slow_at = now - beats.slow_seconds * turn / max(beats.slow_passes, 1)
        if static:
            self.device.wanted.clear()  # what was refused long ago is asked for again
            self._static_at = now - (beats.static_seconds * (index % STATIC_SPREAD) / STATIC_SPREAD if first else 0)
        beat: dict[Beat, bool] = {"fast": True, "slow": slow, "static": static}
        return frozenset(name for name, is_due in beat.items() if is_due)

    def read(self, index: int, beats: frozenset[Beat]) -> Gpu:
        """Every field that is due, each alone; what cannot be had, or lies outside the bounds, is null."""
        sampled_at = rfc3339(time.time())
        self.device.full = "slow" in beats
        read_now = self._read(beats)
        self.device.end()
        self.is_well = False
        lost = next((refusal for refusal in self._refusals.values() if refusal.reason == "lost"), None)
        if lost is not None:
            return failed_gpu(index, self.device.uuid, lost)
        gpu = self._checked(index, sampled_at)
        if not read_now & self.values.keys():
            serious = [refusal for refusal in self._refusals.values() if refusal.reason != "unsupported"]
            if serious:
                return failed_gpu(index, self.device.uuid, serious[0])
        self.is_well = True
        if any(refusal.reason == "reset_required" for refusal in self._refusals.values()):
            status, fault = gpu_fault("reset_required", None)
            return msgspec.structs.replace(gpu, status=status, error=fault)
        return gpu

    def _read(self, beats: frozenset[Beat]) -> set[str]:
        """The names of the fields that this pass has read, and that prove that the GPU answers."""
        values, refusals, device = self.values, self._refusals, self.device
        read_now: set[str] = set()
        for field, _, read in self._table.due(beats):
            try:
                values[field] = read(device)
            except Exception as error:  # one field never costs another one, whatever is wrong with it
                values.pop(field, None)
                refusals[field] = unavailable(error)
                if refusals[field].reason == "lost":  # every further call would be one more chance to hang
                    return read_now
            else:
                if field in refusals:
                    del refusals[field]
                read_now.add(field)
        return (read_now & PROOFS) - PROVES_NOTHING

    def _checked(self, index: int, sampled_at: str) -> Gpu:
        """All at once, for that is what usually passes; one by one where it does not."""
        try:
            return self._gpu(index, sampled_at)
        except msgspec.ValidationError:
            for field in list(self.values):
                try:
                    msgspec.convert(self.values[field], TYPES[field])
                except msgspec.ValidationError:
                    del self.values[field]
                    self._refusals[field] = UnavailableError("error")
            return self._gpu(index, sampled_at)

    def _gpu(self, index: int, sampled_at: str) -> Gpu:
        return msgspec.convert(
            {
                "index": index,
                "sampled_at": sampled_at,
                "unavailable": self._reasons(),
                "processes_truncated": self.device.truncated,
                **self.values,
            },
            Gpu,
        )

    def _reasons(self) -> dict[str, Reason]:
        return {field: refusal.reason for field, refusal in self._refusals.items()}


PROOFS: Final = frozenset(MEASURED)


def failed_gpu(index: int, known: str | None, refusal: UnavailableError) -> Gpu:
    """A GPU of which nothing can be read. Who it was, the reader knows."""
    status, fault = gpu_fault(refusal.reason, refusal.code)
    return unread(Gpu(index=index, uuid=known, sampled_at=rfc3339(time.time())), status, fault, refusal.reason)
