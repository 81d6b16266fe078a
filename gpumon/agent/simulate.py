"""GPUs that are not there: for demonstrations and for tests of everything behind the reader.

Whatever comes from here says that it is simulated: the report by its flag, each GPU by its name, each
process by its name and user, each fault by its message. Values follow the clock smoothly, as real ones do.
"""

import math
import random
import time
from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from gpumon.agent.boards import BOARDS, MIB, Board
from gpumon.agent.loads import DESKTOP, LOADS, Load
from gpumon.agent.sample import Sample
from gpumon.agent.scenario import Scenario
from gpumon.agent.words import LOST, NO_GPUS, NOT_LOADED, unread
from gpumon.agent.xid import XidLog
from gpumon.model import Fault, Gpu, MemoryLedger, MigDevice, Process, RemappedRows, Xid
from gpumon.timestamp import rfc3339

LABEL = " (simulated)"
UNIFIED_SYSTEM_MIB = 6_144


class SimulatedReader:
    """The GPUs of ``scenario``. ``seed`` decides their identities and where in their work they are."""

    simulated = True

    def __init__(self, scenario: Scenario, seed: int = 0, clock: Callable[[], float] = time.time) -> None:
        chance = random.Random(seed)
        self._clock = clock
        self._started = clock()
        self._scenario = scenario
        self._gpus = [
            SimulatedGpu(index, BOARDS[name], scenario.faults.get(index), chance, self._started)
            for index, name in enumerate(scenario.boards)
        ]

    async def read(self) -> Sample:
        """The GPUs as they are now."""
        if self._scenario.node_fault == "no_driver":
            return Sample(status="no_driver", error=labelled(NOT_LOADED))
        now = self._clock()
        gpus = [gpu.read(now) for gpu in self._gpus]
        well = [gpu.status == "ok" for gpu in gpus]
        return Sample(
            status="no_gpus" if not gpus else "ok" if all(well) else "degraded",
            error=None if gpus else labelled(NO_GPUS),
            driver_version=f"580.95.05{LABEL}",
            cuda_version="13.0",
            nvml_version=f"13.580.95.05{LABEL}",
            gpus=gpus,
        )


class SimulatedGpu:
    """One GPU: what it is, what it is busy with, and what is wrong with it."""

    def __init__(self, index: int, board: Board, fault: str | None, chance: random.Random, started: float) -> None:
        self._index = index
        self._board = board
        self._fault = fault
        self._started = started
        self._uuid = random_uuid(chance)
        self._phase = chance.uniform(0, 60)
        self._pid = chance.randrange(2_000, 4_000_000)
        self._energy = chance.uniform(1e6, 1e9)
        self._read_at = started
        busy = fault == "throttled" or board.mig is not None
        loads = LOADS[0 if busy else index % len(LOADS)]
        self._loads = (*loads, DESKTOP) if board.draws_desktop and index == 0 else loads

    def read(self, now: float) -> Gpu:
        """The GPU as it is ``now``, or as it was when its fault befell it."""
        match self._fault:
            case "lost" | "xid79":
                return self._lost(now)
            case "unresponsive":
                seconds = now - self._started
                message = f"The driver has not answered for {seconds:.0f} s while reading GPU {self._index}."
                fault = Fault(code="timeout", message=message, hint="See the Xid lines in 'dmesg'.")
                return replace(self._healthy(self._started), status="unresponsive", error=labelled(fault))
            case "throttled":
                return self._throttled(now)
            case "ecc":
                return self._with_bad_memory(now)
        return self._healthy(now)

    def _healthy(self, now: float) -> Gpu:
        board = self._board
        elapsed = now - self._started + self._phase
        utilization = round(min(max(sum(load.utilization(elapsed) for load in self._loads), 0.0), 100.0))
        values = self._identity(now)
        values |= self._activity(utilization, elapsed, now)
        values |= self._memory(utilization) if board.mig is None else self._partitioned(*board.mig)
        values |= self._condition()
        for field in board.unsupported:
            values[field] = None
        return Gpu(**values, unavailable=dict.fromkeys(sorted(board.unsupported), "unsupported"))

    def _identity(self, now: float) -> dict[str, Any]:
        return {
            "index": self._index,
            "uuid": f"GPU-{self._uuid}",
            "name": self._board.name + LABEL,
            "pci_bus_id": f"00000000:{0x17 + self._index:02X}:00.0",
            "sampled_at": rfc3339(now),
        }

    def _activity(self, utilization: int, elapsed: float, now: float) -> dict[str, Any]:
        """What changes from one second to the next."""
        board, busy = self._board, utilization / 100
        power = board.idle_watts + (board.power_limit_watts - board.idle_watts) * busy * 0.96
        self._energy += power * max(now - self._read_at, 0.0)
        self._read_at = max(now, self._read_at)
        temperature = round(31 + self._index % 3 + 42 * busy + 2 * math.sin(elapsed / 40))
        return {
            "utilization_percent": utilization,
            "memory_utilization_percent": round(utilization * 0.6),
            "encoder_utilization_percent": 0,
            "decoder_utilization_percent": 0,
            "temperature_celsius": temperature,
            "memory_temperature_celsius": temperature + 6,
            "fan_speed_percent": round(30 + 60 * busy),
            "power_draw_watts": round(power, 1),
            "power_draw_average_watts": round(power, 1),
            "power_draw_instant_watts": round(power * (1 + 0.04 * math.sin(elapsed * 7)), 1),
            "energy_joules_total": round(self._energy, 3),
            "sm_clock_megahertz": board.sm_clock_megahertz if utilization else board.idle_sm_clock_megahertz,
            "memory_clock_megahertz": (
                board.memory_clock_megahertz if utilization else board.idle_memory_clock_megahertz
            ),
            "performance_state": "P0" if utilization else "P8",
            "throttle_reasons": [] if utilization else ["gpu_idle"],
        }

    def _memory(self, utilization: int) -> dict[str, Any]:
        board = self._board
        usable = (board.memory_mib - board.reserved_mib) * MIB
        processes = [self._process(number, load, usable) for number, load in enumerate(self._loads)]
        if processes:
            processes[0] = replace(processes[0], utilization_percent=utilization)
        return _accounts(board, processes) | {"mig_devices": []}

    def _partitioned(self, profile: str, count: int, mib: int) -> dict[str, Any]:
        """The slices of a GPU, each with its own memory and processes; the GPU has those of all."""
        devices, everyone = [], []
        for slot in range(count):
            loads = LOADS[(self._index + slot + 1) % len(LOADS)]
            processes = [self._process(10 * slot + number, load, mib * MIB) for number, load in enumerate(loads)]
            everyone += processes
            used = sum(one.memory_used_bytes or 0 for one in processes) + 13 * MIB
            devices.append(
                MigDevice(
                    index=slot,
                    uuid=f"MIG-{self._uuid[:-2]}{slot:02d}",
                    name=f"{self._board.name} MIG {profile}{LABEL}",
                    profile=profile,
                    gpu_instance_id=7 + slot,
                    compute_instance_id=0,
                    memory_total_bytes=mib * MIB,
                    memory_used_bytes=used,
                    memory_free_bytes=mib * MIB - used,
                    processes=processes,
                )
            )
        everyone.sort(key=lambda one: -(one.memory_used_bytes or 0))
        return _accounts(self._board, everyone, 13 * count) | {"mig_devices": devices}

    def _process(self, number: int, load: Load, usable: int) -> Process:
        return Process(
            pid=self._pid + number,
            name=load.command.split()[0] + LABEL,
            user=load.user,
            command=load.command + LABEL,
            type=load.type,
            memory_used_bytes=int(usable * load.memory_share) // MIB * MIB,
            started_at=rfc3339(self._started - 3600 * (self._index + 1) - 7 * number),
            container=load.container,
            job=load.job,
        )

    def _condition(self) -> dict[str, Any]:
        """What changes rarely or never."""
        board = self._board
        return {
            "slowdown_temperature_celsius": board.slowdown_celsius,
            "power_limit_watts": board.power_limit_watts,
            "sm_clock_max_megahertz": board.sm_clock_megahertz,
            "memory_clock_max_megahertz": board.memory_clock_megahertz,
            "ecc_uncorrected_total": 0,
            "ecc_corrected_total": 0,
            "ecc_uncorrected_lifetime_total": 0,
            "ecc_corrected_lifetime_total": 0,
            "remapped_rows": RemappedRows(correctable=0, uncorrectable=0, pending=False, failure=False),
            "recovery_action": "none",
            "pcie_generation": board.pcie_generation,
            "pcie_generation_max": board.pcie_generation,
            "pcie_width": board.pcie_width,
            "pcie_width_max": board.pcie_width,
            "nvlink_active_count": board.nvlink_count,
            "nvlink_count": board.nvlink_count,
            "persistence_mode": True,
            "compute_mode": "default",
            "mig_enabled": board.mig is not None,
            "xids": [],
        }

    # ---- faults ----

    def _lost(self, now: float) -> Gpu:
        gpu = unread(self._healthy(now), "lost", labelled(LOST), "lost")
        if self._fault == "lost":  # not every GPU that goes says so
            return gpu
        reasons = {field: reason for field, reason in gpu.unavailable.items() if field != "xids"}
        return replace(gpu, xids=self._xids(79), unavailable=reasons)

    def _throttled(self, now: float) -> Gpu:
        """Too hot, and slowed down for that by a third."""
        gpu, board = self._healthy(now), self._board
        hot: dict[str, Any] = {
            "temperature_celsius": board.slowdown_celsius - 1,
            "memory_temperature_celsius": board.slowdown_celsius + 3,
            "sm_clock_megahertz": round(board.sm_clock_megahertz * 0.66),
            "throttle_reasons": ["sw_thermal_slowdown", "hw_thermal_slowdown"],
        }
        return replace(gpu, **{field: value for field, value in hot.items() if field not in board.unsupported})

    def _with_bad_memory(self, now: float) -> Gpu:
        return replace(
            self._healthy(now),
            ecc_uncorrected_total=2,
            ecc_corrected_total=117,
            ecc_uncorrected_lifetime_total=5,
            ecc_corrected_lifetime_total=1204,
            remapped_rows=RemappedRows(correctable=1, uncorrectable=2, pending=True, failure=False),
            recovery_action="gpu_reset",
            xids=self._xids(63),
        )

    def _xids(self, code: int) -> list[Xid]:
        xid = XidLog().note(self._uuid, code, rfc3339(self._started))
        return [replace(xid, meaning=xid.meaning + LABEL)]


def labelled(fault: Fault) -> Fault:
    """``fault``, told as simulated."""
    return replace(fault, message=fault.message + LABEL)


def random_uuid(chance: random.Random) -> str:
    """A UUID's text from ``chance``."""
    digits = f"{chance.getrandbits(128):032x}"
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def _accounts(board: Board, processes: list[Process], unaccounted_mib: int = 3) -> dict[str, Any]:
    """The memory of a GPU: what is used is what its processes use, and what nobody is named for."""
    if board.memory_kind == "unified":  # the other programs of the machine
        unaccounted_mib = UNIFIED_SYSTEM_MIB
    held = sum(one.memory_used_bytes or 0 for one in processes)
    used = held + unaccounted_mib * MIB
    reserved = None if "memory_reserved_bytes" in board.unsupported else board.reserved_mib * MIB
    return {
        "memory_kind": board.memory_kind,
        "memory_total_bytes": board.memory_mib * MIB,
        "memory_used_bytes": used,
        "memory_free_bytes": board.memory_mib * MIB - used - (reserved or 0),
        "memory_reserved_bytes": reserved,
        "memory_ledger": MemoryLedger(
            processes_bytes=held,
            reserved_bytes=reserved,
            unaccounted_bytes=unaccounted_mib * MIB,
        ),
        "processes": processes,
    }
