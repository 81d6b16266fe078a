"""A fake driver library: our own ``libnvidia-ml.so.1``, which the real binding loads in a real process.

::

    from tests.fakenvml import Scenario, datacentre, environment

    def test_it(tmp_path, monkeypatch):
        file = tmp_path / "scenario"
        scenario = datacentre(gpus=8)
        scenario.write(file)
        for name, value in environment(file).items():      # or env={**os.environ, **environment(file)}
            monkeypatch.setenv(name, value)
        ...                                                 # start whatever reads GPUs
        scenario.gpus[2].utilization = 50                   # what is written is what the next call sees,
        scenario.gpus[3].does["nvmlDeviceGetTemperature"] = "hang"   # also in a running program
        scenario.write(file)

Ready scenarios are functions that give a fresh :class:`Scenario`, to be changed at will: :func:`datacentre`,
:func:`consumer`, :func:`lost_gpu`, :func:`no_driver`, :func:`driver_mismatch`, :func:`no_gpus`,
:func:`unsupported`, :func:`not_utf8`, :func:`unified`, :func:`hanging`, :func:`crashing`. A machine on which the
library is missing altogether is ``environment(file, library=False)``.

``does`` (of a GPU, or of the scenario for functions without a GPU) says what a function does instead of
answering, by its NVML name with or without its version: a return code, ``"hang"`` (until the file says
otherwise), ``"segv"``, ``"slow 300"`` (answers 300 ms later), ``"leak 64"`` (keeps 64 KiB more at each call) or
``"chatter"`` (prints to standard output). :meth:`Scenario.xid` makes the driver report an error of a GPU.
"""

import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

GIB = 2**30
HANDLE = "nvmlDeviceGetHandleByIndex"
LIBRARY = "libnvidia-ml.so.1"

_SOURCE = Path(__file__).with_name("nvml.c")
_BUILD = Path(__file__).parents[1] / ".build"

Action = int | str


@dataclass
class Process:
    """A process on a GPU. ``memory=None`` is what the driver tells where it does not know."""

    pid: int
    memory: int | None
    type: str = "compute"


@dataclass
class MigDevice:
    """A slice of a GPU."""

    uuid: str
    name: str = "MIG 1g.10gb"
    memory_total: int = 10 * GIB
    memory_used: int = GIB
    gpu_instance: int | None = None
    compute_instance: int | None = None
    slices: int | None = None
    processes: list[Process] = field(default_factory=list)

    def lines(self) -> list[str]:
        numbers = ("gpu_instance", "compute_instance", "slices")
        return [
            f"uuid = {self.uuid}",
            f"name = {self.name}",
            f"memory.total = {self.memory_total}",
            f"memory.used = {self.memory_used}",
            f"memory.free = {self.memory_total - self.memory_used}",
            *(f"{name} = {value}" for name in numbers if (value := getattr(self, name)) is not None),
            *_process_lines(self.processes),
        ]


def _process_lines(processes: list[Process]) -> list[str]:
    return [
        f"process.{index} = {one.pid} {'-' if one.memory is None else one.memory} {one.type}"
        for index, one in enumerate(processes)
    ]


@dataclass
class Gpu:
    """A GPU in the driver's own units (milliwatts, millijoules, masks). ``None`` is not supported."""

    uuid: str | None
    name: str | bytes | None
    pci_bus_id: str | None
    utilization: int | None = None
    memory_utilization: int | None = None
    encoder_utilization: int | None = None
    decoder_utilization: int | None = None
    memory_total: int | None = None
    memory_used: int | None = None
    memory_reserved: int | None = None
    temperature: int | None = None
    memory_temperature: int | None = None
    fan_speed: int | None = None
    power_draw: int | None = None
    power_average: int | None = None
    power_instant: int | None = None
    power_limit: int | None = None
    energy: int | None = None
    sm_clock: int | None = None
    memory_clock: int | None = None
    sm_clock_max: int | None = None
    memory_clock_max: int | None = None
    slowdown_temperature: int | None = None
    performance_state: int | None = None
    throttle_reasons: int | None = None
    ecc_corrected: int | None = None
    ecc_uncorrected: int | None = None
    ecc_corrected_lifetime: int | None = None
    ecc_uncorrected_lifetime: int | None = None
    remapped: tuple[int, int, int, int] | None = None
    recovery_action: int | None = None
    nvlink_count: int | None = None
    nvlink_active: int | None = None
    bus_type: int | None = None
    pcie_generation: int | None = None
    pcie_width: int | None = None
    pcie_generation_max: int | None = None
    pcie_width_max: int | None = None
    persistence_mode: int | None = None
    compute_mode: int | None = None
    mig_mode: int | None = None
    mig_slots: int | None = None
    field_code: int | None = None
    field_type: int | None = None
    field_codes: dict[int, int] = field(default_factory=dict)
    process_entry_bytes: int | None = None
    processes: list[Process] = field(default_factory=list)
    shares: list[tuple[int, int, int]] | None = None  # process, moment, percent
    shares_room: int | None = None  # of entries below which the driver refuses, whatever it said that it needs
    mig_devices: list[MigDevice] = field(default_factory=list)
    does: dict[str, Action] = field(default_factory=dict)

    def lines(self) -> list[str]:
        known = {
            name.replace("memory_", "memory.") if name in _MEMORY else name: value
            for name, value in vars(self).items()
            if value is not None and not isinstance(value, list | dict | tuple)
        }
        if self.memory_total is not None:
            known["memory.free"] = self.memory_total - (self.memory_used or 0) - (self.memory_reserved or 0)
        lines = [f"{name} = {_escaped(value)}" for name, value in known.items()]
        lines += [f"remapped.{index} = {figure}" for index, figure in enumerate(self.remapped or ())]
        lines += [f"field.{number}.code = {code}" for number, code in self.field_codes.items()]
        lines += _process_lines(self.processes)
        if self.shares is not None:
            lines += ["shares = 1", *(f"share.{index} = %d %d %d" % one for index, one in enumerate(self.shares))]
        for index, mig in enumerate(self.mig_devices):
            lines += [f"mig.{index}.{line}" for line in mig.lines()]
        return lines + [f"{function} = {action}" for function, action in self.does.items()]


_MEMORY = frozenset({"memory_total", "memory_used", "memory_reserved"})


@dataclass
class Scenario:
    """What the fake driver answers. ``count`` is how many GPUs it admits to (all of them, unless told)."""

    gpus: list[Gpu] = field(default_factory=list)
    init: Action = 0
    count: int | None = None
    driver_version: str | bytes | None = "580.95.05"
    nvml_version: str | None = "13.580.95.05"
    cuda_version: int | None = 13000
    does: dict[str, Action] = field(default_factory=dict)
    xids: list[tuple[int, int]] = field(default_factory=list)

    def xid(self, gpu: int, code: int) -> None:
        """The driver reports an error of a GPU to whoever is listening by then."""
        self.xids.append((gpu, code))

    def text(self) -> str:
        lines = [f"count = {len(self.gpus) if self.count is None else self.count}"]
        for name in ("driver_version", "nvml_version", "cuda_version"):
            value = getattr(self, name)
            if value is not None:
                lines.append(f"{name} = {_escaped(value)}")
        lines += [
            f"{function} = {action}" for function, action in {"nvmlInitWithFlags": self.init, **self.does}.items()
        ]
        lines += [f"xid.{place} = {gpu} {code}" for place, (gpu, code) in enumerate(self.xids)]
        for index, gpu in enumerate(self.gpus):
            lines += [f"gpu.{index}.{line}" for line in gpu.lines()]
        return "\n".join(lines) + "\n"

    def write(self, file: Path) -> None:
        """The scenario in force from now on, all at once."""
        new = file.with_name(f"{file.name}.new")
        new.write_text(self.text(), encoding="utf-8")
        new.replace(file)


def _escaped(value: object) -> str:
    if isinstance(value, bytes):
        return "".join(f"\\x{byte:02x}" for byte in value)
    return str(value)


@cache
def build() -> Path:
    """The folder with the compiled library, compiled only where the source is newer."""
    library = _BUILD / "fakenvml" / LIBRARY
    if not library.exists() or library.stat().st_mtime < _SOURCE.stat().st_mtime:
        library.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=library.parent) as folder:
            fresh = Path(folder) / LIBRARY
            options = ["-std=gnu11", "-O1", "-Wall", "-Wextra", "-Werror", "-fPIC", "-shared", f"-Wl,-soname,{LIBRARY}"]
            subprocess.run(["gcc", *options, "-o", str(fresh), str(_SOURCE)], check=True)
            fresh.replace(library)  # whoever compiles at the same time gets one or the other, whole
    return library.parent


def environment(file: Path, *, library: bool = True, log: Path | None = None) -> dict[str, str]:
    """The variables under which a program meets the fake driver whose scenario is in ``file``.

    Without ``library`` it finds one that cannot be loaded, as on a machine without a driver;
    :func:`install_library` puts the driver there later. ``log`` collects the names of the called functions.
    """
    folder = build()
    if not library:
        folder = file.with_name(f"{file.name}.lib")
        folder.mkdir(exist_ok=True)
        (folder / LIBRARY).write_bytes(b"no library")  # hides a real one
    values = {"LD_LIBRARY_PATH": os.pathsep.join(filter(None, [str(folder), os.environ.get("LD_LIBRARY_PATH")]))}
    values["FAKE_NVML_SCENARIO"] = str(file)
    if log is not None:
        values["FAKE_NVML_LOG"] = str(log)
    return values


def install_library(file: Path) -> None:
    """The driver's library appears where ``environment(file, library=False)`` said that there was none."""
    folder = file.with_name(f"{file.name}.lib")
    shutil.copy(build() / LIBRARY, folder / "new")
    (folder / "new").replace(folder / LIBRARY)


def datacentre(gpus: int = 8) -> Scenario:
    """Boards with ECC and without fans; on GPU 0 one process both computes and draws."""
    scenario = Scenario([_datacentre_gpu(index) for index in range(gpus)])
    scenario.gpus[0].processes += [Process(1, 2 * GIB), Process(1, GIB, "graphics"), Process(2, 5 * GIB)]
    return scenario


def _datacentre_gpu(index: int) -> Gpu:
    return Gpu(
        uuid=f"GPU-8c1f0000-0000-4000-8000-{index:012d}",
        name="NVIDIA H100 80GB HBM3",
        pci_bus_id=f"00000000:{0x18 + index:02X}:00.0",
        utilization=90 + index,
        memory_utilization=40,
        encoder_utilization=0,
        decoder_utilization=0,
        memory_total=80 * GIB,
        memory_used=20 * GIB,
        memory_reserved=GIB // 2,
        temperature=50 + index,
        memory_temperature=60,
        power_draw=512_345,
        power_average=512_345,
        power_instant=530_100,
        power_limit=700_000,
        energy=123_456_789,
        sm_clock=1980,
        memory_clock=2619,
        sm_clock_max=1980,
        memory_clock_max=2619,
        slowdown_temperature=87,
        performance_state=0,
        throttle_reasons=0x4,
        ecc_corrected=3,
        ecc_uncorrected=0,
        ecc_corrected_lifetime=9,
        ecc_uncorrected_lifetime=1,
        remapped=(2, 1, 0, 0),
        recovery_action=0,
        nvlink_count=18,
        nvlink_active=18,
        pcie_generation=5,
        pcie_width=16,
        pcie_generation_max=5,
        pcie_width_max=16,
        persistence_mode=1,
        compute_mode=0,
        mig_mode=0,
        mig_slots=7,
    )


def consumer(gpus: int = 2) -> Scenario:
    """Boards with fans and without ECC; on GPU 0 the driver does not know what the process uses."""
    boards = [
        Gpu(
            uuid=f"GPU-40900000-0000-4000-8000-{index:012d}",
            name="NVIDIA GeForce RTX 4090",
            pci_bus_id=f"00000000:{index + 1:02X}:00.0",
            utilization=3,
            memory_utilization=1,
            encoder_utilization=0,
            decoder_utilization=0,
            memory_total=24 * GIB,
            memory_used=GIB,
            memory_reserved=GIB // 4,
            temperature=38,
            fan_speed=30,
            power_draw=21_000,
            power_limit=450_000,
            energy=1_000_000,
            sm_clock=210,
            memory_clock=405,
            sm_clock_max=3120,
            memory_clock_max=10_501,
            slowdown_temperature=88,
            performance_state=8,
            throttle_reasons=0x1,
            pcie_generation=1,
            pcie_width=16,
            pcie_generation_max=4,
            pcie_width_max=16,
            persistence_mode=0,
            compute_mode=0,
        )
        for index in range(gpus)
    ]
    boards[0].processes.append(Process(1, None, "graphics"))
    return Scenario(boards)


def lost_gpu(index: int = 3, gpus: int = 8) -> Scenario:
    """One GPU has fallen off the bus: not even a handle can be had."""
    return _one_does(HANDLE, 15, index, gpus)


def no_driver() -> Scenario:
    """The library is there, the kernel module is not."""
    return Scenario(init=9)


def driver_mismatch() -> Scenario:
    """The library was updated under a loaded kernel module."""
    return Scenario(init=18)


def no_gpus() -> Scenario:
    """A driver without a GPU."""
    return Scenario()


def unsupported() -> Scenario:
    """A GPU that tells nothing but who it is."""
    return Scenario(
        [Gpu(uuid="GPU-00000000-0000-4000-8000-000000000000", name="Some GPU", pci_bus_id="00000000:01:00.0")]
    )


def not_utf8() -> Scenario:
    """A name that is no text, as drivers under WSL have given."""
    scenario = consumer(1)
    scenario.gpus[0].name = b"NVIDIA \xf8 RTX\x1b[31m \xe2\x80\xae4090"
    return scenario


def unified() -> Scenario:
    """A board that shares the machine's memory, as drivers of 2025 have it: no memory call, a false PCIe link."""
    scenario = consumer(1)
    board = scenario.gpus[0]
    board.name, board.fan_speed, board.power_limit = "NVIDIA GB10", None, None
    board.memory_total = board.memory_used = board.memory_reserved = board.memory_utilization = None
    board.pcie_generation = board.pcie_width = board.pcie_generation_max = board.pcie_width_max = 1
    return scenario


def hanging(index: int = 2, gpus: int = 8, function: str = "nvmlDeviceGetTemperature") -> Scenario:
    """A call that never returns, on one GPU."""
    return _one_does(function, "hang", index, gpus)


def crashing(index: int = 2, gpus: int = 8, function: str = "nvmlDeviceGetTemperature") -> Scenario:
    """A call that kills the caller, on one GPU."""
    return _one_does(function, "segv", index, gpus)


def _one_does(function: str, action: Action, index: int, gpus: int) -> Scenario:
    scenario = datacentre(gpus)
    scenario.gpus[index].does[function] = action
    return scenario
