"""A real Chromium, and pages of it that report whatever goes wrong in them."""

import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import pytest
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

from tests.browser.fakehub import FakeHub, fake_hub
from tests.browser.lab import Lab
from tests.fakenvml import Scenario, datacentre

ARTIFACTS = Path(__file__).parents[1] / "artifacts"
CANDIDATES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
QUIET = (
    "--no-sandbox",  # as root, Chromium starts only so
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)
LEFT_OUT = "GPUMON_TESTS_WITHOUT_BROWSER"
PATIENCE_MILLISECONDS = 30_000

expect.set_options(timeout=PATIENCE_MILLISECONDS)


def _executable() -> str:
    if os.environ.get(LEFT_OUT):
        pytest.skip(f"{LEFT_OUT} is set: the page was not tested in a browser")
    given = os.environ.get("GPUMON_CHROMIUM")
    found = given or next((path for name in CANDIDATES if (path := shutil.which(name))), None)
    if found is None:
        pytest.fail(
            f"no Chromium found: install one, name it in GPUMON_CHROMIUM, or set {LEFT_OUT}=1 to leave these out"
        )
    return found


def fits(page: Page, width: int) -> None:
    """The page is no wider than its window of ``width`` pixels: its charts learn of a new width after the others."""
    page.wait_for_function("width => document.documentElement.scrollWidth <= width", arg=width)


def stand(items: Locator, attribute: str, *expected: str) -> None:
    """These are all the items, in this order."""
    expect(items).to_have_count(len(expected))
    for place, value in enumerate(expected):
        expect(items.nth(place)).to_have_attribute(attribute, value)


def becomes(read: Callable[[], object], expected: object) -> None:
    """Wait until ``read`` gives what is expected."""
    deadline = time.monotonic() + PATIENCE_MILLISECONDS / 1000
    while (found := read()) != expected:
        assert time.monotonic() < deadline, f"{found!r}, not {expected!r}"
        time.sleep(0.05)


def stop_clock(page: Page) -> None:
    """From now on no time passes on the page, whose clock is installed, but by ``page.clock.run_for``."""
    page.clock.pause_at(page.evaluate("Date.now()") / 1000 + 1)


def unseen(page: Page, *selectors: str) -> None:
    """Nothing of these is visible."""
    for selector in selectors:
        expect(page.locator(selector).filter(visible=True)).to_have_count(0)


@pytest.fixture(scope="package")  # its event loop may not outlive the package: other tests have their own
def browser() -> Iterator[Browser]:
    executable = _executable()
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=executable, args=list(QUIET))
        yield running
        running.close()


class Watched:
    """A page, what it asked for, and what went wrong in it."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.requests: list[str] = []
        self.wrongs: list[str] = []
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("pageerror", lambda error: self.wrongs.append(str(error)))
        page.on("dialog", self._dialog)
        page.on("console", lambda message: self.wrongs.append(message.text) if self._is_wrong(message.text) else None)

    def _dialog(self, dialog: object) -> None:
        self.wrongs.append(f"a dialog: {dialog}")

    @staticmethod
    def _is_wrong(text: str) -> bool:
        return "Content Security Policy" in text or "Uncaught" in text


Open = Callable[..., Watched]


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Open]:
    """Open an address in a window of its own; every page must have had no error at the end."""
    opened: list[Watched] = []

    def open_one(url: str, width: int = 1440, theme: str = "light", language: str = "en-GB") -> Watched:
        scheme: Literal["dark", "light"] = "dark" if theme == "dark" else "light"
        context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, locale=language, reduced_motion="reduce"
        )
        context.set_default_timeout(PATIENCE_MILLISECONDS)
        watched = Watched(context.new_page())
        opened.append(watched)
        watched.page.goto(url)
        return watched

    yield open_one
    for watched in opened:
        watched.page.context.close()
        assert watched.wrongs == []


@pytest.fixture
def keep_picture() -> Callable[[Page, str], None]:
    """Keep a picture of a page among the artifacts, to be looked at."""

    def keep(page: Page, name: str) -> None:
        ARTIFACTS.mkdir(exist_ok=True)
        page.screenshot(path=ARTIFACTS / f"{name}.png", full_page=True)

    return keep


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    """A hub that says what the test tells it to."""
    with fake_hub() as running:
        yield running


@pytest.fixture(scope="module")
def _standing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    site = Lab(tmp_path_factory.mktemp("lab"), datacentre(gpus=2))
    yield site
    site.processes.close()


@pytest.fixture
def standing(_standing: Lab) -> Lab:
    """A lab for tests that change nothing but numbers of its two GPUs: to start one takes longer than they do."""
    _standing.becomes(datacentre(gpus=2))
    return _standing


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Callable[..., Lab]]:
    labs: list[Lab] = []

    def make(scenario: Scenario | None = None, *extra: str, agent_port: int = 0) -> Lab:
        labs.append(Lab(tmp_path, scenario or datacentre(gpus=2), *extra, agent_port=agent_port))
        return labs[-1]

    yield make
    for one in labs:
        one.processes.close()
