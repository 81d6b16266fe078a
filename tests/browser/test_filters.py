"""Looking for GPUs, and taking what was found to a terminal."""

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Open, becomes, stand, stop_clock
from tests.browser.fakehub import FakeHub, gpu, node, process

GIB = 2**30


@pytest.fixture
def page(hub: FakeHub, open_page: Open) -> Page:
    def busy(index: int, user: str, gib: float) -> dict[str, object]:
        return gpu(index, memory_used_bytes=int(gib * GIB), processes=[process(4000 + index, user, gib)])

    hub.show(
        node("big", gpu(0), gpu(1), busy(2, "alice", 70), busy(3, "bob", 10), host="big.lab"),
        node("small", gpu(0, name="NVIDIA A100"), host="small.lab", tags=["room 204", "teaching"]),
        node("gone", gpu(0), seen=60, status="offline"),
    )
    return open_page(hub.url).page


def shown(page: Page, *expected: str) -> None:
    stand(page.locator("[data-node]"), "data-node", *expected)


def test_what_is_typed_narrows_the_page_and_stands_in_the_address(page: Page, open_page: Open) -> None:
    page.locator("#find").fill("bob")
    shown(page, "big")
    expect(page.locator("[data-gpu]")).to_have_count(1)
    expect(page).to_have_url(re.compile("find=bob"))
    expect(page.locator('[data-field="found"]')).to_have_text("1 GPU on 1 of 3 nodes")
    elsewhere = open_page(page.url).page
    expect(elsewhere.locator("#find")).to_have_value("bob")
    expect(elsewhere.locator("[data-gpu]")).to_have_count(1)
    page.locator('[data-filter="none"]').click()
    shown(page, "big", "small", "gone")
    expect(page).to_have_url(re.compile(r"/$"))


@pytest.mark.parametrize(
    ("choose", "nodes", "gpus"),
    [
        (lambda page: page.locator('[data-filter="free"]').click(), ["big", "small"], 3),
        (lambda page: page.locator('[data-filter="memory"]').select_option("70"), ["big", "small"], 4),
        (lambda page: page.locator('[data-filter="gpus"]').select_option("2"), ["big"], 4),
        (lambda page: page.locator('[data-filter="model"]').select_option("A100"), ["small"], 1),
        (lambda page: page.locator('[data-filter="user"]').select_option("alice"), ["big"], 1),
        (lambda page: page.locator('[data-filter="tag"]').select_option("teaching"), ["small"], 1),
    ],
)
def test_each_filter_leaves_what_it_asks_for(
    page: Page, choose: Callable[[Page], None], nodes: list[str], gpus: int
) -> None:
    shown(page, "big", "small", "gone")
    choose(page)
    shown(page, *nodes)
    expect(page.locator("[data-gpu]")).to_have_count(gpus)


def test_tags_stand_beside_the_name_and_in_the_address(page: Page, open_page: Open) -> None:
    for density in ("cards", "table"):
        page.locator('[data-choice="density"]').select_option(density)
        expect(page.locator('[data-node="small"] [data-field="tag"]')).to_have_text(["room 204", "teaching"])
    page.locator('[data-filter="tag"]').select_option("room 204")
    expect(page).to_have_url(re.compile(r"tag=room\+204"))
    shown(open_page(page.url).page, "small")


def test_a_filter_that_nothing_fits_says_so(page: Page) -> None:
    page.locator("#find").fill("nobody has this name")
    expect(page.locator("main")).to_contain_text("No GPU fits")


def test_free_gpus_are_offered_with_lines_for_a_terminal(page: Page) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    offer = page.locator('[data-offer="big"]')
    expect(offer).to_contain_text("2 × H100")
    expect(page.locator('[data-offer="gone"]')).to_have_count(0)
    page.clock.install()
    stop_clock(page)  # for "copied" stands there for a moment
    for name, line in (("CUDA_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES=0,1"), ("ssh", "ssh big.lab")):
        offer.get_by_role("button", name=name).click()
        expect(offer.get_by_role("button", name=name)).to_have_text("copied")
        becomes(lambda: page.evaluate("navigator.clipboard.readText()"), line)


def test_lines_are_copied_also_where_the_clipboard_is_closed_to_pages(page: Page) -> None:
    expect(page.locator('[data-offer="big"]')).to_be_visible()
    page.clock.install()
    stop_clock(page)
    page.evaluate("Object.defineProperty(navigator, 'clipboard', {value: undefined})")
    page.locator('[data-offer="big"]').get_by_role("button", name="ssh").click()
    expect(page.locator('[data-offer="big"]')).to_contain_text("copied")
    page.locator("#find").focus()
    page.keyboard.press("Control+V")
    expect(page.locator("#find")).to_have_value("ssh big.lab")


def test_offers_stay_where_they_are_while_someone_points_at_them(page: Page, hub: FakeHub) -> None:
    stand(page.locator("[data-offer]"), "data-offer", "big", "small")
    page.locator('[data-offer="small"]').hover()
    hub.update(node("small", *(gpu(index) for index in range(4))))
    expect(page.locator('[data-offer="small"]')).to_contain_text("4 ×")
    stand(page.locator("[data-offer]"), "data-offer", "big", "small")
    page.mouse.move(0, 800)
    hub.update(node("small", *(gpu(index) for index in range(5))))
    expect(page.locator("[data-offer]").first).to_contain_text("5 ×")
