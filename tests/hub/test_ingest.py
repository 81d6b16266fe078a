"""Agents' connections, by real WebSockets to a real hub."""

import pytest
import websockets
from websockets.asyncio.client import connect

from gpumon import wire
from gpumon.config import Config, NodeEntry
from gpumon.wire import Close
from tests.hub.agents import hello, raw_agent, report
from tests.running import Site, running_hub


async def test_an_agent_is_welcomed_taken_and_acknowledged(hub: Site) -> None:
    async with raw_agent(hub) as agent:
        await agent.say(hello(port=8081))
        welcome = await agent.hear()
        assert (welcome["type"], welcome["protocol"], welcome["last_sequence"]) == ("welcome", 1, 0)
        await agent.say(report(1))
        assert await agent.hear() == {"type": "ack", "sequence": 1}
        node = await hub.node_when("n", lambda node: node["report"])
        assert (node["status"], node["source"], node["configured"]) == ("online", "push", False)
        assert (node["host"], node["port"], node["address"]) == ("h", 8081, "127.0.0.1")


async def test_an_agent_that_comes_back_hears_what_the_hub_has(hub: Site) -> None:
    async with raw_agent(hub) as agent:
        await agent.say(hello())
        await agent.hear()
        for sequence in range(1, 6):
            await agent.say(report(sequence))
        await hub.node_when("n", lambda node: node["report"] and node["report"]["sequence"] == 5)
    async with raw_agent(hub) as agent:
        await agent.say(hello())
        assert (await agent.hear())["last_sequence"] == 5
    async with raw_agent(hub) as agent:
        await agent.say(hello(boot="boot-2"))
        assert (await agent.hear())["last_sequence"] == 0


async def test_late_reports_do_not_touch_the_present(hub: Site) -> None:
    async with raw_agent(hub) as agent:
        await agent.say(hello())
        await agent.hear()
        await agent.say(report(7))
        await hub.node_when("n", lambda node: node["report"])
        await agent.say(report(8, late=True))
        await agent.say(report(9, hostname="newest"))
        node = await hub.node_when("n", lambda node: node["report"]["sequence"] != 7)
        assert node["report"]["hostname"] == "newest"


async def test_the_connection_ends_and_the_node_stays_with_its_numbers(hub: Site) -> None:
    async with raw_agent(hub) as agent:
        await agent.say(hello())
        await agent.hear()
        await agent.say(report(1))
        await hub.node_when("n", lambda node: node["status"] == "online")
    node = await hub.node_when("n", lambda node: node["status"] == "stale")
    assert node["report"]["sequence"] == 1


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("hello", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        ({"type": "goodbye"}, "goodbye"),
        ({"type": "hello"}, "missing required field"),
        (report(1), "first message must be hello"),
        ({"type": "heartbeat"}, "first message must be hello"),
        (hello(node=""), "node"),
        (hello(node="a/b"), "$.node"),
        (hello(node="a\nb"), "$.node"),
        (hello(node="x" * 300), "node"),
        (hello(interval_seconds="soon"), "interval_seconds"),
        ("[" * 50_000, "not as agreed"),
    ],
    ids=lambda value: repr(value)[:40],
)
async def test_garbage_before_hello_ends_that_connection_with_a_reason(
    hub: Site, message: object, expected: str
) -> None:
    async with raw_agent(hub) as agent:
        await agent.say(message)
        code, reason = await agent.closed()
    assert code == Close.BAD_MESSAGE
    assert expected in reason
    assert await hub.get("/api/nodes") == []


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("}{", "not JSON"),
        (report(1, node="other"), "node and boot_id"),
        (report(1, boot="other"), "node and boot_id"),
        (report(0), "sequence 1 or more"),
        (report(2, gpus=[{"index": 0, "temperature_celsius": "hot"}]), "temperature_celsius"),
        (report(2, gpus=[{"index": 0, "memory_used_bytes": -1}]), "memory_used_bytes"),
        (report(2, gpus=[{"index": n} for n in range(200)]), "gpus"),
        (hello(), "hello is said once"),
    ],
    ids=lambda value: repr(value)[:40],
)
async def test_garbage_after_hello_is_that_nodes_error_and_nobody_elses(
    hub: Site, message: object, expected: str
) -> None:
    async with raw_agent(hub) as bystander, raw_agent(hub) as agent:
        await bystander.say(hello(node="good", boot="good"))
        await bystander.hear()
        await agent.say(hello())
        await agent.hear()
        await agent.say(report(1))
        await hub.node_when("n", lambda node: node["report"])
        await agent.say(message)
        code, _ = await agent.closed()
        assert code == Close.BAD_MESSAGE
        node = await hub.node_when("n", lambda node: node["error"])
        assert expected in node["error"]["message"]
        assert node["report"]["sequence"] == 1
        await bystander.say(report(1, node="good", boot="good"))
        good = await hub.node_when("good", lambda node: node["status"] == "online")
        assert good["error"] is None


async def test_another_protocol_is_told_what_to_update(hub: Site) -> None:
    for protocol, older in ((0, "update the agent"), (2, "update the hub")):
        async with raw_agent(hub) as agent:
            await agent.say(hello(protocol=protocol, oldest_protocol=protocol))
            code, reason = await agent.closed()
        assert code == Close.PROTOCOL
        assert older in reason


async def test_of_two_agents_with_one_name_the_first_stays(hub: Site) -> None:
    async with raw_agent(hub) as first:
        await first.say(hello())
        await first.hear()
        await first.say(report(1))
        await first.hear()
        async with raw_agent(hub) as second:
            await second.say(hello(boot="boot-2"))
            code, reason = await second.closed()
        assert code == Close.NAME_TAKEN
        assert "--name" in reason
        await first.say(report(2))
        await hub.node_when("n", lambda node: node["report"]["sequence"] == 2)


async def test_the_same_agent_may_take_over_from_itself(hub: Site) -> None:
    async with raw_agent(hub) as first:
        await first.say(hello())
        await first.hear()
        async with raw_agent(hub) as second:
            await second.say(hello())
            await second.hear()
            code, _ = await first.closed()
            assert code == Close.REPLACED
            await second.say(report(1))
            node = await hub.node_when("n", lambda node: node["report"])
            assert node["status"] == "online"


async def test_who_does_not_offer_the_subprotocol_is_refused_before_the_upgrade(hub: Site) -> None:
    with pytest.raises(websockets.InvalidStatus) as caught:
        await connect(hub.url.replace("http", "ws") + "/api/push", proxy=None)
    assert caught.value.response.status_code == 400
    assert b"gpumon.v1" in (caught.value.response.body or b"")


async def test_an_oversized_message_ends_that_connection(hub: Site) -> None:
    async with raw_agent(hub) as agent:
        await agent.say(hello())
        await agent.hear()
        await agent.say("x" * (wire.MAX_MESSAGE_BYTES + 1))
        code, _ = await agent.closed()
    assert code == 1009


async def test_a_configured_node_that_pushes_keeps_its_place_and_alias() -> None:
    entries = [NodeEntry(name=name, host="127.0.0.1", port=9, alias=name.upper()) for name in ("second", "n")]
    async with running_hub(Config(nodes=entries)) as hub, raw_agent(hub) as agent:
        await agent.say(hello())
        await agent.hear()
        await agent.say(report(1))
        node = await hub.node_when("n", lambda node: node["status"] == "online")
        assert (node["alias"], node["configured"], node["port"]) == ("N", True, 9)
        assert [one["name"] for one in await hub.get("/api/nodes")] == ["second", "n"]
