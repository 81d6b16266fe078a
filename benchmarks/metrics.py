"""What ``/metrics`` of a large fleet costs a hub, and how long its event loop is held up meanwhile.

First in one process, where a task of the loop asks to be woken every 2 ms and says something into a socket each time:
the text of 1,000 nodes of 8 GPUs is made in turns on the loop, as the hub does it; by the same code in a thread; and by
Prometheus' own library in a thread, from the catalogue's metrics alone. How long that task waits is told in processor
time of the process from one turn of it to the next, so that other programs of the machine count for nothing.

Then at a hub that takes 1,000 reports a second over real sockets: ``/health`` is asked all the time, with somebody who
scrapes every 5 s and without.

    python -m benchmarks.metrics [--nodes 1000] [--seconds 20]
"""

import argparse
import asyncio
import contextlib
import socket
import statistics
import time
from collections.abc import Awaitable, Callable, Iterable

from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from benchmarks._agents import Words, agents, paced, words_of
from benchmarks._figures import Figure, percentile, show
from benchmarks._processes import HOST, a_hub
from gpumon.catalog import METRICS
from gpumon.hub.core import Hub
from gpumon.hub.door import Door
from gpumon.hub.gauges import NodeGauges
from gpumon.hub.ingest import Ingest
from gpumon.hub.metrics import Metrics
from gpumon.hub.packing import whole
from gpumon.hub.roster import open_roster
from gpumon.measures import gpu_column
from gpumon.prometheus import document, format_for
from gpumon.wire import ReportFrame, decode_from_agent

TICK_SECONDS = 0.002
ROUNDS = 7
SCRAPE_SECONDS = 5.0
TEXT = format_for("")
SCRAPE = (
    f"GET /metrics HTTP/1.1\r\nHost: {HOST}\r\nAccept: application/openmetrics-text\r\nAccept-Encoding: gzip\r\n\r\n"
)
HEALTH = f"GET /health HTTP/1.1\r\nHost: {HOST}\r\n\r\n"


class Library(Collector):
    """The catalogue's metrics of every GPU of ``hub``, as the library wants to have them."""

    def __init__(self, hub: Hub) -> None:
        self._reports = [(member.name, member.report) for member in hub.fleet if member.report is not None]

    def collect(self) -> Iterable[Metric]:
        for metric in METRICS:
            if metric.derived:
                continue
            make = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
            family = make(gpu_column(metric).family.name, metric.help, labels=("node", "gpu", "uuid"))
            for name, report in self._reports:
                for gpu in report.gpus:
                    if (value := getattr(gpu, metric.field)) is not None:
                        family.add_metric((name, str(gpu.index), gpu.uuid or ""), value)
            yield family


def filled(words: list[Words]) -> Hub:
    """A hub that knows what ``words`` say."""
    hub = Hub()
    for one in words:
        message = decode_from_agent(one.report(1))
        assert isinstance(message, ReportFrame)
        hub.fleet.record(hub.fleet.admit(one.node, None, None), message.report, "push")
    return hub


async def held_up(work: Callable[[], Awaitable[object]]) -> tuple[float, float]:
    """What ``work`` takes, and the longest that a task waits meanwhile that wants a turn every 2 ms: both in
    milliseconds of this process' processor time.
    """
    longest = 0.0
    ours, theirs = socket.socketpair()

    async def tick() -> None:
        nonlocal longest
        before = time.process_time()
        while True:
            await asyncio.sleep(TICK_SECONDS)
            ours.send(b".")
            theirs.recv(1)
            now = time.process_time()
            longest, before = max(longest, now - before), now

    with ours, theirs:
        ticking = asyncio.create_task(tick())
        began = time.process_time()
        await work()
        took = time.process_time() - began
        ticking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await ticking
    return took * 1e3, longest * 1e3


async def in_one_process(hub: Hub) -> list[Figure]:
    metrics = Metrics(hub, Ingest(hub, Door(open_roster(None), "token", hub.clock)))

    def text() -> bytes:
        nodes = NodeGauges(hub.clock.time(), dcgm_names=False, shows_users=True)
        for member in hub.fleet:
            nodes.add(member)
        return whole(document(nodes.families, TEXT))

    ways: dict[str, Callable[[], Awaitable[object]]] = {
        "in turns on the loop": lambda: metrics._make(TEXT, shows_users=True),
        "the same in a thread": lambda: asyncio.to_thread(text),
        "Prometheus' library in a thread": lambda: asyncio.to_thread(lambda: whole([generate_latest(Library(hub))])),
    }
    took: dict[str, list[float]] = {way: [] for way in ways}
    waits: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(ROUNDS):
        for way, work in ways.items():
            duration, wait = await held_up(work)
            took[way].append(duration)
            waits[way].append(wait)
    *ours, library = ways
    figures = []
    for way in ours:
        for what, found in (("time", took), ("longest wait", waits)):
            here, there = statistics.median(found[way]), statistics.median(found[library])
            figures.append(Figure(f"{way}: {what}", f"{here:.1f} ms", f"{there:.1f} ms", here / there))
    return figures


async def ask(port: int, request: str) -> bytes:
    """The body of the answer; HTTP/1.1 with a length."""
    reader, writer = await asyncio.open_connection(HOST, port, limit=2**26)
    writer.write(request.encode())
    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    size = next(line for line in head.split("\r\n") if line.startswith("content-length:"))
    body = await reader.readexactly(int(size.partition(":")[2]))
    writer.close()
    return body


async def health_times(port: int, seconds: float) -> list[float]:
    """How long ``/health`` takes, asked on one connection after the other, in milliseconds."""
    found = []
    ends = time.perf_counter() + seconds
    while time.perf_counter() < ends:
        began = time.perf_counter()
        await ask(port, HEALTH)
        found.append((time.perf_counter() - began) * 1e3)
        await asyncio.sleep(0.005)
    return found


async def at_a_hub(words: list[Words], seconds: float) -> list[Figure]:
    with a_hub() as hub:
        fleet = await agents(hub.port, words)
        pushing = asyncio.create_task(paced([one.report for one in fleet], len(words), 3 * seconds + 30))
        await asyncio.sleep(3)
        memory = hub.resident_bytes()
        before = hub.cpu_seconds()
        quiet = await health_times(hub.port, seconds)
        alone = hub.cpu_seconds() - before
        scrapes: list[float] = []
        sizes: list[int] = []

        async def scrape() -> None:
            while True:
                began = time.perf_counter()
                sizes.append(len(await ask(hub.port, SCRAPE)))
                scrapes.append(time.perf_counter() - began)
                await asyncio.sleep(max(0.0, SCRAPE_SECONDS - scrapes[-1]))

        scraping = asyncio.create_task(scrape())
        before = hub.cpu_seconds()
        scraped = await health_times(hub.port, seconds)
        cost = hub.cpu_seconds() - before - alone
        scraping.cancel()
        pushing.cancel()
        return [
            Figure("processor time of the hub for one scrape", f"{cost / len(scrapes) * 1e3:.0f} ms"),
            Figure("one scrape, by the clock", f"{percentile(scrapes, 0.5) * 1e3:.0f} ms"),
            Figure("bytes of one, compressed", f"{max(sizes) / 1e6:.1f} MB"),
            Figure("memory of the hub, before and after", f"{memory / 1e6:.0f}, {hub.resident_bytes() / 1e6:.0f} MB"),
            Figure("`/health`, 99 %", f"{percentile(scraped, 0.99):.1f} ms", f"{percentile(quiet, 0.99):.1f} ms"),
            Figure("`/health`, worst", f"{max(scraped):.1f} ms", f"{max(quiet):.1f} ms"),
        ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--nodes", type=int, default=1000, help="nodes of 8 GPUs (default 1000)")
    parser.add_argument("--seconds", type=float, default=20.0, help="how long the hub is asked each way (default 20)")
    options = parser.parse_args()
    words = words_of(options.nodes, "8")
    show(f"Metrics of {options.nodes:,} nodes, in one process", asyncio.run(in_one_process(filled(words))))
    show(f"Metrics of {options.nodes:,} nodes, at a hub", asyncio.run(at_a_hub(words, options.seconds)))


if __name__ == "__main__":
    main()
