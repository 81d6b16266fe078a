"""The beat: one report an interval, made of one sample of the GPUs."""

import asyncio
import secrets
import socket
import time
from collections.abc import Callable

from gpumon import __version__
from gpumon.agent.sample import Reader, Sample
from gpumon.model import Fault, Report, ReportStatus
from gpumon.timestamp import rfc3339
from gpumon.wire import encode

OVERDUE_INTERVALS = 3
LEAST_OVERDUE_SECONDS = 5.0


class Sampler:
    """Makes reports for the node ``node``, every ``interval`` seconds, numbered from 1 without gaps."""

    def __init__(self, reader: Reader, node: str, interval: float) -> None:
        self.node = node
        self.hostname = socket.gethostname()
        self.boot_id = secrets.token_hex(16)
        self.interval = interval
        self.simulated = reader.simulated
        self.newest: Report | None = None
        self.newest_bytes: bytes | None = None
        self._reader = reader
        self._newest_tick = time.monotonic()

    async def run(self, deliver: Callable[[int, bytes], None]) -> None:
        """Report until cancelled. A beat that a slow sample has overrun is left out, not made up for."""
        loop = asyncio.get_running_loop()
        beat = loop.time()
        for sequence in range(1, 2**53):
            report = self._report(sequence, await self._reader.read())
            self.newest, self.newest_bytes = report, encode(report)
            self._newest_tick = time.monotonic()
            deliver(sequence, self.newest_bytes)
            beat = max(beat + self.interval, loop.time())
            await asyncio.sleep(beat - loop.time())

    def health(self) -> tuple[ReportStatus, Fault | None]:
        """Whether reports are being made, in the words of a report."""
        silence = time.monotonic() - self._newest_tick
        if silence > max(OVERDUE_INTERVALS * self.interval, LEAST_OVERDUE_SECONDS):
            return "error", Fault(code="no_sample", message=f"no sample was made for {silence:.0f} s")
        if self.newest is None:
            return "error", Fault(code="starting", message="the first sample is being made")
        return self.newest.status, self.newest.error

    def _report(self, sequence: int, sample: Sample) -> Report:
        return Report(
            node=self.node,
            hostname=self.hostname,
            agent_version=__version__,
            boot_id=self.boot_id,
            sequence=sequence,
            sampled_at=rfc3339(time.time()),
            interval_seconds=self.interval,
            simulated=self.simulated,
            driver_version=sample.driver_version,
            cuda_version=sample.cuda_version,
            nvml_version=sample.nvml_version,
            status=sample.status,
            error=sample.error,
            gpus=sample.gpus,
        )
