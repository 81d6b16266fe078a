"""What strangers see of processes, by every way in which a hub tells of them."""

import asyncio
import json
import os
import signal
from pathlib import Path
from typing import Any, get_args

import aiohttp
import msgspec
import pytest
from starlette.requests import Request

from gpumon.availability import state_of
from gpumon.config import AuthSection, Config, HubSection, Privacy
from gpumon.hub.auth import CALLER, TOKEN_FILE, Auth
from gpumon.hub.card import SHOWN, card_of
from gpumon.hub.core import Hub
from gpumon.hub.live import Live
from gpumon.hub.privacy import veiled
from gpumon.limits import Visit, Visits
from gpumon.model import Gpu, MigDevice, Node, Process, Report
from gpumon.pipe import Pipe
from gpumon.refusals import Refusals
from tests.hub.agents import RawAgent, hello, raw_agent, report
from tests.hub.lock import LockedHub, locked_hub
from tests.hub.rawhttp import exchange, get
from tests.hub.world import A, B, World
from tests.running import program, until_true

TIERS: tuple[Privacy, ...] = ("nothing", "names", "users", "commands")
PLANTED: dict[str, Privacy] = {
    "name": "names",
    "user": "users",
    "container": "users",
    "job": "users",
    "command": "commands",
}
"""From which tier on strangers see which field."""
SECRETS = {field: f"the-{field}-of-alice" for field in PLANTED}
WAYS = (
    "/api/nodes",
    "/api/nodes/n",
    "/api/events",
    "/api/events?view=overview",
    "/api/events?node=n",
    "/api/events?view=overview&full_up_to=12",
    "/api/stream",
    "/api/stream?view=overview",
    "/?format=text&columns=1000",
    "/?format=html",
    "/?format=text&columns=1000&lang=zh",
    "/health",
    "/metrics",
    "/api/history",
    "/api/nodes/n/history",
)
TOLD_IN_FULL = ("/api/nodes", "/api/nodes/n", "/api/events", "/api/stream")
GIB = 2**30


def gpus(**more: object) -> list[dict[str, object]]:
    process = {"pid": 4711, "type": "compute", "memory_used_bytes": GIB, **SECRETS}
    slices = [{"index": 0, "profile": "1g.10gb", "processes": [process]}]
    return [
        {"index": 0, "uuid": "GPU-0", "processes": [process], "mig_devices": slices, "memory_used_bytes": GIB, **more}
    ]


async def push(agent: RawAgent) -> None:
    await agent.say(hello())
    await agent.hear()
    await agent.say(report(1, gpus=gpus()))
    assert (await agent.hear())["type"] == "ack"


async def told(hub: LockedHub, way: str, headers: dict[str, str]) -> str:
    url = f"{hub.site.url}{way}"
    session = hub.site.session
    if way.startswith("/api/stream"):
        async with session.ws_connect(url, headers=headers) as socket:
            return str((await socket.receive()).data)
    async with session.get(url, headers=headers) as answer:
        assert answer.status == 200
        if not way.startswith("/api/events"):
            return await answer.text()
        return (await answer.content.readuntil(b"\n\n")).decode() + (await answer.content.readuntil(b"\n\n")).decode()


def seen_in(text: str) -> set[str]:
    return {field for field, secret in SECRETS.items() if secret in text}


def test_every_tier_is_tested() -> None:
    assert get_args(get_args(Privacy)[0]) == TIERS


@pytest.mark.parametrize("tier", TIERS)
async def test_strangers_see_what_they_may_and_who_is_logged_in_sees_all(tmp_path: Path, tier: Privacy) -> None:
    allowed = {field for field, least in PLANTED.items() if TIERS.index(tier) >= TIERS.index(least)}
    async with locked_hub(tmp_path, AuthSection(privacy=tier)) as hub, raw_agent(hub.site) as agent:
        await push(agent)
        cookie = dict([(await hub.log_in()).split(": ", 1)])
        for way in WAYS:
            for _ in range(2):  # made, and from memory
                seen = seen_in(await told(hub, way, {}))
                assert seen <= allowed, way
                for headers in (cookie, {"Authorization": f"Bearer {hub.token}"}):
                    everything = seen_in(await told(hub, way, headers))
                    assert seen - {"name"} <= everything, way  # a command stands in place of the name
                    if way in TOLD_IN_FULL:
                        assert (seen, everything) == (allowed, set(PLANTED))
        assert seen_in(await told(hub, "/?format=text&columns=1000", {"Cookie": "gpumon=x"})) <= allowed


async def test_what_comes_later_is_veiled_as_well(tmp_path: Path) -> None:
    async with locked_hub(tmp_path, AuthSection(privacy="names")) as hub, raw_agent(hub.site) as agent:
        await push(agent)
        url, session = f"{hub.site.url}/api/stream", hub.site.session
        bearer = {"Authorization": f"Bearer {hub.token}"}
        async with (
            session.ws_connect(f"{url}?pace=0") as stranger,
            session.ws_connect(f"{url}?pace=0&view=overview") as glancing,
            session.ws_connect(f"{url}?pace=0", headers=bearer) as holder,
        ):
            for socket in (stranger, glancing, holder):
                assert (await socket.receive_json())["type"] == "snapshot"
            await agent.say(report(2, gpus=gpus(utilization_percent=50)))
            later = [await socket.receive_str() for socket in (stranger, glancing, holder)]
            assert [json.loads(one)["type"] for one in later] == ["nodes"] * 3
            assert [seen_in(one) for one in later] == [{"name"}, set(), set(PLANTED)]


async def test_an_etag_of_what_strangers_see_is_none_of_what_others_see(tmp_path: Path) -> None:
    async with locked_hub(tmp_path, AuthSection(privacy="nothing")) as hub, raw_agent(hub.site) as agent:
        await push(agent)
        answer = await exchange(hub.site, get("/api/nodes"))
        tag = answer.head.partition("etag: ")[2].partition("\r")[0]
        known = f"If-None-Match: {tag}"
        assert (await exchange(hub.site, get("/api/nodes", known))).status == 304
        assert (await exchange(hub.site, get("/api/nodes", known, hub.bearer))).status == 200


def node(**more: Any) -> Node:
    process = msgspec.convert({"pid": 1, "type": "compute", **SECRETS}, Process)
    gpu = Gpu(
        index=0,
        processes=[process, Process(pid=2, type="graphics", user="root")],
        processes_truncated=more.pop("processes_truncated", 0),
        mig_devices=[MigDevice(index=0, processes=[process])],
        unavailable={"fan_speed_percent": "unsupported"},
        memory_used_bytes=0,
        memory_total_bytes=GIB,
    )
    whole = Report(node="n", gpus=[gpu, Gpu(index=1, processes=[]), Gpu(index=2, unavailable={"processes": "denied"})])
    base: dict[str, Any] = {
        "name": "n",
        "alias": "n",
        "host": None,
        "port": None,
        "configured": False,
        "status_since": "",
    }
    return Node(**base, status="online", report=whole)


@pytest.mark.parametrize("tier", TIERS)
def test_every_gap_has_its_reason_and_every_state_stays(tier: Privacy) -> None:
    before, after = node(), veiled(node(), tier)
    assert before.report is not None
    assert after.report is not None
    for old, new in zip(before.report.gpus, after.report.gpus, strict=True):
        assert new.unavailable.items() >= old.unavailable.items()
        for process in new.processes or ():
            for field in ("user", "command", "container", "job"):
                if getattr(process, field) is None and process.pid == 1:
                    assert new.unavailable[f"processes.{field}"] == "private"
        if old.processes and not new.processes:
            assert (new.unavailable["processes"], new.processes_truncated) == ("private", 1)
        assert state_of(new, after, 0.0) == state_of(old, before, 0.0)
    assert (veiled(before, tier) == before) is (tier == "commands")
    card = json.loads(card_of(after, None).json)["report"]["gpus"][0]
    assert {name for name in after.report.gpus[0].unavailable if name.startswith("processes")} <= set(SHOWN)
    assert card["process_count"] == (1 if tier == "nothing" else 2)


def test_processes_that_were_too_many_count_as_well() -> None:
    after = veiled(node(processes_truncated=7), "nothing")
    assert after.report is not None
    assert after.report.gpus[0].processes_truncated == 8


def test_where_everybody_sees_the_same_nothing_is_made_twice() -> None:
    world = World(HubSection())
    world.push()
    hub = world.hub
    assert hub.feeds == (hub.feed,)
    assert hub.feed_for(strangers=True) is hub.feed
    assert hub.fleet.on_change == hub.feed.changed
    assert all(member.veiled is None and member.veiled_glance is None for member in hub.fleet)
    assert len(Hub(privacy="users").feeds) == 2


async def test_another_tier_takes_effect_at_once_and_ends_the_streams_of_strangers(tmp_path: Path) -> None:
    file, state = tmp_path / "config.json", tmp_path / "state"
    file.write_text(json.dumps({"auth": {"privacy": "commands"}}))
    with program("hub", "--host=127.0.0.1", "--port=0", f"--config={file}", f"--state-dir={state}") as hub:
        url = f"http://127.0.0.1:{hub.port('hub')}"
        async with aiohttp.ClientSession() as session:
            push_url = f"{url}/api/push"
            async with session.ws_connect(push_url, protocols=["gpumon.v1"]) as agent:
                await agent.send_str(json.dumps(hello()))
                await agent.receive()
                await agent.send_str(json.dumps(report(1, gpus=gpus())))
                await agent.receive()
                bearer = {"Authorization": f"Bearer {(state / TOKEN_FILE).read_text().strip()}"}
                stranger = await session.ws_connect(f"{url}/api/stream")
                holder = await session.ws_connect(f"{url}/api/stream", headers=bearer)
                assert seen_in(await stranger.receive_str()) == set(PLANTED)
                file.write_text(json.dumps({"auth": {"privacy": "names"}}))
                os.kill(hub.process.pid, signal.SIGHUP)
                while (await asyncio.wait_for(stranger.receive(), 30)).type == aiohttp.WSMsgType.TEXT:
                    pass
                assert stranger.close_code == 4001
                async with session.ws_connect(f"{url}/api/stream") as again:
                    assert seen_in(await again.receive_str()) == {"name"}
                assert not holder.closed
                for one in (stranger, holder):
                    await one.close()


class Sink(asyncio.Transport):
    """A connection on which everything is taken."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""

    def write(self, data: Any) -> None:
        self.written += data

    def is_closing(self) -> bool:
        return False

    def get_write_buffer_size(self) -> int:
        return 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass


@pytest.mark.parametrize(
    ("shown", "later"),
    [
        ("nothing", AuthSection(privacy="nothing")),
        ("cut", AuthSection(viewers="token")),
        ("cut, logged in", AuthSection(viewers="token")),
        ("all", AuthSection()),
    ],
)
async def test_a_stream_that_begins_while_things_change_is_told_what_holds_then(shown: str, later: AuthSection) -> None:
    """Between the gate and the first letter something waits: here for the configuration to be another."""
    world, auth = World(), Auth(AuthSection())
    world.push(msgspec.json.decode(json.dumps(report(1, "a", gpus=gpus())["report"]), type=Report))
    pipe, sink = Pipe(Visit(Visits(Refusals()), lambda *_: None)), Sink()
    pipe.made(sink)
    session = (await auth.open_session()).encode() if shown == "cut, logged in" else b""
    caller = auth.caller(None, auth.cookie.encode() + b"=" + session)
    scope: dict[str, Any] = {
        "type": "http",
        "method": "GET",
        "path": "/api/events",
        "query_string": b"",
        "headers": [],
        "http_version": "1.1",
        "state": {"pipe": pipe},
        CALLER: caller,
    }
    ended = asyncio.Event()

    async def receive() -> dict[str, str]:
        await ended.wait()
        return {"type": "http.disconnect"}

    sent = []

    async def send(message: Any) -> None:
        sent.append(message)
        if message["type"] == "http.response.start":
            auth.configure(later)
            if session:
                assert caller is not None
                await auth.end_session(str(caller.session))
            world.hub.reconfigure(Config(nodes=[A, B], auth=later))

    response = await Live(world.hub, auth).events(Request(scope))
    task = asyncio.create_task(response(scope, receive, send))
    if shown.startswith("cut"):
        await task
        assert sent[-1] == {"type": "http.response.body", "body": b"", "more_body": False}
        assert sink.written == b""
    else:
        await until_true(lambda: b'"nodes":' in sink.written)
        assert seen_in(sink.written.decode()) == (set() if shown == "nothing" else set(SECRETS))
        ended.set()
        await task
