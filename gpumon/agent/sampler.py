"""The beat: one report an interval, made of one sample of the GPUs."""

import asyncio
import resource
import secrets
import socket
import time
from collections.abc import Callable

from msgspec.structs import replace

from gpumon import __version__, wire
from gpumon.agent.advice import advice
from gpumon.agent.host import HostReader
from gpumon.agent.meter import resident_bytes
from gpumon.agent.sample import Reader, Sample
from gpumon.model import MAX_NODE_PROCESSES, MAX_PROCESSES, Cost, Fault, Gpu, Report, ReportStatus
from gpumon.timestamp import rfc3339
from gpumon.wire import encode

OVERDUE_INTERVALS = 3
LEAST_OVERDUE_SECONDS = 5.0
FRAME_BYTES = 1024
MAX_REPORT_BYTES = wire.MAX_REPORT_BYTES - FRAME_BYTES


class Sampler:
    """Makes reports for the node ``node``, every ``interval`` seconds, numbered from 1 without gaps.

    ``tags`` are told with each. Around simulated GPUs there is no machine: their reports tell of no host.
    """

    def __init__(self, reader: Reader, node: str, interval: float, host: HostReader | None = None) -> None:
        self.node = node
        self.tags: list[str] = []
        self.hostname = socket.gethostname()
        self.boot_id = secrets.token_hex(16)
        self.interval = interval
        self.simulated = reader.simulated
        self.newest: Report | None = None
        self.newest_bytes: bytes | None = None
        self.standing_advice: list[Fault] = []
        """What to advise beside what a sample shows."""
        self._reader = reader
        self._host = None if reader.simulated else host or HostReader()
        self._account = Account()
        self._newest_tick = time.monotonic()
        self._hurry = asyncio.Event()

    async def run(self, deliver: Callable[[int, bytes], None]) -> None:
        """Report until cancelled. A beat that a slow sample has overrun is left out, not made up for."""
        loop = asyncio.get_running_loop()
        beat = loop.time()
        for sequence in range(1, 2**53):
            began = time.perf_counter()
            sample = await self._reader.read()
            report = self._report(sequence, sample, time.perf_counter() - began)
            self.newest, self.newest_bytes = fitting(report)
            self._newest_tick = time.monotonic()
            deliver(sequence, self.newest_bytes)
            beat = max(beat + self.interval, loop.time())
            try:
                async with asyncio.timeout_at(beat):
                    await self._hurry.wait()
            except TimeoutError:
                continue
            self._hurry.clear()
            beat = loop.time()

    def pace(self, interval: float) -> None:
        """From now on a report every ``interval`` seconds, and the next one at once."""
        self.interval = interval
        self._hurry.set()

    def health(self) -> tuple[ReportStatus, Fault | None]:
        """Whether reports are being made, in the words of a report."""
        if (overdue := self.overdue()) is not None:
            return "error", Fault(code="no_sample", message=overdue)
        if self.newest is None:
            return "error", Fault(code="starting", message="the first sample is being made")
        return self.newest.status, self.newest.error

    def overdue(self) -> str | None:
        """That the beat does not go round any more, in words; None while it does, whatever it finds."""
        silence = time.monotonic() - self._newest_tick
        if silence > max(OVERDUE_INTERVALS * self.interval, LEAST_OVERDUE_SECONDS):
            return f"no sample was made for {silence:.0f} s"
        return None

    def _report(self, sequence: int, sample: Sample, sample_seconds: float) -> Report:
        host = None if self._host is None else self._host.read()
        found = [] if self._host is None or host is None else advice(sample, host, portable=self._host.portable)
        return Report(
            node=self.node,
            hostname=self.hostname,
            agent_version=__version__,
            boot_id=self.boot_id,
            sequence=sequence,
            sampled_at=rfc3339(time.time()),
            interval_seconds=self.interval,
            simulated=self.simulated,
            tags=self.tags,
            driver_version=sample.driver_version,
            cuda_version=sample.cuda_version,
            nvml_version=sample.nvml_version,
            status=sample.status,
            error=sample.error,
            advice=[*found, *self.standing_advice],
            host=host,
            agent=self._account.cost(sample.cost, sample_seconds),
            gpus=sample.gpus,
        )


def fitting(report: Report) -> tuple[Report, bytes]:
    """``report`` and its bytes, with no more processes a GPU than a hub takes of one node, in one message."""
    most = MAX_PROCESSES
    while _process_count(report) > MAX_NODE_PROCESSES and most > 0:
        most //= 2
        report = replace(report, gpus=[_with_fewer(gpu, most) for gpu in report.gpus])
    while len(data := encode(report)) > MAX_REPORT_BYTES and most > 0:
        most //= 2
        report = replace(report, gpus=[_with_fewer(gpu, most) for gpu in report.gpus])
    return report, data


def _process_count(report: Report) -> int:
    """Of all GPUs, those of their slices as well."""
    return sum(len(one.processes or ()) for gpu in report.gpus for one in (gpu, *(gpu.mig_devices or ())))


def _with_fewer(gpu: Gpu, most: int) -> Gpu:
    """The GPU with the largest ``most`` of its processes, and of those of each slice; those left out are counted."""
    kept = gpu.processes and gpu.processes[:most]
    left_out = len(gpu.processes or ()) - len(kept or ())
    slices = gpu.mig_devices and [
        replace(one, processes=one.processes and one.processes[:most]) for one in gpu.mig_devices
    ]
    truncated = gpu.processes_truncated + left_out
    return replace(gpu, processes=kept, mig_devices=slices, processes_truncated=truncated)


class Account:
    """What agent and reader cost together."""

    def __init__(self) -> None:
        self._former_readers = 0.0  # seconds of processor time of the reader's processes that are gone
        self._reader = 0.0

    def cost(self, reader: Cost | None, sample_seconds: float) -> Cost:
        """The agent's own cost, and that of ``reader``, as far as it tells.

        The reader's process may be another one than before. Then its time begins anew, and ours goes on.
        """
        reader = reader or Cost()
        seconds = reader.cpu_seconds_total
        if seconds is not None:
            if seconds < self._reader:
                self._former_readers += self._reader
            self._reader = seconds
        used = resource.getrusage(resource.RUSAGE_SELF)
        resident = resident_bytes()
        return Cost(
            cpu_seconds_total=used.ru_utime + used.ru_stime + self._former_readers + self._reader,
            resident_bytes=None if resident is None else resident + (reader.resident_bytes or 0),
            sample_seconds=sample_seconds,
            slowest_call=reader.slowest_call,
            slowest_call_seconds=reader.slowest_call_seconds,
        )
