"""What the driver's numbers mean, in the words of a report."""

from typing import Final

from msgspec import structs

from gpumon.model import Fault, Gpu, GpuStatus, Reason, ReportStatus

REASONS: Final[dict[int, Reason]] = {
    1: "driver",  # uninitialised
    3: "unsupported",
    4: "denied",
    6: "no_data",  # not found
    9: "driver",  # not loaded
    10: "timeout",
    12: "driver",  # library not found
    13: "unsupported",  # function not found
    15: "lost",
    16: "reset_required",
    17: "denied",  # the operating system refuses
    18: "driver",  # library and kernel module differ
    21: "no_data",
    25: "unsupported",  # argument version
    26: "unsupported",  # deprecated
    27: "no_data",  # not ready
    28: "lost",  # GPU not found
    29: "reset_required",  # invalid state
}
"""Why a value is null, by the driver's return code; ``error`` for all others."""

THROTTLE_REASONS: Final = {
    0x001: "gpu_idle",
    0x002: "applications_clocks_setting",
    0x004: "sw_power_cap",
    0x008: "hw_slowdown",
    0x010: "sync_boost",
    0x020: "sw_thermal_slowdown",
    0x040: "hw_thermal_slowdown",
    0x080: "hw_power_brake_slowdown",
    0x100: "display_clock_setting",
    0x200: "board_limit",
    0x400: "reliability",
}

RECOVERY_ACTIONS: Final = {
    0: "none",
    1: "gpu_reset",
    2: "node_reboot",
    3: "drain_p2p",
    4: "drain_and_reset",
    5: "recover_imex_domain",
    6: "bus_reset",
    7: "system_reboot",
}

COMPUTE_MODES: Final = {0: "default", 1: "exclusive_thread", 2: "prohibited", 3: "exclusive_process"}

NO_LIBRARY = Fault(
    code="no_driver",
    message="NVIDIA's driver library (libnvidia-ml.so.1) is not on this machine.",
    hint="Install the NVIDIA driver; in a container, use the NVIDIA runtime with the 'utility' capability.",
)
NOT_LOADED = Fault(
    code="no_driver",
    message="The NVIDIA driver is installed but not loaded.",
    hint="Run 'modprobe nvidia' or reboot, and see what 'dmesg | grep -i nvidia' says.",
)
MISMATCH = Fault(
    code="driver_mismatch",
    message="The NVIDIA driver was updated, but the old one is still loaded in the kernel.",
    hint="Reboot this machine, or unload and reload the nvidia kernel modules.",
)
DENIED = Fault(
    code="denied",
    message="The NVIDIA driver refuses access.",
    hint="Check the permissions of /dev/nvidia*; in a container, check that it was given the devices.",
)
ACCESS_LOST = Fault(
    code="denied",
    message="The NVIDIA driver is there, but its devices (/dev/nvidia*) may not be opened.",
    hint=(
        "In a container that once worked, restart the container: reloading systemd takes devices away, "
        "see the NVIDIA container toolkit; elsewhere, check the permissions of /dev/nvidia*."
    ),
)
NO_GPUS = Fault(
    code="no_gpus",
    message="The NVIDIA driver is loaded but has no GPU.",
    hint="Check that 'lspci | grep -i nvidia' lists the boards and that none is passed through to a guest.",
)
LOST = Fault(
    code="lost",
    message="The driver has lost this GPU: it has most likely fallen off the bus.",
    hint="Reboot the machine; if it happens again, check power, seating and the Xid lines in 'dmesg'.",
)
VANISHED = Fault(
    code="lost",
    message="This GPU was there and is no longer listed by the driver.",
    hint="See whether 'lspci | grep -i nvidia' still has it, then check the Xid lines in 'dmesg' and reboot.",
)
RESET_REQUIRED = Fault(
    code="reset_required",
    message="This GPU has to be reset before it can be used again.",
    hint="End the processes on it and run 'nvidia-smi --gpu-reset', or reboot.",
)
PAUSED = Fault(
    code="paused",
    message="Reading the GPUs is paused, and the NVIDIA driver is not in use by gpumon.",
    hint="'gpumon pause' (or SIGUSR1) resumes it; it resumes by itself within 10 minutes.",
)
STARTING = Fault(
    code="starting",
    message="The NVIDIA driver has not answered yet.",
    hint="Starting it can take seconds; with persistence mode ('nvidia-smi -pm 1') it does not.",
)
WEDGED = Fault(
    code="wedged",
    message="The NVIDIA driver holds every process that asks it, and not even SIGKILL ends them.",
    hint="Reboot this machine.",
)

MISMATCH_UNDER_WSL: Final = "The NVIDIA driver of Windows and the library in WSL do not fit together."
WSL_HINT: Final = (
    "Under WSL the driver is that of Windows: update it there, install none in WSL, then run 'wsl --shutdown' in "
    "Windows and start WSL again."
)

DRIVER_FAULTS: Final = {4: DENIED, 9: NOT_LOADED, 12: NO_LIBRARY, 17: DENIED, 18: MISMATCH}
GPU_FAULTS: Final = {"lost": LOST, "reset_required": RESET_REQUIRED, "denied": DENIED}


def driver_fault(code: int | None, what: str) -> tuple[ReportStatus, Fault]:
    """The state of a node whose driver answered ``code`` (or nothing that is a code) to ``what``."""
    fault = DRIVER_FAULTS.get(code or 0)
    if fault is None:
        fault = Fault(
            code="error" if code is None else f"nvml_{code}",
            message=f"The NVIDIA driver failed to {what} ({number(code)}).",
            hint="See whether nvidia-smi works here; in a container that once worked, restart the container.",
        )
    match fault.code:
        case "no_driver":
            return "no_driver", fault
        case "driver_mismatch":
            return "driver_mismatch", fault
        case _:
            return "error", fault


def of_windows(fault: Fault) -> Fault:
    """What is wrong with a driver under WSL: that of Windows, whose library WSL is shown."""
    message = MISMATCH_UNDER_WSL if fault.code == "driver_mismatch" else fault.message
    return structs.replace(fault, message=message, hint=WSL_HINT)


def gpu_fault(reason: Reason, code: int | None) -> tuple[GpuStatus, Fault]:
    """The state of a GPU that cannot be read as a whole."""
    fault = GPU_FAULTS.get(reason) or Fault(
        code="error" if code is None else f"nvml_{code}",
        message=f"The driver gives no access to this GPU ({number(code)}).",
        hint="See what nvidia-smi and the Xid lines in 'dmesg' say of it.",
    )
    return "lost" if reason == "lost" else "error", fault


IDENTITY: Final = frozenset({"index", "uuid", "name", "pci_bus_id", "status", "error", "sampled_at", "unavailable"})
NEVER_NULL: Final = frozenset({"asleep", "processes_truncated", "suspect"})
MEASURED: Final = tuple(field.name for field in structs.fields(Gpu) if field.name not in IDENTITY | NEVER_NULL)


def unread(gpu: Gpu, status: GpuStatus, error: Fault | None, reason: Reason) -> Gpu:
    """Who ``gpu`` is, without any value."""
    return Gpu(
        index=gpu.index,
        uuid=gpu.uuid,
        name=gpu.name,
        pci_bus_id=gpu.pci_bus_id,
        status=status,
        error=error,
        sampled_at=gpu.sampled_at,
        unavailable=dict.fromkeys(MEASURED, reason),
    )


def number(code: int | None) -> str:
    return "an answer that is none" if code is None else f"NVML return code {code}"
