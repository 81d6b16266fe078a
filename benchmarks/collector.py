"""What reading the GPUs costs: driver calls, processor time, memory.

Over the test library (8 GPUs, 10 processes that exist), in one run:

- how many calls of the driver a sample makes: on the fast beat, with everything slow, and the very first;
- the processor time of the reader's process for a sample, beside a loop that makes the same calls through
  NVIDIA's binding and does nothing with the answers: the least that any program in Python can cost;
- the processor time of the agent for a sample: to ask for it, to hear it, to make a report of it;
- the memory of an agent and its reader together;
- how both have grown after many samples.

    python -m benchmarks.collector [--samples 10000]
"""

import argparse
import asyncio
import itertools
import os
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import psutil

from gpumon.agent.aside import Aside
from gpumon.agent.pipe import Beats, Done, Pass, Start, from_child, line
from gpumon.agent.reader import NvmlReader
from gpumon.agent.sampler import Sampler
from gpumon.agent.trouble import Deadlines
from tests import fakenvml
from tests.fakenvml import GIB, Process

ROOT = Path(__file__).parents[1]
PASSES = 60
ROUNDS = 24
NEVER = 10.0**9
FAST = Pass(beats=Beats(slow_passes=10**9, slow_seconds=NEVER, static_seconds=NEVER))
FULL = Pass(beats=Beats(slow_passes=0, slow_seconds=0.0, static_seconds=NEVER))
MIXED = Beats(slow_passes=5, slow_seconds=0.0, static_seconds=60.0)

# The same calls as the reader's, made through the binding, and nothing else.
LOOP = """
import sys, time
import pynvml as nvml

FAST_IDS = [82, 185, 186, 190, 83]
SLOW_IDS = FAST_IDS + [3, 4, 5, 6, 142, 143, 144, 145, 230, 91] + [(165, link) for link in range(18)]

def fast(handle, ids=FAST_IDS):
    nvml.nvmlDeviceGetUtilizationRates(handle)
    nvml.nvmlDeviceGetMemoryInfo(handle, nvml.nvmlMemory_v2)
    nvml.nvmlDeviceGetTemperatureV(handle, 0)
    nvml.nvmlDeviceGetFieldValues(handle, ids)
    nvml.nvmlDeviceGetPowerUsage(handle)
    nvml.nvmlDeviceGetClockInfo(handle, 1)
    nvml.nvmlDeviceGetCurrentClocksEventReasons(handle)

def full(handle):
    nvml.nvmlDeviceGetUUID(handle)
    nvml.nvmlDeviceGetMigMode(handle)
    fast(handle, SLOW_IDS)
    nvml.nvmlDeviceGetClockInfo(handle, 2)
    nvml.nvmlDeviceGetPerformanceState(handle)
    nvml.nvmlDeviceGetEncoderUtilization(handle)
    nvml.nvmlDeviceGetDecoderUtilization(handle)
    nvml.nvmlDeviceGetCurrPcieLinkGeneration(handle)
    nvml.nvmlDeviceGetCurrPcieLinkWidth(handle)
    nvml.nvmlDeviceGetPersistenceMode(handle)
    nvml.nvmlDeviceGetComputeRunningProcesses_v3(handle)
    nvml.nvmlDeviceGetGraphicsRunningProcesses_v3(handle)

nvml.nvmlInit()
handles = [nvml.nvmlDeviceGetHandleByIndex(index) for index in range(nvml.nvmlDeviceGetCount())]
events = nvml.nvmlEventSetCreate()
read = fast if sys.argv[1] == "fast" else full

def sample():
    nvml.nvmlDeviceGetCount()
    for handle in handles:
        read(handle)
    try:
        nvml.nvmlEventSetWait_v2(events, 0)
    except nvml.NVMLError:
        pass

for _ in range(20):
    sample()
began = time.process_time()
for _ in range(int(sys.argv[2])):
    sample()
print((time.process_time() - began) / int(sys.argv[2]))
"""


@contextmanager
def processes(count: int) -> Iterator[list[int]]:
    """Processes that do nothing."""
    running = [subprocess.Popen(["sleep", "3600"]) for _ in range(count)]
    try:
        yield [process.pid for process in running]
    finally:
        for process in running:
            process.kill()
            process.wait()


class Child:
    """The reader's process, asked directly."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._aside = Aside()
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "gpumon.agent.nvml"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
            pass_fds=(self._aside.number,),
        )
        self._aside.given()
        assert self._process.stdin is not None
        self._process.stdin.write(line(Start(aside=self._aside.number)))

    def sample(self, request: Pass) -> Done:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(line(request))
        self._process.stdin.flush()
        while not isinstance(message := from_child.decode(self._process.stdout.readline()), Done):
            pass
        self._aside.lines()
        return message

    def cpu_per_sample(self, request: Pass, count: int) -> float:
        begin = self.sample(request).cost
        for _ in range(count):
            end = self.sample(request).cost
        assert begin is not None
        assert end is not None
        return ((end.cpu_seconds_total or 0) - (begin.cpu_seconds_total or 0)) / count

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait(10)
        self._aside.close()


def count_calls(file: Path, log: Path) -> None:
    child = Child(fakenvml.environment(file, log=log))
    try:
        for what, request in (
            ("first sample, with all that is read once a minute", Pass()),
            ("full sample (everything fast and slow)", FULL),
            ("sample on the fast beat", FAST),
        ):
            if log.exists():
                log.write_text("")
            child.sample(request)
            calls = [call for call in log.read_text().split() if call != "nvmlInitWithFlags"]
            print(f"{len(calls):6}  driver calls: {what}")
            if os.environ.get("VERBOSE"):
                print(Counter(calls))
    finally:
        child.close()


def processor_time(file: Path) -> None:
    environment = fakenvml.environment(file)
    child = Child(environment)
    for what, request in (("fast", FAST), ("full", FULL)):
        ours, least = [], []
        child.sample(request)
        for _ in range(ROUNDS):  # in turns, so that both meet the same machine
            ours.append(child.cpu_per_sample(request, PASSES))
            loop = subprocess.run(
                [sys.executable, "-c", LOOP, what, str(PASSES)],
                env={**os.environ, **environment},
                capture_output=True,
                text=True,
                check=True,
            )
            least.append(float(loop.stdout))
        mine, other = min(ours), min(least)  # what others on the machine cost is not counted
        print(f"{mine * 1e3:6.2f}  ms of processor time, {what} sample: the reader's process")
        print(f"{other * 1e3:6.2f}  ms, {what} sample: a loop that only makes the same calls")
        print(f"{mine / other:6.2f}  times as much")
    child.close()


def memory_of_an_agent(file: Path) -> None:
    command = [sys.executable, "-m", "gpumon", "agent", "--host", "127.0.0.1", "--port", "0"]
    environment = {**os.environ, **fakenvml.environment(file)}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=ROOT, env=environment) as agent:
        assert agent.stderr is not None
        try:
            for said in agent.stderr:
                if re.search(r"on http://", said):
                    break
            whole = psutil.Process(agent.pid)
            while not (children := whole.children()):
                pass
            psutil.wait_procs(children, timeout=8)  # a few samples
            sizes = [process.memory_info().rss for process in (whole, *children)]
        finally:
            agent.terminate()
            agent.stderr.read()
    print(f"{sum(sizes) / 1e6:6.1f}  MB resident: agent ({sizes[0] / 1e6:.1f}) and reader ({sizes[1] / 1e6:.1f})")


async def agents_side() -> None:
    """From the question to the report as it goes to a hub, without the sending."""
    for what, request in (("fast", FAST), ("full", FULL)):
        moments: list[float] = []

        def deliver(sequence: int, _: bytes, moments: list[float] = moments) -> None:
            if sequence % PASSES == 0:
                moments.append(time.process_time())
            if len(moments) > ROUNDS:
                raise StopAsyncIteration

        async with NvmlReader(replace(Deadlines(), beats=request.beats)) as reader:
            with suppress(StopAsyncIteration):
                await Sampler(reader, "bench", 1e-6).run(deliver)
        least = min(later - sooner for sooner, later in itertools.pairwise(moments)) / PASSES
        print(f"{least * 1e3:6.2f}  ms of processor time, {what} sample: the agent, up to the report")


async def growth(samples: int) -> None:
    own = psutil.Process()
    async with NvmlReader(replace(Deadlines(), beats=MIXED)) as reader:
        for _ in range(samples // 10):
            await reader.read()
        before = [process.memory_info().rss for process in (own, *own.children())]
        for _ in range(samples):
            await reader.read()
        after = [process.memory_info().rss for process in (own, *own.children())]
    agent, child = (
        later - sooner for later, sooner in zip((after[0], after[-1]), (before[0], before[-1]), strict=True)
    )
    print(f"{agent / 1024:6.0f}  KiB more in the agent's side after {samples} samples")
    print(f"{child / 1024:6.0f}  KiB more in the reader's process")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=10_000, help="for the growth (default 10000)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "scenario"
        scenario = fakenvml.datacentre(8)
        scenario.gpus[0].processes.clear()
        scenario.write(file)
        memory_of_an_agent(file)
        with processes(10) as pids:
            for place, pid in enumerate(pids):
                scenario.gpus[place % 8].processes.append(Process(pid, GIB * (1 + place)))
            scenario.write(file)
            count_calls(file, Path(folder) / "calls")
            processor_time(file)
            os.environ.update(fakenvml.environment(file))
            asyncio.run(agents_side())
            asyncio.run(growth(options.samples))


if __name__ == "__main__":
    main()
