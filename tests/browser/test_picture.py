"""The picture of the README: the demo's nodes as they look once a hub has known them for a while."""

import asyncio
import contextlib
import json
import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest
from playwright.sync_api import Page, expect
from websockets.sync.client import ClientConnection, connect

from gpumon import wire
from gpumon.agent.scenario import Scenario
from gpumon.agent.simulate import SimulatedReader
from gpumon.demo import MACHINES
from gpumon.model import Report
from gpumon.timestamp import rfc3339
from tests.browser.conftest import Open
from tests.browser.lab import HOST
from tests.hub.agents import hello
from tests.running import program

NODES = 3
KNOWN_FOR_SECONDS = 1200  # longer than a sparkline, and long enough to be idle for
STEP_SECONDS = 5


def told(number: int, thread: ThreadPoolExecutor) -> tuple[list[bytes], Callable[[], bytes]]:
    """What the agent of a simulated node could not deliver so far, and the report that it makes when asked for one."""
    moment = time.time() - KNOWN_FOR_SECONDS
    reader = SimulatedReader(Scenario.parse(MACHINES[number]), number, lambda: moment)
    sequence = 0

    def report(at: float) -> bytes:
        nonlocal moment, sequence
        moment, sequence = at, sequence + 1
        sample = thread.submit(asyncio.run, reader.read()).result()  # this one has Playwright's loop
        made = Report(
            node=f"simulated-{number + 1}",
            boot_id=f"boot-{number}",
            sequence=sequence,
            sampled_at=rfc3339(at),
            interval_seconds=STEP_SECONDS,
            simulated=True,
            tags=[f"room {number + 1}"],
            driver_version=sample.driver_version,
            cuda_version=sample.cuda_version,
            gpus=sample.gpus,
        )
        return wire.report_frame(msgspec.json.encode(made), late=at < began + KNOWN_FOR_SECONDS)

    began = moment
    late = [report(began + passed) for passed in range(0, KNOWN_FOR_SECONDS, STEP_SECONDS)]
    return late, lambda: report(time.time())


@pytest.fixture
def site(tmp_path: Path) -> Iterator[tuple[str, Callable[[], None]]]:
    """A hub with a past, and what makes its nodes report once more."""
    with contextlib.ExitStack() as stack:
        thread = stack.enter_context(ThreadPoolExecutor(1))
        hub = stack.enter_context(program("hub", f"--host={HOST}", "--port=0", folder=tmp_path))
        port = hub.port("hub")
        nodes: list[tuple[ClientConnection, Callable[[], bytes]]] = []
        for number in range(NODES):
            agent = stack.enter_context(connect(f"ws://{HOST}:{port}/api/push", subprotocols=["gpumon.v1"], proxy=None))  # type: ignore[list-item]
            agent.send(json.dumps(hello(node=f"simulated-{number + 1}", boot=f"boot-{number}")))
            late, now = told(number, thread)
            for frame in late:
                agent.send(frame.decode())
            nodes.append((agent, now))

        def report() -> None:
            for agent, now in nodes:
                agent.send(now().decode())

        report()
        yield f"http://{HOST}:{port}", report


def test_nodes_that_a_hub_has_known_for_a_while_have_full_sparklines_and_idle_gpus(
    site: tuple[str, Callable[[], None]], open_page: Open, keep_picture: Callable[[Page, str], None]
) -> None:
    url, report = site
    page = open_page(url).page
    report()  # for on a machine with much to do a browser takes longer than a node may be silent
    page.set_viewport_size({"width": 1440, "height": 1490})  # what is out of view has no past yet
    expect(page.locator('[data-status="online"]')).to_have_count(NODES)
    expect(page.locator('[data-state="held"]').first).to_be_visible()
    # A quarter of an hour, whose last part may have no span that is full yet.
    for name in ("simulated-1", "simulated-2"):
        area = page.locator(f'[data-node="{name}"] .spark .area').first
        expect(area).to_have_attribute("d", re.compile(r"^M0 20L0 .*L8[5-9] "))
    report()
    expect(page.locator('[data-node="simulated-1"] [data-field="last_seen_at"]')).to_contain_text("just now")
    keep_picture(page, "readme")
