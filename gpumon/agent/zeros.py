"""A utilisation of 0 that is no measurement: some drivers answer 0 whatever the GPU does.

It is told by how the GPU behaves, not by its name. A GPU that idles draws steady power and holds what it
holds. One that works moves: its power swings, its processes take memory and give it back. Where a field has
been 0 for an hour, and the GPU has moved in at least half of the twelfths of that hour, the 0 is suspect
until a value other than 0 is seen. A start of a program, or a night without one, moves a twelfth or two.

The value is kept as it is: to doubt it is the reader's right, to invent another one is nobody's.
"""

from dataclasses import dataclass, field
from typing import Final

from msgspec.structs import replace

from gpumon.model import Gpu

UTILIZATION: Final = "utilization_percent"
MEMORY: Final = "memory_utilization_percent"
SUSPECT_SECONDS: Final = 3600.0
PARTS: Final = 12  # of that time, each judged alone
MOVED_PARTS: Final = 6
SWING_WATTS: Final = 5.0  # within one part; and this share of the highest, for meters of large boards are less fine
SWING_SHARE: Final = 0.2
SWING_BYTES: Final = 64 * 2**20
SWING_PERCENT: Final = 20.0
WORKS_PERCENT: Final = 50.0


@dataclass
class Range:
    """The lowest and the highest of what was seen."""

    low: float = float("inf")
    high: float = float("-inf")

    def take(self, value: float | None) -> None:
        if value is not None:
            self.low, self.high = min(self.low, value), max(self.high, value)

    @property
    def width(self) -> float:
        return max(self.high - self.low, 0.0)


@dataclass
class Part:
    """What was seen of the GPU in a twelfth of the time: power in watts, memory in bytes, percent."""

    began: float
    power: Range = field(default_factory=Range)
    memory: Range = field(default_factory=Range)
    busy: Range = field(default_factory=Range)

    def take(self, gpu: Gpu) -> None:
        instant = gpu.power_draw_instant_watts
        self.power.take(gpu.power_draw_watts if instant is None else instant)
        self.memory.take(held(gpu))
        self.busy.take(gpu.utilization_percent)

    @property
    def moved(self) -> bool:
        swung = self.power.width >= max(SWING_WATTS, SWING_SHARE * self.power.high)
        return swung or self.memory.width >= SWING_BYTES

    @property
    def worked_hard(self) -> bool:
        """Whether there must have been traffic to the memory.

        A light load rounds down to 0 % of it, and so does a steady one that keeps to its registers.
        """
        return self.busy.high >= WORKS_PERCENT and (self.moved or self.busy.width >= SWING_PERCENT)


def held(gpu: Gpu) -> float | None:
    """Bytes that move only when somebody uses the GPU. Memory that is shared with the processor is not such."""
    if gpu.processes is not None:
        return sum(process.memory_used_bytes or 0 for process in gpu.processes)
    return gpu.memory_used_bytes if gpu.memory_kind == "dedicated" else None


@dataclass
class Zero:
    """One field, since it is 0: whether each full part since then speaks against it, newest last."""

    began: float
    parts: list[bool] = field(default_factory=list)
    suspect: bool = False

    def judge(self, part: Part, now: float, seconds: float, *, against: bool) -> None:
        """A part is full. Those that began before the field was 0 prove nothing."""
        if part.began >= self.began:
            self.parts = [*self.parts, against][-PARTS:]
            self.suspect |= now - self.began >= seconds and sum(self.parts) >= MOVED_PARTS


class Zeros:
    """The zeros of one GPU over its samples. ``seconds`` is how long a 0 may last before it is doubted."""

    def __init__(self, seconds: float = SUSPECT_SECONDS) -> None:
        self._seconds = seconds
        self._zeros: dict[str, Zero] = {}
        self._part: Part | None = None

    def judged(self, gpu: Gpu, now: float) -> Gpu:
        """``gpu`` as it was read at ``now`` (seconds of any steady clock), with its suspect zeros named."""
        values = {UTILIZATION: gpu.utilization_percent, MEMORY: gpu.memory_utilization_percent}
        for name, value in values.items():
            if value == 0:
                self._zeros.setdefault(name, Zero(now))
            elif value is not None:  # a value that is missing once proves nothing
                self._zeros.pop(name, None)
        if 0 not in values.values():
            self._part = None
            return gpu
        self._look(gpu, now)
        suspect = [name for name, value in values.items() if value == 0 and self._zeros[name].suspect]
        return replace(gpu, suspect=suspect) if suspect else gpu

    def _look(self, gpu: Gpu, now: float) -> None:
        if self._part is None:
            self._part = Part(now)
        part = self._part
        part.take(gpu)
        if now - part.began < self._seconds / PARTS:
            return
        utilization, memory = self._zeros.get(UTILIZATION), self._zeros.get(MEMORY)
        if utilization is not None:
            utilization.judge(part, now, self._seconds, against=part.moved)
        if memory is not None:
            memory.judge(part, now, self._seconds, against=part.worked_hard)
            if utilization is not None and utilization.suspect and memory.began <= utilization.began:
                memory.suspect = True  # which has been 0 for as long, under the same movements
        self._part = Part(now)
        self._part.take(gpu)
