"""How long a value takes from the agent's reading of it to a viewer, sampling interval left out.

A real agent (simulated GPUs, 8 of them) pushes to a real hub, each a process of its own. For every report the
time from its ``sampled_at`` to its arrival is taken by

- a viewer of ``/api/events`` (this process),
- the page's own kind of viewer, an ``EventSource`` in Chromium, where one is installed,

and, in the same second, the same bytes go through a bare relay: a third process that does nothing but pass
them on over TCP. That is the least any hub in between can cost, and the reference.

    python -m benchmarks.latency [--reports 200]
"""

import argparse
import asyncio
import json
import re
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime

HOST = "127.0.0.1"
INTERVAL = 0.3  # above the feed's window of 0.25 s: what is measured is the path, not the coalescing
WATCH = """
() => {
  window.delays = [];
  const source = new EventSource("api/events");
  source.addEventListener("nodes", (event) => {
    const now = performance.timeOrigin + performance.now();
    for (const node of JSON.parse(event.data).nodes)
      if (node.report) window.delays.push(now - Date.parse(node.report.sampled_at));
  });
}
"""


@contextmanager
def gpumon(*arguments: str) -> Iterator[int]:
    """A gpumon process; its port."""
    with subprocess.Popen([sys.executable, "-m", "gpumon", *arguments], stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            for line in process.stderr:
                if match := re.search(r"on http://\S+:(\d+)", line):
                    yield int(match[1])
                    break
        finally:
            process.terminate()
            process.stderr.read()


@contextmanager
def bare_relay() -> Iterator[int]:
    """A process that answers every length-prefixed message with the message."""
    code = (
        "import asyncio\n"
        "async def meet(reader, writer):\n"
        "    while head := await reader.read(4):\n"
        "        writer.write(head + await reader.readexactly(int.from_bytes(head)))\n"
        "async def main():\n"
        f"    server = await asyncio.start_server(meet, '{HOST}', 0)\n"
        "    print(server.sockets[0].getsockname()[1], flush=True)\n"
        "    await server.serve_forever()\n"
        "asyncio.run(main())"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.terminate()


async def watch(hub: int, relay: int, reports: int) -> tuple[list[float], list[float]]:
    """Milliseconds from reading to arrival, through the hub and through the relay, for each report."""
    through_relay = await asyncio.open_connection(HOST, relay)
    reader, writer = await asyncio.open_connection(HOST, hub, limit=2**24)
    writer.write(f"GET /api/events HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
    ours: list[float] = []
    bare: list[float] = []
    while len(ours) < reports:
        line = await reader.readuntil(b"\n")
        if not line.startswith(b'data: {"type":"nodes"'):
            continue
        arrived = time.time()
        for node in json.loads(line.removeprefix(b"data: "))["nodes"]:
            if node["report"]:
                ours.append((arrived - datetime.fromisoformat(node["report"]["sampled_at"]).timestamp()) * 1000)
                bare.append(await echo(*through_relay, line))
    writer.close()
    through_relay[1].close()
    return ours, bare


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, data: bytes) -> float:
    """Milliseconds for ``data`` to come back."""
    began = time.perf_counter()
    writer.write(len(data).to_bytes(4) + data)
    await reader.readexactly(4 + len(data))
    return (time.perf_counter() - began) * 1000


@contextmanager
def chromium(hub: int) -> Iterator[list[float]]:
    """An ``EventSource`` in Chromium; the list is filled when it ends, and stays empty without a browser."""
    delays: list[float] = []
    executable = next((path for name in ("chromium", "google-chrome") if (path := shutil.which(name))), None)
    if executable is None:
        yield delays
        return
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=executable, args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        )
        page = browser.new_page()
        page.goto(f"http://{HOST}:{hub}/")
        page.evaluate(WATCH)
        yield delays
        delays += page.evaluate("window.delays")
        browser.close()


def row(name: str, values: list[float], reference: float) -> str:
    if not values:
        return f"{name:<34} not measured: no browser"
    median, high = statistics.median(values), statistics.quantiles(values, n=20)[-1]
    return f"{name:<34} {median:>8.2f} {high:>8.2f} {median / reference:>8.1f}   {len(values)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--reports", type=int, default=200, help="how many reports to follow (default 200)")
    reports = parser.parse_args().reports
    with gpumon("hub", f"--host={HOST}", "--port=0") as hub, bare_relay() as relay:
        agent = ("--simulate=8", f"--host={HOST}", "--port=0", f"--interval={INTERVAL}", f"--hub=http://{HOST}:{hub}")
        with gpumon("agent", *agent), chromium(hub) as in_browser:
            # Playwright holds this thread's event loop, so ours has a thread of its own.
            with ThreadPoolExecutor(1) as pool:
                ours, bare = pool.submit(lambda: asyncio.run(watch(hub, relay, reports))).result()
        reference = statistics.median(bare)
        print(f"{'milliseconds':<34} {'median':>8} {'p95':>8} {'ratio':>8}   reports")
        print(row("bare relay, same bytes (reference)", bare, reference))
        print(row("agent's reading to SSE viewer", ours, reference))
        print(row("agent's reading to EventSource", in_browser, reference))


if __name__ == "__main__":
    main()
