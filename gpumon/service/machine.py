"""What of this machine a unit must fit: its systemd, its devices and who owns them."""

import grp
import re
import stat
import subprocess
from dataclasses import dataclass
from pathlib import Path

SYSTEMD_SECONDS = 10.0
CONTROL_NODE = "nvidiactl"
RARE_NODES = ("dxg", "nvmap", "nvhost-*", "nvgpu/*/*")
"""Windows Subsystem for Linux, and Jetson: there only the paths are known, not the names of classes."""


@dataclass(frozen=True, slots=True)
class Machine:
    """``systemd`` is its version, None where there is none; ``device_group`` may open the NVIDIA devices where not
    everybody may; ``rare_devices`` are those that no class of devices covers.
    """

    systemd: int | None = None
    device_group: str | None = None
    rare_devices: tuple[str, ...] = ()


def this_machine(root: Path = Path("/")) -> Machine:
    """As it is now."""
    devices = root / "dev"
    rare = sorted({f"/dev/{node.relative_to(devices)}" for name in RARE_NODES for node in devices.glob(name)})
    return Machine(_systemd(), _group_of(devices / CONTROL_NODE), tuple(rare))


def _systemd() -> int | None:
    try:
        told = subprocess.run(
            ["systemctl", "--version"],  # noqa: S607
            capture_output=True,
            text=True,
            timeout=SYSTEMD_SECONDS,
            check=False,
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.match(r"systemd (\d+)", told)
    return int(found[1]) if found else None


def _group_of(node: Path) -> str | None:
    """The group that may open ``node`` where not everybody may."""
    try:
        status = node.stat()
        if not stat.S_ISCHR(status.st_mode) or stat.S_IMODE(status.st_mode) & 0o006 == 0o006 or status.st_gid == 0:
            return None
        return grp.getgrgid(status.st_gid).gr_name
    except (OSError, KeyError):
        return None
