"""A stand-in for ``nvidia-smi --query-gpu``: two GPUs, in the form in which the real one writes a table.

What real ones write stands in the captures that nvidia_gpu_exporter is tested with: a title is the field with its unit,
a value has its unit behind it, and what is not known is a word in brackets.
"""

import sys
from typing import Final

UNITS: Final = {
    "fan.speed": "%",
    "memory.total": "MiB",
    "memory.reserved": "MiB",
    "memory.used": "MiB",
    "memory.free": "MiB",
    "utilization.gpu": "%",
    "utilization.memory": "%",
    "utilization.encoder": "%",
    "utilization.decoder": "%",
    "power.draw": "W",
    "power.draw.average": "W",
    "power.draw.instant": "W",
    "power.limit": "W",
    "enforced.power.limit": "W",
    "clocks.current.graphics": "MHz",
    "clocks.current.sm": "MHz",
    "clocks.current.memory": "MHz",
    "clocks.max.sm": "MHz",
    "clocks.max.memory": "MHz",
}
REASONS: Final = ("gpu_idle", "applications_clocks_setting", "sw_power_cap", "hw_slowdown", "hw_thermal_slowdown")
THROTTLING: Final = (*REASONS, "hw_power_brake_slowdown", "sw_thermal_slowdown", "sync_boost")
UNKNOWN: Final = "[N/A]"
H100: Final = {
    "timestamp": "2026/05/01 12:00:00.500",
    "driver_version": "580.95.05",
    "count": "2",
    "name": "NVIDIA H100 80GB HBM3",
    "serial": "1650000000000",
    "uuid": "GPU-8c1f0000-0000-4000-8000-000000000000",
    "pci.bus_id": "00000000:18:00.0",
    "pci.device_id": "0x233010DE",
    "index": "0",
    "driver_model.current": UNKNOWN,
    "driver_model.pending": UNKNOWN,
    "vbios_version": "96.00.A5.00.01",
    "persistence_mode": "Enabled",
    "fan.speed": UNKNOWN,
    "pstate": "P0",
    **{f"clocks_event_reasons.{reason}": "Not Active" for reason in THROTTLING},
    "clocks_event_reasons.sw_power_cap": "Active",
    "memory.total": "81559",
    "memory.reserved": "479",
    "memory.used": "20480",
    "memory.free": "60600",
    "compute_mode": "Exclusive_Process",
    "gpu_recovery_action": "Drain P2P",
    "utilization.gpu": "90",
    "utilization.memory": "40",
    "utilization.encoder": "0",
    "utilization.decoder": "0",
    "ecc.errors.corrected.volatile.total": "3",
    "ecc.errors.uncorrected.volatile.total": "0",
    "ecc.errors.corrected.aggregate.total": "5",
    "ecc.errors.uncorrected.aggregate.total": "1",
    "remapped_rows.correctable": "2",
    "remapped_rows.uncorrectable": "1",
    "remapped_rows.pending": "Yes",
    "remapped_rows.failure": "No",
    "temperature.gpu": "50",
    "temperature.memory": "60",
    "power.draw": "512.34",
    "power.draw.average": "512.34",
    "power.draw.instant": "530.10",
    "power.limit": "700.00",
    "enforced.power.limit": "700.00",
    "clocks.current.graphics": "1980",
    "clocks.current.sm": "1980",
    "clocks.current.memory": "2619",
    "clocks.max.sm": "1980",
    "clocks.max.memory": "2619",
    "pcie.link.gen.current": "5",
    "pcie.link.gen.max": "5",
    "pcie.link.width.current": "16",
    "pcie.link.width.max": "16",
    "mig.mode.current": "Disabled",
    "mig.mode.pending": "Disabled",
}
DESKTOP: Final = H100 | {
    "name": "NVIDIA GeForce RTX 4090",
    "serial": UNKNOWN,
    "uuid": "GPU-40900000-0000-4000-8000-000000000000",
    "pci.bus_id": "00000000:19:00.0",
    "pci.device_id": "0x268410DE",
    "index": "1",
    "vbios_version": "95.02.3C.40.B0",
    "persistence_mode": "Disabled",
    "fan.speed": "30",
    "pstate": "P8",
    "clocks_event_reasons.sw_power_cap": "Not Active",
    "clocks_event_reasons.gpu_idle": "Active",
    "memory.total": "24564",
    "memory.reserved": "346",
    "memory.used": "1024",
    "memory.free": "23195",
    "compute_mode": "Default",
    "gpu_recovery_action": "None",
    "utilization.gpu": "3",
    "utilization.memory": "1",
    **{name: UNKNOWN for name in H100 if name.startswith(("ecc.", "remapped_rows.", "mig."))},
    "temperature.gpu": "38",
    "temperature.memory": UNKNOWN,
    "power.draw": "21.05",
    "power.draw.average": "[Not Supported]",
    "power.draw.instant": "[Unknown Error]",
    "power.limit": "450.00",
    "enforced.power.limit": "450.00",
    "clocks.current.graphics": "210",
    "clocks.current.sm": "210",
    "clocks.current.memory": "405",
    "clocks.max.sm": "3120",
    "clocks.max.memory": "10501",
    "pcie.link.gen.current": "1",
    "pcie.link.gen.max": "4",
}


def written(name: str, value: str) -> str:
    return f"{value} {UNITS[name]}" if name in UNITS and not value.startswith("[") else value


def main(argument: str) -> str:
    option, _, names = argument.partition("=")
    if option == "--help-query-gpu":
        return "List of valid properties to query.\n" + "".join(f'\n"{name}"\nWhat it is.\n' for name in H100)
    if option != "--query-gpu":
        sys.exit(6)  # "an invalid argument", as the real one ends
    fields = names.split(",")
    titles = ", ".join(f"{name} [{UNITS[name]}]" if name in UNITS else name for name in fields)
    return "\n".join([titles, *(", ".join(written(name, gpu[name]) for name in fields) for gpu in (H100, DESKTOP))])


if __name__ == "__main__":
    sys.stdout.write(main(sys.argv[1]) + "\n")
