"""What the page shows of nodes that are not well, and of a hub that has something to say."""

import re
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.conftest import Open
from tests.browser.fakehub import FakeHub, ago, evidence, fault, gpu, node

REFUSED = evidence("poll", "refused", "No connection to 10.0.0.13 port 8081: connection refused.", 3)
DEATHS: dict[str, dict[str, Any]] = {
    "goodbye": {"status": "offline", "verdict": fault("agent_stopped", "Its agent stopped.", "Start it again.")},
    "killed": {"status": "offline", "verdict": fault("agent_died", "Its agent was killed.", "See its log.")},
    "silent": {"status": "offline", "verdict": fault("host_unreachable", "The host is silent.", "Check its power.")},
    "hung": {"status": "stale", "verdict": fault("no_new_reports", "The driver hangs.", "See dmesg.")},
}

Picture = Callable[[Page, str], None]


def card(page: Page, name: str) -> Locator:
    return page.locator(f'[data-node="{name}"]')


def open_details(page: Page, name: str) -> Locator:
    card(page, name).get_by_role("button", expanded=False).click()
    return card(page, name)


def test_four_deaths_are_told_apart_by_word_and_by_shape(hub: FakeHub, open_page: Open) -> None:
    hub.show(*(node(name, gpu(), seen=30, **values) for name, values in DEATHS.items()))
    page = open_page(hub.url).page
    words, shapes = set(), set()
    for name in DEATHS:
        state = card(page, name).locator('[data-field="status"]').first
        expect(state).to_be_visible()
        words.add(state.inner_text())
        shapes.add(state.locator("svg").inner_html())
    assert len(words) == len(shapes) == len(DEATHS)


def test_a_node_that_is_not_well_leads_with_its_verdict_and_what_to_do(hub: FakeHub, open_page: Open) -> None:
    hub.show(node("a", gpu(), seen=30, error=REFUSED | {"hint": None}, **DEATHS["silent"]))
    shown = card(open_page(hub.url).page, "a")
    expect(shown.locator('[data-field="verdict"]')).to_contain_text("The host is silent.")
    expect(shown.locator('[data-field="verdict"]')).to_contain_text("Check its power.")
    expect(shown).not_to_contain_text("connection refused")


def test_the_evidence_opens_by_key_and_its_ages_tick(hub: FakeHub, open_page: Open) -> None:
    lost = evidence("push", "lost", "The link was reset.", 12)
    hub.show(node("a", gpu(), seen=12, evidence=[lost, REFUSED], **DEATHS["killed"]))
    page = open_page(hub.url).page
    card(page, "a").get_by_role("button", expanded=False).focus()
    page.keyboard.press("Enter")
    pieces = card(page, "a").locator('[data-field="evidence"] li')
    expect(pieces).to_have_count(2)
    expect(pieces.first).to_contain_text("The link was reset.")
    before = pieces.first.locator("time").inner_text()
    assert "ago" in before
    expect(pieces.first.locator("time")).not_to_have_text(before)
    page.keyboard.press("Enter")
    expect(pieces).to_have_count(0)


def test_an_offline_node_keeps_its_numbers_dated_by_its_last_report(hub: FakeHub, open_page: Open) -> None:
    hub.show(node("a", gpu(utilization_percent=77), seen=300, **DEATHS["killed"]))
    shown = card(open_page(hub.url).page, "a")
    expect(shown.locator('[data-field="utilization_percent"]')).to_contain_text("77%")
    expect(shown.locator('[data-field="dated"]')).to_contain_text("5 min")


def test_the_numbers_of_a_hung_driver_are_dated_though_its_agent_speaks(hub: FakeHub, open_page: Open) -> None:
    hub.show(node("a", gpu(), **DEATHS["hung"], seen=120) | {"last_seen_at": ago(0)})
    expect(card(open_page(hub.url).page, "a").locator('[data-field="dated"]')).to_contain_text("2 min")


def test_a_verdict_is_translated_by_its_code_and_an_unknown_one_is_shown_as_it_is(
    hub: FakeHub, open_page: Open
) -> None:
    unknown = fault("struck_by_lightning", "It was struck by lightning.")
    hub.show(node("a", **DEATHS["goodbye"]), node("b", status="offline", verdict=unknown))
    page = open_page(hub.url, language="zh-CN").page
    expect(card(page, "a").locator('[data-field="verdict"]')).to_contain_text("代理已主动停止")
    expect(card(page, "b").locator('[data-field="verdict"]')).to_contain_text("It was struck by lightning.")


def test_flapping_and_lost_reports_are_told(hub: FakeHub, open_page: Open) -> None:
    hub.show(node("a", gpu(), flapping=True, reports_lost=1234), node("b", gpu()))
    page = open_page(hub.url).page
    expect(card(page, "a").locator('[data-field="flapping"]')).to_be_visible()
    expect(card(page, "a").locator('[data-field="reports_lost"]')).to_contain_text("1,234")
    expect(card(page, "b").locator('[data-field="flapping"], [data-field="reports_lost"]')).to_have_count(0)


def test_a_node_that_is_asked_through_another_program_says_so_and_why_a_value_is_missing(
    hub: FakeHub, open_page: Open
) -> None:
    missing = gpu(temperature_celsius=None, processes=None)
    missing["unavailable"] = {"temperature_celsius": "not_told", "processes": "not_told"}
    hub.show(
        node("a", missing, kind="dcgm-exporter", source="poll"),
        node("b", gpu(), kind="dcgm-exporter", source="push"),  # an agent speaks for it by now
        node("c", gpu(), source="poll"),
    )
    page = open_page(hub.url).page
    expect(card(page, "a").locator('[data-field="kind"]')).to_have_text("via dcgm-exporter")
    expect(card(page, "a").locator(".missing").first).to_have_attribute("aria-label", re.compile("does not tell it"))
    details = open_details(page, "a").locator('[data-detail="source"]')
    expect(details).to_have_text("The hub asks dcgm-exporter on this node, and shows what that tells.")
    for name in ("b", "c"):
        expect(card(page, name).locator('[data-field="source"]')).to_be_visible()
        expect(card(page, name).locator('[data-field="kind"]')).to_have_count(0)


def test_the_details_tell_who_resolved_the_name_when_and_for_how_long(hub: FakeHub, open_page: Open) -> None:
    resolution = {
        "host": "gpu01.local",
        "addresses": ["10.0.0.11", "fd00::11"],
        "server": "127.0.0.1:5353",
        "answered_at": ago(42),
        "ttl_seconds": 120,
        "is_kept": True,
    }
    hub.show(node("a", gpu(), resolution=resolution, reports_late=7, agent_id="3f2a9c"))
    shown = open_details(open_page(hub.url).page, "a").locator(".details")
    for text in ("gpu01.local", "10.0.0.11", "fd00::11", "127.0.0.1:5353", "2 min", "last good", "7 reports", "3f2a9c"):
        expect(shown).to_contain_text(text)


@pytest.mark.parametrize("language", ["en-GB", "zh-CN"])
def test_notices_of_the_hub_stand_above_the_nodes_with_mass_silence_foremost(
    hub: FakeHub, open_page: Open, language: str
) -> None:
    silence = fault("mass_silence", "4 of 6 nodes fell silent at once.", "Check the hub's network.")
    hub.show(node("a", gpu()), notices=[fault("other", "Something else."), silence])
    page = open_page(hub.url, language=language).page
    notices = page.locator("[data-notice]")
    expect(notices).to_have_count(2)
    expect(notices.first).to_have_attribute("data-notice", "mass_silence")
    expect(page.get_by_role("status")).to_contain_text("大批节点" if language == "zh-CN" else "4 of 6 nodes")
    hub.update(node("a", gpu()), notices=[])
    expect(notices).to_have_count(0)


def test_a_screen_reader_hears_of_a_node_that_dies_and_of_nothing_that_ticks(hub: FakeHub, open_page: Open) -> None:
    hub.show(node("a", gpu()), node("b", gpu()))
    page = open_page(hub.url).page
    expect(card(page, "a")).to_be_visible()
    spoken = page.get_by_role("status")
    expect(spoken).to_be_empty()
    hub.update(node("a", gpu(utilization_percent=50)))
    expect(card(page, "a").locator('[data-field="utilization_percent"]')).to_contain_text("50%")
    expect(spoken).to_be_empty()
    hub.update(node("b", gpu(), **DEATHS["silent"]))
    expect(spoken).to_have_text("b: offline")


def test_a_node_that_is_removed_leaves_the_page(hub: FakeHub, open_page: Open) -> None:
    hub.show(node("a", gpu()), node("b", gpu()))
    page = open_page(hub.url).page
    expect(card(page, "b")).to_be_visible()
    hub.remove("a")
    expect(card(page, "a")).to_have_count(0)
    expect(card(page, "b")).to_be_visible()


def test_the_age_of_the_data_is_on_the_page_and_grows_when_the_hub_is_lost(hub: FakeHub, open_page: Open) -> None:
    hub.show(node("a", gpu()))
    watched = open_page(hub.url)
    age = watched.page.locator('[data-field="data_age"]')
    expect(age).to_contain_text("just now")
    watched.page.route("**/*", lambda route: route.abort())
    hub.end()
    expect(watched.page.locator('[data-link="lost"]')).to_be_visible()
    expect(age).to_contain_text("ago")


def test_a_hub_that_tells_no_verdicts_and_no_notices_is_understood(hub: FakeHub, open_page: Open) -> None:
    newer = ("agent_id", "flapping", "verdict", "evidence", "resolution", "reports_late", "reports_lost")
    older = {key: value for key, value in node("a", gpu(), status="offline").items() if key not in newer}
    hub.show(older | {"error": fault("no_answer", "No answer within 5 s.")})
    page = open_page(hub.url).page
    expect(card(page, "a")).to_contain_text("No answer within 5 s.")
    expect(open_details(page, "a").locator(".details")).to_contain_text("offline")


@pytest.mark.parametrize(
    ("language", "total", "most", "none"),
    [
        ("en-GB", "Refused by the hub since it started: 1,215.", "what was not HTTP", "has refused nothing"),
        ("zh-CN", "中心启动以来共拒绝 1,215 次：", "不是 HTTP 请求", "没有拒绝过"),
    ],
)
@pytest.mark.parametrize("width", [1440, 390])
def test_what_was_refused_is_a_number_with_words(
    hub: FakeHub, open_page: Open, keep_picture: Picture, language: str, total: str, most: str, none: str, width: int
) -> None:
    hub.show(node("a", gpu()))
    hub.refused = {"slow_reader": 14, "bad_request": 1200, "constructor": 1}
    page = open_page(hub.url, width=width, language=language).page
    refused = page.locator('[data-field="refused"]')
    expect(refused).to_have_count(0)
    page.locator("footer summary").click()
    expect(refused).to_contain_text(total)
    expect(refused.locator("li")).to_have_count(3)
    expect(refused.locator("li").first).to_contain_text(f"1,200 × {most}")
    expect(refused.locator("li").last).to_contain_text("1 × constructor")  # what this page does not know
    keep_picture(page, f"refused-{width}-{language[:2]}")
    hub.refused = {}
    page.locator("footer summary").click()
    page.locator("footer summary").click()
    expect(refused).to_contain_text(none)
