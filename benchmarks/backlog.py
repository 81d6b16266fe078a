"""What an outage costs an agent: the memory that its reports wait in, and the processor time to put them there.

Reports of simulated machines, with values that move. The reference is the encoding of the same reports, in the same
run: what an agent does with each of them anyway.

    python -m benchmarks.backlog
"""

import asyncio
import json
import logging
import time
from collections.abc import Callable

import orjson

from gpumon.agent.outbox import FULL_SECONDS, MAX_BYTES, Outbox
from gpumon.agent.sampler import Sampler
from gpumon.agent.scenario import Scenario
from gpumon.agent.simulate import SimulatedReader
from gpumon.wire import decode_report, encode

REPORTS = 9000  # two and a half hours of the default interval
SAMPLES = 300
ACKNOWLEDGED = 32  # as often as a hub does it
MACHINES = {
    "1 GPU": ("h200:1", 0),
    "8 GPUs": ("h200:8", 0),
    "8 GPUs, 100 processes": ("h200:8", 100),
    "8 GPUs, 400 processes": ("h200:8", 400),
    "8 GPUs in 56 slices": ("a100-mig:8", 0),
}


async def reports(machine: str, processes: int) -> list[bytes]:
    """Reports of ``machine``, one after the other, with ``processes`` more that all differ."""
    made: list[bytes] = []
    sampler = Sampler(SimulatedReader(Scenario.parse(machine), seed=7), "gpu-server-1", 0.001)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(sampler.run(lambda _, report: made.append(report)))
        while len(made) < SAMPLES:  # noqa: ASYNC110  (nothing tells when a number is reached)
            await asyncio.sleep(0.01)
        task.cancel()
    return [with_processes(report, processes) for report in made] if processes else made


def with_processes(report: bytes, count: int) -> bytes:
    body = json.loads(report)
    for number in range(count):
        process = {
            "pid": 100_000 + 37 * number * number % 90_001,
            "name": "python3.11",
            "user": f"student{number % 23}",
            "command": f"python train_{number % 41}.py",
            "type": "compute",
            "memory_used_bytes": 2**20 * (300 + 7919 * number % 40_000),
            "utilization_percent": float(number * 13 % 100),
            "started_at": f"2026-03-{number % 28 + 1:02}T{number % 24:02}:{number * 7 % 60:02}:11.{number:03}Z",
            "container": f"docker:{number * 2654435761 % 2**48:012x}",
            "job": f"slurm:{700_000 + number * 17}",
        }
        body["gpus"][number % len(body["gpus"])]["processes"].append(process)
    return orjson.dumps(body)


def microseconds(work: Callable[[int], object]) -> float:
    """Processor time of ``work``, for each report."""
    started = time.process_time()
    for sequence in range(1, REPORTS + 1):
        work(sequence)
    return (time.process_time() - started) / REPORTS * 1e6


def measure(name: str, made: list[bytes]) -> str:
    lost, held = Outbox(), Outbox()
    report = [made[sequence % SAMPLES] for sequence in range(REPORTS + 1)]
    decoded = [decode_report(one) for one in made]

    def take(sequence: int) -> None:
        held.put(sequence, report[sequence])
        if sequence % ACKNOWLEDGED == 0:
            held.acknowledge(sequence)

    reference = microseconds(lambda sequence: encode(decoded[sequence % SAMPLES]))
    undisturbed = microseconds(take)
    cut = microseconds(lambda sequence: lost.put(sequence, report[sequence]))
    packed = lost.bytes / len(lost)
    minutes = min(MAX_BYTES / packed, FULL_SECONDS) / 60
    plain_bytes = sum(map(len, made)) / SAMPLES
    return (
        f"| {name} | {plain_bytes:,.0f} | {packed:,.0f} | {plain_bytes / packed:.1f} | {lost.bytes / 2**20:.1f} MiB "
        f"| {minutes:.0f} min | {undisturbed / reference:.2f} | {cut / reference:.1f} |"
    )


def main() -> None:
    logging.disable(logging.WARNING)
    columns = "bytes a report", "bytes waiting", "ratio", "after 2.5 h", "whole", "CPU, hub there", "CPU, hub away"
    print(f"| | {' | '.join(columns)} |")
    print("|---" * 8 + "|")
    for name, (machine, processes) in MACHINES.items():
        print(measure(name, asyncio.run(reports(machine, processes))))


if __name__ == "__main__":
    main()
