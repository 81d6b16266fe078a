"""GPUs that are not there: for demonstrations and for tests of everything behind the reader.

Whatever comes from here says that it is simulated: the report by its flag, each GPU by its name, each
process by its name and user. Values follow the clock smoothly, as real ones do.
"""

import math
import random
import time
from collections.abc import Callable

from msgspec import Struct

from gpumon.agent.sample import Sample
from gpumon.model import Gpu, Process, Reason
from gpumon.timestamp import rfc3339

MIB = 1024 * 1024


class Board(Struct, frozen=True, kw_only=True):
    """What a kind of GPU is like. ``has_fan`` and ``has_ecc`` tell what its driver answers for."""

    name: str
    memory_mib: int
    reserved_mib: int
    power_limit_watts: float
    idle_watts: float
    sm_clock_megahertz: float
    memory_clock_megahertz: float
    pcie_generation: int
    has_fan: bool
    has_ecc: bool


BOARDS = (
    Board(
        name="NVIDIA H200 (simulated)",
        memory_mib=143_771,
        reserved_mib=625,
        power_limit_watts=700,
        idle_watts=78,
        sm_clock_megahertz=1980,
        memory_clock_megahertz=3201,
        pcie_generation=5,
        has_fan=False,
        has_ecc=True,
    ),
    Board(
        name="NVIDIA GeForce RTX 5090 (simulated)",
        memory_mib=32_607,
        reserved_mib=480,
        power_limit_watts=575,
        idle_watts=14,
        sm_clock_megahertz=2850,
        memory_clock_megahertz=14_001,
        pcie_generation=5,
        has_fan=True,
        has_ecc=False,
    ),
    Board(
        name="NVIDIA A100-SXM4-80GB (simulated)",
        memory_mib=81_920,
        reserved_mib=599,
        power_limit_watts=400,
        idle_watts=56,
        sm_clock_megahertz=1410,
        memory_clock_megahertz=1593,
        pcie_generation=4,
        has_fan=False,
        has_ecc=True,
    ),
)


class Load(Struct, frozen=True, kw_only=True):
    """What a GPU is busy with: who runs what, the share of memory held, and the utilisation over time."""

    user: str | None
    command: str | None
    memory_share: float
    utilization: Callable[[float], float]


def _training(seconds: float) -> float:
    """Near full, with a dip for a checkpoint every minute."""
    return 35.0 if seconds % 60 < 3 else 96 + 3 * math.sin(seconds / 5)


def _inference(seconds: float) -> float:
    """Requests come in waves."""
    return 42 + 30 * math.sin(seconds / 23) + 12 * math.sin(seconds / 3.1)


def _nothing(_: float) -> float:
    return 0.0


LOADS = (
    Load(user="sim-alice", command="python train.py", memory_share=0.88, utilization=_training),
    Load(user="sim-bob", command="python -m vllm.entrypoints", memory_share=0.90, utilization=_inference),
    Load(user=None, command=None, memory_share=0.0, utilization=_nothing),
    Load(user="sim-carol", command="jupyter-lab", memory_share=0.31, utilization=_nothing),
    Load(user="sim-alice", command="python -m torch.distributed.run", memory_share=0.71, utilization=_training),
    Load(user=None, command=None, memory_share=0.0, utilization=_nothing),
)


class SimulatedReader:
    """``count`` GPUs of one board. ``seed`` decides the board, the loads and the identities."""

    simulated = True

    def __init__(self, count: int, seed: int = 0) -> None:
        self._board = BOARDS[seed % len(BOARDS)]
        self._started = time.time()
        chance = random.Random(seed)
        self._loads = [LOADS[(index + seed) % len(LOADS)] for index in range(count)]
        self._uuids = [f"GPU-{random_uuid(chance)}" for _ in range(count)]
        self._phases = [chance.uniform(0, 60) for _ in range(count)]
        self._pids = [chance.randrange(2_000, 4_000_000) for _ in range(count)]

    async def read(self) -> Sample:
        """The GPUs as they are now."""
        now = time.time()
        return Sample(
            cuda_version="13.0",
            gpus=[self._gpu(index, now) for index in range(len(self._loads))],
        )

    def _gpu(self, index: int, now: float) -> Gpu:
        board, load = self._board, self._loads[index]
        elapsed = now - self._started + self._phases[index]
        utilization = round(min(max(load.utilization(elapsed), 0.0), 100.0))
        busy = utilization / 100
        free_mib = board.memory_mib - board.reserved_mib
        used = int(free_mib * load.memory_share) * MIB
        power = board.idle_watts + (board.power_limit_watts - board.idle_watts) * busy * 0.96
        temperature = round(31 + index % 3 + 42 * busy + 2 * math.sin(elapsed / 40))
        return Gpu(
            index=index,
            uuid=self._uuids[index],
            name=board.name,
            pci_bus_id=f"00000000:{0x17 + index:02X}:00.0",
            utilization_percent=utilization,
            memory_utilization_percent=round(utilization * 0.6),
            encoder_utilization_percent=0,
            decoder_utilization_percent=0,
            memory_total_bytes=board.memory_mib * MIB,
            memory_used_bytes=used,
            memory_free_bytes=free_mib * MIB - used,
            memory_reserved_bytes=board.reserved_mib * MIB,
            temperature_celsius=temperature,
            memory_temperature_celsius=temperature + 6 if board.has_ecc else None,
            fan_speed_percent=round(30 + 60 * busy) if board.has_fan else None,
            power_draw_watts=round(power, 1),
            power_limit_watts=board.power_limit_watts,
            energy_joules_total=round(elapsed * power),
            sm_clock_megahertz=board.sm_clock_megahertz if busy else 345,
            memory_clock_megahertz=board.memory_clock_megahertz,
            performance_state="P0" if busy else "P8",
            throttle_reasons=[] if busy else ["gpu_idle"],
            ecc_uncorrected_total=0 if board.has_ecc else None,
            pcie_generation=board.pcie_generation,
            pcie_width=16,
            persistence_mode=True,
            compute_mode="default",
            mig_enabled=False if board.has_ecc else None,
            sampled_at=rfc3339(now),
            processes=self._processes(index, used),
            unavailable=_unavailable(board),
        )

    def _processes(self, index: int, used: int) -> list[Process]:
        load = self._loads[index]
        if load.command is None:
            return []
        return [
            Process(
                pid=self._pids[index],
                name=f"{load.command.split()[0]} (simulated)",
                user=load.user,
                command=f"{load.command} (simulated)",
                type="compute",
                memory_used_bytes=used,
                started_at=rfc3339(self._started - 3600 * (index + 1)),
            )
        ]


def random_uuid(chance: random.Random) -> str:
    """A UUID's text from ``chance``."""
    digits = f"{chance.getrandbits(128):032x}"
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def _unavailable(board: Board) -> dict[str, Reason]:
    absent = [] if board.has_fan else ["fan_speed_percent"]
    if not board.has_ecc:
        absent += ["memory_temperature_celsius", "ecc_uncorrected_total", "mig_enabled"]
    return dict.fromkeys([*absent, "mig_devices"], "unsupported")
