"""What the page makes of what a hub keeps from strangers, and that logging in shows it."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from gpumon.hub.auth import TOKEN_FILE
from tests.browser.axe import grave_faults
from tests.browser.conftest import Open
from tests.running import program

HOST = "127.0.0.1"
REASON = "not available: this hub tells it to those only who have logged in"


@contextmanager
def hub(folder: Path, privacy: str) -> Iterator[tuple[str, str]]:
    """A hub with a node of two GPUs; its address, and its token."""
    (folder / "config.json").write_text(json.dumps({"auth": {"privacy": privacy}}))
    with program("hub", f"--host={HOST}", "--port=0", f"--state-dir={folder}", folder=folder) as running:
        port = running.port("hub")
        agent = ("agent", f"--host={HOST}", "--port=0", f"--hub=http://{HOST}:{port}", "--simulate=2", "--name=n1")
        with program(*agent, folder=folder):
            yield f"http://{HOST}:{port}/", (folder / TOKEN_FILE).read_text().strip()


def log_in(page: Page, token: str) -> None:
    page.get_by_role("button", name="Log in").click()
    page.get_by_label("Token, or the link that has it").fill(token)
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("button", name="Log out")).to_be_visible()


@pytest.mark.parametrize("view", ["as=cards", "as=table"])
def test_users_are_a_dash_with_its_reason_until_one_logs_in(
    tmp_path: Path, open_page: Open, keep_picture: Callable[[Page, str], None], view: str
) -> None:
    with hub(tmp_path, "names") as (url, token):
        page = open_page(f"{url}?{view}").page
        main = page.get_by_role("main")
        if view == "as=table":
            page.locator("[data-row]").click()
        expect(main.locator("[data-field=user]").first.get_by_role("img", name=REASON)).to_be_visible()
        expect(main.locator("[data-field=command]").first).to_contain_text("python")
        expect(main).not_to_contain_text("sim-")
        assert grave_faults(page) == []
        keep_picture(page, f"private-{view}")
        log_in(page, token)
        expect(main.locator("[data-field=user]").first).to_contain_text("sim-")
        expect(main.get_by_role("img", name=REASON)).to_have_count(0)
        page.get_by_role("button", name="Log out").click()
        expect(main.locator("[data-field=user]").first.get_by_role("img", name=REASON)).to_be_visible()


def test_of_processes_nothing_but_that_they_are_there(
    tmp_path: Path, open_page: Open, keep_picture: Callable[[Page, str], None]
) -> None:
    with hub(tmp_path, "nothing") as (url, token):
        page = open_page(f"{url}?as=cards").page
        shown = page.locator("[data-gpu]").first
        expect(shown.get_by_role("img", name=REASON)).to_be_visible()
        expect(page.get_by_role("main").locator("[data-pid]")).to_have_count(0)
        expect(page.locator("[data-gpu]")).to_have_count(2)
        expect(page.locator('[data-gpu][data-state="unknown"]')).to_have_count(0)  # it is told which are free
        keep_picture(page, "private-nothing")
        log_in(page, token)
        expect(page.get_by_role("main").locator("[data-pid]").first).to_be_visible()


def test_the_view_of_users_says_why_it_is_empty(tmp_path: Path, open_page: Open) -> None:
    with hub(tmp_path, "names") as (url, token):
        page = open_page(f"{url}?view=users").page
        expect(page.get_by_role("main")).to_contain_text("told to those only who have logged in")
        log_in(page, token)
        expect(page.locator("table.users [data-user]").first).to_contain_text("sim-")
