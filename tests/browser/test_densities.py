"""Three ways to show a fleet, by its size or by the viewer's choice."""

import re

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Open, fits
from tests.browser.fakehub import FakeHub, Json, evidence, fault, gpu, node, process

GIB = 2**30


def fleet(nodes: int, gpus: int = 4) -> list[Json]:
    return [node(f"n{number:03}", *(gpu(index) for index in range(gpus))) for number in range(nodes)]


def density(page: Page, expected: str) -> None:
    places = {"cards": "article[data-node]", "table": "table.fleet tbody[data-node]", "map": "[data-block]"}
    for name, selector in places.items():
        if name == expected:
            expect(page.locator(selector).first).to_be_visible()
        else:
            expect(page.locator(selector)).to_have_count(0)


@pytest.mark.parametrize(("nodes", "expected"), [(12, "cards"), (13, "table"), (101, "map")])
def test_a_fleet_chooses_its_density_by_its_size(hub: FakeHub, open_page: Open, nodes: int, expected: str) -> None:
    hub.show(*fleet(nodes))
    density(open_page(hub.url).page, expected)


def test_the_viewers_own_density_is_remembered_and_in_the_address(hub: FakeHub, open_page: Open) -> None:
    hub.show(*fleet(2))
    page = open_page(hub.url).page
    density(page, "cards")
    page.locator('[data-choice="density"]').select_option("map")
    density(page, "map")
    expect(page).to_have_url(re.compile("as=map"))
    density(open_page(page.url).page, "map")
    page.goto(hub.url)
    density(page, "map")
    page.locator('[data-choice="density"]').select_option("")
    density(page, "cards")
    page.goto(hub.url)
    density(page, "cards")


def test_a_line_of_the_table_says_who_uses_it_and_opens_into_everything(hub: FakeHub, open_page: Open) -> None:
    used = gpu(1, utilization_percent=97, memory_used_bytes=40 * GIB, processes=[process(4711, "alice", 40)])
    hub.show(node("a", gpu(0), used), *fleet(13))
    page = open_page(hub.url).page
    line = page.locator('tbody[data-node="a"]')
    expect(line).to_contain_text("alice ×1")
    sign, state = (line.locator(f".state{part}").bounding_box() for part in (" .shape", ""))
    assert sign is not None
    assert state is not None
    assert state["height"] < 2 * sign["height"], "sign and word of the state stand on one line"
    expect(line.locator("[data-tile]")).to_have_count(2)
    expect(line.locator('[data-tile="busy"]')).to_contain_text("97")
    line.get_by_role("button", name="a", exact=True).press("Enter")
    expect(line.locator("[data-pid='4711']")).to_be_visible()
    expect(page).to_have_url(re.compile("node=a"))
    line.get_by_role("button", name="a", exact=True).press("Enter")
    expect(line.locator("[data-pid]")).to_have_count(0)


def test_a_line_of_a_node_that_is_not_well_says_why(hub: FakeHub, open_page: Open) -> None:
    silent = fault("host_unreachable", "Its machine does not answer.", "Check its power.")
    hub.show(node("a", gpu(0), seen=99, status="offline", verdict=silent), *fleet(13))
    line = open_page(hub.url).page.locator('tbody[data-node="a"]')
    expect(line).to_contain_text("host silent")
    expect(line).to_contain_text("Its machine does not answer.")


def test_the_map_lists_what_is_worth_a_look_worst_first_and_opens_it(hub: FakeHub, open_page: Open) -> None:
    silent = fault("host_unreachable", "Its machine does not answer.", "Check its power.")
    piece = evidence("push", "silent", "Nothing was heard.", 99)
    hot = gpu(2, temperature_celsius=91, slowdown_temperature_celsius=92)
    hub.show(
        node("hot", gpu(0), hot),
        node("lost", gpu(0, status="lost", error=fault("lost", "It fell off the bus."))),
        *fleet(101),
        node("silent", gpu(0), seen=99, status="offline", verdict=silent, evidence=[piece]),
    )
    page = open_page(hub.url).page
    items = page.locator("[data-exception]")
    expect(items).to_have_count(3)
    expect(items.nth(0)).to_contain_text("Its machine does not answer.")
    expect(items.nth(1)).to_contain_text("It fell off the bus.")
    expect(items.nth(2)).to_contain_text("hot GPU 2")
    items.nth(0).get_by_role("button").click()
    opened = page.locator('article[data-node="silent"]')
    expect(opened).to_contain_text("Nothing was heard.")
    expect(page.locator('[data-block="silent"] button')).to_have_attribute("aria-expanded", "true")


def test_a_block_of_the_map_tells_its_tiles_in_words(hub: FakeHub, open_page: Open) -> None:
    used = gpu(1, memory_used_bytes=40 * GIB, processes=[process(1, "alice", 40)])
    hub.show(node("a", gpu(0), used, gpu(2)), *fleet(101))
    page = open_page(hub.url).page
    expect(page.get_by_role("button", name="a: online, 2 free, 1 busy")).to_be_visible()
    hub.update(node("a", gpu(0), used, gpu(2), status="offline"))
    expect(page.get_by_role("button", name="a: offline, 3 unknown")).to_be_visible()


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1440, 390])
@pytest.mark.parametrize("nodes", [40, 200])
def test_a_large_fleet_fits_the_page(hub: FakeHub, open_page: Open, nodes: int, width: int, theme: str) -> None:
    hub.show(*fleet(nodes, gpus=16))
    page = open_page(hub.url, width=width, theme=theme, language="zh-CN").page
    density(page, "table" if nodes == 40 else "map")
    fits(page, width)
