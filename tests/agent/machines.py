"""A machine that is not there: the files of its kernel, in a folder."""

import shutil
from pathlib import Path

from gpumon.agent.pipe import Start

H100 = "0x030200"
NVSWITCH = "0x068000"


class Machine:
    """What ``/sys``, ``/proc`` and ``/dev`` show. GPUs have the addresses of the ready scenarios."""

    def __init__(self, folder: Path) -> None:
        self.root = folder
        (folder / "proc/driver/nvidia/gpus").mkdir(parents=True)
        (folder / "dev").mkdir()

    def start(self, *, wake: bool = False, rest: float = 3600.0) -> Start:
        return Start(root=str(self.root), wake_sleeping_gpus=wake, rest_seconds=rest)

    def device(self, address: str) -> Path:
        return self.root / "sys/bus/pci/devices" / address

    def write(self, file: str, text: str) -> None:
        place = self.root / file
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text, encoding="utf-8")

    def board(
        self,
        address: str,
        *,
        vendor: str = "0x10de",
        kind: str = H100,
        driver: str | None = "nvidia",
        control: str = "on",
        status: str = "active",
    ) -> None:
        """A device on the bus, as good as there."""
        device = self.device(address)
        (device / "power").mkdir(parents=True)
        (device / "vendor").write_text(f"{vendor}\n")
        (device / "class").write_text(f"{kind}\n")
        (device / "driver_override").write_text("(null)\n")
        (device / "power/control").write_text(f"{control}\n")
        (device / "power/runtime_status").write_text(f"{status}\n")
        if driver is not None:
            folder = self.root / "sys/bus/pci/drivers" / driver
            folder.mkdir(parents=True, exist_ok=True)
            (device / "driver").symlink_to(folder)

    def taken(
        self, address: str, minor: int, *, uuid: str = "GPU-????????-????", name: str = "Board", excluded: str = "No"
    ) -> None:
        """NVIDIA's driver has the board, and its device node is there."""
        lines = [
            f"Model: \t\t {name}",
            f"GPU UUID: \t {uuid}",
            f"Bus Location: \t {address}",
            f"Device Minor: \t {minor}",
            f"GPU Excluded:\t {excluded}",
        ]
        self.write(f"proc/driver/nvidia/gpus/{address}/information", "\n".join(lines) + "\n")
        self.write(f"dev/nvidia{minor}", "")

    def status(self, address: str, word: str) -> None:
        (self.device(address) / "power/runtime_status").write_text(f"{word}\n")

    def remove(self, place: str) -> None:
        shutil.rmtree(self.root / place)


def of_datacentre(folder: Path, gpus: int) -> Machine:
    """The machine of ``fakenvml.datacentre``: all GPUs are there, and nothing sleeps."""
    machine = Machine(folder)
    for index in range(gpus):
        address = f"0000:{0x18 + index:02x}:00.0"
        machine.board(address)
        machine.taken(address, index)
    machine.board("0000:05:00.0", kind=NVSWITCH)
    machine.board("0000:03:00.0", vendor="0x1a03", driver="ast")
    return machine


def laptop(folder: Path, gpus: int = 1, status: str = "suspended") -> Machine:
    """The machine of ``fakenvml.consumer``, which switches its GPUs off."""
    machine = Machine(folder)
    for index in range(gpus):
        address = f"0000:{index + 1:02x}:00.0"
        machine.board(address, control="auto", status=status)
        uuid = f"GPU-40900000-0000-4000-8000-{index:012d}"
        machine.taken(address, index, uuid=uuid, name="NVIDIA GeForce RTX 4090 Laptop GPU")
    return machine
