"""The beat: one report an interval, made of one sample of the GPUs."""

import asyncio
import resource
import secrets
import socket
import time
from collections.abc import Callable

from gpumon import __version__
from gpumon.agent.advice import advice
from gpumon.agent.fitting import fitting
from gpumon.agent.host import HostReader
from gpumon.agent.meter import resident_bytes
from gpumon.agent.sample import Reader, Sample
from gpumon.looplag import LoopLag
from gpumon.model import Cost, Fault, Report, ReportStatus
from gpumon.timestamp import rfc3339

OVERDUE_INTERVALS = 3
LEAST_OVERDUE_SECONDS = 5.0


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
        self.overruns = 0
        """Samples that took longer than there was time until the next."""
        self.reader_restarts: dict[str, int] = {}
        """How often the process that reads the GPUs has ended, by why."""
        self.lag = LoopLag()
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
            self.reader_restarts = sample.restarts
            due, now = beat + self.interval, loop.time()
            self.overruns += now > due
            beat = max(due, now)
            try:
                async with asyncio.timeout_at(beat):
                    await self._hurry.wait()
            except TimeoutError:
                self.lag.note(loop.time() - beat)
                continue
            self._hurry.clear()
            beat = loop.time()

    def pace(self, interval: float) -> None:
        """From now on a report every ``interval`` seconds, and the next one at once."""
        self.interval = interval
        self._hurry.set()

    @property
    def is_current(self) -> bool:
        """Whether the newest report tells of the present."""
        silence = time.monotonic() - self._newest_tick
        return self.newest is not None and silence <= self._patience

    @property
    def _patience(self) -> float:
        return max(OVERDUE_INTERVALS * self.interval, LEAST_OVERDUE_SECONDS)

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
        if silence > self._patience:
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
