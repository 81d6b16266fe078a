"""What a real hub says of real agents that stop, die, fall silent or hang, as the page shows it."""

import json
import re
import signal
from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import Locator, Page, expect
from websockets.sync.client import connect

from tests.browser.conftest import Open
from tests.browser.lab import HOST, Lab
from tests.fakenvml import datacentre
from tests.hub.agents import hello, report
from tests.running import free_port


def shows(page: Page, cause: str) -> Locator:
    node = page.locator('[data-node="n"]')
    expect(node).to_have_attribute("data-cause", cause, timeout=45_000)
    expect(node.locator('[data-field="verdict"]')).to_be_visible()
    return node


def online(page: Page) -> None:
    expect(page.locator('[data-node="n"]')).to_have_attribute("data-status", "online")
    expect(page.locator('[data-field="verdict"]')).to_have_count(0)


def test_an_agent_that_is_stopped_says_goodbye(lab: Callable[..., Lab], open_page: Open) -> None:
    site = lab()
    page = open_page(site.url).page
    online(page)
    site.agent.process.terminate()
    node = shows(page, "ended")
    expect(node).to_have_attribute("data-status", "offline")
    node.get_by_role("button", name="Why?").click()
    expect(node.locator('[data-channel="push"]')).to_have_attribute("data-code", "goodbye")
    expect(node.locator('[data-channel="push"] time')).to_contain_text("ago")


def test_an_agent_that_is_killed_has_died(lab: Callable[..., Lab], open_page: Open, tmp_path: Path) -> None:
    port = free_port()
    entry = {"name": "n", "host": HOST, "port": port}
    (tmp_path / "config.json").write_text(json.dumps({"nodes": [entry], "hub": {"poll_interval_seconds": 0.5}}))
    site = lab(agent_port=port)
    page = open_page(site.url).page
    online(page)
    site.agent.process.kill()
    node = shows(page, "killed")
    expect(node).to_have_attribute("data-status", "offline")
    expect(node.locator("[data-gpu]")).to_have_count(2)
    expect(node.locator('[data-field="dated"]')).to_contain_text("ago")


def test_an_agent_on_whose_link_nothing_comes_is_silent(
    lab: Callable[..., Lab], open_page: Open, tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"hub": {"stale_after_seconds": 3, "offline_after_seconds": 6}}))
    site = lab()
    page = open_page(site.url).page
    online(page)
    site.agent.process.send_signal(signal.SIGSTOP)
    try:
        node = shows(page, "silent")
        expect(node).to_have_attribute("data-status", "offline")
    finally:
        site.agent.process.send_signal(signal.SIGCONT)
    online(page)


def test_a_driver_that_hangs_is_told_from_an_agent_that_is_gone(lab: Callable[..., Lab], open_page: Open) -> None:
    site = lab(datacentre(gpus=1))
    page = open_page(site.url).page
    online(page)
    site.scenario.gpus[0].does["nvmlDeviceGetTemperature"] = "hang"
    site.write()
    node = shows(page, "hung")
    expect(node).not_to_have_attribute("data-status", "offline")
    expect(node.locator('[data-field="verdict"]')).to_contain_text(re.compile("driver", re.IGNORECASE))


def test_an_agent_that_tells_of_reports_it_lost_is_told_on_the_page(lab: Callable[..., Lab], open_page: Open) -> None:
    site = lab()
    page = open_page(site.url).page
    address = f"ws://{HOST}:{site.port}/api/push"
    with connect(address, subprotocols=["gpumon.v1"], proxy=None) as agent:  # type: ignore[list-item]
        agent.send(json.dumps(hello(node="m")))
        agent.recv()
        agent.send(json.dumps({"type": "gap", "first": 1, "last": 1500, "count": 1200}))
        agent.send(json.dumps(report(1501, node="m")))
        expect(page.locator('[data-node="m"] [data-field="reports_lost"]')).to_contain_text("1,200")
