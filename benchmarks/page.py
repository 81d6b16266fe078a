"""What the page costs whoever leaves it open all day: 500 nodes of 8 GPUs at one report a second, in a real Chromium.

    python -m benchmarks.page [--nodes 500] [--seconds 60]

The reference is a page without a view, in the same browser, that reads the same stream and parses it. Every GPU's
utilisation, memory, temperature, power and fan differ in each report, at random: no fleet is as restless as that.
"""

import argparse
import asyncio
import gzip
import json
import random
import re
import shutil
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import psutil
from playwright.async_api import CDPSession, Page, async_playwright

from benchmarks._agents import Words, agents, paced
from benchmarks._figures import Figure, show
from benchmarks._processes import HOST, Served, a_hub
from benchmarks._viewers import Viewer, events_request, join
from gpumon.hub.page import FOLDER

GPUS = 8
MIB = 2**20
SETTLE_SECONDS = 5.0
REFERENCE_SECONDS = 20.0
HIDDEN_SECONDS = 10.0
TRACED_SECONDS = 10.0
LIVELY: dict[bytes, Callable[[], float]] = {
    b"utilization_percent": lambda: random.randrange(2, 101),
    b"memory_used_bytes": lambda: random.randrange(30_000, 120_000) * MIB,
    b"temperature_celsius": lambda: random.randrange(35, 80),
    b"power_draw_watts": lambda: random.randrange(1000, 7000) / 10,
    b"fan_speed_percent": lambda: random.randrange(30, 90),
}
JOB_SECONDS = 60
PID = re.compile(rb'"pid":\d+')
GPU_NUMBER = re.compile(
    rb'"(utilization_percent|memory_used_bytes|temperature_celsius|power_draw_watts|fan_speed_percent)":(?:[0-9.]+|null)'
    rb'(?=,"(?:memory_utilization|memory_free|memory_temperature|power_draw_average|power_draw_watts))'
)
QUIET = ("--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking")

WATCH = """
for (const [type, name] of [["longtask", "tasks_"], ["long-animation-frame", "frames_"]]) {
  window[name] = [];
  new PerformanceObserver((list) => {
    for (const {duration} of list.getEntries()) window[name].push(duration);
  }).observe({type, buffered: true});
}
"""
BARE = """
window.heard = 0;
const events = new EventSource("/api/events?view=overview");
for (const type of ["snapshot", "nodes"])
  events.addEventListener(type, ({data}) => { window.heard += JSON.parse(data).numbers.names.length; });
"""
HIDE = """(hidden) => {
  Object.defineProperty(document, "hidden", {value: hidden, configurable: true});
  document.dispatchEvent(new Event("visibilitychange"));
}"""


class Lively(Words):
    """What one node reports: all GPUs busy, no number twice, and once a minute another process on the first of them."""

    def __init__(self, node: str, seed: int) -> None:
        super().__init__(node, str(GPUS), seed)
        pieces = GPU_NUMBER.split(self._tail)
        self._fixed, self._fields = pieces[::2], pieces[1::2]

    def report(self, sequence: int) -> bytes:
        if random.random() < 1 / JOB_SECONDS:
            self._fixed = [PID.sub(b'"pid":%d' % random.randrange(2, 4_000_000), one, 1) for one in self._fixed]
        told = [self._fixed[0]]
        for field, fixed in zip(self._fields, self._fixed[1:], strict=True):
            told.append(b'"%b":%b%b' % (field, str(LIVELY[field]()).encode(), fixed))
        self._tail = b"".join(told)
        return super().report(sequence)


class Cost:
    """What a browser's processes have used so far: processor seconds of its renderers, and of all of them."""

    def __init__(self, browser: psutil.Process) -> None:
        self._browser = browser

    def seconds(self) -> tuple[float, float]:
        every = [self._browser, *self._browser.children(recursive=True)]
        spent: dict[bool, list[float]] = {True: [], False: []}
        for process in every:
            try:
                times = process.cpu_times()
                spent["--type=renderer" in process.cmdline()].append(times.user + times.system)
            except psutil.NoSuchProcess:
                continue
        return sum(spent[True]), sum(spent[True]) + sum(spent[False])

    async def shares(self, seconds: float) -> tuple[float, float]:
        """Per cent of a core over so many seconds, of the renderer and of all."""
        began, before = time.monotonic(), self.seconds()
        await asyncio.sleep(seconds)
        passed, after = time.monotonic() - began, self.seconds()
        return tuple(100 * (b - a) / passed for a, b in zip(before, after, strict=True))  # type: ignore[return-value]


@asynccontextmanager
async def chromium(executable: str) -> AsyncIterator[tuple[Page, CDPSession, Cost]]:
    """An empty window of a browser of its own."""
    known = {child.pid for child in psutil.Process().children(recursive=True)}
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=executable, args=list(QUIET))
        page = await browser.new_page(viewport={"width": 1440, "height": 900})
        started = [one for one in psutil.Process().children(recursive=True) if one.pid not in known]
        main = next(
            one for one in started if "--headless" in one.cmdline() and "--type=" not in " ".join(one.cmdline())
        )
        yield page, await page.context.new_cdp_session(page), Cost(main)
        await browser.close()


async def heap_megabytes(session: CDPSession) -> float:
    """What the page's scripts hold, after everything that can go has gone."""
    await session.send("HeapProfiler.enable")
    await session.send("HeapProfiler.collectGarbage")
    return float((await session.send("Runtime.getHeapUsage"))["usedSize"]) / 1e6


@asynccontextmanager
async def traced(page: Page) -> AsyncIterator[list[float]]:
    """The tasks of the page's main thread within the block, in milliseconds of its own processor time: what others on
    the machine took does not count.
    """
    found: list[float] = []
    browser = page.context.browser
    assert browser is not None
    await browser.start_tracing(page=page, categories=["devtools.timeline", "disabled-by-default-devtools.timeline"])
    yield found
    events = json.loads(await browser.stop_tracing())["traceEvents"]
    main = {(one["pid"], one["tid"]) for one in events if one["name"] == "FunctionCall"}
    found += [
        one.get("tdur", 0) / 1000 for one in events if one["name"] == "RunTask" and (one["pid"], one["tid"]) in main
    ]


async def all_there(page: Page, nodes: int) -> None:
    """Wait until every node stands on the page. Its policy allows no script that is a text."""
    last = page.locator("[data-block], tbody[data-node], article[data-node]").nth(nodes - 1)
    await last.wait_for(state="attached")


async def viewers(page: Page) -> int:
    return int(await page.evaluate("fetch('/health').then((one) => one.json()).then((one) => one.viewers)"))


async def measure(hub: Served, nodes: int, reports: Callable[[], int], seconds: float, executable: str) -> list[Figure]:
    """The page of ``hub``, open for so many seconds; ``reports`` counts those that its nodes have made."""
    url = f"http://{HOST}:{hub.port}"
    counter = await join(hub.port, lambda: Viewer(events_request("?view=overview", gzip=True)))
    async with chromium(executable) as (page, _, cost):
        await page.goto(f"{url}/health")
        await page.evaluate(BARE)
        await asyncio.sleep(SETTLE_SECONDS)
        bare, _ = await cost.shares(REFERENCE_SECONDS)
    async with chromium(executable) as (page, _, cost):
        async with traced(page) as opening:
            await page.goto(url)
            await all_there(page, nodes)
        watching = await viewers(page)
        await page.evaluate(HIDE, True)
        await asyncio.sleep(1)
        left = watching - await viewers(page)
        await asyncio.sleep(SETTLE_SECONDS)
        hidden, _ = await cost.shares(HIDDEN_SECONDS)
    async with chromium(executable) as (page, session, cost):
        await session.send("Performance.enable")
        await page.add_init_script(WATCH)
        await page.goto(url)
        await all_there(page, nodes)
        whole = float(await page.evaluate("performance.now()"))
        paint = float(await page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime"))
        await asyncio.sleep(SETTLE_SECONDS)
        late = await page.evaluate("[window.tasks_.splice(0), window.frames_.splice(0)]")
        received, reported = counter.received, reports()
        shares = await cost.shares(seconds)
        a_node = (counter.received - received) / (reports() - reported)
        tasks, frames = await page.evaluate("[window.tasks_, window.frames_]")
        async with traced(page) as standing:
            await asyncio.sleep(TRACED_SECONDS)
        heap = await heap_megabytes(session)
        peak = {one["name"]: one["value"] for one in (await session.send("Performance.getMetrics"))["metrics"]}
        elements = int(await page.evaluate("document.querySelectorAll('*').length"))
    counter.transport.close()
    return [
        Figure(
            "processor of the page's renderer",
            f"{shares[0]:.1f} %",
            f"{bare:.1f} %",
            shares[0] / bare,
            "< 15 %",
            shares[0] < 15,
        ),
        Figure("processor of all of Chromium", f"{shares[1]:.1f} %"),
        Figure("heap of its scripts", f"{heap:.0f} MB", goal="< 150 MB", met=heap < 150),
        Figure("heap, garbage included", f"{peak['JSHeapTotalSize'] / 1e6:.0f} MB"),
        *tasks_of("once it stands", standing, tasks, frames),
        *tasks_of("while it opens", opening, *late),
        Figure("bytes for a node's report, in the overview", f"{a_node:.0f}", goal="< 120", met=a_node < 120),
        Figure("first paint", f"{paint:.0f} ms", goal="< 1 s", met=paint < 1000),
        Figure("all nodes on the page", f"{whole:.0f} ms"),
        Figure("elements", f"{elements:,}"),
        Figure("streams given back when hidden", f"{left}", goal="all", met=left == watching - 1),
        Figure("processor of a hidden page", f"{hidden:.1f} %", goal="0", met=hidden < 0.5),
    ]


def tasks_of(when: str, tasks: Sequence[float], late: Sequence[float], frames: Sequence[float]) -> list[Figure]:
    longest = max(tasks, default=0.0)
    return [
        Figure(f"longest task {when}, processor time", f"{longest:.0f} ms", goal="< 50 ms", met=longest < 50),
        Figure(f"longest task {when}, by the clock", _longest(late)),
        Figure(f"longest frame {when}, by the clock", _longest(frames)),
    ]


def _longest(durations: Sequence[float]) -> str:
    return f"{max(durations):.0f} ms ({len(durations)} over 50)" if durations else "none over 50 ms"


def weight() -> Figure:
    files = [path.read_bytes() for path in FOLDER.rglob("*") if path.is_file() and path.suffix != ".sha256"]
    packed = sum(len(gzip.compress(data, 6)) for data in files) / 1000
    return Figure("weight of the page, compressed", f"{packed:.0f} kB", goal="< 150 kB", met=packed < 150)


async def run(hub: Served, words: Sequence[Words], seconds: float, executable: str) -> list[Figure]:
    """Let the agents report while the page is looked at."""
    found = await agents(hub.port, words)
    send = [agent.report for agent in found]

    def reports() -> int:
        return sum(agent.sequence for agent in found)

    async def report() -> None:
        while True:
            await paced(send, len(words), 60.0)

    async with asyncio.TaskGroup() as group:
        reporting = group.create_task(report())
        await asyncio.sleep(2)
        figures = await measure(hub, len(words), reports, seconds, executable)
        reporting.cancel()
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--nodes", type=int, default=500)
    parser.add_argument("--seconds", type=float, default=60.0)
    options = parser.parse_args()
    executable = next((path for name in ("chromium", "google-chrome") if (path := shutil.which(name))), None)
    if executable is None:
        print("not measured: no browser")
        return
    words = [Lively(f"node-{number:04d}", seed=number) for number in range(options.nodes)]
    with a_hub() as hub:
        figures = asyncio.run(run(hub, words, options.seconds, executable))
    show(f"The page, {options.nodes} nodes of {GPUS} GPUs", [*figures, weight()])


if __name__ == "__main__":
    main()
