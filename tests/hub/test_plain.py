"""``/`` for those who run no scripts, by a real client against a real hub."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from html.parser import HTMLParser

import msgspec
import pytest

from gpumon.config import Config, NodeEntry
from gpumon.hub.sheet import sheet
from gpumon.model import Fault, Gpu, Node, Report
from gpumon.terminal import width
from gpumon.timestamp import rfc3339
from tests.hub.agents import RawAgent, hello, raw_agent, report
from tests.running import Site, running_hub

GIB = 2**30
STATE = 4
CURL = {"Accept": "*/*", "User-Agent": "curl/8.5.0"}
PLAIN = CURL | {"Accept": "text/plain"}
BROWSER = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}
FREE = {"index": 0, "uuid": "GPU-a", "name": "NVIDIA H100", "memory_used_bytes": 0, "processes": []}
BUSY = {
    "index": 1,
    "uuid": "GPU-b",
    "name": "NVIDIA H100",
    "utilization_percent": 97,
    "memory_used_bytes": 71 * GIB,
    "memory_total_bytes": 80 * GIB,
    "power_draw_watts": 655.0,
    "power_limit_watts": 700.0,
    "processes": [{"pid": 1, "user": "alice", "command": "python train.py", "type": "compute"}],
}
GONE = NodeEntry(name="gone", host="127.0.0.1", port=9, alias="走了")


@asynccontextmanager
async def fleet(*gpus: dict[str, object], error: object = None) -> AsyncIterator[tuple[Site, RawAgent]]:
    """A hub with a node that is gone, and one that reports these GPUs."""
    async with running_hub(Config(nodes=[GONE])) as hub, raw_agent(hub) as agent:
        await agent.say(hello())
        await agent.say(report(1, gpus=list(gpus or (FREE, BUSY)), error=error))
        await hub.node_when("n", lambda node: node["report"])
        yield hub, agent


async def get(hub: Site, query: str = "", headers: dict[str, str] | None = None) -> tuple[str, str]:
    """The media type and the text of ``/``."""
    async with hub.session.get(f"{hub.url}/{query}", headers=headers or CURL) as response:
        assert response.status == 200
        assert response.headers["Vary"] == "Accept, Accept-Language, User-Agent"
        return response.content_type, await response.text()


class Text(HTMLParser):
    """What a reader of a document sees, and the elements that it is made of."""

    def __init__(self, document: str) -> None:
        super().__init__()
        self.text = ""
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.feed(document)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        self.text += data


async def test_curl_gets_a_line_for_each_gpu_that_can_be_searched() -> None:
    async with fleet() as (hub, _):
        media_type, text = await get(hub, headers=PLAIN)
        assert media_type == "text/plain"
        assert "1 of 2 GPUs free" in text
        assert "1 of 2 nodes online" in text
        free, busy = re.findall(r"^n .*H100.*$", text, re.MULTILINE)
        assert re.search(r"\bfree\b", free)
        assert re.search(r"busy +H100 +97% +71\.0/80\.0 .* 655/700 +alice: python train\.py", busy)
        assert re.search(r"^走了 \(gone\) +127\.0\.0\.1 +- +pending ", text, re.MULTILINE)
        assert "\x1b" not in text


async def test_a_browser_gets_the_page_and_a_terminal_the_text_whatever_else_they_take() -> None:
    async with fleet() as (hub, _):
        for headers, media_type in (
            (BROWSER, "text/html"),
            ({"Accept": "text/plain, text/html;q=0.5"}, "text/html"),
            ({"Accept": "text/plain"}, "text/plain"),
            ({"Accept": "", "User-Agent": "Wget/1.21"}, "text/plain"),
            ({"Accept": "*/*", "User-Agent": "curl/8.5"}, "text/plain"),
            ({"Accept": "*/*", "User-Agent": "python-urllib/3.11"}, "text/html"),
        ):
            assert (await get(hub, headers=headers))[0] == media_type
        page = (await get(hub, headers=BROWSER))[1]
        assert "<script" in page
        assert "?format=html" in page
        assert (await get(hub, "?format=page"))[1] == page


async def test_the_plain_table_has_every_gpu_and_no_script() -> None:
    async with fleet() as (hub, _):
        for headers in (CURL, BROWSER):
            media_type, document = await get(hub, "?format=html", headers)
            seen = Text(document)
            assert media_type == "text/html"
            assert {"table", "th", "td"} <= seen.tags
            assert not {"script", "style", "img"} & seen.tags
            assert "style" not in seen.attributes
            assert "alice: python train.py" in seen.text
            assert "走了 (gone)" in seen.text
        async with hub.session.get(f"{hub.url}/plain.css") as response:
            assert (response.status, response.content_type) == (200, "text/css")


async def test_head_answers_as_get_does_without_a_body() -> None:
    async with fleet() as (hub, _):
        for query, media_type in (("", "text/plain"), ("?format=html", "text/html"), ("?format=page", "text/html")):
            async with hub.session.head(f"{hub.url}/{query}", headers=CURL) as response:
                assert (response.status, response.content_type) == (200, media_type)
                assert int(response.headers["Content-Length"]) > 100
                assert await response.read() == b""


@pytest.mark.parametrize(
    "text",
    ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "</td></table>", "\u202eturned", "\x1b[31mred"],
)
async def test_what_strangers_say_is_text_in_both(text: str) -> None:
    process = {"pid": 1, "user": text, "command": text, "type": "compute"}
    fault = {"code": "x", "message": text, "hint": text}
    async with fleet({"index": 0, "name": text, "error": fault, "processes": [process]}, error=fault) as (hub, _):
        document = (await get(hub, "?format=html"))[1]
        seen, harmless = Text(document), text.replace("\u202e", "\ufffd").replace("\x1b", "\ufffd")
        assert seen.text.count(harmless) >= 4
        assert not {"script", "img"} & seen.tags
        assert document.count("</table>") == 1
        for plain in ((await get(hub))[1], (await get(hub, "?color=1"))[1]):
            assert harmless[:12] in plain
            assert "\u202e" not in plain
            assert "\x1b[31mred" not in plain


async def test_colours_and_the_width_are_those_that_are_asked_for() -> None:
    async with fleet() as (hub, _):
        assert "\x1b[" in (await get(hub, "?color=1"))[1]
        for columns in (60, 100, 200):
            text = (await get(hub, f"?columns={columns}&color=0"))[1]
            assert max(width(line) for line in text.splitlines()) <= columns
        assert "ADDRESS" not in (await get(hub, "?columns=60"))[1]
        assert "STATE" in (await get(hub, "?columns=60"))[1]


async def test_curl_shows_a_person_colours_in_the_width_that_every_terminal_has() -> None:
    async with fleet() as (hub, _):
        text = (await get(hub))[1]
        assert "\x1b[32;1mfree\x1b[0m" in text
        shown = re.sub(r"\x1b\[[\d;]*m", "", text)
        assert max(width(line) for line in shown.splitlines()) <= 80
        assert re.search(r"^n +1 +busy +H100 +97% +71\.0/80\.0 .*alice: ", shown, re.MULTILINE)
        for query, headers in (("?color=0", CURL), ("", PLAIN), ("", CURL | {"User-Agent": "Wget/1.21"})):
            assert "\x1b" not in (await get(hub, query, headers))[1]
        assert max(map(width, (await get(hub, "?color=0&columns=160"))[1].splitlines())) > 80


async def test_tags_have_a_column_where_somebody_uses_them() -> None:
    async with fleet() as (hub, agent):
        assert "TAGS" not in (await get(hub, headers=PLAIN))[1]
        assert ">TAGS<" not in (await get(hub, "?format=html"))[1]
        await agent.say(report(2, gpus=[FREE], tags=["room 3", "机器"]))
        await hub.node_when("n", lambda node: node["tags"])
        text = (await get(hub, "?columns=200", PLAIN))[1]
        assert re.search(r"^n +room 3 机器 +127\.0\.0\.1 ", text, re.MULTILINE)
        assert ">标签<" in (await get(hub, "?format=html&lang=zh"))[1]  # another one than that of half a second ago


async def test_memory_that_lies_idle_counts_as_the_page_counts_it() -> None:
    idle = {**BUSY, "utilization_percent": 0}
    of = node(msgspec.convert(idle, Gpu))
    since = msgspec.structs.replace(of, idle_since={"GPU-b": rfc3339(1_795_456_800.0 - 900)})
    assert sheet([of], 1_795_456_800.0).rows[0][STATE].text == "busy"
    told = sheet([since], 1_795_456_800.0)
    assert told.rows[0][STATE].text == "idle-held"
    assert [cell.text for cell in told.summary][:2] == ["0 of 1 GPUs free", "1 idle-held"]


async def test_it_speaks_the_language_of_who_asks() -> None:
    async with fleet() as (hub, _):
        assert "空闲 GPU 1 / 2" in (await get(hub, headers=PLAIN | {"Accept-Language": "zh-CN,zh;q=0.9,en;q=0.8"}))[1]
        assert "空闲 GPU 1 / 2" in (await get(hub, "?lang=zh&format=html"))[1]
        assert "1 of 2 GPUs free" in (await get(hub, headers=PLAIN | {"Accept-Language": "fr,en;q=0.8,zh;q=0.2"}))[1]


@pytest.mark.parametrize(
    "query", ["format=pdf", "columns=many", "columns=39", "columns=1001", "columns=0000001001001", "columns=²"]
)
async def test_what_cannot_be_given_is_refused_with_what_can(query: str) -> None:
    async with running_hub() as hub, hub.session.get(f"{hub.url}/?{query}", headers=CURL) as response:
        assert (response.status, response.content_type) == (400, "application/problem+json")
        assert "allowed:" in (await response.json(content_type=None))["detail"]


async def test_a_hub_without_nodes_says_how_to_begin() -> None:
    async with running_hub() as hub:
        assert "gpumon hub --print-join" in (await get(hub))[1]
        assert "gpumon hub --print-join" in (await get(hub, "?format=html"))[1]


def node(*gpus: Gpu, status: str = "online", verdict: Fault | None = None) -> Node:
    return Node(
        name="n",
        alias="Node",
        host="h",
        port=None,
        configured=True,
        status=status,  # type: ignore[arg-type]
        status_since="2026-11-23T14:00:00.000Z",
        last_seen_at="2026-11-23T14:02:31.500Z",
        verdict=verdict,
        report=Report(node="n", gpus=list(gpus)),
    )


USED = Gpu(index=0, memory_used_bytes=2 * GIB, memory_total_bytes=80 * GIB, processes=[])


def test_a_node_that_is_offline_keeps_its_numbers_says_since_when_and_why() -> None:
    verdict = Fault(code="agent_died", message="The agent died.", hint="Start it.")
    told = sheet([node(USED, status="offline", verdict=verdict)], 1_795_456_800.0)
    assert [cell.text for cell in told.rows[0]][4:8] == ["offline", "-", "-", "2.0/80.0"]
    assert told.troubles == ["Node: offline; last seen 2026-11-23 14:02:31 UTC; The agent died. Start it."]


@pytest.mark.parametrize(
    ("draws", "told"),
    [((None, None), []), ((None, 0.0), ["≥0 W"]), ((600.0, None), ["≥600 W"]), ((700.0, 700.0), ["1.4 kW"])],
)
def test_power_that_nobody_knows_is_not_told_as_none(draws: tuple[float | None, ...], told: list[str]) -> None:
    gpus = [Gpu(index=place, power_draw_watts=draw) for place, draw in enumerate(draws)]
    summary = sheet([node(*gpus)], 0.0, "en").summary
    assert [cell.text for cell in summary if cell.text.endswith("W")] == told
