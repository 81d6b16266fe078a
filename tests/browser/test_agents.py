"""Who is logged in sees which agents wait and which have joined, and lets them in and out."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from gpumon.handshake import JoinToken
from tests.browser.axe import grave_faults
from tests.browser.conftest import Open, fits
from tests.running import Program, program

HOST = "127.0.0.1"
NAME = "<b>gpu 机器"


class Lab:
    """A hub at which one agent has joined and another, whose token is wrong, waits."""

    def __init__(self, url: str, token: str, code: str, waits: Program) -> None:
        self.url = url
        self.waits = waits
        self.link = f"{url}#token={token}"
        self.code = code


@pytest.fixture
def lab_that_waits(tmp_path: Path) -> Iterator[Lab]:
    with program("hub", f"--host={HOST}", "--port=0", f"--state-dir={tmp_path}", folder=tmp_path) as hub:
        url = f"http://{HOST}:{hub.port('hub')}"
        right = JoinToken.parse((tmp_path / "join-token").read_text())
        agent = ("agent", f"--host={HOST}", "--port=0", f"--hub={url}", "--simulate=1")
        wrong = JoinToken.new(right.hub)
        with program(*agent, "--name=joined", environment={"GPUMON_JOIN_TOKEN": right.text()}) as first:
            first.wait_for("this agent has joined")
            with program(*agent, f"--name={NAME}", environment={"GPUMON_JOIN_TOKEN": wrong.text()}) as second:
                code = second.wait_for("gpumon agents admit (\\S+?);")[1]
                yield Lab(f"{url}/", (tmp_path / "viewers.token").read_text().strip(), code, second)


def waiting(page: Page) -> Locator:
    return page.get_by_role("region", name="Agents that wait to be admitted")


def test_who_is_not_logged_in_sees_how_many_wait_and_nothing_of_them(lab_that_waits: Lab, open_page: Open) -> None:
    watched = open_page(lab_that_waits.url)
    page = watched.page
    expect(page.locator('[data-notice="agents_waiting"]')).to_contain_text("1 agent waits to be admitted.")
    expect(page.get_by_role("button", name="Log in")).to_be_visible()
    expect(waiting(page)).to_have_count(0)
    expect(page.locator("body")).not_to_contain_text(NAME)
    assert not [url for url in watched.requests if "/api/agents" in url]


def test_an_agent_is_admitted_by_the_page(lab_that_waits: Lab, open_page: Open) -> None:
    lab_that_waits.waits.process.kill()  # so that it does not come back as soon as it may
    page = open_page(lab_that_waits.link).page
    shown = waiting(page).get_by_role("listitem")
    expect(shown).to_contain_text(NAME)
    expect(shown).to_contain_text(HOST)
    expect(shown.locator("code")).to_have_text(lab_that_waits.code)
    shown.get_by_role("button", name=f"Admit {NAME}").click()
    expect(waiting(page)).to_have_count(0)
    expect(page.locator('[data-notice="agents_waiting"]')).to_have_count(0)
    page.get_by_text("Agents that have joined (2)").click()
    row = page.locator(f'[data-joined="{lab_that_waits.code}"]')
    expect(row).to_contain_text("admitted, not yet back")


def test_an_agent_is_turned_away_by_the_page(lab_that_waits: Lab, open_page: Open) -> None:
    page = open_page(lab_that_waits.link).page
    waiting(page).get_by_role("button", name=f"Refuse {NAME}").click()
    expect(waiting(page)).to_have_count(0)
    expect(page.get_by_text("Agents that have joined (1)")).to_be_visible()


def test_an_agent_is_revoked_by_a_second_press_and_admitted_again(lab_that_waits: Lab, open_page: Open) -> None:
    page = open_page(lab_that_waits.link).page
    node = page.locator('[data-node="joined"]')
    expect(node.locator('[data-field="status"]').first).to_have_text("online")
    page.get_by_text("Agents that have joined (1)").click()
    page.get_by_role("button", name="Revoke joined").click()
    page.get_by_role("button", name="Really revoke joined?").click()
    row = page.locator('[data-field="joined"]').get_by_role("listitem")
    expect(row).to_contain_text("revoked")
    expect(node.locator('[data-field="verdict"]')).to_contain_text("an admin has revoked it")
    page.get_by_role("button", name="Admit joined").click()
    expect(row).not_to_contain_text("revoked")


def test_who_logs_out_sees_nothing_of_it_any_longer(lab_that_waits: Lab, open_page: Open) -> None:
    page = open_page(lab_that_waits.link).page
    expect(waiting(page)).to_be_visible()
    page.get_by_role("button", name="Log out").click()
    expect(waiting(page)).to_have_count(0)
    expect(page.locator('[data-field="joined"]')).to_have_count(0)


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1440, 390])
def test_everybody_can_use_it(
    width: int, theme: str, lab_that_waits: Lab, open_page: Open, keep_picture: Callable[[Page, str], None]
) -> None:
    page = open_page(lab_that_waits.link, width=width, theme=theme).page
    expect(waiting(page)).to_be_visible()
    page.locator('[data-field="joined"] summary').click()
    expect(page.get_by_role("button", name="Revoke joined")).to_be_visible()
    assert grave_faults(page) == []
    fits(page, width)
    keep_picture(page, f"agents-{width}-{theme}")
