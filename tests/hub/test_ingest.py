"""Agents' connections, by real WebSockets to a real hub."""

import asyncio
import contextlib
import json
from collections import Counter

import pytest
import websockets
from websockets.asyncio.client import connect

from gpumon import wire
from gpumon.config import Config, NodeEntry
from gpumon.hub import admission, ingest
from gpumon.hub.core import Hub
from gpumon.wire import Close
from tests.hub.agents import hello, raw_agent, report
from tests.hub.clocks import SteppedClock
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
        ({"type": "gap", "first": 3, "last": 2, "count": 1}, "gap: count"),
        ({"type": "gap", "first": 3, "last": 4, "count": 3}, "gap: count"),
        ({"type": "gap", "first": 3, "last": 4, "count": 0}, "gap: count"),
        ({"type": "gap", "first": -3, "last": 4, "count": 1}, "first"),
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
    for protocol, older in ((0, "update the agent"), (3, "update the hub")):
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


async def test_after_a_cut_the_newest_comes_first_and_the_rest_in_its_turn(hub: Site) -> None:
    async with raw_agent(hub) as agent:
        await agent.say(hello())
        assert (await agent.hear())["late_reports_per_second"] == wire.LATE_REPORTS_PER_SECOND
        await agent.say({**report(9), "ahead": True})
        node = await hub.node_when("n", lambda node: node["report"])
        assert (node["report"]["sequence"], node["status"]) == (9, "online")
        await agent.say({"type": "gap", "first": 1, "last": 6, "count": 6})
        for sequence in (7, 8, 9):
            await agent.say(report(sequence, late=True))
        node = await hub.node_when("n", lambda node: node["reports_late"] == 3)
        assert (node["report"]["sequence"], node["reports_lost"]) == (9, 6)
    async with raw_agent(hub) as agent:
        await agent.say(hello())
        assert (await agent.hear())["last_sequence"] == 9
        await agent.say({"type": "gap", "first": 1, "last": 6, "count": 6})
        await agent.say(report(9, late=True))
        await agent.say(report(10))
        node = await hub.node_when("n", lambda node: node["report"]["sequence"] == 10)
        assert (node["reports_late"], node["reports_lost"]) == (3, 6)


async def test_many_agents_share_what_a_hub_takes_of_late_reports(monkeypatch: pytest.MonkeyPatch, hub: Site) -> None:
    monkeypatch.setattr(ingest, "LATE_REPORTS_PER_SECOND", 60.0)
    async with contextlib.AsyncExitStack() as stack:
        rates = []
        for number in range(3):
            agent = await stack.enter_async_context(raw_agent(hub))
            await agent.say(hello(node=f"n{number}"))
            rates.append((await agent.hear())["late_reports_per_second"])
        assert rates == [50, 30, 20]


async def test_an_agent_may_always_catch_up(monkeypatch: pytest.MonkeyPatch, hub: Site) -> None:
    monkeypatch.setattr(ingest, "LATE_REPORTS_PER_SECOND", 0.5)
    for interval, rate in ((0.2, 10), (1.0, 2), (0.0, 10)):
        async with raw_agent(hub) as agent:
            await agent.say(hello(boot=f"boot-{interval}", interval_seconds=interval))
            assert (await agent.hear())["late_reports_per_second"] == rate


async def test_beyond_a_hundred_handshakes_at_once_agents_are_asked_to_come_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(admission, "BURST", 3.0)
    monkeypatch.setattr(admission, "HANDSHAKES_PER_SECOND", 0.001)
    async with running_hub() as hub, contextlib.AsyncExitStack() as stack:
        for _ in range(3):
            await stack.enter_async_context(raw_agent(hub))
        with pytest.raises(websockets.InvalidStatus) as caught:
            await stack.enter_async_context(raw_agent(hub))
        assert caught.value.response.status_code == 503
        assert 1 <= int(caught.value.response.headers["Retry-After"]) <= 10
        assert (await hub.get("/health"))["status"] == "ok"


def test_the_bucket_fills_again() -> None:
    clock = SteppedClock()
    bucket = admission.Admission(clock.monotonic)
    assert sum(bucket.admits(None) for _ in range(1000)) == 100
    clock.advance(0.1)
    assert sum(bucket.admits(None) for _ in range(1000)) == 10
    clock.advance(3600)
    assert sum(bucket.admits(None) for _ in range(1000)) == 100
    assert {admission.retry_after() for _ in range(1000)} == set(range(1, 11))


def test_an_address_that_never_stops_leaves_the_others_their_share() -> None:
    clock = SteppedClock()
    bucket = admission.Admission(clock.monotonic)
    floods = Counter({"10.0.0.1": 0, "10.0.0.2": 0})
    for turn in range(200):
        for one in floods:
            floods[one] += sum(bucket.admits(one) for _ in range(100))
        assert bucket.admits("10.0.0.3"), turn
        assert bucket.admits(None), turn
        clock.advance(0.1)
    assert 20 * 20 < min(floods.values()) <= max(floods.values()) < 20 * 60


def test_a_fleet_behind_one_router_has_all_that_there_is_while_nobody_else_comes() -> None:
    clock = SteppedClock()
    bucket = admission.Admission(clock.monotonic)
    admitted = 0
    for _ in range(100):
        admitted += sum(bucket.admits("10.0.0.1") for _ in range(100))
        clock.advance(0.1)
    assert admitted >= 10 * 100


def test_an_address_from_which_too_many_were_not_welcome_has_little() -> None:
    clock = SteppedClock()
    bucket = admission.Admission(clock.monotonic)
    assert sum(bucket.admits("10.0.0.1", is_tired=True) for _ in range(1000)) == admission.TIRED_PER_SECOND
    clock.advance(1)
    assert sum(bucket.admits("10.0.0.1", is_tired=True) for _ in range(1000)) == admission.TIRED_PER_SECOND


async def test_a_link_that_falls_silent_is_ended(monkeypatch: pytest.MonkeyPatch, hub: Site) -> None:
    monkeypatch.setattr(ingest, "SILENCE_SECONDS", 1.0)
    async with raw_agent(hub) as agent:
        await agent.say(hello())
        await agent.hear()
        code, _ = await agent.closed()
    assert code == Close.TOO_SLOW


async def test_a_goodbye_and_a_broken_link_are_told_apart(hub: Site) -> None:
    for code, said in ((wire.GOODBYE, "goodbye"), (None, "lost"), (1000, "lost")):
        async with raw_agent(hub) as agent:
            await agent.say(hello(boot=str(code)))
            await agent.hear()
            await agent.say(report(1, boot=str(code)))
            await hub.node_when("n", lambda node: node["status"] == "online" and not node["verdict"])
            if code is None:
                agent.connection.transport.abort()
            else:
                await agent.connection.close(code)
            node = await hub.node_when("n", lambda node: node["verdict"])
            assert node["evidence"][0]["code"] == said
            assert node["status"] == "online"


async def test_what_an_agent_says_in_one_breath_is_taken_in_order(hub: Site) -> None:
    async with raw_agent(hub) as agent:
        await agent.say(hello())
        for sequence in range(1, 101):
            await agent.say(report(sequence))
        assert (await agent.hear())["type"] == "welcome"
        while (await agent.hear())["sequence"] < 96:
            pass
        await hub.node_when("n", lambda node: node["report"]["sequence"] == 100)


async def test_messages_in_pieces_between_pings_and_in_many_frames_are_taken(hub: Site) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", hub.port)
    writer.write(
        b"GET /api/push HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n"
        b"Sec-WebSocket-Protocol: gpumon.v1\r\n\r\n"
    )
    await reader.readuntil(b"\r\n\r\n")

    def frame(payload: bytes, first: int = 0x81) -> bytes:
        mask = b"\x01\x02\x03\x04"
        size = bytes([0x80 | len(payload)]) if len(payload) < 126 else b"\xfe" + len(payload).to_bytes(2)
        return bytes([first]) + size + mask + bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))

    def text(message: object) -> bytes:
        return json.dumps(message).encode()

    async def newest(sequence: int) -> None:
        await hub.node_when("n", lambda node: node["report"] and node["report"]["sequence"] == sequence)

    writer.write(frame(text(hello())))
    await reader.readuntil(b"}")
    for byte in frame(text(report(1, gpus=[{"index": 0, "name": "x" * 200}]))) + frame(b"ping", 0x89):
        writer.write(bytes([byte]))
        await writer.drain()
    await newest(1)
    await reader.readuntil(b"\x8a\x04ping")
    writer.write(frame(text(report(2))) + frame(b"", 0x8A) + frame(text(report(3))) + frame(text(report(4)))[:9])
    await newest(3)
    writer.write(frame(text(report(4)))[9:])
    await newest(4)
    whole = text(report(5))
    writer.write(frame(whole[:20], 0x01) + frame(b"", 0x89) + frame(whole[20:50], 0x00) + frame(whole[50:], 0x80))
    await newest(5)
    writer.write(frame(text(report(6))))
    await newest(6)
    writer.write(frame(b"\x03\xe8", 0x88))
    while await reader.read(1000):
        pass
    writer.close()


async def test_a_fault_of_the_hubs_own_ends_the_link_and_stands_in_the_log(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, hub: Site
) -> None:
    def fail(*_: object) -> None:
        raise LookupError("of the hub's own")

    monkeypatch.setattr(Hub, "take_gap", fail)
    async with raw_agent(hub) as agent:
        await agent.say(hello())
        await agent.hear()
        await agent.say({"type": "gap", "first": 1, "last": 1, "count": 1})
        assert (await agent.closed())[0] == Close.BAD_MESSAGE, "or its agent would say the same for ever"
    faults = [record for record in caplog.records if record.exc_info]
    assert [fault.exc_info and str(fault.exc_info[1]) for fault in faults] == ["of the hub's own"]
