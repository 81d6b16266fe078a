"""Who uses what, and the page without a mouse."""

import re

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Open
from tests.browser.fakehub import FakeHub, ago, gpu, node, process

GIB = 2**30


@pytest.fixture
def page(hub: FakeHub, open_page: Open) -> Page:
    alice = gpu(1, utilization_percent=80, memory_used_bytes=30 * GIB, processes=[process(1, "alice", 30)])
    held = gpu(2, utilization_percent=0, memory_used_bytes=20 * GIB, processes=[process(2, "bob", 20)])
    hub.show(
        node("a", gpu(0), alice, held, idle_since={held["uuid"]: ago(1800)}),
        node("b", alice | {"index": 0}),
        node("c", gpu(0)),
    )
    page = open_page(hub.url).page
    expect(page.locator('[data-node="c"]')).to_be_visible()
    return page


def focused(page: Page, name: str) -> None:
    expect(page.locator(f'[data-row="{name}"]')).to_be_focused()


def test_users_are_told_with_what_they_hold_and_lead_to_their_gpus(page: Page) -> None:
    page.locator('[data-tab="users"]').click()
    rows = page.locator("[data-user]")
    expect(rows).to_have_count(2)
    expect(rows.nth(0)).to_have_attribute("data-user", "alice")
    for text in ("60.0 GiB", "80%", "a: 1", "b: 0"):
        expect(rows.nth(0)).to_contain_text(text)
    expect(rows.nth(1).locator('[data-column="idle"]')).to_contain_text("1 for")
    expect(page).to_have_url(re.compile("view=users"))
    rows.nth(1).get_by_role("button").click()
    expect(page.locator("[data-gpu]")).to_have_count(1)
    expect(page).to_have_url(re.compile("user=bob"))


def test_keys_find_step_open_and_close(page: Page) -> None:
    page.keyboard.press("/")
    page.keyboard.type("jkfdt?")
    expect(page.locator("#find")).to_have_value("jkfdt?")
    page.keyboard.press("Escape")
    expect(page.locator("#find")).to_have_value("")
    page.keyboard.press("j")
    focused(page, "a")
    page.keyboard.press("ArrowDown")
    focused(page, "b")
    page.keyboard.press("Enter")
    expect(page.locator('[data-node="b"] .details')).to_be_visible()
    page.keyboard.press("k")
    focused(page, "a")
    page.keyboard.press("Escape")
    expect(page.locator(".details")).to_have_count(0)


def test_keys_change_what_is_shown(page: Page) -> None:
    page.keyboard.press("f")
    expect(page.locator("[data-gpu]")).to_have_count(2)
    page.keyboard.press("Escape")
    expect(page.locator("[data-gpu]")).to_have_count(5)
    page.keyboard.press("d")
    expect(page.locator("table.fleet")).to_be_visible()
    page.keyboard.press("u")
    expect(page.locator("[data-user]")).to_have_count(2)
    page.keyboard.press("u")
    expect(page.locator("[data-user]")).to_have_count(0)
    page.keyboard.press("t")
    expect(page.locator("html")).to_have_attribute("data-theme", "light")


def test_a_key_that_belongs_to_the_browser_is_left_to_it(page: Page) -> None:
    page.keyboard.press("Control+f")
    page.keyboard.press("Alt+d")
    expect(page.locator("article[data-node]")).to_have_count(3)
    expect(page.locator("[data-gpu]")).to_have_count(5)


@pytest.mark.parametrize("way", ["key", "button"])
def test_the_help_tells_the_keys_and_the_words_and_closes_by_key(page: Page, way: str) -> None:
    if way == "key":
        page.keyboard.press("?")
    else:
        page.locator('[data-choice="help"]').click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("Idle-held")
    expect(dialog.locator("kbd").first).to_have_text("/")
    page.keyboard.press("f")
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    expect(page.locator("[data-gpu]")).to_have_count(5)


def test_the_first_tab_offers_the_way_past_all_controls(page: Page) -> None:
    page.keyboard.press("Tab")
    link = page.get_by_role("link", name="Skip")
    expect(link).to_be_focused()
    expect(link).to_be_in_viewport()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    page.wait_for_function("document.querySelector('main').contains(document.activeElement)")


def test_a_sum_of_which_not_all_is_told_says_so_and_one_of_nothing_is_a_dash(hub: FakeHub, open_page: Open) -> None:
    silent = process(2, "alice", 0) | {"memory_used_bytes": None}
    part = gpu(0, memory_used_bytes=30 * GIB, power_draw_watts=500, processes=[process(1, "alice", 30), silent])
    unknown = gpu(1, power_draw_watts=None, processes=[process(3, "bob", 0) | {"memory_used_bytes": None}])
    hub.show(node("a", part, unknown))
    page = open_page(hub.url).page
    power, sign = page.locator('[data-total="power"] dd'), page.get_by_role("img", name="at least: not all tell theirs")
    expect(power).to_have_text("≥ 500 W")
    expect(power.locator(sign)).to_have_count(1)
    page.locator('[data-tab="users"]').click()
    memory = page.locator('[data-user] [data-column="memory"]')
    expect(memory).to_have_text(["≥ 30.0 GiB", "—"])
    hub.show(node("a", unknown))
    expect(power).to_have_text("—")
