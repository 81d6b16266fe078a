"""Fleets too large for cards, told at a glance: the same page, with details where somebody looks for them."""

import json
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Open, becomes
from tests.browser.lab import Lab
from tests.fakenvml import datacentre

HIDE = """(hidden) => {
  Object.defineProperty(document, "hidden", {value: hidden, configurable: true});
  document.dispatchEvent(new Event("visibilitychange"));
}"""


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A lab in which a dozen more nodes are configured, and never there."""
    absent = [{"name": f"absent-{number}", "host": "127.0.0.1", "port": 9} for number in range(12)]
    folder = tmp_path_factory.mktemp("many")
    (folder / "config.json").write_text(json.dumps({"nodes": absent}))
    site = Lab(folder, datacentre(gpus=2))
    yield site
    site.processes.close()


def line(page: Page) -> Any:
    return page.locator('tbody[data-node="n"]')


def viewers(site: Lab) -> int:
    with urllib.request.urlopen(f"{site.url}/health", timeout=20) as answer:
        return int(json.load(answer)["viewers"])


def told(site: Lab) -> Any:
    with urllib.request.urlopen(f"{site.url}/api/nodes/n", timeout=20) as answer:
        return json.load(answer)


def watched_by(site: Lab, count: int) -> None:
    """Wait until so many streams are open."""
    becomes(lambda: viewers(site), count)


def test_what_is_open_is_told_in_full_and_the_rest_at_a_glance(many: Lab, open_page: Open) -> None:
    watched = open_page(f"{many.url}?as=table")
    page = watched.page
    expect(page.locator("tbody[data-node]")).to_have_count(13)
    many.scenario.gpus[0].utilization = 37
    many.write()
    expect(line(page).locator('[data-column="gpus"]')).to_contain_text("37")
    assert not any("/api/events" in url and "node=" in url for url in watched.requests)
    line(page).get_by_role("button", name="n").first.click()
    expect(line(page).locator('[data-detail="agent_id"]')).to_be_visible()  # no card holds it
    many.scenario.gpus[0].utilization = 38
    many.write()
    expect(line(page).locator('[data-field="utilization_percent"]').first).to_contain_text("38%")
    watched_by(many, 2)
    page.keyboard.press("Escape")
    expect(line(page).locator('[data-detail="agent_id"]')).to_have_count(0)
    watched_by(many, 1)


def test_a_hidden_page_takes_nothing_and_is_current_when_it_is_shown(many: Lab, open_page: Open) -> None:
    page = open_page(f"{many.url}?as=table&node=n").page
    expect(line(page).locator('[data-detail="agent_id"]')).to_be_visible()
    page.evaluate(HIDE, True)
    watched_by(many, 0)
    many.scenario.gpus[0].utilization = 41
    many.write()
    page.evaluate(HIDE, False)
    expect(line(page).locator('[data-field="utilization_percent"]').first).to_contain_text("41%")
    expect(page.locator('[data-link="live"]')).to_be_visible()
    watched_by(many, 2)


def test_a_page_that_was_frozen_is_current_when_it_wakes(many: Lab, open_page: Open) -> None:
    page = open_page(f"{many.url}?as=table&node=n").page
    shown = line(page).locator('[data-field="utilization_percent"]').first
    expect(shown).to_contain_text("%")
    session = page.context.new_cdp_session(page)
    session.send("Page.setWebLifecycleState", {"state": "frozen"})
    many.scenario.gpus[0].utilization = 43
    many.write()
    becomes(lambda: told(many)["report"]["gpus"][0]["utilization_percent"], 43)
    session.send("Page.setWebLifecycleState", {"state": "active"})
    expect(shown).to_contain_text("43%")
    expect(page.locator('[data-link="live"]')).to_be_visible()


def test_a_small_fleet_is_told_in_full_by_one_stream(standing: Lab, open_page: Open) -> None:
    watched = open_page(f"{standing.url}?node=n")
    expect(watched.page.locator('[data-detail="agent_id"]')).to_be_visible()
    watched_by(standing, 1)
