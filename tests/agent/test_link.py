"""The agent's end of the wire: what it delivers, to real hubs and to hubs that lose, forget and refuse."""

import asyncio
import json
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection

from gpumon.agent.identity import Identity
from gpumon.agent.joining import Joining, TokenSource
from gpumon.agent.link import Link, push_url
from gpumon.agent.outbox import Outbox
from gpumon.agent.sample import Sample
from gpumon.agent.sampler import Sampler
from gpumon.agent.watchdog import Watchdog
from gpumon.config import DnsSection
from gpumon.model import Gpu
from gpumon.wire import Close
from tests.agent.hubs import QUICK, fake_hub, hear, hear_in_order, reporting_to, welcome
from tests.running import free_port, running_agent, running_hub, until_true


async def nobody() -> Joining:
    return Joining(Identity("a" * 32, None), TokenSource())


async def test_an_agent_reports_to_a_hub_and_says_who_it_is() -> None:
    async with running_hub() as hub, running_agent(reporting_to(hub.url), simulate=3, pace=QUICK) as agent:
        node = await hub.node_when("n", lambda node: node["status"] == "online")
        assert (node["source"], node["port"], len(node["report"]["gpus"])) == ("push", agent.port, 3)
        assert node["report"]["simulated"] is True


async def test_an_agent_says_which_agent_it_is_on_which_machine_and_stays_the_same() -> None:
    hellos: list[dict[str, Any]] = []

    async def listen(connection: ServerConnection) -> None:
        hellos.append(await welcome(connection))
        await connection.close(Close.GOING_AWAY)

    async with fake_hub(listen) as hub, running_agent(reporting_to(hub.url), pace=QUICK):
        await until_true(lambda: len(hellos) >= 2)
    assert len(hellos[0]["agent_id"]) == 32
    assert [hellos[0][key] for key in ("agent_id", "machine_id", "boot_id")] == [
        hellos[1][key] for key in ("agent_id", "machine_id", "boot_id")
    ]
    assert (hellos[0]["protocol"], hellos[0]["oldest_protocol"]) == (2, 1)
    assert hellos[0]["key"] == hellos[1]["key"]
    assert hellos[0]["nonce"] != hellos[1]["nonce"]


async def test_an_agent_finds_its_hub_whenever_that_starts_and_restarts() -> None:
    port = free_port()
    async with running_hub(port=port) as first:
        await first.get("/health")
    async with running_agent(reporting_to(f"http://127.0.0.1:{port}"), pace=QUICK):
        for _ in range(2):
            async with running_hub(port=port) as hub:
                await hub.node_when("n", lambda node: node["status"] == "online")


async def test_when_one_hub_fails_the_next_is_tried() -> None:
    async with running_hub() as hub, running_agent(reporting_to("http://127.0.0.1:9", hub.url), pace=QUICK):
        await hub.node_when("n", lambda node: node["status"] == "online")


async def test_what_was_not_acknowledged_is_sent_again_in_order_without_a_gap() -> None:
    heard: list[list[int]] = []

    async def never_acknowledges(connection: ServerConnection) -> None:
        await welcome(connection)
        heard.append([])
        while len(heard[-1]) < 3 * len(heard):
            heard[-1].append(await hear_in_order(connection))
        await connection.close(Close.GOING_AWAY)

    async with fake_hub(never_acknowledges) as hub, running_agent(reporting_to(hub.url), pace=QUICK):
        await until_true(lambda: len(heard) > 3)
    assert heard[:3] == [list(range(1, 3 * visit + 1)) for visit in (1, 2, 3)]


async def test_what_a_hub_has_is_not_sent_again() -> None:
    heard: list[int] = []

    async def remembers(connection: ServerConnection) -> None:
        await welcome(connection, last=len(heard))
        heard.extend([await hear_in_order(connection) for _ in range(3)])
        await connection.close(Close.GOING_AWAY)

    async with fake_hub(remembers) as hub, running_agent(reporting_to(hub.url), pace=QUICK):
        await until_true(lambda: len(heard) >= 9)
    assert heard[:9] == list(range(1, 10))


async def test_cuts_lose_nothing_and_repeat_nothing() -> None:
    """A hub that cuts the link in the middle of everything, and keeps a ledger."""
    ledger: list[int] = []
    cuts = iter([1, 7, 2, 12, 3, 30])
    outbox, sampler = Outbox(), Sampler(Still(), "n", 60)

    async def cut_off(connection: ServerConnection) -> None:
        await welcome(connection, last=ledger[-1] if ledger else 0, rate=1000)
        budget = next(cuts, 10_000)
        while budget and (sequence := await hear_in_order(connection)):
            ledger.append(sequence)
            budget -= 1
        connection.transport.abort()

    async def make_reports() -> None:
        for sequence in range(1, 301):
            outbox.put(sequence, json.dumps({"sequence": sequence}).encode())
            await asyncio.sleep(0.005)

    async with fake_hub(cut_off) as hub, asyncio.TaskGroup() as group:
        link = Link([hub.url], sampler, outbox, None, DnsSection(), nobody, Watchdog(), QUICK)
        task = group.create_task(link.run())
        group.create_task(make_reports())
        await until_true(lambda: len(ledger) >= 300)
        task.cancel()
    assert ledger == list(range(1, 301))


async def test_after_a_long_cut_the_newest_is_told_ahead_and_the_rest_late() -> None:
    messages: list[dict[str, Any]] = []
    outbox, sampler = Outbox(), Sampler(Still(), "n", 60)
    for sequence in range(1, 40):
        outbox.put(sequence, json.dumps({"sequence": sequence}).encode())

    async def listen(connection: ServerConnection) -> None:
        await welcome(connection, last=4, rate=1000)
        while len(messages) < 36:
            messages.append(await hear(connection))
        await connection.send('{"type": "ack", "sequence": 39}')

    async with fake_hub(listen) as hub, asyncio.TaskGroup() as group:
        link = Link([hub.url], sampler, outbox, None, DnsSection(), nobody, Watchdog(), QUICK)
        task = group.create_task(link.run())
        await until_true(lambda: len(outbox) == 0)
        task.cancel()
    assert (messages[0]["report"]["sequence"], messages[0]["ahead"]) == (39, True)
    assert [(one["report"]["sequence"], one["late"]) for one in messages[1:]] == [(n, True) for n in range(5, 40)]


class Still:
    """A machine without GPUs."""

    simulated = True

    async def read(self) -> Sample:
        return Sample()


class OnceAbsurd:
    """Gives one sample that no hub takes, and good ones before and after."""

    simulated = True

    def __init__(self) -> None:
        self.reads = 0

    async def read(self) -> Sample:
        self.reads += 1
        return Sample(gpus=[Gpu(index=0, utilization_percent=101 if self.reads == 3 else 1)])


async def test_a_report_that_the_hub_refuses_is_dropped_and_counted_and_the_rest_goes_on() -> None:
    async with running_hub() as hub, asyncio.TaskGroup() as group:
        sampler, outbox = Sampler(OnceAbsurd(), "n", 0.05), Outbox()
        link = Link([hub.url], sampler, outbox, None, DnsSection(), nobody, Watchdog(), QUICK)
        tasks = [group.create_task(sampler.run(outbox.put)), group.create_task(link.run())]
        await hub.node_when("n", lambda node: node["report"] and node["report"]["sequence"] > 5)
        for task in tasks:
            task.cancel()
    assert link.state().reports_dropped == 1


async def test_of_reports_that_were_told_ahead_the_refused_one_alone_is_lost() -> None:
    """The hub refuses report 20, first where it overtakes, then in its turn: 1 to 19 are innocent."""
    taken: list[int] = []
    gaps: list[dict[str, Any]] = []
    outbox, sampler = Outbox(), Sampler(Still(), "n", 60)
    for sequence in range(1, 21):
        outbox.put(sequence, json.dumps({"sequence": sequence}).encode())

    async def picky(connection: ServerConnection) -> None:
        await welcome(connection, last=taken[-1] if taken else 0, rate=1000)
        while True:
            message = await hear(connection)
            if message["type"] == "gap":
                gaps.append(message)
            elif message["report"]["sequence"] == 20:
                await connection.close(Close.BAD_MESSAGE, "report 20 is absurd")
            elif not message["ahead"]:
                taken.append(message["report"]["sequence"])

    async with fake_hub(picky) as hub, asyncio.TaskGroup() as group:
        link = Link([hub.url], sampler, outbox, None, DnsSection(), nobody, Watchdog(), QUICK)
        task = group.create_task(link.run())
        await until_true(lambda: bool(gaps))
        task.cancel()
    assert taken == list(range(1, 20))
    assert [(gap["first"], gap["last"], gap["count"]) for gap in gaps] == [(20, 20, 1)]


async def test_what_had_to_go_is_told_once_on_each_connection() -> None:
    talks: list[list[str]] = []
    outbox, sampler = Outbox(full_seconds=5, thinned_seconds=5), Sampler(Still(), "n", 60)
    for sequence in range(1, 11):
        outbox.put(sequence, json.dumps({"sequence": sequence}).encode())

    async def listen(connection: ServerConnection) -> None:
        await welcome(connection, last=8 if len(talks) == 2 else 0, rate=1000)
        talks.append([])
        while len(talks[-1]) < (2 if len(talks) == 3 else 7):
            message = await hear(connection)
            talks[-1].append(message["type"] + " ahead" * message.get("ahead", False))
        await connection.close(Close.GOING_AWAY)

    async with fake_hub(listen) as hub, asyncio.TaskGroup() as group:
        link = Link([hub.url], sampler, outbox, None, DnsSection(), nobody, Watchdog(), QUICK)
        task = group.create_task(link.run())
        await until_true(lambda: len(talks) >= 3 and len(talks[2]) == 2)
        task.cancel()
    assert talks[:2] == [["report ahead", "gap", *["report"] * 5]] * 2
    assert talks[2] == ["report ahead", "report"]


async def test_an_agent_that_is_told_to_end_says_what_is_fresh_and_goodbye() -> None:
    heard: list[object] = []
    outbox, sampler = Outbox(), Sampler(Still(), "n", 60)
    outbox.put(1, b'{"sequence": 1}')

    async def listen(connection: ServerConnection) -> None:
        await welcome(connection)
        heard.append(await hear_in_order(connection))
        heard.append(await hear_in_order(connection))
        await connection.wait_closed()
        heard.append((connection.close_code, connection.close_reason))

    async with fake_hub(listen) as hub, asyncio.TaskGroup() as group:
        link = Link([hub.url], sampler, outbox, None, DnsSection(), nobody, Watchdog(), QUICK)
        task = group.create_task(link.run())
        await until_true(lambda: heard)
        outbox.put(2, b'{"sequence": 2}')
        task.cancel()
        await until_true(lambda: len(heard) == 3)
    assert heard == [1, 2, (1001, "the agent stops")]


async def test_a_proxy_in_the_environment_is_not_meant_for_a_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "ws_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    async with running_hub() as hub, running_agent(reporting_to(hub.url), pace=QUICK):
        await hub.node_when("n", lambda node: node["status"] == "online")


@pytest.mark.parametrize(
    ("hub", "expected"),
    [
        ("http://hub:8080", "ws://hub:8080/api/push"),
        ("https://hub/gpumon/", "wss://hub/gpumon/api/push"),
        ("ws://[::1]:1", "ws://[::1]:1/api/push"),
    ],
)
def test_the_push_address_follows_from_the_hubs(hub: str, expected: str) -> None:
    assert push_url(hub) == expected
