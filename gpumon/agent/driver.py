"""Why the driver as a whole does not answer: its return code, and what can be seen around it."""

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from msgspec.structs import replace

from gpumon.agent.machine import text
from gpumon.agent.words import ACCESS_LOST, MISMATCH, driver_fault, of_windows
from gpumon.model import Fault, Platform, ReportStatus

KERNEL_MODULE: Final = Path("/proc/driver/nvidia/version")
OWN_MAPS: Final = Path("/proc/self/maps")
DEVICES: Final = tuple(Path("/dev") / name for name in ("nvidiactl", "nvidia0"))
VERSION: Final = r"(\d{3,}\.\d+(?:\.\d+)?)"
LOADED: Final = rf"Kernel Module.*?\s{VERSION}"

MISMATCHED: Final = 18
MAY_BE_REFUSED: Final = frozenset({4, 17, 999})


def explained(code: int | None, what: str, on: Platform) -> tuple[ReportStatus, Fault]:
    """The state of a node whose driver answered ``code`` to ``what``, with what else is known of the cause."""
    if on == "wsl":  # where the driver is that of Windows, of another version by design
        status, fault = driver_fault(code, what)
        return status, of_windows(fault)
    if code == MISMATCHED:
        return "driver_mismatch", mismatch(text(KERNEL_MODULE), text(OWN_MAPS))
    if code in MAY_BE_REFUSED and is_refused(DEVICES):
        return "error", ACCESS_LOST
    return driver_fault(code, what)


def loaded_version(kernel: str) -> str | None:
    """The version of the driver's part in the kernel, as that tells it (``/proc/driver/nvidia/version``)."""
    found = re.search(LOADED, kernel)
    return found[1] if found else None


def is_open(kernel: str) -> bool | None:
    """Whether the driver's part in the kernel is NVIDIA's open one; null where there is none to be seen."""
    return "Open Kernel Module" in kernel if "Kernel Module" in kernel else None


def mismatch(kernel: str, maps: str) -> Fault:
    """With both versions, where the kernel tells its own and the library's file has one in its name."""
    loaded = re.search(LOADED, kernel)
    library = re.search(rf"libnvidia-ml\.so\.{VERSION}", maps)
    if loaded is None or library is None:
        return MISMATCH
    return replace(
        MISMATCH,
        message=(
            f"The NVIDIA driver was updated to {library[1]}, but the old one ({loaded[1]}) "
            "is still loaded in the kernel."
        ),
    )


def is_refused(devices: Iterable[Path]) -> bool:
    """Whether a device is there and may not be opened, as in a container that has lost its devices."""
    for device in devices:
        try:
            os.close(os.open(device, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC))
        except PermissionError:
            return True
        except OSError:
            continue
    return False
