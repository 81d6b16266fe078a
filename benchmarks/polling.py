"""What a poll costs the hub, beside the least that any client in Python could cost.

A process of its own serves one report of 8 GPUs on as many ports as there are nodes, over connections that are
kept. The hub (a process, ``gpumon hub``) polls them all; at the same time a raw client (a third process) fetches
the same bytes from the same ports at the same rate, by asyncio's streams without any HTTP library, and decodes
them with msgspec: the reference. Each is charged the processor time that the system says it took; the window is
cut into parts, and the medians are compared. The hub does more: it records, judges and encodes for viewers.

    python -m benchmarks.polling [--nodes 200] [--interval 2] [--seconds 30] [--dead 0]

``--dead`` adds nodes that refuse connections; with ``--warm-up 70`` these have been left alone for a while.
"""

import argparse
import asyncio
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import msgspec
import orjson

from gpumon.agent.scenario import Scenario
from gpumon.agent.simulate import SimulatedReader
from gpumon.model import Report
from gpumon.timestamp import rfc3339
from gpumon.wire import encode

HOST = "127.0.0.1"
PARTS = 5
TICKS = os.sysconf("SC_CLK_TCK")
SERVER = "serve"
RAW_CLIENT = "fetch"


async def a_report() -> bytes:
    """A report as an agent of 8 GPUs makes it; its numbers are filled in at each answer."""
    sample = await SimulatedReader(Scenario.parse("8")).read()
    fields = {name: getattr(sample, name) for name in sample.__struct_fields__ if name in Report.__struct_fields__}
    return encode(msgspec.convert({"node": "polled", "boot_id": "b", "interval_seconds": 1.0} | fields, Report))


async def serve(nodes: int) -> None:
    """Serve the report on ``nodes`` ports, which are written to standard output, until killed."""
    body = orjson.loads(await a_report())

    async def meet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                await reader.readuntil(b"\r\n\r\n")
                body["sequence"] = (body["sequence"] or 0) + 1
                body["sampled_at"] = rfc3339(time.time())
                data = orjson.dumps(body)
                writer.write(
                    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(data)
                )
                writer.write(data)
        writer.close()

    servers = [await asyncio.start_server(meet, HOST, 0, backlog=16) for _ in range(nodes)]
    print(json.dumps([server.sockets[0].getsockname()[1] for server in servers]), flush=True)
    await asyncio.Event().wait()


async def fetch(ports: list[int], interval: float) -> None:
    """Fetch and decode the report of each port every ``interval`` seconds, until killed."""
    decoder = msgspec.json.Decoder(Report)
    loop = asyncio.get_running_loop()

    async def one(port: int, phase: float) -> None:
        reader, writer = await asyncio.open_connection(HOST, port)
        due = loop.time() + phase
        while True:
            await asyncio.sleep(due - loop.time())
            due += interval
            writer.write(b"GET /gpu-info HTTP/1.1\r\nHost: %b:%d\r\n\r\n" % (HOST.encode(), port))
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r")[0])
            decoder.decode(await reader.readexactly(length))

    async with asyncio.TaskGroup() as group:
        for place, port in enumerate(ports):
            group.create_task(one(port, interval * place / len(ports)))


@contextmanager
def process(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A Python process that ends with the context."""
    with subprocess.Popen(
        [sys.executable, *arguments], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as one:
        try:
            yield one
        finally:
            one.send_signal(signal.SIGKILL)


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def measure(pids: list[int], seconds: float) -> list[list[float]]:
    """Processor seconds of each process, part by part."""
    parts: list[list[float]] = [[] for _ in pids]
    before = [cpu_seconds(pid) for pid in pids]
    for _ in range(PARTS):
        time.sleep(seconds / PARTS)
        now = [cpu_seconds(pid) for pid in pids]
        for part, one, earlier in zip(parts, now, before, strict=True):
            part.append(one - earlier)
        before = now
    return parts


def configuration(port: int, ports: list[int], dead: int, interval: float) -> str:
    nodes = [{"name": f"node-{place:04}", "host": HOST, "port": port} for place, port in enumerate(ports)]
    nodes += [{"name": f"dead-{place:04}", "host": HOST, "port": 9} for place in range(dead)]
    return json.dumps({"nodes": nodes, "hub": {"poll_interval_seconds": interval, "host": HOST, "port": port}})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--nodes", type=int, default=200)
    parser.add_argument("--interval", type=float, default=2.0)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--dead", type=int, default=0, help="nodes beside them that refuse connections")
    parser.add_argument("--warm-up", type=float, default=5.0, help="seconds before the first is counted")
    parser.add_argument("--role", nargs=2, metavar=("ROLE", "JSON"), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.role:
        role, given = asked.role[0], json.loads(asked.role[1])
        asyncio.run(serve(given) if role == SERVER else fetch(given, asked.interval))
        return
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        here = ("-m", "benchmarks.polling", f"--interval={asked.interval}", "--role")
        server = stack.enter_context(process(*here, SERVER, str(asked.nodes)))
        assert server.stdout is not None
        ports = json.loads(server.stdout.readline())
        with socket.create_server((HOST, 0)) as free:
            port = free.getsockname()[1]
        (folder / "config.json").write_text(configuration(port, ports, asked.dead, asked.interval))
        hub = stack.enter_context(process("-m", "gpumon", "hub", f"--config={folder / 'config.json'}"))
        raw = stack.enter_context(process(*here, RAW_CLIENT, json.dumps(ports)))
        time.sleep(asked.warm_up)
        ours, bare = measure([hub.pid, raw.pid], asked.seconds)
        with urllib.request.urlopen(f"http://{HOST}:{port}/health", timeout=10) as response:
            statuses = json.load(response)["nodes"]
    polls = asked.nodes / asked.interval * asked.seconds / PARTS
    reference = statistics.median(bare)
    print(f"{asked.nodes} nodes every {asked.interval:g} s, {asked.dead} dead ones beside them, {asked.seconds:g} s")
    print("in the end:", ", ".join(f"{number} {status}" for status, number in statuses.items() if number))
    print(f"{'':<34} {'µs a poll':>10} {'of a core':>10} {'ratio':>7}")
    for name, parts in (("raw asyncio and msgspec (reference)", bare), ("the hub", ours)):
        median = statistics.median(parts)
        core = median * PARTS / asked.seconds
        print(f"{name:<34} {median / polls * 1e6:>10.0f} {core:>10.1%} {median / reference:>7.1f}")


if __name__ == "__main__":
    main()
