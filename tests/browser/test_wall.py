"""The page on a wall: nothing to press, large letters, new by itself; and names that guests need not read."""

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Open, becomes, fits, stop_clock, unseen
from tests.browser.fakehub import FakeHub, node
from tests.browser.test_for_everyone import show_everything
from tests.browser.test_past import gpus, hour


@pytest.mark.parametrize("view", ["as=cards", "as=table", "as=map"])
def test_a_wall_has_large_letters_and_nothing_to_press(
    hub: FakeHub, open_page: Open, keep_picture: Callable[[Page, str], None], view: str
) -> None:
    show_everything(hub)
    page = open_page(f"{hub.url}/?kiosk=1&{view}", width=1920, theme="dark").page
    expect(page.get_by_role("main")).to_contain_text("gpu04")
    unseen(page, ".toolbar", ".more", ".copy", "footer button", "footer summary", "input", "select")
    page.wait_for_function("parseFloat(getComputedStyle(document.documentElement).fontSize) >= 20")
    fits(page, 1920)
    keep_picture(page, f"wall-{view.removeprefix('as=')}")


def test_a_wall_loads_the_page_anew_when_the_hub_has_another_version(hub: FakeHub, open_page: Open) -> None:
    hub.show(node("a", *gpus(1)))
    wall, desk = open_page(f"{hub.url}/?kiosk=1"), open_page(hub.url)
    for one in (wall, desk):
        expect(one.page.locator('[data-node="a"]')).to_be_visible()
        one.page.evaluate("document.body.dataset.before = '1'")
    hub.version = "0.2.0"
    hub.show(node("b", *gpus(1)))
    for one in (wall, desk):
        expect(one.page.locator('[data-node="b"]')).to_be_visible()
    expect(wall.page.locator("body[data-before]")).to_have_count(0)
    expect(desk.page.locator("body[data-before]")).to_have_count(1)
    assert sum(url.endswith("?kiosk=1") for url in wall.requests) == 2


@pytest.mark.parametrize("view", ["as=cards", "as=table", "view=users"])
def test_the_names_of_users_are_blurred_by_a_key_and_the_address_says_so(
    hub: FakeHub, open_page: Open, view: str
) -> None:
    hub.show(node("a", *gpus(2)))
    hub.past = {"a": {"GPU-0": hour(0)}}
    page = open_page(f"{hub.url}/?{view}").page
    name = page.get_by_role("main").get_by_text("alice").first
    blurred = "one => { while (one && getComputedStyle(one).filter === 'none') one = one.parentElement; return !!one }"
    becomes(lambda: name.evaluate(blurred), False)
    page.keyboard.press("b")
    expect(page).to_have_url(re.compile("blur=1"))
    becomes(lambda: name.evaluate(blurred), True)
    page.reload()
    becomes(lambda: name.evaluate(blurred), True)
    page.locator('[data-choice="blur"]').click()
    expect(page).not_to_have_url(re.compile("blur=1"))
    becomes(lambda: name.evaluate(blurred), False)


def test_what_does_not_fit_a_wall_passes_by_and_then_the_users_do(hub: FakeHub, open_page: Open) -> None:
    hub.show(*(node(f"n{number:02}", *gpus(2)) for number in range(40)))
    watched = open_page("about:blank", width=1920)
    page = watched.page
    page.clock.install()
    page.goto(f"{hub.url}/?kiosk=1&as=table")
    last = page.locator('[data-node="n39"]')
    expect(last).to_be_attached()
    stop_clock(page)
    for _ in range(10):
        expect(page.locator("header")).to_be_in_viewport()
        if page.evaluate("scrollY + innerHeight >= document.documentElement.scrollHeight - 1"):
            break
        before = page.evaluate("scrollY")
        page.clock.run_for(15_000)
        page.wait_for_function("before => scrollY > before", arg=before)
    expect(last).to_be_in_viewport()
    page.clock.run_for(15_000)
    expect(page.locator('[data-user="alice"]')).to_be_in_viewport()
    page.clock.run_for(15_000)
    expect(page.locator('[data-node="n00"]')).to_be_in_viewport()
