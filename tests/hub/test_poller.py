"""Polling real servers that answer well, badly, endlessly or not at all."""

import asyncio
import contextlib
import gzip
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gpumon.config import AgentSection, Config, HubSection, NodeEntry
from gpumon.errors import PollError
from gpumon.hub import fetch, poller
from gpumon.hub.core import Hub
from gpumon.hub.fetch import fetching
from gpumon.hub.poller import Poller
from gpumon.model import Resolution
from gpumon.resolver import Resolver
from tests.hub.strangers import (
    Handler,
    answer,
    black_hole,
    endless,
    endless_head,
    hangs_up,
    not_http,
    silent,
    stranger,
    trickle,
)
from tests.running import running_agent, running_hub, until_true

QUICK = HubSection(poll_interval_seconds=0.2)


def polling(*entries: NodeEntry) -> Config:
    return Config(nodes=list(entries), hub=QUICK)


async def test_a_node_that_does_not_push_is_polled() -> None:
    async with running_agent(AgentSection(name="elsewhere", interval_seconds=0.2)) as agent:
        config = polling(NodeEntry(name="n", host="localhost", port=agent.port, alias="Polled"))
        async with running_hub(config) as hub:
            node = await hub.node_when("n", lambda node: node["status"] == "online")
            assert (node["source"], node["alias"], node["address"]) == ("poll", "Polled", "127.0.0.1")
            assert node["report"]["simulated"] is True
            first = node["report"]["sequence"]
            await hub.node_when("n", lambda node: node["report"]["sequence"] > first + 2)


OLD_ANSWER = {"node_name": "old", "timestamp": 1777636800, "gpus": [{"id": "0:17:00.0", "temperature": 0}]}
GOOD_ANSWER = {"node": "x", "gpus": []}


async def test_the_old_program_is_polled_as_it_is() -> None:
    async with stranger(answer(json.dumps(OLD_ANSWER).encode())) as port:
        async with running_hub(polling(NodeEntry(name="old", host="127.0.0.1", port=port))) as hub:
            node = await hub.node_when("old", lambda node: node["status"] == "online")
            gpu = node["report"]["gpus"][0]
            assert (gpu["pci_bus_id"], gpu["temperature_celsius"]) == ("0:17:00.0", None)
            assert gpu["unavailable"]["temperature_celsius"] == "no_data"


@pytest.mark.parametrize(
    ("handler", "code", "expected"),
    [
        pytest.param(answer(b"<html>hello</html>"), "bad_answer", "HTML", id="html"),
        pytest.param(answer(b"no\x1b[31m driver\n", "500 Oops"), "bad_status", "status 500: no [31m driver", id="500"),
        pytest.param(answer(b"", "302 Found", "Location: /x\r\n"), "bad_status", "status 302", id="redirect"),
        pytest.param(answer(b'{"node": 5}'), "bad_answer", "$.node", id="wrong type"),
        pytest.param(answer(b"{"), "bad_answer", "not JSON", id="broken JSON"),
        pytest.param(
            answer(gzip.compress(bytes(10**8)), headers="Content-Encoding: gzip\r\n"), "bad_answer", "gzip", id="bomb"
        ),
        pytest.param(endless_head, "bad_answer", "not proper HTTP", id="endless head"),
        pytest.param(trickle, "no_answer", "within 5 s", id="trickle"),
        pytest.param(endless, "answer_too_long", "longer than 1048576 bytes", id="endless"),
        pytest.param(hangs_up, "bad_answer", "closed the connection", id="hangs up"),
        pytest.param(not_http, "bad_answer", "not proper HTTP", id="not HTTP"),
        pytest.param(silent, "no_answer", "within 5 s", id="silent"),
    ],
)
async def test_what_is_wrong_with_one_node_is_its_error_in_words_and_nobody_elses(
    handler: Handler, code: str, expected: str
) -> None:
    async with stranger(handler) as bad, stranger(answer(json.dumps(GOOD_ANSWER).encode())) as good:
        entries = [
            NodeEntry(name="bad", host="127.0.0.1", port=bad),
            NodeEntry(name="good", host="127.0.0.1", port=good),
        ]
        async with running_hub(polling(*entries)) as hub:
            node = await hub.node_when("bad", lambda node: node["error"])
            assert node["error"]["code"] == code
            assert expected in node["error"]["message"]
            assert "\n" not in node["error"]["message"]
            assert node["report"] is None
            well = await hub.node_when("good", lambda node: node["status"] == "online")
            assert well["error"] is None


async def test_a_refusal_no_connection_and_no_such_name_are_told_apart() -> None:
    entries = [NodeEntry(name="closed", host="127.0.0.1", port=9), NodeEntry(name="unknown", host="nowhere.invalid")]
    with black_hole() as port:
        entries.append(NodeEntry(name="gone", host="127.0.0.1", port=port))
        async with running_hub(polling(*entries)) as hub:
            gone = await hub.node_when("gone", lambda node: node["error"])
            assert gone["error"]["code"] == "unreachable"
            assert "nothing heard within 3 s" in gone["error"]["message"]
    async with running_hub(polling(*entries)) as hub:
        closed = await hub.node_when("closed", lambda node: node["error"])
        assert closed["error"]["code"] == "refused"
        assert "refused" in closed["error"]["message"]
        unknown = await hub.node_when("unknown", lambda node: node["error"])
        assert unknown["error"]["code"] == "name_unknown"
        assert closed["status"] == unknown["status"] == "pending"


async def test_a_node_that_pushes_is_not_polled_and_is_polled_again_when_push_ends() -> None:
    requests = 0

    async def count(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal requests
        requests += 1
        await answer(json.dumps(GOOD_ANSWER).encode())(reader, writer)

    async with stranger(count) as port, running_hub(polling(NodeEntry(name="n", host="127.0.0.1", port=port))) as hub:
        await hub.node_when("n", lambda node: node["source"] == "poll")
        settings = AgentSection(name="n", hub=[hub.url], interval_seconds=0.2)
        async with running_agent(settings):
            node = await hub.node_when("n", lambda node: node["source"] == "push")
            before, first = requests, node["report"]["sequence"]
            await hub.node_when("n", lambda node: node["report"]["sequence"] > first + 5)
            assert requests <= before + 1  # one may have been under way
        await hub.node_when("n", lambda node: node["source"] == "poll")


async def test_a_node_that_recovers_loses_its_error() -> None:
    async with running_hub(polling(NodeEntry(name="n", host="127.0.0.1", port=9))) as hub:
        await hub.node_when("n", lambda node: node["error"])
    broken = [answer(b"{")]

    async def at_first_broken(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        handler = broken.pop() if broken else answer(json.dumps(GOOD_ANSWER).encode())
        await handler(reader, writer)

    async with stranger(at_first_broken) as port:
        async with running_hub(polling(NodeEntry(name="n", host="127.0.0.1", port=port))) as hub:
            await hub.node_when("n", lambda node: node["status"] == "online" and node["error"] is None)


def names(tmp_path: Path, *addresses: str) -> Resolver:
    """A resolver that knows ``node.lab``."""
    hosts = tmp_path / "hosts"
    hosts.write_text("".join(f"{address} node.lab\n" for address in addresses))
    return Resolver(None, hosts)


async def test_every_address_of_a_node_is_tried_the_last_good_one_first(tmp_path: Path) -> None:
    resolver = names(tmp_path, "127.0.0.2", "127.0.0.1")  # only the second has the port
    async with stranger(answer(json.dumps(GOOD_ANSWER).encode())) as port, fetching(resolver) as fetcher:
        entry = NodeEntry(name="n", host="node.lab", port=port)
        assert (await fetcher.report(entry)).address == "127.0.0.1"
        assert (await fetcher.report(entry, prefer="127.0.0.1")).address == "127.0.0.1"
        assert (await fetcher.report(entry, prefer="192.0.2.9")).address == "127.0.0.1"


async def test_an_address_that_is_silent_leaves_time_for_the_others(tmp_path: Path) -> None:
    resolver = names(tmp_path, "127.0.0.1", "127.0.0.2")
    with black_hole() as port:
        server = await asyncio.start_server(answer(json.dumps(GOOD_ANSWER).encode()), "127.0.0.2", port)
        async with server, fetching(resolver) as fetcher:
            assert (await fetcher.report(NodeEntry(name="n", host="node.lab", port=port))).address == "127.0.0.2"


async def test_of_several_addresses_a_refusal_says_most(tmp_path: Path) -> None:
    with black_hole() as port:
        async with fetching(names(tmp_path, "127.0.0.1", "127.0.0.2")) as fetcher:
            with pytest.raises(PollError) as caught:
                await fetcher.report(NodeEntry(name="n", host="node.lab", port=port))
            assert (caught.value.code, caught.value.address) == ("refused", "127.0.0.2")


async def test_how_its_host_became_addresses_is_part_of_a_node() -> None:
    async with stranger(answer(json.dumps(GOOD_ANSWER).encode())) as port:
        entries = [
            NodeEntry(name="name", host="localhost", port=port),
            NodeEntry(name="address", host="127.0.0.1", port=port),
        ]
        async with running_hub(polling(*entries)) as hub:
            node = await hub.node_when("name", lambda node: node["resolution"])
            assert node["resolution"]["host"] == "localhost"
            assert "127.0.0.1" in node["resolution"]["addresses"]
            assert node["resolution"]["server"] in ("the hosts file", "this machine")
            address = await hub.node_when("address", lambda node: node["status"] == "online")
            assert (address["resolution"], address["address"]) == (None, "127.0.0.1")


def test_the_same_answer_told_again_changes_nothing() -> None:
    hub = Hub([NodeEntry(name="n", host="node.lab")])
    member = hub.fleet.get("n")
    assert member is not None
    told = Resolution(
        host="node.lab", addresses=["10.0.0.1"], server="multicast DNS", answered_at="2026-01-01", ttl_seconds=10
    )
    hub.resolved(member, told)
    version, node = hub.fleet.version, hub.fleet.encoded("n")
    hub.resolved(member, told)
    assert (hub.fleet.version, hub.fleet.encoded("n")) == (version, node)
    hub.resolved(member, None)
    assert hub.fleet.version > version


class Counted:
    """Counts the requests of a handler, and how many are under way at once."""

    def __init__(self, handler: Handler) -> None:
        self.requests = self.at_once = self.most_at_once = 0
        self._handler = handler

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.requests += 1
        self.at_once += 1
        self.most_at_once = max(self.at_once, self.most_at_once)
        try:
            await self._handler(reader, writer)
        finally:
            self.at_once -= 1


async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(0.5)
    await answer(json.dumps(GOOD_ANSWER).encode())(reader, writer)


async def test_a_node_that_is_slower_than_the_interval_is_asked_one_thing_at_a_time() -> None:
    counted = Counted(slow)
    async with stranger(counted) as port, running_hub(polling(NodeEntry(name="n", host="127.0.0.1", port=port))):
        await until_true(lambda: counted.requests > 3)
    assert counted.most_at_once == 1


@asynccontextmanager
async def running_poller(hub: Hub, entries: list[NodeEntry]) -> AsyncIterator[Poller]:
    one = Poller(hub, entries, Resolver())
    task = asyncio.create_task(one.run())
    try:
        yield one
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def test_polling_follows_the_configuration_and_leaves_alone_what_did_not_change() -> None:
    kept, moved, gone, new = (Counted(answer(json.dumps(GOOD_ANSWER).encode())) for _ in range(4))
    async with (
        stranger(kept) as kept_port,
        stranger(moved) as moved_port,
        stranger(gone) as gone_port,
        stranger(new) as new_port,
    ):
        stays = NodeEntry(name="stays", host="127.0.0.1", port=kept_port)
        moves = NodeEntry(name="moves", host="127.0.0.1", port=gone_port)
        leaves = NodeEntry(name="leaves", host="127.0.0.1", port=gone_port)
        comes = NodeEntry(name="comes", host="127.0.0.1", port=new_port)
        hub = Hub([stays, moves, leaves, comes], QUICK)
        async with running_poller(hub, [stays, moves, leaves]) as one:
            await until_true(lambda: kept.requests and gone.requests > 3)
            task = next(task for task in asyncio.all_tasks() if task.get_name() == "poll stays")
            one.reconfigure([comes, NodeEntry(name="moves", host="127.0.0.1", port=moved_port), stays], Resolver())
            await until_true(lambda: new.requests > 2 and moved.requests > 2)
            before, seen = gone.requests, kept.requests
            await until_true(lambda: kept.requests > seen + 3)
            assert gone.requests == before
            assert {name for task in asyncio.all_tasks() if (name := task.get_name()).startswith("poll ")} == {
                "poll stays",
                "poll moves",
                "poll comes",
            }
            assert not task.done()


async def test_a_fleet_without_nodes_may_get_some() -> None:
    counted = Counted(answer(json.dumps(GOOD_ANSWER).encode()))
    async with stranger(counted) as port:
        entry = NodeEntry(name="n", host="127.0.0.1", port=port)
        async with running_poller(Hub([entry], QUICK), []) as one:
            await asyncio.sleep(0)
            one.reconfigure([entry], Resolver())
            await until_true(lambda: counted.requests)


async def test_a_node_that_is_gone_for_long_is_asked_rarely_and_at_once_when_its_push_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fetch, "TIMEOUT_SECONDS", 0.05)
    monkeypatch.setattr(poller, "PATIENCE_SECONDS", 0.5)
    monkeypatch.setattr(poller, "RARE_SECONDS", (3600.0, 3600.0))
    counted = Counted(silent)
    async with stranger(counted) as port:
        entry = NodeEntry(name="n", host="127.0.0.1", port=port)
        hub = Hub([entry], HubSection(poll_interval_seconds=0.2))
        async with running_poller(hub, [entry]):
            await until_true(lambda: counted.requests > 2)
            loop, seen, since = asyncio.get_running_loop(), 0, 0.0

            def is_left_alone() -> bool:
                nonlocal seen, since
                if counted.requests != seen:
                    seen, since = counted.requests, loop.time()
                return loop.time() - since > 1  # five intervals

            await until_true(is_left_alone)
            wanted = hub.polling_wanted("n")
            wanted.clear()
            await until_true(lambda: getattr(wanted, "_waiters"))  # noqa: B009  (it is private)
            assert counted.requests == seen
            wanted.set()
            await until_true(lambda: counted.requests > seen)


async def test_a_hub_asks_its_first_node_when_it_starts_however_long_the_interval() -> None:
    settings = HubSection(poll_interval_seconds=60.0)
    async with stranger(answer(json.dumps(GOOD_ANSWER).encode())) as port:
        async with running_hub(Config(nodes=[NodeEntry(name="n", host="127.0.0.1", port=port)], hub=settings)) as hub:
            node = await hub.node_when("n", lambda node: node["status"] == "online")
            assert node["source"] == "poll"
