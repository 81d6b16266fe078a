"""What kind of machine this is, as its kernel shows it. ``root`` is where its files are: ``/``, but for tests."""

from pathlib import Path
from typing import Final

from gpumon.model import Platform

INITIAL_PID_NAMESPACE: Final = "pid:[4026531836]"  # the same number on every Linux since 3.8
CONTAINER_MARKS: Final = (".dockerenv", "run/.containerenv", "run/systemd/container")
PORTABLE_CHASSIS: Final = frozenset({"8", "9", "10", "11", "14", "30", "31", "32"})  # SMBIOS: portable to detachable


def text(file: Path) -> str:
    """What is in ``file``, or nothing where that cannot be read."""
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def platform(root: Path) -> Platform:
    """WSL is Linux inside Windows, whose driver it uses: ``/dev/dxg`` in place of ``/dev/nvidia*``."""
    release = text(root / "proc/sys/kernel/osrelease").lower()
    return "wsl" if "microsoft" in release and (root / "dev/dxg").exists() else "linux"


def is_portable(root: Path) -> bool:
    """Whether the maker calls it a laptop, a tablet or the like."""
    return text(root / "sys/class/dmi/id/chassis_type").strip() in PORTABLE_CHASSIS


def is_container(root: Path) -> bool:
    """Whether something stands between us and the machine, which shows us less than there is."""
    if any((root / mark).exists() for mark in CONTAINER_MARKS):
        return True
    try:
        if str((root / "proc/self/ns/pid").readlink()) != INITIAL_PID_NAMESPACE:
            return True
    except OSError:
        pass
    # A container of the machine's own processes; its runtime hides the GPUs of others in this way.
    return " /proc/driver/nvidia" in text(root / "proc/self/mountinfo")
