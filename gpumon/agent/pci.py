"""The NVIDIA GPUs on the PCI bus as the kernel knows them, without a word to the driver's library.

From ``/sys/bus/pci/devices/ADDRESS``: ``vendor``, ``class``, ``driver``, ``driver_override``, ``physfn``,
``power/control`` and ``power/runtime_status``; none of them wakes a GPU. From
``/proc/driver/nvidia/gpus/ADDRESS/information``: what the kernel's part of the driver knows of those that it
has taken. An address is written as the kernel writes it: ``0000:3b:00.0``.
"""

from pathlib import Path
from typing import Final, NamedTuple

from gpumon.agent.machine import text
from gpumon.text import printable

NVIDIA: Final = "0x10de"
DISPLAY: Final = "0x03"  # how the classes of all GPUs begin, with a display or without
OWN_DRIVER: Final = "nvidia"
MAX_TEXT: Final = 256


class Board(NamedTuple):
    """A GPU. ``driver`` is the kernel's for it; ``given_away``: on purpose to another one, as to a guest.

    ``may_sleep``: the kernel may cut its power while nobody uses it, as on laptops.
    """

    address: str
    driver: str | None
    given_away: bool
    may_sleep: bool


class Information(NamedTuple):
    """What the kernel's part of the driver tells of a GPU. Null where it does not, as before its first start."""

    name: str | None
    uuid: str | None
    minor: int | None
    excluded: bool


class Bus:
    """The bus. Whether a device is a GPU is asked once; what may change, each time."""

    def __init__(self, root: Path) -> None:
        self._devices = root / "sys/bus/pci/devices"
        self._is_gpu: dict[str, bool] = {}

    def boards(self) -> list[Board]:
        """In the order of their addresses, which is also that of the driver's indexes."""
        try:
            addresses = [device.name for device in self._devices.iterdir()]
        except OSError:
            addresses = []
        known = self._is_gpu
        self._is_gpu = {one: known[one] if one in known else self._looks_like_one(one) for one in addresses}
        return [self._board(one) for one in sorted(addresses, key=order) if self._is_gpu[one]]

    def is_suspended(self, address: str) -> bool:
        return text(self._devices / address / "power/runtime_status").strip() == "suspended"

    def _looks_like_one(self, address: str) -> bool:
        device = self._devices / address
        if text(device / "vendor").strip() != NVIDIA or not text(device / "class").startswith(DISPLAY):
            return False
        return not (device / "physfn").exists()  # a share of a GPU that is made for guests

    def _board(self, address: str) -> Board:
        device = self._devices / address
        try:
            driver = (device / "driver").readlink().name
        except OSError:
            driver = None
        override = text(device / "driver_override").strip()
        return Board(
            address=address,
            driver=driver,
            given_away=driver not in (None, OWN_DRIVER) or override not in ("", "(null)", OWN_DRIVER),
            may_sleep=driver == OWN_DRIVER and text(device / "power/control").strip() == "auto",
        )


def order(address: str) -> tuple[int, str]:
    return len(address), address


def canonical(address: str) -> str:
    """An address of the driver's library (``00000000:3B:00.0``) as the kernel writes it."""
    domain, colon, rest = address.lower().partition(":")
    return f"{domain.lstrip('0').rjust(4, '0')}{colon}{rest}"


def information(root: Path, address: str) -> Information | None:
    """None where the driver has not taken the GPU, or it is hidden from us."""
    found = text(root / "proc/driver/nvidia/gpus" / address / "information")
    if not found:
        return None
    lines = (line.partition(":") for line in found.splitlines())
    told = {name.strip(): printable(value.strip()[:MAX_TEXT]) for name, _, value in lines}
    uuid, minor = told.get("GPU UUID", ""), told.get("Device Minor", "")
    return Information(
        name=told.get("Model") or None,
        uuid=uuid if uuid and "?" not in uuid else None,  # of a GPU that was never started it has question marks
        minor=int(minor) if minor.isascii() and minor.isdigit() else None,
        excluded=told.get("GPU Excluded", "").lower() == "yes",
    )
