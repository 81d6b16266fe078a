"""What was: sparklines beside the numbers, and charts of the node that is open."""

import math
import re
import time
from collections.abc import Callable
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.conftest import Open, becomes, fits
from tests.browser.fakehub import FakeHub, gpu, node, process
from tests.browser.lab import Lab
from tests.fakenvml import datacentre

GIB = 2**30
HOUR = 360
METRICS = (
    "utilization_percent",
    "memory_used_bytes",
    "power_draw_watts",
    "temperature_celsius",
    "sm_clock_megahertz",
)

Values = list[float | None]


def wave(index: int, low: float, high: float) -> Values:
    """An hour of a load that comes and goes."""
    middle, swing = (low + high) / 2, (high - low) / 2
    return [middle + swing * math.sin((at + 40 * index) / 23) * math.cos(at / 7) for at in range(HOUR)]


def hour(index: int, gap: tuple[int, int] = (0, 0)) -> dict[str, Values]:
    """An hour of one GPU, with a gap in it."""
    columns = {
        "utilization_percent": wave(index, 20, 99),
        "memory_used_bytes": wave(index, 60 * GIB, 74 * GIB),
        "power_draw_watts": wave(index, 180, 690),
        "temperature_celsius": wave(index, 48, 81),
        "sm_clock_megahertz": wave(index, 1200, 1980),
    }
    return {
        metric: [None if gap[0] <= at < gap[1] else value for at, value in enumerate(values)]
        for metric, values in columns.items()
    }


def gpus(count: int) -> list[dict[str, object]]:
    return [
        gpu(
            index,
            utilization_percent=40 + 7 * index,
            memory_used_bytes=70 * GIB,
            power_draw_watts=500,
            temperature_celsius=66,
            slowdown_temperature_celsius=87,
            processes=[process(100 + index, "alice", 69.5)],
        )
        for index in range(count)
    ]


def spark(page: Page, name: str, place: int = 0) -> Locator:
    return page.locator(f'[data-node="{name}"] .spark').nth(place)


def area(page: Page, name: str, place: int = 0) -> Locator:
    return spark(page, name, place).locator(".area")


def pieces(count: int) -> re.Pattern[str]:
    """A path of as many pieces, each begun by its ``M``."""
    return re.compile(f"^(M[^M]+){{{count}}}$")


def open_details(page: Page, name: str) -> Locator:
    page.locator(f'[data-node="{name}"]').get_by_role("button", name=re.compile("Details|详情")).click()
    charts = page.locator(f'[data-node="{name}"] [data-field="charts"]')
    expect(charts.locator(".uplot").first).to_be_visible()
    return charts


def test_what_a_real_hub_remembers_stands_in_sparklines_and_charts(lab: Callable[..., Lab], open_page: Open) -> None:
    scenario = datacentre(gpus=2)
    scenario.gpus[0].utilization, scenario.gpus[0].memory_total, scenario.gpus[0].memory_used = 77, 80 * GIB, 40 * GIB
    watched = open_page(lab(scenario).url)
    page = watched.page
    expect(spark(page, "n").locator(".area")).to_have_attribute("d", re.compile("^M"))
    expect(spark(page, "n").locator(".line")).to_have_attribute("d", re.compile("^M"))
    expect(spark(page, "n").locator("title")).to_have_text(
        "Last 15 minutes: utilisation 77% on average, at most 77%, memory 50% on average"
    )
    assert not any("Charts" in url for url in watched.requests)
    charts = open_details(page, "n")
    expect(charts.locator(".uplot")).to_have_count(len(METRICS))
    row = charts.locator('[data-quantity="utilization_percent"] td')
    expect(row).to_have_text(["77%"] * 4)
    expect(charts.locator('[data-chart="memory_used_bytes"] strong')).to_have_text("40.0 GiB")
    charts.locator('[data-span="day"]').click()
    expect(charts.locator('[data-span="day"]')).to_have_attribute("aria-pressed", "true")
    expect(row).to_have_text(["77%"] * 4)
    assert any("Charts" in url for url in watched.requests)


def test_the_past_of_all_that_is_seen_comes_in_one_call_and_its_gaps_are_gaps(hub: FakeHub, open_page: Open) -> None:
    hub.show(*(node(name, *gpus(2)) for name in "abc"))
    hub.past = {name: {"GPU-0": hour(0, gap=(300, 320)), "GPU-1": hour(1)} for name in "abc"}
    watched = open_page(f"{hub.url}/?as=table")
    page = watched.page
    for name in "abc":
        expect(area(page, name)).to_have_attribute("d", re.compile("^M"))
    asked = [urlsplit(url) for url in watched.requests if "/api/history" in url]
    assert [parse_qs(one.query)["node"] for one in asked] == [["a", "b", "c"]]
    page.keyboard.press("d")
    page.keyboard.press("d")
    expect(page.locator('[data-node="a"] .spark')).to_have_count(2)
    expect(area(page, "a")).to_have_attribute("d", pieces(2))
    expect(area(page, "a", place=1)).to_have_attribute("d", pieces(1))
    assert len([url for url in watched.requests if "/api/history" in url]) == 1


def test_a_node_that_falls_silent_leaves_a_gap_and_no_line(hub: FakeHub, open_page: Open) -> None:
    hub.show(node("a", gpu(utilization_percent=50), status="stale"))
    page = open_page(hub.url).page
    expect(spark(page, "a").locator("title")).to_have_text("Nothing is known of the last 15 minutes.")
    expect(area(page, "a")).to_have_attribute("d", "")


def test_the_moments_of_a_chart_are_read_by_keyboard(hub: FakeHub, open_page: Open) -> None:
    hub.show(node("a", *gpus(2)))
    values: Values = [float(at % 90) for at in range(HOUR)]
    hub.past = {"a": {"GPU-0": hour(0) | {"utilization_percent": values}, "GPU-1": hour(1)}}
    page = open_page(hub.url).page
    charts = open_details(page, "a")
    shown = charts.locator('[data-chart="utilization_percent"] strong')
    expect(shown).to_have_text(f"{values[-1]:.0f}%")
    slider = charts.get_by_role("slider")
    slider.focus()
    page.keyboard.press("ArrowLeft")
    expect(shown).to_have_text(f"{values[-2]:.0f}%")
    expect(slider).to_have_attribute("aria-valuetext", re.compile(f"Utilisation {values[-2]:.0f}%, Memory .* GiB"))
    expect(charts.locator('[data-chart="power_draw_watts"]')).to_contain_text(re.compile(r"\d W at \d\d:\d\d"))
    page.keyboard.press("Tab")
    expect(shown).to_have_text(f"{values[-1]:.0f}%")


def test_another_gpu_is_chosen_and_its_figures_follow(hub: FakeHub, open_page: Open) -> None:
    hub.show(node("a", *gpus(2)))
    flat: Values = [20.0] * HOUR
    hub.past = {"a": {"GPU-0": hour(0), "GPU-1": hour(1) | {"utilization_percent": flat}}}
    charts = open_details(open_page(hub.url).page, "a")
    charts.get_by_label("GPU", exact=True).select_option("GPU-1")
    expect(charts.locator('[data-quantity="utilization_percent"] td')).to_have_text(["20%"] * 4)
    expect(charts.get_by_role("table")).to_contain_text("GPU 1 in numbers")


def test_a_gpu_that_tells_little_has_charts_of_that_alone(hub: FakeHub, open_page: Open) -> None:
    sliced = gpu(mig_enabled=True, mig_devices=[], utilization_percent=None, memory_used_bytes=30 * GIB)
    unified = gpu(1, memory_total_bytes=None, memory_used_bytes=9 * GIB, power_limit_watts=None)
    hub.show(node("a", sliced, unified))
    memory: Values = [30.0 * GIB] * HOUR
    hub.past = {"a": {"GPU-0": {"memory_used_bytes": memory}, "GPU-1": {"memory_used_bytes": memory}}}
    page = open_page(hub.url).page
    charts = open_details(page, "a")
    expect(charts.locator("[data-chart]")).to_have_count(1)
    expect(charts.locator('[data-quantity="utilization_percent"] .missing')).to_have_count(4)
    expect(spark(page, "a").locator(".line")).to_have_attribute("d", re.compile("^M"))
    expect(area(page, "a")).to_have_attribute("d", "")
    expect(spark(page, "a", 1).locator(".line")).to_have_attribute("d", "")


WARM = """canvas => {
  const {data} = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  let found = 0;
  for (let at = 0; at < data.length; at += 4) if (data[at + 3] > 0 && data[at] > data[at + 2] + 40) found += 1;
  return found;
}"""


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_bands_show_when_a_gpu_was_slowed_down_and_when_its_driver_reported_errors(
    hub: FakeHub, open_page: Open, keep_picture: Callable[[Page, str], None], theme: str
) -> None:
    hub.show(node("a", *gpus(2)))
    throttled: Values = [100.0 if 100 <= at < 136 else 0.0 for at in range(HOUR)]
    hub.past = {"a": {"GPU-0": hour(0) | {"throttled_percent": throttled}, "GPU-1": hour(1)}}
    xid = {"gpu": "GPU-0", "code": 63, "gravity": "critical", "meaning": "A row was retired.", "at": time.time() - 600}
    hub.xids = {"a": [xid]}
    page = open_page(hub.url, theme=theme).page
    charts = open_details(page, "a")
    canvas = charts.locator('[data-chart="utilization_percent"] canvas')
    becomes(lambda: canvas.evaluate(WARM) > 1000, True)
    expect(charts.locator('[data-band="throttled"]')).to_contain_text("Slowed down for 10% of this time")
    expect(charts.locator('[data-band="xid"]')).to_contain_text("A row was retired.")
    expect(
        charts.locator('.legend [data-ink="throttled"], .legend [data-ink="xid"]').filter(visible=True)
    ).to_have_count(2)
    slider = charts.get_by_role("slider")
    slider.fill("110")
    expect(slider).to_have_attribute("aria-valuetext", re.compile("throttled"))
    keep_picture(page, f"bands-{theme}")
    charts.get_by_label("GPU", exact=True).select_option("GPU-1")
    expect(charts.locator("[data-band]")).to_have_count(0)
    expect(
        charts.locator('.legend [data-ink="throttled"], .legend [data-ink="xid"]').filter(visible=True)
    ).to_have_count(0)
    becomes(lambda: canvas.evaluate(WARM), 0)  # once it is drawn anew


def test_a_node_without_a_past_says_so(hub: FakeHub, open_page: Open) -> None:
    hub.show(node("a", gpu()))
    page = open_page(hub.url).page
    page.get_by_role("button", name="Details").click()
    expect(page.locator('[data-field="charts"]')).to_contain_text("Nothing is known of this time.")


@pytest.mark.parametrize("language", ["en-GB", "zh-CN"])
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1440, 390])
def test_charts_fit_and_are_drawn_in_the_colours_of_the_theme(
    hub: FakeHub, open_page: Open, keep_picture: Callable[[Page, str], None], width: int, theme: str, language: str
) -> None:
    hub.show(node("gpu03", *gpus(4)), node("gpu04", *gpus(2)))
    hub.past = {name: {f"GPU-{one}": hour(one, gap=(200, 240)) for one in range(4)} for name in ("gpu03", "gpu04")}
    page = open_page(hub.url, width=width, theme=theme, language=language).page
    charts = open_details(page, "gpu03")
    expect(charts.locator(".uplot")).to_have_count(len(METRICS))
    fits(page, width)
    keep_picture(page, f"past-{width}-{theme}-{language[:2]}")
