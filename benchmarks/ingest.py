"""What it costs a hub to take reports: the whole path (decode, validate, record, tell 10 viewers).

Three programs get the same values at the same rate, in turns, each a process of its own:

- a hub, by WebSocket, with viewers that read all;
- a bare asyncio server that splits length-prefixed messages and decodes them with msgspec: the least that Python can
  do;
- Debian's Prometheus (where it is installed), which scrapes the same numbers from as many targets.

How much a hub takes: 10,000 reports a second over 500 connections, and 1,000 agents at one report a second. And what
TLS costs it: two hubs, with and without, get the same reports in turns.

    python -m benchmarks.ingest [--rounds 5] [--long]
"""

import argparse
import asyncio
import contextlib
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import msgspec

from benchmarks._agents import Agent, Words, agents, paced, words_of
from benchmarks._figures import Figure, compared, show
from benchmarks._processes import HOST, Served, a_hub, a_server, health, served
from benchmarks._viewers import EventReader, Viewer, events_request, join, updates
from gpumon.certificates import trusting
from tests.authority import self_made

RATE = 500
SECONDS = 4.0
VIEWERS = 10
HUNDRED_MILLION = 10**8
BARE = """
import asyncio
from gpumon import wire

class Bare(asyncio.Protocol):
    def connection_made(self, transport):
        self.buffer = bytearray()

    def data_received(self, data):
        self.buffer += data
        while len(self.buffer) >= 4 and len(self.buffer) >= (end := 4 + int.from_bytes(self.buffer[:4])):
            wire.decode_from_agent(bytes(self.buffer[4:end]))
            del self.buffer[:end]

async def main():
    server = await asyncio.get_running_loop().create_server(Bare, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1])
    await server.serve_forever()

asyncio.run(main())
"""


class Bare(asyncio.Protocol):
    """A connection to the bare server."""

    def __init__(self, words: Words) -> None:
        self._words = words
        self._sequence = 0
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def report(self) -> None:
        self._sequence += 1
        data = self._words.report(self._sequence)
        self._transport.write(len(data).to_bytes(4) + data)


async def window(server: Served, send: list[object], rate: float, seconds: float = SECONDS) -> float:
    """Microseconds of the server's processor time a report, while ``send`` are called in turn."""
    before = server.cpu_seconds()
    count, _ = await paced(send, rate, seconds)
    return (server.cpu_seconds() - before) / count * 1e6


async def compare(
    words: list[Words], rounds: int, gzip: bool, viewers: int, query: str
) -> tuple[list[float], list[float]]:
    """Microseconds a report, for the hub and the bare server, round by round."""
    loop = asyncio.get_running_loop()
    with a_hub() as hub, a_server(BARE) as bare:
        fleet = await agents(hub.port, words)
        plain = [(await loop.create_connection(partial(Bare, one), HOST, bare.port))[1] for one in words]
        watching = [await join(hub.port, lambda: Viewer(events_request(query, gzip=gzip))) for _ in range(viewers)]
        ours, theirs = [], []
        await window(hub, [one.report for one in fleet], RATE, 2)
        await window(bare, [one.report for one in plain], RATE, 1)
        for _ in range(rounds):
            seen = sum(one.received for one in watching)
            ours.append(await window(hub, [one.report for one in fleet], RATE))
            theirs.append(await window(bare, [one.report for one in plain], RATE))
            if viewers and sum(one.received for one in watching) == seen:
                raise SystemExit("the viewers were told nothing")
        return ours, theirs


async def encrypted(words: list[Words], rounds: int, folder: Path) -> list[Figure]:
    """What a report and an agent cost a hub by TLS, and without."""
    made = self_made(folder, "hub", HOST)
    files = (f"--tls-certificate={made.certificate}", f"--tls-key={made.key}")
    with a_hub(*files) as secret, a_hub() as plain:
        empty = [hub.resident_bytes() for hub in (secret, plain)]
        began = [hub.cpu_seconds() for hub in (secret, plain)]
        sending = [
            [one.report for one in await agents(secret.port, words, trusting(None, made.fingerprint))],
            [one.report for one in await agents(plain.port, words)],
        ]
        came = [(hub.cpu_seconds() - then) / len(words) for hub, then in zip((secret, plain), began, strict=True)]
        costs: tuple[list[float], list[float]] = ([], [])
        for number in range(rounds + 1):
            for hub, send, cost in zip((secret, plain), sending, costs, strict=True):
                found = await window(hub, list(send), RATE)
                if number > 0:  # the first warms them
                    cost.append(found)
        each = [
            (hub.resident_bytes() - then) / len(words) / 1024 for hub, then in zip((secret, plain), empty, strict=True)
        ]
    ours, theirs = map(statistics.median, costs)
    cpu, memory = ([f"{one * 1e3:.2g} ms" for one in came], [f"{one:.0f} KiB" for one in each])
    return [
        Figure(f"a report, {RATE}/s, by TLS and without", f"{ours:.3g} µs", f"{theirs:.3g} µs", ours / theirs),
        Figure("— processor for an agent that comes", cpu[0], cpu[1], came[0] / came[1]),
        Figure("— memory an agent", memory[0], memory[1], each[0] / each[1]),
    ]


# ---- Prometheus ----


def exposition(words: Words) -> bytes:
    """The numbers of a report, as Prometheus reads them."""
    frame = msgspec.json.decode(words.report(1))
    lines = []
    for gpu in frame["report"]["gpus"]:
        labels = f'gpu="{gpu["index"]}",uuid="{gpu["uuid"]}"'
        for name, value in gpu.items():
            if isinstance(value, int | float) and not isinstance(value, bool):
                lines.append(f"gpumon_{name}{{{labels}}} {value}")
        lines += [
            f'gpumon_process_memory_used_bytes{{{labels},pid="{process["pid"]}"}} {process["memory_used_bytes"]}'
            for process in gpu["processes"] or ()
        ]
    return "\n".join(lines).encode() + b"\n"


class Target(asyncio.Protocol):
    """Answers every request with the numbers of the node that its path names."""

    def __init__(self, texts: list[bytes]) -> None:
        self._texts = texts
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        for request in data.split(b"\r\n\r\n")[:-1]:
            body = self._texts[int(request.split(b" ", 2)[1].lstrip(b"/"))]
            head = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: %d\r\n\r\n" % len(
                body
            )
            self._transport.write(head + body)


@contextlib.contextmanager
def prometheus(port: int, targets: int) -> Iterator[Served]:
    """Prometheus, scraping every target once a second."""
    with tempfile.TemporaryDirectory() as folder:
        jobs = "".join(
            f"  - {{targets: ['{HOST}:{port}'], labels: {{__metrics_path__: /{number}, node: node-{number}}}}}\n"
            for number in range(targets)
        )
        configuration = Path(folder, "prometheus.yml")
        configuration.write_text(
            "global: {scrape_interval: 1s, scrape_timeout: 1s}\n"
            "scrape_configs:\n- job_name: gpumon\n  static_configs:\n" + jobs
        )
        command = ["prometheus", f"--config.file={configuration}", f"--storage.tsdb.path={folder}/data"]
        with served([*command, f"--web.listen-address={HOST}:0"], r"address=127\.0\.0\.1:(\d+)") as server:
            yield server


async def scraped(words: list[Words], seconds: float) -> list[float]:
    """Microseconds of Prometheus's processor time a scrape, second by second in pieces of five."""
    texts = [exposition(one) for one in words]
    count = 0

    class Counting(Target):
        def data_received(self, data: bytes) -> None:
            nonlocal count
            count += 1
            super().data_received(data)

    server = await asyncio.get_running_loop().create_server(lambda: Counting(texts), HOST, 0)
    found = []
    with prometheus(server.sockets[0].getsockname()[1], len(words)) as program:
        await asyncio.sleep(10)  # every series has been made
        for _ in range(int(seconds / 5)):
            before, began = program.cpu_seconds(), count
            await asyncio.sleep(5)
            found.append((program.cpu_seconds() - before) / max(1, count - began) * 1e6)
            if count - began < 0.9 * RATE * 5:
                print(f"(Prometheus scraped {(count - began) / 5:.0f} targets a second instead of {RATE})")
    server.close()
    return found


# ---- how much ----


async def flood(words: list[Words], rate: int, seconds: float) -> list[Figure]:
    """As many reports as ``rate`` says, over 500 connections: all taken, and how far behind the hub was."""
    lags: list[float] = []
    sent: dict[tuple[str, int], float] = {}

    def told(kind: bytes, data: bytes, now: float) -> None:
        if kind == b"nodes":
            lags.extend(now - sent[name, sequence] for name, sequence in updates(data) if (name, sequence) in sent)

    loop = asyncio.get_running_loop()
    with a_hub() as hub:
        fleet = await agents(hub.port, words)
        probe = fleet[0]

        def report(one: Agent) -> None:
            one.report()
            if one is probe:
                sent[one.node, one.sequence] = time.time()

        viewer = await join(hub.port, lambda: EventReader(events_request("?pace=1"), told))
        before = hub.cpu_seconds()
        count, late = await paced([lambda one=one: report(one) for one in fleet], rate, seconds)
        took = hub.cpu_seconds() - before
        began = loop.time()
        for one in fleet:  # the hub acknowledges every 32nd report or every 10 s: a few more bring the last word
            one.report()
        while loop.time() - began < 15 and any(one.acknowledged < count // len(fleet) for one in fleet):
            for one in fleet:
                one.report()
            await asyncio.sleep(0.5)
        accepted = sum(min(one.acknowledged, count // len(fleet)) for one in fleet)
        viewer.hear()
        behind = max(lags, default=0.0) - 1.0  # the viewer is told once a second
        return [
            Figure(
                f"{rate:,} reports/s over {len(fleet)} connections, {seconds:g} s: accepted of sent",
                f"{accepted:,}",
                f"{count:,}",
                accepted / count,
                "= 1",
                accepted == count,
            ),
            Figure("— most that the hub was behind", f"{max(0.0, behind):.2f} s", goal="≤ 1 s", met=behind <= 1.0),
            Figure("— the load was late by; the hub's processor", f"{late:.2f} s; {took / seconds:.0%} of a core"),
        ]


async def many(words: list[Words], seconds: float) -> list[Figure]:
    """Agents at one report a second."""
    with a_hub() as hub:
        await asyncio.sleep(1)
        empty = hub.resident_bytes()
        fleet = await agents(hub.port, words)
        send = [one.report for one in fleet]
        await paced(send, len(fleet), 5)
        before = hub.cpu_seconds()
        await paced(send, len(fleet), seconds)
        cpu = (hub.cpu_seconds() - before) / seconds
        each = (hub.resident_bytes() - empty) / len(fleet) / 1024
        states = await health(hub.port)
        lost = sum(one.lost for one in fleet)
    return [
        Figure(f"{len(fleet):,} agents at 1 Hz: processor", f"{cpu:.0%} of a core", goal="< 50 %", met=cpu < 0.5),
        Figure("— memory an agent, its last report included", f"{each:.0f} KiB", goal="< 56 KiB", met=each < 56),
        Figure(
            "— online, not online, cut off",
            f"{states['online']}, {sum(states.values()) - states['online']}, {lost}",
            goal="all, 0, 0",
            met=states["online"] == len(fleet) and not lost,
        ),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of the comparison (default 5)")
    parser.add_argument("--long", action="store_true", help="longer windows")
    parser.add_argument("--only", choices=("compare", "prometheus", "flood", "many", "tls"), help="one part of it")
    options = parser.parse_args()
    words = words_of(RATE, "8")
    figures: list[Figure] = []
    costs: dict[str, float] = {}

    def wanted(part: str) -> bool:
        return options.only in (None, part)

    if wanted("compare") or wanted("prometheus"):
        cases = (
            ("nobody looks", False, 0, ""),
            ("10 viewers at a glance, as the page reads so many", True, VIEWERS, "?view=overview"),
            ("10 viewers in full, compressed", True, VIEWERS, ""),
            ("10 viewers in full, plain", False, VIEWERS, ""),
        )
        for name, gzip, viewers, query in cases:
            here, bare = asyncio.run(compare(words, options.rounds, gzip, viewers, query))
            what = f"a report of {words[0].size / 1000:.1f} KB, {RATE}/s: {name}"
            figures.append(compared(what, here, bare, "µs", 1.8))
            costs[name] = statistics.median(here)
    if wanted("prometheus") and shutil.which("prometheus"):
        theirs = statistics.median(asyncio.run(scraped(words, 30 if options.long else 15)))
        for name in list(costs)[:3]:
            ratio = theirs / costs[name]
            what = f"the same numbers scraped by Prometheus; {name}"
            figures.append(Figure(what, f"{costs[name]:.3g} µs", f"{theirs:.3g} µs", ratio, "≥ 4", ratio >= 4))
    if wanted("flood"):
        figures += asyncio.run(flood(words_of(500, "rtx5090:1"), 10_000, 20.0))
    if wanted("many"):
        figures += asyncio.run(many(words_of(1000, "8"), 30 if options.long else 10))
    if wanted("tls"):
        with tempfile.TemporaryDirectory() as folder:
            figures += asyncio.run(encrypted(words, options.rounds, Path(folder)))
    show("Taking reports", figures)


if __name__ == "__main__":
    main()
