"""Another configuration for a hub that runs."""

import asyncio
import json
import signal
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from msgspec.structs import replace

from gpumon.config import AgentSection, Config, HubSection, NodeEntry
from gpumon.errors import ConfigError
from gpumon.hub.core import Hub
from gpumon.hub.reload import Reload
from tests.hub.clocks import SteppedClock
from tests.hub.viewers import look, telling
from tests.hub.world import A, B, World
from tests.running import Site, program, running_agent, until, until_true

C = NodeEntry(name="c", host="10.0.0.3")


@pytest.fixture
def world() -> World:
    return World()


def reconfigure(world: World, *entries: NodeEntry, hub: HubSection | None = None) -> None:
    world.hub.reconfigure(Config(nodes=list(entries), hub=hub or HubSection()))


# ---- which node is which ----


def test_nodes_are_added_removed_and_reordered_and_the_others_keep_their_state(world: World) -> None:
    world.push()
    since = world.node().status_since
    world.clock.advance(1)
    reconfigure(world, A, C)
    assert world.names() == ["a", "c"]
    node = world.node()
    assert (node.status, node.status_since) == ("online", since)
    assert world.node("c").status == "pending"
    assert not world.hub.polling_wanted("a").is_set()
    assert world.hub.polling_wanted("c").is_set()
    with pytest.raises(KeyError):
        world.hub.polling_wanted("b")


def test_alias_host_and_port_change_and_the_state_stays(world: World) -> None:
    world.push()
    reconfigure(world, NodeEntry(name="a", host="10.9.9.9", port=9000, alias="Beta"), B)
    node = world.node()
    assert (node.alias, node.host, node.port, node.status) == ("Beta", "10.9.9.9", 9000, "online")


def test_tags_of_the_configuration_stand_before_those_that_only_the_agent_tells(world: World) -> None:
    world.push(replace(world.report(), tags=["teaching", "room 204"]))
    reconfigure(world, NodeEntry(name="a", host="10.0.0.1", tags=["room 204", "cold"]), B)
    assert world.node().tags == ["room 204", "cold", "teaching"]
    assert json.loads(world.hub.fleet.glance("a").card.json)["tags"] == ["room 204", "cold", "teaching"]
    reconfigure(world, B)
    assert world.node().tags == ["teaching", "room 204"]
    world.push()
    assert world.node().tags == []


def test_what_was_wrong_at_the_old_address_is_not_said_of_the_new_one(world: World) -> None:
    world.fail("refused", "b")
    assert world.node("b").error is not None
    reconfigure(world, NodeEntry(name="b", host="10.0.0.77"), A)
    node = world.node("b")
    assert node.error is None
    assert node.verdict is not None
    assert node.verdict.code == "never_seen"


def test_a_polled_node_is_renamed_with_its_state(world: World) -> None:
    world.poll(world.report(name="b"), "b")
    events = world.hub.polling_wanted("a")
    reconfigure(world, NodeEntry(name="bee", host=B.host), A)
    assert world.names() == ["bee", "a"]
    node = world.node("bee")
    assert (node.status, node.source) == ("online", "poll")
    assert world.hub.polling_wanted("a") is events


def test_names_that_are_exchanged_take_their_state_along(world: World) -> None:
    world.poll(world.report(), "a")
    reconfigure(world, NodeEntry(name="b", host=A.host), NodeEntry(name="a", host=B.host))
    assert world.node("b").status == "online"
    assert world.node("a").status == "pending"


def test_a_removed_node_that_still_pushes_stays_as_one_that_nobody_configured(world: World) -> None:
    world.push()
    reconfigure(world, B)
    assert world.names() == ["b", "a"]
    node = world.node()
    assert (node.configured, node.alias, node.status) == (False, "a", "online")
    world.push()
    assert world.node().status == "online"
    reconfigure(world, A, B)
    node = world.node()
    assert (node.configured, node.alias, node.status) == (True, "Alpha", "online")


def test_a_node_that_pushes_is_not_renamed_for_its_agent_chose_the_name(world: World) -> None:
    world.push()
    reconfigure(world, NodeEntry(name="ay", host=A.host), B)
    assert world.names() == ["ay", "b", "a"]
    assert world.node("a").status == "online"
    assert world.node("ay").status == "pending"


def test_a_name_is_one_node_also_where_a_gone_one_had_it(world: World) -> None:
    world.hub.contact(world.hub.fleet.admit("x", None, None))
    world.clock.advance(60)
    world.hub.judge()
    world.poll(world.report(name="b"), "b")
    reconfigure(world, NodeEntry(name="x", host=B.host), A)
    assert world.names() == ["x", "a"]
    assert (world.node("x").configured, world.node("x").status) == (True, "online")


def test_nodes_that_nobody_configured_stay(world: World) -> None:
    world.hub.contact(world.hub.fleet.admit("x", None, None))
    reconfigure(world, A)
    assert world.names() == ["a", "x"]


def test_limits_and_interval_are_taken_over(world: World) -> None:
    world.push()
    reconfigure(world, A, B, hub=HubSection(stale_after_seconds=30, offline_after_seconds=60, poll_interval_seconds=9))
    assert world.status_after(29) == "online"
    assert world.hub.settings.poll_interval_seconds == 9


def test_a_poll_that_was_under_way_changes_nothing_of_a_node_that_is_gone(world: World) -> None:
    gone = world.member("b")
    reconfigure(world, A)
    world.hub.record(gone, world.report(name="b"), "poll")
    assert world.names() == ["a"]


# ---- what viewers hear ----


async def test_viewers_hear_of_nodes_that_are_gone(world: World) -> None:
    async with telling(world.hub.feed):
        _, line = look(world.hub.feed)
        line.told()
        reconfigure(world, B)
        told = await line.next()
    assert [(one["type"], one.get("names")) for one in told if one["type"] == "removed"] == [("removed", ["a"])]
    assert "a" not in [node["name"] for one in told for node in one.get("nodes", [])]


async def test_viewers_hear_a_new_order_as_a_snapshot(world: World) -> None:
    async with telling(world.hub.feed):
        _, line = look(world.hub.feed)
        line.told()
        reconfigure(world, A, B)
        told = await line.next()
    assert [one["type"] for one in told] == ["snapshot"]
    assert [node["name"] for node in told[0]["nodes"]] == ["a", "b"]


@pytest.mark.parametrize("looks_between", [False, True])
async def test_a_node_that_went_and_is_back_before_a_viewer_looks_is_there(world: World, looks_between: bool) -> None:
    async with telling(world.hub.feed):
        (_, slow), (_, quick) = look(world.hub.feed), look(world.hub.feed)
        slow.told()
        quick.told()
        slow.blocked = True
        reconfigure(world, B)
        if looks_between:
            await quick.next()
        reconfigure(world, B, A)
        await until_true(lambda: any(b'"name":"a"' in data for data in quick.written))
        slow.unblock()
    told = slow.told()
    assert "a" in {node["name"] for one in told for node in one.get("nodes", [])}
    assert not [one for one in told if one["type"] == "removed"]


# ---- reading it ----


async def reloaded(reload: Reload, hub: Hub, condition: Any) -> None:
    task = asyncio.create_task(reload.run())
    reload.ask()
    await until_true(lambda: condition(hub))
    task.cancel()


def codes(hub: Hub) -> list[str]:
    return [fault.code for fault in hub.notices]


async def test_a_bad_file_changes_nothing_and_is_told_until_a_good_one_is_read(
    caplog: pytest.LogCaptureFixture,
) -> None:
    hub = Hub([A, B], clock=SteppedClock())
    faults: list[ConfigError] = [ConfigError("config.json: nodes[0].port: 0", "config.json: nodes[1].host: 5")]
    applied: list[Config] = []

    def read() -> Config:
        if faults:
            raise faults.pop()
        return Config(nodes=[A])

    def apply(before: Config, after: Config) -> None:
        assert before.nodes == [A, B]
        applied.append(after)

    reload = Reload(hub, Config(nodes=[A, B]), read, apply)
    await reloaded(reload, hub, lambda hub: hub.notices)
    assert codes(hub) == ["bad_configuration"]
    assert "nodes[0].port: 0 (1 more faults" in hub.notices[0].message
    assert "nodes[1].host: 5" in caplog.text
    assert applied == []
    await reloaded(reload, hub, lambda hub: not hub.notices)
    assert applied == [Config(nodes=[A])]


async def test_a_file_that_may_not_be_looked_at_is_a_bad_one() -> None:
    hub = Hub([A], clock=SteppedClock())

    def read() -> Config:
        raise PermissionError(13, "Permission denied", "config.json")

    await reloaded(Reload(hub, Config(), read, lambda _before, _after: None), hub, lambda hub: hub.notices)
    assert "Permission denied" in hub.notices[0].message


async def test_a_file_on_a_disk_that_hangs_is_a_bad_one_until_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gpumon.hub.reload.READ_SECONDS", 0.05)
    hub, go = Hub([A], clock=SteppedClock()), threading.Event()

    def read() -> Config:
        assert go.wait(20)
        return Config(nodes=[B])

    reload = Reload(hub, Config(), read, lambda _before, after: hub.reconfigure(after))
    await reloaded(reload, hub, lambda hub: hub.notices)
    assert "its disk hangs" in hub.notices[0].message
    go.set()
    monkeypatch.setattr("gpumon.hub.reload.READ_SECONDS", 20.0)
    await reloaded(reload, hub, lambda hub: not hub.notices)
    assert [node.name for node in hub.fleet.nodes()] == ["b"]


async def test_a_fault_in_reading_a_file_does_not_end_the_hub(caplog: pytest.LogCaptureFixture) -> None:
    hub = Hub([A], clock=SteppedClock())

    def read() -> Config:
        raise RuntimeError("can't start new thread")

    await reloaded(Reload(hub, Config(), read, lambda _before, _after: None), hub, lambda hub: hub.notices)
    assert "a fault of gpumon's own (RuntimeError)" in hub.notices[0].message
    assert "can't start new thread" in caplog.text


async def test_another_address_to_listen_on_is_named_as_needing_a_restart() -> None:
    hub = Hub(clock=SteppedClock())
    wanted = [HubSection(port=9999), HubSection()]
    reload = Reload(hub, Config(), lambda: Config(hub=wanted.pop(0)), lambda _before, _after: None)
    await reloaded(reload, hub, lambda hub: hub.notices)
    assert codes(hub) == ["restart_needed"]
    assert "port 9999" in hub.notices[0].message
    await reloaded(reload, hub, lambda hub: not hub.notices)


# ---- a hub that is a process ----


@asynccontextmanager
async def running_program(file: Path) -> AsyncIterator[tuple[Site, Any]]:
    """A hub with the configuration in ``file``; it, and how to send it SIGHUP."""
    with program("hub", "--host", "127.0.0.1", "--port", "0", "--config", str(file)) as hub:
        port = await asyncio.to_thread(hub.port, "hub")
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(10)) as session:
            yield Site(port, session), lambda: hub.process.send_signal(signal.SIGHUP)


def text(*entries: NodeEntry, **more: object) -> str:
    nodes = [{"name": one.name, "host": one.host, "port": one.port, "alias": one.alias} for one in entries]
    return json.dumps({"nodes": nodes, **more})


async def names_when(hub: Site, names: list[str]) -> None:
    async def check() -> bool:
        return [node["name"] for node in await hub.get("/api/nodes")] == names

    await until(check)


async def notices_when(hub: Site, *expected: str) -> list[dict[str, Any]]:
    async def check() -> list[dict[str, Any]] | None:
        notices: list[dict[str, Any]] = (await hub.get("/health"))["notices"]
        return [*notices, {}] if [one["code"] for one in notices] == list(expected) else None

    found = await until(check)
    assert found is not None
    return found


async def test_sighup_reads_the_file_again_and_what_is_bad_is_kept_out(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    async with running_agent(AgentSection(name="elsewhere", interval_seconds=0.2)) as agent:
        polled = NodeEntry(name="polled", host="127.0.0.1", port=agent.port)
        quick = {"hub": {"poll_interval_seconds": 0.2}}
        file.write_text(text(polled, **quick))
        async with running_program(file) as (hub, hang_up):
            node = await hub.node_when("polled", lambda node: node["status"] == "online")
            since = node["status_since"]

            file.write_text(text(C, NodeEntry(name="renamed", host="127.0.0.1", port=agent.port), **quick))
            hang_up()
            await names_when(hub, ["c", "renamed"])
            node = await hub.node("renamed")
            assert (node["status"], node["status_since"]) == ("online", since)
            sequence = node["report"]["sequence"]
            await hub.node_when("renamed", lambda node: node["report"]["sequence"] > sequence)

            for bad in ('{"nodes": [', '{"nodes": [{"name": "a/b", "host": "x", "port": 0}]}', None):
                file.unlink()
                if bad is not None:
                    file.write_text(bad)
                hang_up()
                await notices_when(hub, "bad_configuration")
                await names_when(hub, ["c", "renamed"])
                file.write_text(text(C, NodeEntry(name="renamed", host="127.0.0.1", port=agent.port), **quick))
                hang_up()
                await notices_when(hub)
            assert (await hub.node("renamed"))["status_since"] == since

            (tmp_path / "other.json").write_text(text(C, hub={"port": 8080, "host": "0.0.0.0"}))
            link = tmp_path / "link"
            link.symlink_to(tmp_path / "other.json")
            link.replace(file)
            hang_up()
            await names_when(hub, ["c"])


async def test_a_file_that_is_written_again_and_again_while_it_is_read_leaves_a_whole_configuration(
    tmp_path: Path,
) -> None:
    file = tmp_path / "config.json"
    file.write_text(text(A))
    async with running_program(file) as (hub, hang_up):
        for number in range(200):
            many = [NodeEntry(name=f"n{number}-{index}", host="127.0.0.1", port=9) for index in range(50)]
            file.write_text(text(*many))
            hang_up()
            nodes = await hub.get("/api/nodes") if number % 10 == 0 else []
            assert len(nodes) in (0, 1, 50)
        await names_when(hub, [f"n199-{index}" for index in range(50)])
        await notices_when(hub)
