"""Who may speak for a node: agents that restart, copies of a disk, names that are given twice."""

import asyncio
from typing import Any

import pytest

from gpumon.hub.claims import Claimant, refusal
from gpumon.wire import Close, Hello
from tests.hub.agents import RawAgent, hello, raw_agent, report
from tests.running import Site


def claimant(
    boot: str,
    agent: str | None = "id",
    machine: str | None = "m",
    address: str = "10.0.0.1",
    key: str | None = None,
    interval: float = 1,
) -> Claimant:
    words = Hello(
        agent_id=agent,
        machine_id=machine,
        key=key,
        agent_version="1",
        node="n",
        hostname=address,
        boot_id=boot,
        interval_seconds=interval,
    )
    return Claimant(words, address)


SAME, TAKEN, COPIED = None, Close.NAME_TAKEN, Close.COPIED


@pytest.mark.parametrize(
    ("first", "second", "silent_seconds", "expected"),
    [
        pytest.param(claimant("1"), claimant("1"), 0.1, SAME, id="the same run again"),
        pytest.param(claimant("1"), claimant("2"), 0.1, SAME, id="restarted"),
        pytest.param(claimant("1"), claimant("2", address="10.0.0.2"), 0.1, SAME, id="restarted at a new address"),
        pytest.param(claimant("1", machine=None), claimant("2"), 0.1, SAME, id="machine unknown"),
        pytest.param(claimant("1"), claimant("2", machine="x"), 0.1, COPIED, id="copied"),
        pytest.param(claimant("1"), claimant("2", machine="x"), 9.9, COPIED, id="copied, first is quiet"),
        pytest.param(claimant("1"), claimant("2", machine="x"), 10.1, SAME, id="copied, first is dead"),
        pytest.param(claimant("1", key="k"), claimant("2", key="k"), 0.1, SAME, id="restarted, with its key"),
        pytest.param(claimant("1"), claimant("2", key="k"), 0.1, SAME, id="restarted, one key is not known"),
        pytest.param(claimant("1", key="k"), claimant("2", key="x"), 2.9, TAKEN, id="its id, another key, one host"),
        pytest.param(claimant("1", key="k"), claimant("2", key="x", address="b"), 9.9, TAKEN, id="its id, another key"),
        pytest.param(claimant("1", key="k"), claimant("1", key="x"), 0.1, TAKEN, id="its id and run, another key"),
        pytest.param(claimant("1", key="k"), claimant("1"), 2.9, TAKEN, id="its id and run, no key"),
        pytest.param(claimant("1", key="k"), claimant("1", agent=None), 2.9, TAKEN, id="its run, no id and no key"),
        pytest.param(claimant("1"), claimant("2", agent="x"), 2.9, TAKEN, id="another agent of one host"),
        pytest.param(claimant("1"), claimant("2", agent="x", interval=0), 2.9, TAKEN, id="another, in a hurry"),
        pytest.param(claimant("1"), claimant("2", agent="x"), 3.1, SAME, id="its file is lost, and it was restarted"),
        pytest.param(claimant("1"), claimant("2", agent="x", address="b"), 9.9, TAKEN, id="another agent"),
        pytest.param(claimant("1"), claimant("2", agent="x", address="b"), 10.1, SAME, id="another, first is dead"),
        pytest.param(claimant("1", agent=None), claimant("2", agent=None), 2.9, TAKEN, id="no ids, one host"),
        pytest.param(claimant("1", agent=None), claimant("2", agent=None), 3.1, SAME, id="no ids, restarted"),
        pytest.param(claimant("1", agent=None), claimant("1", agent=None), 0.1, SAME, id="no ids, one run"),
        pytest.param(claimant("1", agent=None), claimant("2", address="b"), 1.0, TAKEN, id="one id only"),
    ],
)
def test_who_gives_way(first: Claimant, second: Claimant, silent_seconds: float, expected: Close | None) -> None:
    error = refusal(first, second, silent_seconds)
    assert (error.code if error else None) == expected


def test_an_agent_that_gave_way_and_comes_back_is_a_second_one() -> None:
    first, second = claimant("1"), claimant("2")
    taken_over = second.after(first)
    assert taken_over.ousted == ("1",)
    error = refusal(taken_over, first, 0.1)
    assert error is not None
    assert error.code == Close.COPIED
    assert refusal(taken_over, claimant("3"), 0.1) is None
    assert refusal(taken_over, first, 10.1) is None


def test_what_is_remembered_of_restarts_is_bounded() -> None:
    newest = claimant("0")
    for run in range(1, 1000):
        newest = claimant(str(run)).after(newest)
    assert len(newest.ousted) <= 16


# ---- by real connections ----


async def greeted(agent: RawAgent, words: dict[str, object]) -> None:
    await agent.say(words)
    assert (await agent.hear())["type"] == "welcome"


def claim_of(node: dict[str, Any]) -> list[str]:
    return [piece["code"] for piece in node["evidence"] if piece["channel"] == "claim"]


async def test_the_newest_connection_of_an_agent_takes_over_at_once(hub: Site) -> None:
    who = {"agent_id": "id-1", "machine_id": "m-1"}
    async with raw_agent(hub) as first, raw_agent(hub) as second:
        await greeted(first, hello(**who))
        await first.say(report(1))
        await hub.node_when("n", lambda node: node["report"])
        await greeted(second, hello(boot="boot-2", **who))
        await first.say(report(99, hostname="a leftover"))
        await second.say(report(1, boot="boot-2", hostname="the newest"))
        assert (await first.closed())[0] == Close.REPLACED
        node = await hub.node_when("n", lambda node: node["report"]["boot_id"] == "boot-2")
        assert (node["report"]["hostname"], node["status"]) == ("the newest", "online")
        assert (node["agent_id"], node["verdict"]) == ("id-1", None)
        await second.say(report(2, boot="boot-2"))
        await hub.node_when("n", lambda node: node["report"]["sequence"] == 2)


async def test_an_agent_restarted_ten_times_in_ten_seconds_is_one_row_and_online(hub: Site) -> None:
    who = {"agent_id": "id-1", "machine_id": "m-1"}
    for run in range(10):
        async with raw_agent(hub) as agent:
            await greeted(agent, hello(boot=f"boot-{run}", **who))
            await agent.say(report(1, boot=f"boot-{run}"))
            if run % 2:
                agent.connection.transport.abort()
            await asyncio.sleep(0)
    async with raw_agent(hub) as agent:
        await greeted(agent, hello(boot="last", **who))
        await agent.say(report(1, boot="last"))
        await hub.node_when("n", lambda node: node["status"] == "online" and node["report"]["boot_id"] == "last")
        assert len(await hub.get("/api/nodes")) == 1


async def test_of_a_copied_disk_the_first_stays_and_shows_the_second(hub: Site) -> None:
    async with raw_agent(hub) as first, raw_agent(hub) as second:
        await greeted(first, hello(agent_id="id-1", machine_id="m-1"))
        await first.say(report(1))
        await hub.node_when("n", lambda node: node["status"] == "online")
        await second.say(hello(boot="boot-2", agent_id="id-1", machine_id="m-2"))
        code, reason = await second.closed()
        assert code == Close.COPIED
        assert "delete the agent-*.json" in reason
        node = await hub.node_when("n", lambda node: node["verdict"])
        assert (node["status"], node["verdict"]["code"], claim_of(node)) == ("online", "copied", ["copied"])
        assert "agent-NAME.json" in node["verdict"]["hint"]


async def test_a_copied_disk_under_another_name_is_shown_on_both(hub: Site) -> None:
    async with raw_agent(hub) as first, raw_agent(hub) as second:
        await greeted(first, hello(agent_id="id-1", machine_id="m-1"))
        await first.say(report(1))
        await hub.node_when("n", lambda node: node["status"] == "online")
        await second.say(hello(node="clone", boot="boot-2", agent_id="id-1", machine_id="m-2"))
        assert (await second.closed())[0] == Close.COPIED
        node = await hub.node_when("n", lambda node: node["verdict"])
        assert claim_of(node) == ["copied"]
        clone = await hub.node_when("clone", lambda node: node["verdict"])
        assert (clone["status"], clone["verdict"]["code"]) == ("pending", "push_refused")
        assert "agent id is in use" in clone["verdict"]["message"]


async def test_agents_of_two_names_on_one_machine_are_two_nodes(hub: Site) -> None:
    async with raw_agent(hub) as first, raw_agent(hub) as second:
        await greeted(first, hello(agent_id="id-1", machine_id="m-1"))
        await greeted(second, hello(node="other", boot="boot-2", agent_id="id-1", machine_id="m-1"))
        await first.say(report(1))
        await second.say(report(1, node="other", boot="boot-2"))
        await hub.node_when("n", lambda node: node["status"] == "online")
        await hub.node_when("other", lambda node: node["status"] == "online")


async def test_a_name_that_is_given_twice_is_shown_on_the_first(hub: Site) -> None:
    async with raw_agent(hub) as first, raw_agent(hub) as second:
        await greeted(first, hello(agent_id="id-1", machine_id="m-1"))
        await first.say(report(1))
        await hub.node_when("n", lambda node: node["status"] == "online")
        await second.say(hello(boot="boot-2", hostname="elsewhere", agent_id="id-2", machine_id="m-2"))
        code, reason = await second.closed()
        assert code == Close.NAME_TAKEN
        assert "--name" in reason
        node = await hub.node_when("n", lambda node: node["verdict"])
        assert (node["status"], node["verdict"]["code"], claim_of(node)) == ("online", "name_taken", ["name_taken"])
        assert node["agent_id"] == "id-1"


async def test_what_everybody_is_told_of_a_node_does_not_make_one_its_agent(hub: Site) -> None:
    """Its id and its run; without its key they take over nothing, and nothing that was said under them counts."""
    own: dict[str, Any] = {"agent_id": "a" * 32, "machine_id": "m-1", "key": "1" * 512, "nonce": "2" * 64}
    known: dict[str, Any] = {"agent_id": "a" * 32, "machine_id": None}
    async with raw_agent(hub) as agent:
        await greeted(agent, hello(**own))
        await agent.say(report(1))
        await hub.node_when("n", lambda node: node["report"])
        for words in (known, {}, {**known, "interval_seconds": 0}, {**own, "key": "3" * 512, "interval_seconds": 0}):
            await agent.say({"type": "heartbeat"})  # who is silent for long gives way
            async with raw_agent(hub) as stranger:
                await stranger.say(hello(**{"hostname": "h", **words}))
                assert (await stranger.closed())[0] == Close.NAME_TAKEN
        await agent.say(report(2))
        await hub.node_when("n", lambda node: node["report"]["sequence"] == 2)
    async with raw_agent(hub) as stranger:
        await greeted(stranger, hello(**known))
        await stranger.say(report(10**9))
        await hub.node_when("n", lambda node: node["report"]["sequence"] == 10**9)
    async with raw_agent(hub) as agent:
        await agent.say(hello(**own))
        assert (await agent.hear())["last_sequence"] == 0


async def test_who_has_the_id_of_an_agent_and_not_its_key_is_no_copy_of_it(hub: Site) -> None:
    async with raw_agent(hub) as stranger, raw_agent(hub) as agent:
        await greeted(stranger, hello(node="other", agent_id="a" * 32, machine_id="m-2"))
        await greeted(agent, hello(agent_id="a" * 32, machine_id="m-1", key="1" * 512, nonce="2" * 64))


async def test_an_agent_that_is_too_new_is_shown_with_what_to_update(hub: Site) -> None:
    async with raw_agent(hub) as agent:
        await agent.say(hello(protocol=9, oldest_protocol=9))
        assert (await agent.closed())[0] == Close.PROTOCOL
    node = await hub.node_when("n", lambda node: node["verdict"])
    assert (node["status"], node["verdict"]["code"]) == ("pending", "push_refused")
    assert "update the hub" in node["verdict"]["message"]
