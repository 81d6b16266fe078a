"""1,000 connections of one stranger: silent, slow at heads, at bodies and at reading. Nobody else notices anything.

python -m tests.long.strangers                 2 minutes; needs slowhttptest, and root or user namespaces, ip
"""

import argparse
import resource
import shutil
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from gpumon.limits import MAX_CONNECTIONS
from tests.long.harness import HUB_ADDRESS, Agents, Cable, Hub, Run, isolate, open_files, script, wait_for

AGENTS = 20
CONNECTIONS = 1000
READERS = 60
HOLD = """
import asyncio, resource, socket, sys, time
address, port, count, request = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4].encode()
most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
class Held(asyncio.Protocol):
    def connection_made(self, transport):
        self.began = time.monotonic()
        if request:
            transport.write(request)
            transport.pause_reading()
    def data_received(self, data):
        answers.append(data[:12])
    def connection_lost(self, error):
        ended.append(time.monotonic() - self.began)
ended, answers = [], []
async def main():
    loop = asyncio.get_running_loop()
    held = []
    for _ in range(count):
        one = socket.socket()
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        one.setblocking(False)
        await loop.sock_connect(one, (address, port))
        held.append(await loop.create_connection(Held, sock=one))
    began = time.monotonic()
    while len(ended) < count and time.monotonic() - began < 45:
        await asyncio.sleep(0.2)
        for transport, _ in held if time.monotonic() - began > 35 else ():
            transport.resume_reading()
    print(len(ended), max(ended, default=0), sum(b"429" in answer for answer in answers))
asyncio.run(main())
"""


class Probe(threading.Thread):
    """Asks for ``/health`` from the hub's own side, again and again."""

    def __init__(self, hub: Hub) -> None:
        super().__init__(daemon=True)
        self.seconds: list[float] = []
        self.failures = 0
        self.ended = threading.Event()
        self._hub = hub

    def run(self) -> None:
        while not self.ended.is_set():
            began = time.monotonic()
            self.failures += self._hub.get("/health", 5) is None
            self.seconds.append(time.monotonic() - began)
            time.sleep(0.05)


@contextmanager
def unharmed(run: Run, hub: Hub, what: str) -> Iterator[None]:
    """Claim that the hub serves everybody else while the block lasts, and is as it was after it."""
    files, memory = open_files(hub.process), hub.memory_bytes()
    probe = Probe(hub)
    probe.start()
    most = memory
    begin = {node["name"]: node["report"]["sequence"] for node in hub.nodes()}
    began = time.monotonic()
    yield
    most = max(most, hub.memory_bytes())
    probe.ended.set()
    probe.join()
    grown = min(node["report"]["sequence"] - begin[node["name"]] for node in hub.nodes())
    run.claim(hub.all_online(AGENTS), f"{what}: all agents are online", hub.statuses())
    run.claim(grown >= time.monotonic() - began - 3, f"{what}: each agent's reports have come", grown)
    typical, slowest = statistics.median(probe.seconds), max(probe.seconds)
    run.claim(not probe.failures, f"{what}: /health has always answered", f"{len(probe.seconds)} times")
    run.claim(
        typical < 0.2, f"{what}: within 200 ms", f"median {typical * 1000:.0f} ms, slowest {slowest * 1000:.0f} ms"
    )
    run.within(20, f"{what}: as many files are open as before", lambda: open_files(hub.process) <= files + 1)
    run.say(
        f"{what}: {most / 1e6:.0f} MB at the end, {memory / 1e6:.0f} MB before; {hub.get('/health?verbose')['refused']}"
    )


def hold(hub: Hub, count: int, request: str = "", prefix: list[str] | None = None) -> tuple[int, float, int]:
    """Hold so many connections, and say nothing, or ask and do not read: how many ended, after how long, refused."""
    command = [*(prefix or []), sys.executable, "-c", HOLD, hub.address, str(hub.port), str(count), request]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    return int(said[0]), float(said[1]), int(said[2])


def main(run: Run, _: argparse.Namespace) -> None:
    slow = shutil.which("slowhttptest")
    if slow is None:
        raise SystemExit("slowhttptest is not here (Debian: apt install slowhttptest)")
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    cable = Cable(run)
    hub = Hub(run, HUB_ADDRESS)
    hub.start()
    Agents(run, hub.url, AGENTS)
    wait_for(lambda: hub.all_online(AGENTS), "all agents", 60)
    with unharmed(run, hub, "silence"):
        ended, longest, refused = hold(hub, CONNECTIONS, prefix=cable.over)
        run.claim(refused == CONNECTIONS - MAX_CONNECTIONS, "of silent connections all but 64 are refused", refused)
        run.claim(
            (ended, longest < 16) == (CONNECTIONS, True), "all are closed within 16 s", f"{ended}, {longest:.1f} s"
        )
    request = f"GET /api/nodes HTTP/1.1\r\nHost: {HUB_ADDRESS}\r\n\r\n" * 100
    with unharmed(run, hub, "silent readers"):
        before = hub.memory_bytes()
        watching = threading.Event()
        peak = [before]

        def watch() -> None:
            while not watching.is_set():
                peak[0] = max(peak[0], hub.memory_bytes())
                time.sleep(0.1)

        watcher = threading.Thread(target=watch)
        watcher.start()
        ended, longest, _none = hold(hub, READERS, request, cable.over)
        watching.set()
        watcher.join()
        each = (peak[0] - before) / READERS
        run.claim(each < 300_000, "each costs under 0.3 MB", f"{each / 1000:.0f} kB")
        counted = hub.get("/health?verbose")["refused"].get("slow_reader", 0)
        run.claim(counted == READERS, "all were cut off since they took nothing", f"within {longest:.0f} s")
    for what, options in {
        "slow heads": ["-H", "-i", "5", "-x", "24"],
        "slow bodies": ["-B", "-i", "5", "-s", "8192", "-x", "10"],
        "slow reading": ["-X", "-w", "1", "-y", "2", "-n", "5", "-z", "1"],
    }.items():
        url = f"{hub.url}/api/nodes"
        command = [slow, *options, "-c", str(CONNECTIONS), "-r", "200", "-l", "30", "-p", "3", "-u", url]
        with unharmed(run, hub, what):
            log = run.folder / f"log-{what.replace(' ', '-')}"
            attack = run.start(*cable.over, *command, output=log)
            attack.wait(90)


if __name__ == "__main__":
    isolate()
    script(main)
