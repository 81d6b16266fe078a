"""The page with scripts off: a plain table, in a real browser."""

from collections.abc import Callable
from typing import Literal

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from tests.browser.conftest import becomes
from tests.browser.lab import Lab
from tests.fakenvml import Process, datacentre


def has_reported(context: BrowserContext, url: str, utilization: int) -> None:
    """Wait until that is reported: the plain page is as it was when it was asked for."""

    def is_there() -> bool:
        return any(
            node["report"] and node["report"]["gpus"][0]["utilization_percent"] == utilization
            for node in context.request.get(f"{url}/api/nodes").json()
        )

    becomes(is_there, True)


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1440, 390])
def test_with_scripts_off_there_is_a_plain_table_of_nodes_and_gpus(
    standing: Lab,
    browser: Browser,
    keep_picture: Callable[[Page, str], None],
    width: int,
    theme: Literal["light", "dark"],
) -> None:
    scenario = datacentre(gpus=2)
    scenario.gpus[0].utilization = 88
    scenario.gpus[0].processes = [Process(3_999_991, 2**30)]
    site = standing
    site.becomes(scenario)
    context = browser.new_context(
        viewport={"width": width, "height": 900}, java_script_enabled=False, color_scheme=theme, locale="zh-CN"
    )
    try:
        page = context.new_page()
        has_reported(context, site.url, 88)
        page.goto(site.url)
        page.wait_for_url("**/?format=html")
        expect(page.get_by_role("table")).to_contain_text("H100")
        rows = page.get_by_role("row")
        expect(rows).to_have_count(3)
        expect(rows.nth(1)).to_contain_text("88%")
        expect(rows.nth(0)).to_contain_text("利用率")
        right = page.locator("td.right").first
        expect(right).to_have_css("text-align", "right")  # the style sheet is let through
        keep_picture(page, f"plain-{width}-{theme}")
        page.get_by_role("link", name="纯文本").click()
        expect(page.locator("pre")).to_contain_text("88%")
    finally:
        context.close()


def test_scripts_make_it_the_page(standing: Lab, browser: Browser) -> None:
    page = browser.new_page()
    try:
        page.goto(f"{standing.url}/?format=html")
        page.get_by_role("link", name="The page").click()
        expect(page.locator('[data-link="live"]')).to_be_visible()
    finally:
        page.close()
