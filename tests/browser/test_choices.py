"""What a viewer chooses: kept by the browser, or carried by the address."""

from playwright.sync_api import Page, expect

from tests.browser.conftest import Open
from tests.browser.fakehub import FakeHub, gpu, node

DARK_PAGE = "rgb(15, 18, 22)"
LIGHT_PAGE = "rgb(255, 255, 255)"


def background(page: Page, color: str) -> None:
    expect(page.locator("html")).to_have_css("background-color", color)


def test_the_theme_is_switched_by_hand_and_remembered(hub: FakeHub, open_page: Open) -> None:
    hub.show(node("a", gpu()))
    page = open_page(hub.url, theme="light").page
    background(page, LIGHT_PAGE)
    button = page.locator('[data-choice="theme"]')
    button.click()
    button.click()
    background(page, DARK_PAGE)
    page.reload()
    expect(page.locator('[data-node="a"]')).to_be_visible()
    background(page, DARK_PAGE)


def test_the_language_is_switched_without_a_reload_and_remembered(hub: FakeHub, open_page: Open) -> None:
    hub.show(node("a", gpu()))
    watched = open_page(hub.url)
    expect(watched.page.locator('[data-node="a"]')).to_contain_text("free")
    expect(watched.page.locator("html")).to_have_attribute("lang", "en")
    watched.page.locator('[data-choice="language"]').click()
    expect(watched.page.locator('[data-node="a"]')).to_contain_text("空闲")
    assert watched.requests.count(f"{hub.url}/") == 1
    watched.page.reload()
    expect(watched.page.locator('[data-node="a"]')).to_contain_text("空闲")
    expect(watched.page.locator("html")).to_have_attribute("lang", "zh-Hans")


def test_the_address_carries_the_open_node_and_the_way_back_closes_it(hub: FakeHub, open_page: Open) -> None:
    hub.show(node("a", gpu()), node("b/ü", gpu()))
    page = open_page(hub.url).page
    page.locator('[data-node="b/ü"]').get_by_role("button", name="Details").click()
    expect(page.locator('[data-node="b/ü"] .details')).to_be_visible()
    elsewhere = open_page(page.url).page
    expect(elsewhere.locator('[data-node="b/ü"] .details')).to_be_visible()
    page.go_back()
    expect(page.locator(".details")).to_have_count(0)
