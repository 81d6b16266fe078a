"""What is no fault yet and had better be looked at: each in a sentence, with what to do. In a fixed order, few."""

import re
from typing import Final

from gpumon.agent.sample import Sample
from gpumon.model import Fault, Gpu, Host

DAY_SECONDS: Final = 86_400
LONG_UPTIME_DAYS: Final = 60
OF_LAPTOPS: Final = re.compile(r"\b(Laptop|Mobile|Max-Q)\b")

B200: Final = re.compile(r"\bB200\b")
HANGING_DRIVERS: Final = ((570, 133), (580, 105))  # from, to; of the open kernel module
"""open-gpu-kernel-modules#971: after about 66 days and 12 hours of uptime the driver hangs, for ever."""


def advice(sample: Sample, host: Host, *, portable: bool) -> list[Fault]:
    """What to advise whoever owns this machine. ``portable``: it is a laptop."""
    found = [_long_uptime(sample, host)]
    if host.platform != "wsl" and not portable:
        found.append(_persistence(sample))
    return [one for one in found if one is not None]


def _long_uptime(sample: Sample, host: Host) -> Fault | None:
    days = int((host.uptime_seconds or 0) // DAY_SECONDS)
    if days < LONG_UPTIME_DAYS or not sample.open_kernel_module or not _hangs(sample.driver_version):
        return None
    if not any(B200.search(gpu.name or "") for gpu in sample.gpus):
        return None
    return Fault(
        code="long_uptime",
        message=(
            f"This machine has been up for {days} days. With B200 boards and the open kernel module 570.133 to "
            "580.105 the driver has been seen to hang after about 66 days and 12 hours."
        ),
        hint="Reboot this machine at a time of your choice, or update the driver.",
    )


def _hangs(version: str | None) -> bool:
    numbers = re.match(r"(\d+)\.(\d+)", version or "")
    first, last = HANGING_DRIVERS
    return numbers is not None and first <= (int(numbers[1]), int(numbers[2])) <= last


def _persistence(sample: Sample) -> Fault | None:
    off = [gpu.index for gpu in sample.gpus if _starts_anew(gpu)]
    if not off:
        return None
    which = "GPU " + ", ".join(map(str, off)) if len(off) < len(sample.gpus) else "every GPU"
    return Fault(
        code="persistence_off",
        message=(
            f"Persistence mode is off on {which}: "
            "the driver starts a GPU anew for each program, which can take seconds."
        ),
        hint="Switch it on with 'nvidia-smi -pm 1' or nvidia-persistenced.",
    )


def _starts_anew(gpu: Gpu) -> bool:
    """Whether the driver lets go of it between two programs. A display that is on it holds it started."""
    if gpu.persistence_mode is not False or OF_LAPTOPS.search(gpu.name or ""):
        return False
    return all(process.type == "compute" for process in gpu.processes or ())
