"""Agents that say too much, too large, too often or what nobody may say, to a real hub; the others notice nothing."""

import asyncio
import contextlib
import json
import logging
from contextlib import AsyncExitStack
from typing import Any

import msgspec
import orjson
import pytest
import websockets

from gpumon import limits, wire
from gpumon.config import AgentSection
from gpumon.hub import admission
from gpumon.hub.admission import Allowance, NewNames
from gpumon.wire import Close
from tests.agent.hubs import QUICK
from tests.hub.agents import RawAgent, hello, raw_agent, report
from tests.hub.clocks import SteppedClock
from tests.running import Site, running_agent, running_hub, until, until_true

LARGE = "x" * wire.MAX_REPORT_BYTES
NAUGHTY = {
    "a colour of the terminal": "\x1b[31mred",
    "a line of its own": "a\r\nb",
    "NUL": "a\x00b",
    "DEL and C1": "a\x7fb\x85c\x9bd",
    "text turned around": "\u202eevil\u2066x\u2069",
    "marks of direction": "a\u200eb\u200fc\u061cd",
    "ends of lines of Unicode": "a\u2028b\u2029c",
    "what has no width": "a\u200bb\ufeffc",
    "a private sign": "a\ue000b",
    "tags": "a\U000e0041b",
}


async def joined(hub: Site, stack: AsyncExitStack, name: str = "n") -> RawAgent:
    agent = await stack.enter_async_context(raw_agent(hub))
    await agent.say(hello(node=name, boot=name))
    assert (await agent.hear())["type"] == "welcome"
    return agent


async def test_a_large_report_is_refused_with_a_reason_twice_and_the_third_time_its_link_ends(hub: Site) -> None:
    async with AsyncExitStack() as stack:
        agent = await joined(hub, stack)
        await agent.say(report(1, boot="n"))
        assert (await agent.hear())["sequence"] == 1
        for sequence in (2, 4):
            await agent.say(report(sequence, boot="n", padding=LARGE))
            answer = await agent.hear()
            assert answer["sequence"] == sequence  # it is not to be sent again
            assert answer["refused"].endswith("allowed: at most 262144")
            node = await hub.node("n")
            assert "allowed: at most 262144" in node["error"]["message"]
            assert node["report"]["sequence"] == sequence - 1
            await agent.say(report(sequence + 1, boot="n"))
            node = await hub.node_when("n", lambda node: not node["error"])
            assert node["report"]["sequence"] == sequence + 1
        await agent.say(report(6, boot="n", padding=LARGE))
        code, reason = await agent.closed()
        assert (code, "allowed: at most 262144" in reason) == (Close.BAD_MESSAGE, True)
        assert (await hub.node("n"))["reports_lost"] == 2


async def test_what_is_large_and_no_report_is_refused_as_well(hub: Site) -> None:
    async with AsyncExitStack() as stack:
        agent = await joined(hub, stack)
        for message in (LARGE + "{", {"type": "heartbeat", "more": LARGE}):
            await agent.say(message)
            assert "refused" in await agent.hear()
        await agent.say(LARGE + "{")
        assert (await agent.closed())[0] == Close.BAD_MESSAGE


async def test_a_large_report_that_was_told_ahead_comes_again_and_is_lost_then(hub: Site) -> None:
    async with AsyncExitStack() as stack:
        agent = await joined(hub, stack)
        await agent.say({**report(9, boot="n", padding=LARGE), "ahead": True})
        assert (await agent.hear())["sequence"] == 0
        await agent.say(report(9, boot="n", late=True, padding=LARGE))
        assert (await agent.hear())["sequence"] == 9
        assert (await hub.node("n"))["reports_lost"] == 1


async def test_ten_thousand_heartbeats_a_second_are_slowed_and_cut_off_and_others_are_on_time() -> None:
    async with running_hub() as hub, AsyncExitStack() as stack:
        other = await joined(hub, stack, "other")
        await other.say(report(1, node="other", boot="other"))
        await hub.node_when("other", lambda node: node["report"])
        flood = await joined(hub, stack, "flood")

        async def talk() -> None:
            with contextlib.suppress(websockets.ConnectionClosed):
                while True:
                    await flood.connection.send('{"type": "heartbeat"}')

        talking = asyncio.create_task(talk())
        sequence = 1
        while not talking.done():
            sequence += 1
            await other.say(report(sequence, node="other", boot="other"))
            while (await hub.node("other"))["report"]["sequence"] != sequence:
                assert not (await hub.node("other"))["error"]
        code, reason = await flood.closed()
        assert (code, reason) == (Close.TOO_FAST, "more than 70 messages a second")
        node = await hub.node("other")
        assert (node["status"], node["error"], node["report"]["sequence"]) == ("online", None, sequence)
        assert "more than 70 messages" in (await hub.node("flood"))["error"]["message"]


async def test_what_an_agent_says_too_fast_is_taken_in_its_own_time(monkeypatch: pytest.MonkeyPatch, hub: Site) -> None:
    monkeypatch.setattr(admission, "BURST_SECONDS", 0.1)
    monkeypatch.setattr(admission, "MOST_HELD_SECONDS", 0.2)
    async with AsyncExitStack() as stack:
        agent = await joined(hub, stack)
        padding = "x" * 60_000  # so that the hub reads them one by one
        sequence = 0

        async def is_too_fast() -> bool:
            nonlocal sequence
            for _ in range(30):
                sequence += 1
                await agent.say(report(sequence, boot="n", padding=padding))
            await hub.node_when("n", lambda node: node["report"] and node["report"]["sequence"] == sequence)
            return "too_many_messages" in (await hub.get("/health?verbose")).get("refused", {})

        await until(is_too_fast)  # at once, unless the machine has too much else to do


def test_an_allowance_fills_again_and_debts_are_paid() -> None:
    clock = SteppedClock()
    allowance = Allowance(20.0, clock.monotonic)
    assert allowance.left == 100
    allowance.left = -10
    assert allowance.hold_seconds() == 0.5
    assert allowance.hold_seconds() == 0  # it is held
    clock.advance(0.5)
    assert allowance.hold_seconds() == 0
    assert allowance.left == 0
    clock.advance(1000)
    allowance.left = -1
    assert allowance.hold_seconds() == 0
    assert allowance.left == 100
    allowance.left = -150
    assert allowance.hold_seconds() == admission.MOST_HELD_SECONDS
    allowance.left = -201
    assert allowance.hold_seconds() == float("inf")


async def test_names_that_are_made_up_and_given_up_are_refused_and_a_fleet_is_not(
    monkeypatch: pytest.MonkeyPatch, hub: Site
) -> None:
    monkeypatch.setattr(limits, "is_spared", lambda _: False)
    async with AsyncExitStack() as stack:
        for number in range(2 * admission.NEW_NAMES):
            await joined(hub, stack, f"fleet-{number}")
        for number in range(admission.NEW_NAMES):
            async with AsyncExitStack() as one:
                await joined(hub, one, f"made-up-{number}")

        async def are_given_up() -> bool:
            nodes = await hub.get("/api/nodes")
            return all(node["verdict"] for node in nodes if node["name"].startswith("made-up"))

        await until(are_given_up)
        async with raw_agent(hub) as agent:
            await agent.say(hello(node="one-more"))
            code, reason = await agent.closed()
        assert (code, "new names" in reason) == (Close.TOO_MANY, True)
        assert "one-more" not in {node["name"] for node in await hub.get("/api/nodes")}
        assert (await hub.get("/health?verbose"))["refused"] == {"too_many_agents": 1}
        async with AsyncExitStack() as again:  # one that is known may always come back
            await joined(hub, again, "made-up-0")


def test_names_may_be_given_up_when_a_minute_has_passed() -> None:
    clock = SteppedClock()
    names = NewNames(clock.monotonic)
    for number in range(admission.NEW_NAMES):
        assert names.admits("a", f"n{number}", lambda _: True)
    assert not names.admits("a", "more", lambda _: True)
    assert names.admits("a", "more", lambda _: False)  # the others hold their links
    assert names.admits("b", "n", lambda _: True)
    clock.advance(60)
    assert names.admits("a", "more", lambda _: True)


async def test_agents_that_are_welcome_do_not_count_among_the_connections_of_their_address(
    monkeypatch: pytest.MonkeyPatch, hub: Site
) -> None:
    monkeypatch.setattr(limits, "is_spared", lambda _: False)
    async with AsyncExitStack() as stack:
        for number in range(limits.MAX_CONNECTIONS + 10):
            await joined(hub, stack, f"n{number}")
        assert (await hub.get("/health"))["status"] == "ok"


@pytest.mark.parametrize("ascii_only", [True, False])
@pytest.mark.parametrize("case", NAUGHTY)
async def test_text_that_cannot_be_shown_is_replaced_where_it_comes_in(hub: Site, case: str, ascii_only: bool) -> None:
    text = NAUGHTY[case]
    async with AsyncExitStack() as stack:
        agent = await joined(hub, stack)
        fault = {"code": "x", "message": text, "hint": text}
        process = {"pid": 1, "name": text, "user": text, "command": text, "container": text, "job": text}
        gpu = {"index": 0, "name": text, "error": fault, "processes": [process], "unavailable": {text: "lost"}}
        message = report(1, boot="n", gpus=[gpu], error=fault, advice=[fault], hostname=text, driver_version=text)
        await agent.say(json.dumps(message, ensure_ascii=ascii_only))
        node = await hub.node_when("n", lambda node: node["report"])
    seen = strings(node["report"])
    shown = "".join(sign if sign.isprintable() else "\ufffd" for sign in text)
    assert shown in seen
    assert all(one.isprintable() for one in seen)


def strings(value: Any) -> list[str]:
    """Every text in ``value``, keys as well."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [one for pair in value.items() for part in pair for one in strings(part)]
    return [one for part in value for one in strings(part)] if isinstance(value, list) else []


async def test_names_in_every_script_are_left_as_they_are(hub: Site) -> None:
    text = 'Ünïcode "quoted" \\ 中文 العربية می\u200cخواهم 🚀👩\u200d👧'
    async with AsyncExitStack() as stack:
        for number, escaped in enumerate((True, False), 1):
            agent = await joined(hub, stack, f"n{number}")
            message = report(1, node=f"n{number}", boot=f"n{number}", hostname=text)
            await agent.say(json.dumps(message, ensure_ascii=escaped))
            node = await hub.node_when(f"n{number}", lambda node: node["report"])
            assert node["report"]["hostname"] == text


class Nothing(msgspec.Struct):
    """All that it is read from is unknown."""


def is_read(inside: str) -> bool:
    """Whether this Python goes so deep: its version decides, and since 3.14 its stack."""
    try:
        msgspec.json.decode(f"{{{inside}}}", type=Nothing)
    except RecursionError:
        return False
    return True


TOO_DEEP = "nested too deeply"
BOMBS: dict[str, tuple[str, str | None]] = {
    "unknown and 17 deep": ('"more": ' + "[" * 17 + "]" * 17, None),
    "unknown and 255 deep": ('"more": ' + "[" * 255 + "]" * 255, None),
    "unknown and 1025 deep": ('"more": ' + '{"a":' * 1025 + "1" + "}" * 1025, TOO_DEEP),
    "unknown and 100,000 deep": ('"more": ' + "[" * 100_000 + "]" * 100_000, TOO_DEEP),
    "known and 17 deep": ('"gpus": ' + "[" * 17 + "]" * 17, "Expected `object`, got `array`"),
    "known and 100,000 deep": ('"gpus": ' + "[" * 100_000 + "]" * 100_000, "Expected `object`, got `array`"),
    "open for ever": ('"gpus": [' + '{"index": 0, "processes": [' * 1000, "not"),
    "2^53 + 1": ('"gpus": [{"index": 0, "memory_used_bytes": 9007199254740993}]', "<= 9007199254740992"),
    "2^64": ('"gpus": [{"index": 0, "memory_used_bytes": 18446744073709551616}]', "<= 9007199254740992"),
    "10^5000": ('"gpus": [{"index": 0, "memory_used_bytes": 1' + "0" * 5000 + "}]", "out of range"),
    "1e400": ('"gpus": [{"index": 0, "power_draw_watts": 1e400}]', "out of range"),
    "-1e400": ('"gpus": [{"index": 0, "power_draw_watts": -1e400}]', "out of range"),
    "a number that is none": ('"gpus": [{"index": 0, "power_draw_watts": NaN}]', "not JSON"),
    "an infinite number": ('"gpus": [{"index": 0, "power_draw_watts": -Infinity}]', "not JSON"),
    "an unknown 10^5000": ('"more": 1' + "0" * 5000, None),
    "an unknown 1e400": ('"more": 1e400', None),
    "minus nought": ('"gpus": [{"index": -0, "power_draw_watts": -0.0}]', None),
    "half of a pair": ('"hostname": "\\ud800"', "not JSON"),
    "the other half": ('"hostname": "\\udc00"', "not JSON"),
    "half of a pair where nobody looks": ('"more": "\\ud800"', "not JSON"),
    "a key twice": ('"hostname": "a", "hostname": "b"', None),
    "a text of 200 kB": ('"hostname": "' + "x" * 200_000 + '"', "length <= 256"),
    "10,000 unknown keys": (", ".join(f'"key{number}": 1' for number in range(10_000)), None),
    "65 reasons": (
        '"gpus": [{"index": 0, "unavailable": {' + ", ".join(f'"key{n}": "lost"' for n in range(65)) + "}}]",
        "length <= 64",
    ),
    "keys of JavaScript's own": (
        '"__proto__": {"a": 1}, "constructor": 1, "gpus": [{"index": 0, "unavailable": {"__proto__": "lost"}}]',
        None,
    ),
    "129 GPUs": ('"gpus": [' + ", ".join(['{"index": 0}'] * 129) + "]", "length <= 128"),
    "513 processes of a GPU": (
        '"gpus": [{"index": 0, "processes": [' + ", ".join(['{"pid": 1}'] * 513) + "]}]",
        "length <= 512",
    ),
    "2,048 processes of a node": (
        '"gpus": [' + ", ".join(['{"index": 0, "processes": [' + ", ".join(['{"pid": 1}'] * 512) + "]}"] * 4) + "]",
        "2048 processes",
    ),
    "130 slices of GPUs": (
        '"gpus": [' + ", ".join(['{"index": 0, "mig_devices": [' + ", ".join(['{"index": 1}'] * 26) + "]}"] * 5) + "]",
        "130 MIG devices",
    ),
    "2,048 processes of slices": (
        '"gpus": [{"index": 0, "mig_devices": ['
        + ", ".join(['{"index": 0, "processes": [' + ", ".join(['{"pid": 1}'] * 512) + "]}"] * 4)
        + "]}]",
        "2048 processes",
    ),
}


@pytest.mark.parametrize("case", BOMBS)
async def test_json_that_is_a_trap_is_refused_or_read_without_it(hub: Site, case: str) -> None:
    inside, expected = BOMBS[case]
    message = json.dumps(report(1, boot="n"))[:-2] + f", {inside}}}}}"
    async with AsyncExitStack() as stack:
        agent = await joined(hub, stack)
        await agent.say(message)
        if expected is None or (expected is TOO_DEEP and is_read(inside)):
            node = await hub.node_when("n", lambda node: node["report"])
            assert "more" not in node["report"]
        else:
            code, _ = await agent.closed()
            assert code == Close.BAD_MESSAGE
            node = await hub.node_when("n", lambda node: node["error"])
            assert expected in node["error"]["message"]
    for path in ("/api/nodes", "/api/nodes/n", "/health"):  # what was taken can be told
        async with hub.session.get(hub.url + path) as response:
            assert response.status == 200
            orjson.loads(await response.read())


async def test_nobody_is_told_of_a_refusal_but_in_numbers(hub: Site) -> None:
    async with AsyncExitStack() as stack:
        agent = await joined(hub, stack)
        await agent.say("}{")
        await agent.closed()
        assert "refused" not in await hub.get("/health")
        health = await hub.get("/health?verbose")
        assert health["refused"] == {"bad_message": 1}


async def test_strangers_that_say_no_hello_or_another_protocol_write_no_line_each(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with running_hub() as hub, AsyncExitStack() as stack:
        for number in range(5):
            async with raw_agent(hub) as agent:
                await agent.say(hello(node=f"n{number}", protocol=99, oldest_protocol=99))
                assert (await agent.closed())[0] == Close.PROTOCOL
        for agent in [await stack.enter_async_context(raw_agent(hub)) for _ in range(5)]:
            assert (await agent.closed())[0] == Close.TOO_SLOW
        assert (await hub.get("/health?verbose"))["refused"] == {"bad_message": 5, "silent_connection": 5}
    warned = [record.name for record in caplog.records if record.levelno >= logging.WARNING]
    assert [name for name in warned if name.startswith("gpumon.")] == ["gpumon.refusals"] * 2


async def test_an_agent_says_which_of_its_reports_a_hub_refused_and_goes_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, hub: Site
) -> None:
    monkeypatch.setattr(wire, "MAX_REPORT_BYTES", 1000)
    settings = AgentSection(hub=[hub.url], name="n", interval_seconds=0.2)
    async with running_agent(settings, simulate="a100:1", pace=QUICK):
        await until_true(lambda: "refused a report, which is lost" in caplog.text)
        monkeypatch.undo()
        await hub.node_when("n", lambda node: node["report"])
    assert "allowed: at most 1000" in caplog.text


async def test_what_the_gate_turns_away_is_counted_as_well(hub: Site) -> None:
    for headers, status in (
        ({"Host": "rebound.example"}, 403),
        ({"Origin": "http://rebound.example"}, 403),
        ({"Authorization": "Bearer guessed"}, 401),
    ):
        async with hub.session.get(f"{hub.url}/api/nodes", headers=headers) as response:
            assert response.status == status
    async with hub.session.post(f"{hub.url}/api/login", json={"token": "guessed"}) as response:
        assert response.status == 401
    assert (await hub.get("/health?verbose"))["refused"] == {"foreign_request": 2, "no_token": 1, "failed_login": 1}
