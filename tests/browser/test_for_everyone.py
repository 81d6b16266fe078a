"""The page for everyone: axe-core over every view, large letters, forced colours, reduced motion, and on paper."""

import re
import time
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from tests.browser.axe import grave_faults
from tests.browser.conftest import Open, fits, unseen
from tests.browser.fakehub import FakeHub, ago, evidence, fault, gpu, node, process
from tests.browser.test_facts import HOST
from tests.browser.test_past import GIB, HOUR, METRICS, gpus, hour

EVERY = pytest.mark.parametrize(
    ("width", "theme", "language"),
    [(width, theme, language) for width in (1440, 390) for theme in ("light", "dark") for language in ("en", "zh")],
)


def show_everything(hub: FakeHub) -> None:
    """A fleet in which everything that the page can show is there once."""
    broken = gpu(0, status="lost", error=fault("gpu_lost", "GPU 0 has fallen off the bus.", "Reset it."))
    hot = gpu(1, temperature_celsius=86, slowdown_temperature_celsius=90, throttle_reasons=["hw_thermal_slowdown"])
    silent = gpu(2, utilization_percent=None, memory_used_bytes=None, temperature_celsius=None, processes=None)
    instance = {"index": 0, "profile": "1g.10gb", "memory_used_bytes": 4 * GIB, "memory_total_bytes": 10 * GIB}
    instances = [instance | {"processes": [process(8, "bob", 4)]}, instance | {"index": 1}]
    sliced = gpu(3, mig_enabled=True, mig_devices=instances, memory_used_bytes=9 * GIB, recovery_action="gpu_reset")
    ledger = {"processes_bytes": 0, "reserved_bytes": None, "unaccounted_bytes": GIB, "cause": "The display."}
    xid = {"code": 63, "meaning": "A row was retired.", "gravity": "critical", "count": 2, "last_at": ago(900)}
    shared = gpu(2, memory_kind="unified", memory_ledger=ledger, xids=[xid], fan_speed_percent=40)
    asleep = gpu(0, asleep=True, utilization_percent=None)
    doubted = gpu(1, suspect=["utilization_percent"], memory_used_bytes=GIB, processes=[process(1, "bob", 1)])
    signs = [evidence("push", "lost", "The link broke.", 40), evidence("poll", "refused", "Nobody listens.", 3)]
    verdict = fault("agent_died", "Its agent was killed or has crashed.", "Start it again.")
    hub.show(
        node("gpu01", *gpus(4)),
        node("gpu02", broken, hot, silent, sliced, alias="机器学习服务器", flapping=True, reports_lost=7),
        node("gpu03", asleep, doubted, shared, clock_offset_seconds=90.0, tags=["room 204", "cold"]),
        node("gpu04", *gpus(2), status="offline", seen=300, verdict=verdict, evidence=signs),
        node("gpu05", *gpus(2), status="stale", seen=30),
        node("gpu06", status="pending", report=None, last_seen_at=None, error=fault("refused", "Nobody listens.")),
        notices=[fault("mass_silence", "Half of the nodes fell silent at once.", "Look at the hub's network.")],
    )
    hub.nodes[0]["report"]["simulated"] = True
    hub.nodes[0]["report"]["host"] = HOST
    hub.nodes[0]["report"]["advice"] = [fault("long_uptime", "Up for 61 days.", "Reboot it.")]
    hub.past = {"gpu01": {f"GPU-{one}": hour(one, gap=(330, 340)) for one in range(4)}}
    hub.past["gpu01"]["GPU-0"]["throttled_percent"] = [100.0 if at < 40 else 0.0 for at in range(HOUR)]
    hub.xids = {"gpu01": [{"gpu": "GPU-0", "code": 63, "gravity": "critical", "meaning": "m", "at": time.time() - 99}]}


@EVERY
def test_axe_finds_nothing_serious_in_any_view(
    hub: FakeHub, open_page: Open, width: int, theme: str, language: str
) -> None:
    show_everything(hub)
    page = open_page(hub.url, width=width, theme=theme, language=language).page
    expect(page.locator("[data-node]")).to_have_count(6)
    found: dict[str, list[str]] = {"cards": grave_faults(page)}
    page.locator('[data-node="gpu01"] .more').click()
    expect(page.locator(".uplot")).to_have_count(len(METRICS))
    found["charts"] = grave_faults(page)
    page.locator('[data-node="gpu04"] .more').click()
    expect(page.locator('[data-field="evidence"]')).to_be_visible()
    page.locator("footer summary").click()
    found["evidence and legend"] = grave_faults(page)
    page.keyboard.press("Escape")
    page.keyboard.press("d")
    expect(page.locator("table.fleet")).to_be_visible()
    found["table"] = grave_faults(page)
    page.locator('tbody[data-node="gpu01"] .name').click()
    expect(page.locator(".opened .uplot").first).to_be_visible()
    found["an open line of the table"] = grave_faults(page)
    page.keyboard.press("Escape")
    page.keyboard.press("d")
    expect(page.locator(".map")).to_be_visible()
    found["map"] = grave_faults(page)
    page.keyboard.press("u")
    expect(page.locator(".users")).to_be_visible()
    found["users"] = grave_faults(page)
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_be_visible()
    found["help"] = grave_faults(page)
    assert {view: faults for view, faults in found.items() if faults} == {}


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing_serious_where_there_is_nothing_to_show(hub: FakeHub, open_page: Open, theme: str) -> None:
    page = open_page(hub.url, theme=theme).page
    expect(page.locator(".empty")).to_be_visible()
    assert grave_faults(page) == []
    show_everything(hub)
    expect(page.locator("[data-node]")).to_have_count(6)
    page.locator("#find").fill("nowhere to be found")
    expect(page.locator(".loading")).to_be_visible()
    assert grave_faults(page) == []


@pytest.mark.parametrize("view", ["", "?as=table", "?as=map", "?view=users", "?node=gpu01"])
def test_a_zoom_of_200_percent_pushes_nothing_out_of_the_window(hub: FakeHub, open_page: Open, view: str) -> None:
    """At a zoom of 200 % a window of 1440 pixels is one of 720."""
    show_everything(hub)
    page = open_page(f"{hub.url}/{view}", width=720).page
    expect(page.get_by_role("main")).to_contain_text(re.compile("alice|gpu04"))
    fits(page, 720)


def test_in_forced_colours_bars_tiles_and_sparklines_are_still_seen(
    hub: FakeHub, open_page: Open, keep_picture: Callable[[Page, str], None]
) -> None:
    show_everything(hub)
    page = open_page(f"{hub.url}/?node=gpu01").page
    page.emulate_media(forced_colors="active")
    expect(page.locator(".uplot")).to_have_count(len(METRICS))
    ground = page.locator('[data-node="gpu01"]').evaluate("one => getComputedStyle(one).backgroundColor")
    for part, ink in ((".bar > span", "background-color"), (".spark .area", "fill"), (".spark .line", "stroke")):
        drawn = page.locator(f'[data-node="gpu01"] {part}').first
        for nothing in (ground, "none", "rgba(0, 0, 0, 0)"):
            expect(drawn).not_to_have_css(ink, nothing)
    keep_picture(page, "forced-colours")
    page.goto(f"{hub.url}/?as=map")
    page.emulate_media(forced_colors="active")
    expect(page.locator(".tile").first).to_be_visible()
    keep_picture(page, "forced-colours-map")


def test_who_wants_no_motion_gets_none(hub: FakeHub, open_page: Open) -> None:
    show_everything(hub)
    page = open_page(hub.url).page  # every page of these tests asks for reduced motion
    expect(page.locator("[data-node]")).to_have_count(6)
    moving = page.evaluate(
        "[...document.querySelectorAll('*')].filter(one => { const style = getComputedStyle(one);"
        " return parseFloat(style.transitionDuration) > 0 || style.animationName !== 'none' }).map(one => one.tagName)"
    )
    assert moving == []


@pytest.mark.parametrize("view", ["", "?as=table&node=gpu01", "?as=map", "?view=users"])
def test_on_paper_there_are_numbers_in_black_and_no_controls(
    hub: FakeHub, open_page: Open, keep_picture: Callable[[Page, str], None], view: str
) -> None:
    show_everything(hub)
    page = open_page(f"{hub.url}/{view}", theme="dark").page
    expect(page.get_by_role("main")).to_contain_text(re.compile("alice|gpu01"))
    page.emulate_media(media="print")
    unseen(
        page,
        ".toolbar",
        "main button:not(.name, .block)",
        "input",
        "select",
        ".skip",
        "footer button",
        "footer summary",
    )
    expect(page.locator("html")).to_have_css("background-color", "rgb(255, 255, 255)")
    expect(page.locator("h1")).to_have_css("color", "rgb(27, 31, 36)")
    expect(page.get_by_role("main")).to_contain_text(re.compile("alice|gpu01"))
    keep_picture(page, f"print-{re.sub('[^a-z0-9]+', '-', view).strip('-') or 'cards'}")


def test_what_is_printed_is_dated(hub: FakeHub, open_page: Open) -> None:
    show_everything(hub)
    page = open_page(hub.url).page
    expect(page.locator("[data-node]")).to_have_count(6)
    age = page.locator('[data-field="data_age"]')
    expect(age).to_have_attribute("title", re.compile(r"20\d\d, \d\d:\d\d:\d\d"))
    expect(age).to_have_css("content", "none", pseudo="after")
    page.emulate_media(media="print")
    expect(age).not_to_have_css("content", "none", pseudo="after")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_what_is_old_is_still_readable(hub: FakeHub, open_page: Open, theme: str) -> None:
    show_everything(hub)
    page = open_page(hub.url, theme=theme).page
    expect(page.locator("[data-node]")).to_have_count(6)
    page.route("**/*", lambda route: route.abort())
    hub.end()
    expect(page.locator('[data-link="lost"]')).to_be_visible()
    assert grave_faults(page) == []


def test_axe_sees_what_is_wrong_with_a_page(hub: FakeHub, open_page: Open) -> None:
    show_everything(hub)
    page = open_page(hub.url).page
    expect(page.locator("[data-node]")).to_have_count(6)
    page.evaluate("document.querySelector('.facts li').style.color = '#ddd'")
    page.evaluate("document.querySelector('[data-choice=help]').removeAttribute('aria-label')")
    page.evaluate("document.querySelector('[data-choice=help]').textContent = ''")
    assert {one.partition(":")[0] for one in grave_faults(page)} == {"button-name", "color-contrast"}
