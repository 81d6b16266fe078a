"""A hub that is killed for 30 s, and 200 agents: how soon all are back, whether a report is lost or comes twice.

The agents are whole agents with simulated GPUs, all in one process; the hub is a process that writes down each report
that it takes, as the past would. Between the killed hub and the next one lies what was taken and not yet acknowledged:
the agents must send it again, so only what one hub takes twice counts as twice.

    python -m benchmarks.outage [--agents 200] [--down 30]
"""

import argparse
import asyncio
import signal
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks._figures import Figure, percentile, show
from benchmarks._processes import HOST, Served, health, served

HUB = """
import asyncio, os, sys, time
from gpumon.config import Config
from gpumon.hub import app, core
from gpumon.listening import listen

ledger = os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT | os.O_APPEND)

class Hub(core.Hub):
    def __init__(self, *arguments, **more):
        super().__init__(*arguments, **more)
        self.on_taken = lambda member, report: os.write(
            ledger, f"{member.name}/{report.boot_id} {report.sequence} {time.time()}\\n".encode()
        )

app.Hub = Hub
listener = listen("127.0.0.1", int(sys.argv[1]), "port")
print("listens on", listener.getsockname()[1], flush=True)
asyncio.run(app.run(Config(), listener))
"""
AGENTS = """
import asyncio, sys
from gpumon.agent import app
from gpumon.agent.scenario import Scenario
from gpumon.config import AgentSection
from gpumon.listening import listen

async def main(hub, count):
    async with asyncio.TaskGroup() as group:
        for number in range(count):
            settings = AgentSection(host="127.0.0.1", hub=[hub], name=f"node-{number:04d}")
            group.create_task(app.run(settings, listen("127.0.0.1", 0, "port"), Scenario.parse("rtx5090:1")))
            await asyncio.sleep(1 / 80)
        print("started 1", flush=True)

asyncio.run(main(sys.argv[1], int(sys.argv[2])))
"""
Ledger = dict[str, list[tuple[int, float]]]


@contextmanager
def hub(port: int, ledger: Path) -> Iterator[Served]:
    command = [sys.executable, "-c", HUB, str(port), str(ledger)]
    with served(command, r"listens on (\d+)") as server:
        yield server


def read(path: Path) -> Ledger:
    """Of each run of an agent: which reports were taken, and when."""
    found: Ledger = {}
    for line in path.read_text().splitlines():
        name, sequence, moment = line.rsplit(" ", 2)
        found.setdefault(name, []).append((int(sequence), float(moment)))
    return found


async def all_online(port: int, count: int, patience: float) -> None:
    deadline = time.monotonic() + patience
    while (await health(port))["online"] < count:
        if time.monotonic() > deadline:
            raise SystemExit(f"not all agents came within {patience:g} s")
        await asyncio.sleep(0.2)


def run(count: int, down: float, folder: Path) -> list[Figure]:
    first, second = folder / "first", folder / "second"
    with hub(0, first) as before:
        port = before.port
        command = [sys.executable, "-c", AGENTS, f"http://{HOST}:{port}", str(count)]
        with served(command, r"started (\d)"):
            asyncio.run(all_online(port, count, 60))
            time.sleep(10)
            before.process.send_signal(signal.SIGKILL)
            before.process.wait()
            time.sleep(down)
            with hub(port, second) as after:
                opened = time.time()
                asyncio.run(all_online(port, count, 60))
                used = after.cpu_seconds()
                time.sleep(60)
                used = (after.cpu_seconds() - used) / 60
                return judge(read(first), read(second), opened, count, used)


def judge(first: Ledger, second: Ledger, opened: float, count: int, used: float) -> list[Figure]:
    back = [min(moment for _, moment in taken) - opened for taken in second.values()]
    names = set(first) | set(second)
    lost = 0
    for name in names:
        known = {sequence for ledger in (first, second) for sequence, _ in ledger.get(name, ())}
        lost += max(known) - len(known)
    twice = sum(
        times - 1
        for ledger in (first, second)
        for taken in ledger.values()
        for times in Counter(sequence for sequence, _ in taken).values()
    )
    total = sum(len(taken) for ledger in (first, second) for taken in ledger.values())
    caught_up = [_caught_up(taken) - opened for taken in second.values()]
    return [
        Figure(
            f"{count} agents are back after, the last of them",
            f"{max(back):.1f} s",
            goal="≤ 20 s",
            met=len(back) == count and max(back) <= 20,
        ),
        Figure("— half of them", f"{statistics.median(back):.1f} s", goal="≤ 8 s", met=statistics.median(back) <= 8),
        Figure(
            "— all late reports are in, 95 % and the last",
            f"{percentile(caught_up, 0.95):.0f} s, {max(caught_up):.0f} s",
        ),
        Figure(f"— reports lost, of {total:,}", str(lost), goal="0", met=lost == 0),
        Figure("— taken twice by one hub", str(twice), goal="0", met=twice == 0),
        Figure("— the hub's processor in the minute after", f"{used:.0%} of a core"),
    ]


def _caught_up(taken: list[tuple[int, float]]) -> float:
    """When the last report came that was older than 2 s of what was newest then: each comes once a second."""
    newest, moment = 0, taken[0][1]
    for sequence, at in taken:
        if sequence < max(newest, _expected(taken, at)) - 2:
            moment = at
        newest = max(newest, sequence)
    return moment


def _expected(taken: list[tuple[int, float]], moment: float) -> int:
    """The sequence that the agent was at then, from the last report that was taken."""
    sequence, at = taken[-1]
    return sequence - round(at - moment)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--agents", type=int, default=200, help="agents (default 200)")
    parser.add_argument("--down", type=float, default=30, help="seconds without a hub (default 30)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        show("A hub that is killed and returns", run(options.agents, options.down, Path(folder)))


if __name__ == "__main__":
    main()
