"""What one reading of a machine's GPUs gives, whoever reads: the driver or a simulation."""

from typing import Protocol

from msgspec import Struct

from gpumon.model import Cost, Fault, Gpu, ReportStatus, Text


class Sample(Struct, frozen=True, kw_only=True):
    """One reading: the part of a report that comes from the GPUs."""

    status: ReportStatus = "ok"
    error: Fault | None = None
    driver_version: Text | None = None
    cuda_version: Text | None = None
    nvml_version: Text | None = None
    open_kernel_module: bool | None = None  # whether the driver's part in the kernel is the open one
    gpus: list[Gpu] = []
    cost: Cost | None = None  # of reading alone: what it cost the process that reads
    restarts: dict[str, int] = {}  # of that process, by what brought its end


class Reader(Protocol):
    """Where samples come from."""

    simulated: bool

    async def read(self) -> Sample:
        """One sample, soon: a driver that fails or hangs is told in the sample, never raised."""
