"""Whatever strangers say, the page shows as text: two hundred hostile strings, everywhere where a string is told."""

import contextlib
import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Page, expect
from websockets.sync.client import ClientConnection, connect

from gpumon.text import printable
from tests.browser.conftest import Open, Watched, fits
from tests.browser.hostile import MARK, strings
from tests.browser.lab import HOST
from tests.hub.agents import hello, report
from tests.running import program

GIB = 2**30
HOSTILE = list(strings())
PER_NODE = 8
REPORTS = """
globalThis.violations = [];
document.addEventListener('securitypolicyviolation', (one) => violations.push(one.violatedDirective + one.blockedURI));
"""
ELEMENTS = (
    "script, img, iframe, object, embed, link, meta, base, style, form:not(.filters), video, audio, math,"
    " frameset, template, marquee, plaintext, b, svg[onload], svg animate, [onerror], [onload], a[href^='javascript']"
)


def test_there_are_two_hundred_and_no_two_alike() -> None:
    assert len(HOSTILE) >= 200
    assert len(set(HOSTILE)) == len(HOSTILE)


def name_of(number: int, text: str) -> str:
    """A hostile name, as far as the rule of names lets it through."""
    harmless = "".join(sign for sign in text.replace("/", "∕") if sign.isprintable())
    return f"{number:02d} {harmless[:200].strip()}"


def alias_of(number: int, text: str) -> str:
    return f"{number:02d} {''.join(sign for sign in text if sign.isprintable())[:200].strip()}"


def tags_of(texts: list[str]) -> list[str]:
    """Hostile tags, as far as the rule of tags lets them through."""
    cut = ["".join(sign for sign in text if sign.isprintable() and sign != ",")[:40].strip() for text in texts]
    return [text for text in cut if text]


def groups() -> list[list[str]]:
    return [HOSTILE[at : at + PER_NODE] for at in range(0, len(HOSTILE), PER_NODE)]


def gpus(texts: list[str]) -> list[dict[str, Any]]:
    """A GPU for each text, which stands in all that an agent may tell of it."""
    return [
        {
            "index": index,
            "name": text,
            "uuid": f"{index}{text}",
            "pci_bus_id": text,
            "memory_used_bytes": GIB,
            "memory_total_bytes": 8 * GIB,
            "utilization_percent": 50,
            "throttle_reasons": [text],
            "performance_state": text,
            "compute_mode": text,
            "recovery_action": text,
            "xids": [{"code": 79, "meaning": text, "gravity": "critical", "count": 1, "last_at": text[:40]}],
            "memory_ledger": {"processes_bytes": 0, "unaccounted_bytes": GIB, "cause": text},
            "mig_enabled": True,
            "mig_devices": [
                {
                    "index": 0,
                    "uuid": text,
                    "name": text,
                    "profile": text,
                    "memory_total_bytes": GIB,
                    "memory_used_bytes": 0,
                    "processes": [{"pid": index, "user": text}],
                }
            ],
            "error": {"code": text, "message": text, "hint": text} if index % 2 else None,
            "processes": [
                {
                    "pid": index,
                    "name": text,
                    "user": text,
                    "command": text,
                    "container": text,
                    "job": text,
                    "type": "compute",
                }
            ],
            "unavailable": {text[:200]: "error"},
            "suspect": [text],
        }
        for index, text in enumerate(texts)
    ]


@contextlib.contextmanager
def kept_alive(agents: list[ClientConnection]) -> Iterator[None]:
    """Agents that give a sign of life all the while."""
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(2):
            for agent in agents:
                agent.send('{"type": "heartbeat"}')

    thread = threading.Thread(target=beat, name="heartbeats")
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real hub, with agents that say nothing but hostile things; every second node has a hostile alias as well."""
    folder = tmp_path_factory.mktemp("hostile")
    nodes = [
        {"name": name_of(number, texts[0]), "host": HOST, "port": 9, "alias": alias_of(number, texts[-1])}
        for number, texts in enumerate(groups())
        if number % 2
    ]
    (folder / "config.json").write_text(json.dumps({"nodes": nodes}))
    with contextlib.ExitStack() as stack:
        hub = stack.enter_context(program("hub", f"--host={HOST}", "--port=0", folder=folder))
        port = hub.port("hub")
        agents: list[ClientConnection] = []
        for number, texts in enumerate(groups()):
            agent = stack.enter_context(
                connect(f"ws://{HOST}:{port}/api/push", subprotocols=["gpumon.v1"], proxy=None)  # type: ignore[list-item]
            )
            name, text = name_of(number, texts[0]), texts[0]
            words = {"hostname": text, "agent_version": text[:200], "agent_id": f"agent-{number}"}
            agent.send(json.dumps(hello(node=name, boot=f"boot-{number}", **words)))
            assert json.loads(agent.recv())["type"] == "welcome"
            fault = {"code": text, "message": text, "hint": text}
            more = {"driver_version": text, "cuda_version": text, "hostname": text, "advice": [fault]}
            told = report(1, node=name, boot=f"boot-{number}")
            told["report"] |= {  # type: ignore[operator]
                "gpus": gpus(texts),
                "status": "error",
                "error": fault,
                "tags": tags_of(texts),
                "interval_seconds": 3600,  # so that it stays the present
                **more,
            }
            agent.send(json.dumps(told))
            assert json.loads(agent.recv())["type"] == "ack"
            agents.append(agent)
        stack.enter_context(kept_alive(agents))
        yield f"http://{HOST}:{port}"


def watch(open_page: Open, url: str, width: int = 1440) -> Watched:
    watched = open_page("about:blank", width=width)
    watched.page.add_init_script(REPORTS)
    watched.page.goto(url)
    return watched


def harmless(watched: Watched, site: str) -> None:
    """Nothing ran, nothing was refused since nothing was tried, and nobody else was asked."""
    page = watched.page
    assert page.evaluate("violations") == []
    assert [one.evaluate("one => one.outerHTML") for one in page.locator("body").locator(ELEMENTS).all()] == []
    assert MARK not in page.title()
    assert all(url.startswith((site, "about:")) for url in watched.requests)


def seen(page: Page) -> str:
    return " ".join(page.locator("main").inner_text().split())


@pytest.mark.parametrize("width", [1440, 390])
def test_every_one_is_shown_as_text_in_the_cards(site: str, open_page: Open, width: int) -> None:
    watched = watch(open_page, f"{site}/?as=cards", width)
    page = watched.page
    expect(page.locator("[data-gpu]")).to_have_count(len(HOSTILE))
    text = seen(page)
    assert [one for one in HOSTILE if " ".join(one.split()) not in text] == []
    for number, texts in enumerate(groups()):
        shown = alias_of(number, texts[-1]) if number % 2 else name_of(number, texts[0])
        assert " ".join(shown.split()) in text
        assert [tag for tag in tags_of(texts) if " ".join(tag.split()) not in text] == []
    fits(page, width)
    harmless(watched, site)


@pytest.mark.parametrize("view", ["as=table", "as=map", "view=users"])
def test_the_other_views_show_them_as_text_too(site: str, open_page: Open, view: str) -> None:
    watched = watch(open_page, f"{site}/?{view}")
    page = watched.page
    expect(page.get_by_role("main")).to_contain_text(name_of(0, HOSTILE[0]) if view != "view=users" else HOSTILE[0])
    if view == "view=users":
        text = seen(page)
        assert [one for one in HOSTILE if " ".join(one.split()) not in text] == []
    harmless(watched, site)


@pytest.mark.parametrize("number", [0, 1, 7])
def test_a_node_that_is_open_shows_them_as_text(site: str, open_page: Open, number: int) -> None:
    watched = watch(open_page, f"{site}/?as=table")
    page = watched.page
    row = page.locator("[data-row]").nth(number)
    expect(row).to_be_visible()
    row.click()
    expect(page.locator(".uplot").first).to_be_visible()
    expect(page.locator(".opened [data-gpu]")).to_have_count(PER_NODE)
    harmless(watched, site)
    page.reload()
    expect(page.locator(".uplot").first).to_be_visible()
    harmless(watched, site)


def test_the_filters_take_them_for_what_they_are(site: str, open_page: Open) -> None:
    watched = watch(open_page, f"{site}/?as=cards")
    for text in (HOSTILE[0], HOSTILE[9], "[", "(", "\\", ".*"):
        watched.page.locator("#find").fill(text)
        expect(watched.page.get_by_role("status").or_(watched.page.locator(".filters output")).first).to_be_visible()
    watched.page.locator("#find").fill(HOSTILE[0])
    expect(watched.page.locator("[data-gpu]").first).to_contain_text(HOSTILE[0])
    harmless(watched, site)


def test_the_plain_table_shows_every_one_as_text(site: str, open_page: Open) -> None:
    watched = watch(open_page, f"{site}/?format=html")
    expect(watched.page.locator("tbody tr")).to_have_count(len(HOSTILE))
    text = seen(watched.page)
    shown = [printable(one) for one in HOSTILE]
    assert [one for one in shown if " ".join(one.split()) not in text] == []
    harmless(watched, site)
