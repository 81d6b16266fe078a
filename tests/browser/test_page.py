"""The page in a real browser, before a real hub, with real agents over the fake driver."""

import json
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect
from websockets.sync.client import connect

from tests.browser.conftest import Open, fits, stand
from tests.browser.lab import HOST, Lab
from tests.fakenvml import Process, datacentre, environment, lost_gpu, no_driver
from tests.hub.agents import hello, report
from tests.running import program

IMPATIENT = {"hub": {"stale_after_seconds": 3, "offline_after_seconds": 6}}


def value(page: Page, field: str, gpu: int = 0) -> Any:
    return page.locator("[data-gpu]").nth(gpu).locator(f'[data-field="{field}"]').first


def test_a_value_changed_in_the_driver_is_on_the_page_without_a_reload(standing: Lab, open_page: Open) -> None:
    site = standing
    page = open_page(site.url).page
    expect(page.locator('[data-link="live"]')).to_be_visible()
    expect(page.locator('[data-node="n"]')).to_have_attribute("data-status", "online")
    for utilization in (13, 77, 42):
        site.scenario.gpus[1].utilization = utilization
        site.write()
        expect(value(page, "utilization_percent", gpu=1)).to_contain_text(f"{utilization}%")


def test_every_gpu_shows_utilisation_memory_temperature_power_and_its_processes_by_memory(
    standing: Lab, open_page: Open
) -> None:
    scenario = datacentre(gpus=2)
    gpu = scenario.gpus[0]
    gpu.utilization, gpu.temperature, gpu.power_draw = 88, 61, 512_000
    gpu.memory_total, gpu.memory_used = 80 * 2**30, 40 * 2**30
    gpu.processes = [Process(3_999_991, 2**30), Process(3_999_992, None), Process(3_999_993, 30 * 2**30)]
    standing.becomes(scenario)
    page = open_page(standing.url).page
    expect(value(page, "utilization_percent")).to_contain_text("88%")
    expect(value(page, "memory_used_bytes")).to_contain_text(re.compile(r"40(\.0)? / 80(\.0)? GiB"))
    expect(value(page, "temperature_celsius")).to_contain_text("61")
    expect(value(page, "power_draw_watts")).to_contain_text("512")
    pids = page.locator("[data-gpu]").first.locator("[data-pid]")
    stand(pids, "data-pid", "3999993", "3999991", "3999992")
    expect(page.locator('[data-node="n"] [data-field="last_seen_at"]')).not_to_be_empty()


def test_what_the_hardware_does_not_tell_is_a_dash_with_its_reason(standing: Lab, open_page: Open) -> None:
    scenario = datacentre(gpus=2)
    scenario.gpus[0].temperature = None
    standing.becomes(scenario)
    cell = value(open_page(standing.url).page, "temperature_celsius")
    expect(cell).to_contain_text("—")
    expect(cell.locator(".missing")).to_have_attribute("aria-label", re.compile("does not tell it"))
    expect(cell).not_to_contain_text("0 °C")


@pytest.mark.parametrize(("theme", "green"), [("light", "rgb(21, 128, 61)"), ("dark", "rgb(74, 222, 128)")])
def test_the_address_is_bold_and_green(standing: Lab, open_page: Open, theme: str, green: str) -> None:
    page = open_page(standing.url, theme=theme).page
    address = page.locator('[data-node="n"] [data-field="address"]')
    expect(address).to_have_text(HOST)
    expect(address).to_have_css("color", green)
    expect(address).to_have_css("font-weight", re.compile("^[7-9]00$"))


def test_nodes_stand_in_the_order_of_the_configuration_with_alias_and_reason(
    lab: Callable[..., Lab], open_page: Open, tmp_path: Path
) -> None:
    nodes = [{"name": "z", "host": HOST, "port": 9, "alias": "最后一台"}, {"name": "n", "host": HOST, "port": 9}]
    (tmp_path / "config.json").write_text(json.dumps({"nodes": nodes}))
    page = open_page(lab().url).page
    expect(page.locator('[data-node="n"]')).to_have_attribute("data-status", "online")
    stand(page.locator("[data-node]"), "data-node", "z", "n")
    first = page.locator('[data-node="z"]')
    expect(first).to_contain_text("最后一台")
    expect(first).to_contain_text("nobody listens")


def test_a_node_without_a_driver_says_why_and_what_to_do(lab: Callable[..., Lab], open_page: Open) -> None:
    site = lab(no_driver())
    node = open_page(site.url).page.locator('[data-node="n"]')
    expect(node).to_contain_text(re.compile("driver", re.IGNORECASE))
    site.becomes(datacentre(gpus=1))
    expect(node.locator("[data-gpu]")).to_have_count(1)


def test_a_lost_gpu_stands_among_healthy_ones(lab: Callable[..., Lab], open_page: Open) -> None:
    page = open_page(lab(lost_gpu()).url).page
    expect(page.locator('[data-gpu][data-state="fault"]')).to_have_count(1)
    expect(page.locator("[data-gpu]").nth(1)).to_be_visible()


def test_the_page_says_that_it_has_lost_the_hub_and_comes_back(lab: Callable[..., Lab], open_page: Open) -> None:
    site = lab()
    page = open_page(site.url).page
    expect(page.locator('[data-link="live"]')).to_be_visible()
    expect(page.locator("[data-gpu]")).to_have_count(2)
    site.hub.process.kill()
    expect(page.locator('[data-link="lost"]')).to_be_visible()
    expect(page.get_by_role("alert").or_(page.get_by_role("status")).first).to_be_visible()
    expect(page.locator("[data-gpu]")).to_have_count(2)
    site.start_hub()
    expect(page.locator('[data-link="live"]')).to_be_visible()


def test_a_hub_that_hangs_is_noticed_too(lab: Callable[..., Lab], open_page: Open) -> None:
    site = lab()
    page = open_page(site.url).page
    expect(page.locator('[data-link="live"]')).to_be_visible()
    site.hub.process.send_signal(signal.SIGSTOP)
    try:
        expect(page.locator('[data-link="lost"]')).to_be_visible()
    finally:
        site.hub.process.send_signal(signal.SIGCONT)
    expect(page.locator('[data-link="live"]')).to_be_visible()


def test_where_events_are_not_let_through_a_websocket_tells_the_same(lab: Callable[..., Lab], open_page: Open) -> None:
    site = lab()
    watched = open_page("about:blank")
    watched.page.route("**/api/events?*", lambda route: route.abort())
    watched.page.goto(site.url)
    expect(watched.page.locator('[data-link="live"]')).to_be_visible()
    site.scenario.gpus[0].utilization = 29
    site.write()
    expect(value(watched.page, "utilization_percent")).to_contain_text("29%")
    site.hub.process.kill()
    expect(watched.page.locator('[data-link="lost"]')).to_be_visible()
    site.start_hub()
    expect(watched.page.locator('[data-link="live"]')).to_be_visible()


def test_where_no_stream_is_let_through_the_page_polls(standing: Lab, open_page: Open) -> None:
    site = standing
    watched = open_page("about:blank")
    watched.page.route("**/api/events?*", lambda route: route.abort())
    watched.page.route_web_socket("**/api/stream?*", lambda socket: socket.close())
    watched.page.goto(site.url)
    expect(watched.page.locator('[data-link="polling"]')).to_be_visible()
    site.scenario.gpus[0].utilization = 31
    site.write()
    expect(value(watched.page, "utilization_percent")).to_contain_text("31%")


def test_a_silent_node_keeps_its_numbers_and_its_date(lab: Callable[..., Lab], open_page: Open, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(IMPATIENT))
    site = lab()
    page = open_page(site.url).page
    expect(page.locator("[data-gpu]")).to_have_count(2)
    site.agent.process.kill()
    expect(page.locator('[data-node="n"]')).to_have_attribute("data-status", "stale")
    expect(page.locator('[data-node="n"]')).to_have_attribute("data-status", "offline")
    expect(page.locator("[data-gpu]")).to_have_count(2)
    expect(page.locator('[data-node="n"]')).to_contain_text("ago")


def test_what_sleeps_what_is_doubted_and_what_is_advised(lab: Callable[..., Lab], open_page: Open) -> None:
    site = lab(datacentre(gpus=1))
    page = open_page(site.url).page
    with connect(f"ws://{HOST}:{site.port}/api/push", subprotocols=["gpumon.v1"], proxy=None) as agent:  # type: ignore[list-item]
        agent.send(json.dumps(hello(node="laptop")))
        agent.recv()
        asleep = {"index": 0, "name": "Sleeper", "uuid": "GPU-s", "asleep": True}
        doubted = {"index": 1, "name": "Doubted", "uuid": "GPU-d", "utilization_percent": 0}
        doubted |= {"suspect": ["utilization_percent"], "memory_used_bytes": 0, "processes": []}
        advice = {"code": "long_uptime", "message": "Up for 61 days.", "hint": "<b>Reboot</b> it."}
        agent.send(json.dumps(report(1, node="laptop", gpus=[asleep, doubted], advice=[advice])))
        node = page.locator('[data-node="laptop"]')
        sleeper, other = node.locator('[data-gpu="GPU-s"]'), node.locator('[data-gpu="GPU-d"]')
        expect(sleeper).to_have_attribute("data-state", "free")
        expect(sleeper.locator('[data-field="status"]')).to_have_text("asleep")
        expect(sleeper.locator('[data-field="utilization_percent"] .missing')).to_have_attribute(
            "aria-label", re.compile("would wake it")
        )
        expect(other.locator('[data-field="utilization_percent"]')).to_have_text(re.compile(r"^0\s?% \?$"))
        expect(other.locator(".doubt")).to_have_attribute("aria-label", re.compile("no measurement"))
        expect(node.locator('[data-field="advice"]')).to_have_text("Up for 61 days. <b>Reboot</b> it.")
        expect(node.locator(".fault")).to_have_count(0)


def test_nothing_is_loaded_from_elsewhere(standing: Lab, open_page: Open) -> None:
    site = standing
    watched = open_page(site.url)
    expect(watched.page.locator("[data-gpu]")).to_have_count(2)
    assert watched.requests
    assert all(url.startswith((site.url, "data:")) for url in watched.requests)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The demo, as a newcomer sees it: this machine has no driver, three nodes are simulated."""
    nothing = environment(tmp_path_factory.mktemp("demo") / "none", library=False)
    with program("demo", f"--host={HOST}", "--port=0", environment=nothing) as running:
        yield f"http://{HOST}:{running.port('hub')}"


@pytest.mark.parametrize("language", ["en-GB", "zh-CN"])
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1440, 390])
def test_the_demo_fits_and_says_what_is_simulated(
    demo: str, open_page: Open, keep_picture: Callable[[Page, str], None], width: int, theme: str, language: str
) -> None:
    page = open_page(demo, width=width, theme=theme, language=language).page
    expect(page.locator('[data-node^="simulated-"] [data-field="simulated"]')).to_have_count(3)
    expect(page.locator('[data-node][data-status="online"]')).to_have_count(4)
    expect(page.locator("[data-gpu]")).to_have_count(14)
    fits(page, width)
    expect(page.locator("html")).to_have_attribute("lang", re.compile(f"^{language[:2]}"))
    keep_picture(page, f"demo-{width}-{theme}-{language[:2]}")


def test_the_empty_page_tells_how_to_begin(tmp_path: Path, open_page: Open) -> None:
    with program("hub", f"--host={HOST}", "--port=0", folder=tmp_path) as hub:
        port = hub.port("hub")
        page = open_page(f"http://{HOST}:{port}").page
        expect(page.get_by_text(f"gpumon agent --hub http://{HOST}:{port}")).to_be_visible()
