"""Who looks at a closed hub logs in: by the link that it prints, or by what they type; and out again."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from gpumon.hub.auth import TOKEN_FILE
from tests.browser.axe import grave_faults
from tests.browser.conftest import Open, fits
from tests.running import Program, program

HOST = "127.0.0.1"


class Closed:
    """A closed hub with a node, and what opens it."""

    def __init__(self, hub: Program, folder: Path, port: int, link: str) -> None:
        self.hub = hub
        self.folder = folder
        self.url = f"http://{HOST}:{port}/"
        self.link = link
        self.token = link.partition("#token=")[2]


@pytest.fixture
def closed(tmp_path: Path) -> Iterator[Closed]:
    options = (f"--host={HOST}", "--port=0", "--require-login", f"--state-dir={tmp_path}")
    with program("hub", *options, folder=tmp_path) as hub:
        port = hub.port("hub")
        assert hub.process.stdout is not None
        link = f"http://{HOST}:{port}/#{hub.process.stdout.readline().strip().partition('#')[2]}"
        agent = ("agent", f"--host={HOST}", "--port=0", f"--hub=http://{HOST}:{port}", "--simulate=2", "--name=n1")
        with program(*agent, folder=tmp_path):
            yield Closed(hub, tmp_path, port, link)


def shows_gpus(page: Page) -> None:
    expect(page.locator("[data-gpu]")).to_have_count(2)
    expect(page.locator("body")).to_have_attribute("data-link", "live")


def asks(page: Page) -> None:
    expect(page.get_by_role("heading", name="Log in")).to_be_visible()
    expect(page.locator("[data-gpu]")).to_have_count(0)
    expect(page.locator("body")).not_to_contain_text("n1")


def test_the_link_logs_in_and_the_token_is_left_nowhere(closed: Closed, open_page: Open) -> None:
    watched = open_page(closed.link)
    page = watched.page
    shows_gpus(page)
    expect(page).to_have_url(closed.url)
    assert page.evaluate("document.cookie") == ""
    assert page.evaluate("JSON.stringify({...localStorage, ...sessionStorage})").count(closed.token) == 0
    assert [url for url in watched.requests if closed.token in url.partition("#")[0]] == []
    page.reload()
    shows_gpus(page)
    page.goto(f"{closed.url}?as=table&lang=zh")
    expect(page.locator("[data-row]")).to_have_count(1)


def test_who_has_no_link_is_asked_and_goes_on_by_itself(closed: Closed, open_page: Open) -> None:
    page = open_page(closed.url).page
    asks(page)
    field = page.get_by_label("Token, or the link that has it")
    expect(field).to_be_focused()
    field.fill("not-the-token")
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("alert")).to_have_text("This is not the token of this hub.")
    asks(page)
    field.fill(f"  {closed.token}\n")
    field.press("Enter")
    shows_gpus(page)


def test_the_whole_link_may_be_typed_as_well(closed: Closed, open_page: Open) -> None:
    page = open_page(closed.url).page
    page.get_by_label("Token, or the link that has it").fill(closed.link)
    page.get_by_role("button", name="Log in").click()
    shows_gpus(page)


def test_a_wrong_link_asks_again(closed: Closed, open_page: Open) -> None:
    page = open_page(f"{closed.url}#token=wrong").page
    asks(page)
    expect(page).to_have_url(closed.url)


def test_after_five_failures_the_page_says_to_wait(closed: Closed, open_page: Open) -> None:
    page = open_page(closed.url).page
    field = page.get_by_label("Token, or the link that has it")
    for _ in range(5):
        field.fill("wrong")
        with page.expect_response("**/api/login"):
            field.press("Enter")
        expect(page.get_by_role("button", name="Log in")).to_be_enabled()
    field.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("Too many logins have failed")


def test_logging_out_ends_it_for_every_tab(closed: Closed, open_page: Open) -> None:
    page = open_page(closed.link).page
    shows_gpus(page)
    other = page.context.new_page()
    other.goto(closed.url)
    shows_gpus(other)
    page.get_by_role("button", name="Log out").click()
    asks(page)
    asks(other)
    page.reload()
    asks(page)


def test_another_token_shuts_the_page_that_is_open(closed: Closed, open_page: Open) -> None:
    page = open_page(closed.link).page
    shows_gpus(page)
    (closed.folder / TOKEN_FILE).unlink()
    os.kill(closed.hub.process.pid, signal.SIGHUP)
    asks(page)


def test_in_an_open_hub_one_may_log_in_and_out(tmp_path: Path, open_page: Open) -> None:
    with program("hub", f"--host={HOST}", "--port=0", f"--state-dir={tmp_path}", folder=tmp_path) as hub:
        page = open_page(f"http://{HOST}:{hub.port('hub')}/").page
        page.get_by_role("button", name="Log in").click()
        page.get_by_role("button", name="Cancel").click()
        page.get_by_role("button", name="Log in").click()
        page.get_by_label("Token, or the link that has it").fill((tmp_path / TOKEN_FILE).read_text())
        page.get_by_role("button", name="Log in").click()
        page.get_by_role("button", name="Log out").click()
        expect(page.get_by_role("button", name="Log in")).to_be_visible()


@pytest.mark.parametrize("language", ["en-GB", "zh-CN"])
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1440, 390])
def test_the_login_is_for_everyone(
    closed: Closed,
    open_page: Open,
    keep_picture: Callable[[Page, str], None],
    width: int,
    theme: str,
    language: str,
) -> None:
    page = open_page(closed.url, width=width, theme=theme, language=language).page
    expect(page.get_by_role("heading", name="登录" if language == "zh-CN" else "Log in")).to_be_visible()
    page.locator("input[name=token]").fill("wrong")
    page.locator("input[name=token]").press("Enter")
    expect(page.get_by_role("alert")).not_to_be_empty()
    fits(page, width)
    assert grave_faults(page) == []
    keep_picture(page, f"login-{width}-{theme}-{language}")
