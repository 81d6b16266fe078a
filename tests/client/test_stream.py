"""The hub's stream, from the viewer's end: what comes, what does not, and why."""

import asyncio
import contextlib
import json
import random
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.datastructures import Headers
from websockets.http11 import Request, Response

from gpumon.certificates import trusting
from gpumon.client import stream
from gpumon.client.rows import gpu_rows, record
from gpumon.client.stream import Hub
from gpumon.client.watch import Watch, look
from gpumon.config import AgentSection, AuthSection, Config
from gpumon.errors import HubError
from tests.authority import self_made
from tests.client.labs import gpu, lab
from tests.hub.lock import locked_hub
from tests.running import free_port, program, running_agent, running_hub, until_true

SNAPSHOT = {"type": "snapshot", "sent_at": "2026-11-23T14:00:00.000Z", "notices": [], "nodes": []}


@asynccontextmanager
async def stranger(
    *said: object, answer: Callable[[ServerConnection, Request], Response | None] | None = None
) -> AsyncIterator[Hub]:
    """Something that is no hub, and says this to each viewer."""

    async def talk(connection: ServerConnection) -> None:
        for one in said:
            await connection.send(one if isinstance(one, bytes) else json.dumps(one), text=True)
        await connection.wait_closed()

    async with serve(talk, "127.0.0.1", 0, process_request=answer) as server:
        yield Hub(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")


@asynccontextmanager
async def watching(watch: Watch) -> AsyncIterator[list[float]]:
    """Follow, and count the news."""
    news: list[float] = []
    task = asyncio.create_task(watch.run(lambda: news.append(watch.fleet.now())))
    try:
        yield news
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def test_both_views_tell_the_same_of_every_gpu() -> None:
    async with running_hub() as site:
        settings = AgentSection(  # of whom both looks see the same report
            host="127.0.0.1", name="sim", hub=[site.url], tags=["room 3"], interval_seconds=60
        )
        async with running_agent(settings, "h200:6,a100-mig:1,fault=lost:1"):
            await site.node_when("sim", lambda node: node["report"] and node["tags"])
            full, overview = [await look(Hub(site.url), view) for view in ("full", "overview")]
    told = [[record(row) for row in gpu_rows(fleet.nodes, fleet.now())] for fleet in (full, overview)]
    assert len(told[0]) == 7
    for one, other in zip(*told, strict=True):
        for field in ("node", "alias", "tags", "status", "simulated", "state", "index", "uuid", "name"):
            assert getattr(one, field) == getattr(other, field), field
        assert one.memory_total_bytes == other.memory_total_bytes
        assert {process.user for process in one.processes or ()} == {process.user for process in other.processes or ()}
        if one.memory_used_bytes is not None:
            assert other.memory_used_bytes == pytest.approx(one.memory_used_bytes, abs=2**24)


@pytest.mark.parametrize("view", ["full", "overview"])
async def test_news_come_nodes_go_and_the_order_is_the_hubs(view: str) -> None:
    async with lab() as one:
        await one.report("b", [gpu(0)])
        watch = Watch(one.hub, view, 0)  # type: ignore[arg-type]
        async with watching(watch):
            await until_true(lambda: [node.name for node in watch.fleet.nodes] == ["b"])
            await one.report("c", [gpu(0)])
            await one.report("a", [gpu(0, 70, user="alice"), gpu(1)])
            await until_true(lambda: [node.name for node in watch.fleet.nodes] == ["a", "b", "c"])
            await until_true(lambda: len(gpu_rows(watch.fleet.nodes, 0)) == 4)
            (row, *_) = gpu_rows(watch.fleet.nodes, 0)
            assert (row.state, row.users) == ("busy", ["alice"])


async def test_a_hub_that_comes_back_is_found_again() -> None:
    port = free_port()
    watch = Watch(Hub(f"http://127.0.0.1:{port}"), "overview", 0)
    async with lab(port) as one:
        await one.report("a", [gpu(0)])
        task = asyncio.create_task(watch.run(lambda: None))
        await until_true(lambda: watch.fleet.nodes)
    await until_true(lambda: watch.trouble)
    assert watch.lost_at is not None
    assert [node.name for node in watch.fleet.nodes] == ["a"]
    async with lab(port) as again:
        await again.report("b", [gpu(0)])
        await until_true(lambda: [node.name for node in watch.fleet.nodes] == ["b"])
        assert not watch.trouble
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def test_a_hub_that_refuses_is_not_waited_for_also_if_it_has_told() -> None:
    watch = Watch(Hub("http://hub"), "full", 1.0)
    watch.has_told = True
    watch._lose(HubError("the link has ended"))
    with pytest.raises(HubError, match="401"):
        watch._lose(HubError("refused with status 401", is_refusal=True))


async def test_a_hub_that_stays_away_is_asked_less_and_less(monkeypatch: pytest.MonkeyPatch) -> None:
    delays: list[float] = []

    def at_once(_: float, most: float) -> float:
        delays.append(most)
        return 0.0

    monkeypatch.setattr(random, "uniform", at_once)
    watch = Watch(Hub(f"http://127.0.0.1:{free_port()}"), "full", 1.0)
    watch.has_told = True
    async with watching(watch):
        await until_true(lambda: len(delays) >= 8)
    assert delays[:8] == [0.5, 1, 2, 4, 8, 15, 15, 15]


async def test_the_proxy_of_the_environment_is_not_meant_for_a_hub_in_the_lab(monkeypatch: pytest.MonkeyPatch) -> None:
    for scheme in ("http", "https", "socks", "ws", "all"):
        monkeypatch.setenv(f"{scheme}_proxy", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("no_proxy", "")
    async with lab() as one:
        await one.report("a", [gpu(0)])
        assert [node.name for node in (await look(one.hub, "full")).nodes] == ["a"]


async def test_a_glance_counts_the_processes_that_it_does_not_list() -> None:
    processes = [{"pid": pid, "user": f"u{pid}", "type": "compute"} for pid in range(20)]
    async with lab() as one:
        await one.report("a", [gpu(0, processes=processes, processes_truncated=3)])
        (node,) = (await look(one.hub, "overview")).nodes
    assert node.report is not None
    (only,) = node.report.gpus
    assert len(only.processes or ()) + only.processes_truncated == 23
    assert only.processes_truncated > 3


async def test_a_hub_that_hangs_is_left_and_said_to_hang(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "PING_SECONDS", 0.2)
    monkeypatch.setattr(stream, "PONG_SECONDS", 1.0)
    with program("hub", "--host=127.0.0.1", "--port=0") as hub:
        url = f"http://127.0.0.1:{await asyncio.to_thread(hub.port, 'hub')}"
        async with stream.opened(Hub(url), "full", 1.0) as messages:
            assert (await anext(messages)).type == "snapshot"
            hub.process.send_signal(signal.SIGSTOP)
            try:
                with pytest.raises(HubError, match="does not answer any longer"):
                    await asyncio.wait_for(anext(messages), 30)
            finally:
                hub.process.send_signal(signal.SIGCONT)


async def test_a_hub_that_shows_nothing_without_its_token_gets_it_from_who_has_it(tmp_path: Path) -> None:
    async with locked_hub(tmp_path, AuthSection(viewers="token")) as locked:
        fleet = await look(Hub(locked.site.url, locked.token), "overview")
        assert fleet.nodes == []
        for token in (None, "x" * 43):
            with pytest.raises(HubError, match=r"refused with status 401.*GPUMON_TOKEN") as caught:
                await look(Hub(locked.site.url, token), "overview")
            assert caught.value.is_refusal
            assert "x" * 43 not in str(caught.value)


async def test_a_hub_is_believed_by_the_pin_in_its_url_and_no_other_is(tmp_path: Path) -> None:
    own, other = self_made(tmp_path), self_made(tmp_path, "other")
    async with running_hub(Config(tls=own.files)) as site:
        assert (await look(Hub(site.url, tls=trusting(None, own.fingerprint)), "full")).nodes == []
        for pin, why in ((other.fingerprint, "another certificate than the pinned one"), (None, "unknown authority")):
            with pytest.raises(HubError, match=why):
                await look(Hub(site.url, tls=trusting(None, pin)), "full")
        with pytest.raises(HubError):
            await look(Hub(site.url.replace("https", "http")), "full")


async def test_the_program_takes_token_and_pin_as_it_is_given_them(tmp_path: Path) -> None:
    own = self_made(tmp_path)

    def asked(*arguments: str, **environment: str) -> tuple[int, str]:
        with program("nodes", *arguments, environment=environment) as command:
            return command.status(), command.said

    async with running_hub(Config(tls=own.files)) as site:
        assert await asyncio.to_thread(asked, "--hub", f"{site.url}#sha256={own.fingerprint}") == (0, "")
        assert await asyncio.to_thread(asked, "--hub", site.url, "--tls-ca", str(own.certificate)) == (0, "")
        status, said = await asyncio.to_thread(asked, "--hub", site.url)
        assert (status, "unknown authority" in said) == (3, True)
    async with locked_hub(tmp_path, AuthSection(viewers="token")) as locked:
        (tmp_path / "token").write_text(f"{locked.token}\n")
        where = ("--hub", locked.site.url)
        file = ("--token-file", str(tmp_path / "token"))
        assert await asyncio.to_thread(asked, *where, *file, GPUMON_TOKEN="another") == (0, "")
        assert await asyncio.to_thread(asked, *where, GPUMON_TOKEN=locked.token) == (0, "")
        status, said = await asyncio.to_thread(asked, *where)
        assert (status, "--token-file or GPUMON_TOKEN" in said) == (3, True)


async def test_a_redirect_is_not_followed_with_the_token() -> None:
    async with stranger(SNAPSHOT) as aim:
        headers = Headers(Location=f"{aim.url}/api/stream".replace("http", "ws"))
        async with stranger(answer=lambda *_: Response(302, "Found", headers)) as hub:
            with pytest.raises(HubError, match="does not answer as a hub does"):
                await look(hub._replace(token="secret"), "full")


@pytest.mark.parametrize(
    "said",
    [
        b"nonsense",
        b"\xff\xfe",
        b"[]",
        {"type": "snapshot"},
        SNAPSHOT | {"sent_at": "yesterday"},
        SNAPSHOT | {"nodes": [{"name": 1}]},
        {"type": "snapshot", "sent_at": SNAPSHOT["sent_at"], "view": "overview", "cards": [{}]},
        SNAPSHOT
        | {
            "view": "overview",
            "cards": [{"name": "a", "alias": "a", "status_since": "x"}],
            "numbers": {
                "names": ["a"],
                "seen_seconds_ago": [],
                "utilization_percent": [],
                "memory_used_mebibytes": [],
                "temperature_celsius": [],
                "power_draw_watts": [],
            },
        },
    ],
    ids=range(8),
)
async def test_who_talks_nonsense_is_said_to_be_no_hub(said: object) -> None:
    async with stranger(said) as hub:
        with pytest.raises(HubError, match="is it a hub") as caught:
            await look(hub, "full")
        assert caught.value.is_refusal
        assert str(caught.value).isprintable()


async def test_words_of_a_newer_hub_are_passed_over() -> None:
    news = {"type": "weather", "sent_at": SNAPSHOT["sent_at"], "sunny": True}
    async with stranger(news, SNAPSHOT | {"more": 1}) as hub:
        assert (await look(hub, "full")).nodes == []


async def test_what_is_no_websocket_or_nothing_at_all_is_told_in_words() -> None:
    async with running_agent() as site:  # it speaks HTTP, and has no such path
        with pytest.raises(HubError, match="does not answer as a hub does"):
            await look(Hub(site.url), "full")
    with pytest.raises(HubError, match="cannot be reached: Connection refused"):
        await look(Hub(f"http://127.0.0.1:{free_port()}"), "full")
    with pytest.raises(HubError, match=r"cannot be reached: .*[Nn]ame"):
        await look(Hub("http://no-such-host.invalid:8080"), "full")
