"""Who may report to a hub that lets in only those who have joined: on real sockets, with every lie that an agent or a
hub could tell about itself.
"""

import contextlib
import json
import logging
import os
import signal
import threading
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from websockets import Subprotocol
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from gpumon import handshake, statefile, wire
from gpumon.config import AuthSection, Config, HubSection
from gpumon.handshake import JoinToken
from gpumon.hub import admission
from gpumon.hub import door as door_module
from gpumon.hub.roster import MAX_RECORDS, Record, Roster, open_roster
from gpumon.wire import Close
from tests.hub.agents import hello, raw_agent, report
from tests.hub.candidates import Candidate
from tests.running import Site, running_hub, until, until_true


@asynccontextmanager
async def strict_hub(folder: Path | None = None, config: Config | None = None) -> AsyncIterator[Site]:
    """A hub that takes its own machine for any other, once it is there."""
    async with running_hub(config, state_folder=folder, trusts_loopback=False) as site:
        await site.get("/health")
        yield site


def token_in(folder: Path) -> str:
    return (folder / "join-token").read_text().strip()


def records_in(folder: Path) -> list[dict[str, Any]]:
    found = json.loads((folder / "hub.json").read_text())["agents"]
    assert isinstance(found, list)
    return found


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[Site]:
    async with strict_hub(tmp_path) as site:
        yield site


@pytest.fixture
def token(hub: Site, tmp_path: Path) -> str:  # noqa: ARG001  (which has made it)
    return token_in(tmp_path)


async def notices(hub: Site) -> dict[str, str]:
    return {notice["code"]: notice["message"] for notice in (await hub.get("/health"))["notices"]}


# ---- joining ----


async def test_an_agent_joins_by_the_token_and_comes_back_without_it(hub: Site, token: str, tmp_path: Path) -> None:
    candidate = Candidate()
    async with raw_agent(hub) as agent:
        await candidate.join(agent, token)
        await agent.say(report(1))
        await hub.node_when("n", lambda node: node["report"])
    (record,) = records_in(tmp_path)
    assert (record["agent_id"], record["node"], record["admitted_by"]) == (candidate.agent_id, "n", "token")
    async with raw_agent(hub) as agent:
        assert (await candidate.join(agent))["last_sequence"] == 1


async def test_a_hub_that_was_restarted_knows_its_agents_and_keeps_its_token(tmp_path: Path) -> None:
    candidate = Candidate()
    async with strict_hub(tmp_path) as hub, raw_agent(hub) as agent:
        await candidate.join(agent, token := token_in(tmp_path))
    async with strict_hub(tmp_path) as hub, raw_agent(hub) as agent:
        await candidate.join(agent)
    assert token_in(tmp_path) == token


async def test_what_the_hub_keeps_is_its_owners_alone(hub: Site, tmp_path: Path) -> None:  # noqa: ARG001
    assert sorted(os.listdir(tmp_path)) == ["hub.json", "join-token", "viewers.token"]  # noqa: PTH208
    assert {(tmp_path / name).stat().st_mode & 0o777 for name in os.listdir(tmp_path)} == {0o600}  # noqa: PTH208


async def test_token_and_secret_never_cross_the_wire(hub: Site, token: str, tmp_path: Path) -> None:
    candidate = Candidate()
    async with raw_agent(hub) as agent:
        greetings = await candidate.meet(agent)
        said = json.dumps(candidate.proof(greetings, token))
        await agent.say(said)
        heard = await agent.connection.recv(decode=False)
    (record,) = records_in(tmp_path)
    secrets = [record["secret"], JoinToken.parse(token).secret, f"{candidate.keys.private:064x}"]
    secrets.append(json.loads((tmp_path / "hub.json").read_text())["private_key"])
    wire_tap = b"".join([*greetings, said.encode(), heard])
    assert all(secret.encode() not in wire_tap for secret in secrets)
    assert len({len(secret) for secret in secrets}) == 2


async def test_who_knows_the_token_and_listens_cannot_have_an_agents_secret(hub: Site, token: str) -> None:
    """Nothing of what it heard and knows is the secret; nor does the token let it be that agent with another key."""
    candidate = Candidate()
    async with raw_agent(hub) as agent:
        greetings = await candidate.meet(agent)
        said = candidate.proof(greetings, token)
        await agent.say(said)
        welcome = await agent.hear()
    challenge = json.loads(greetings[1])
    known = [token, JoinToken.parse(token).secret, candidate.keys.public, challenge["key"], challenge["nonce"]]
    for guess in [*known, str(said["proof"]), str(said["token_proof"]), str(welcome["proof"])]:
        async with raw_agent(hub) as agent:
            anew = await candidate.meet(agent)
            await agent.say(candidate.proof(anew, token, proof=handshake.proof(guess, "agent", *anew)))
            assert (await agent.closed())[0] == Close.UNAUTHORISED
    assert (await Candidate().refused(hub, token))[0] == Close.UNAUTHORISED


# ---- lies ----


async def test_a_wrong_token_a_wrong_proof_and_an_agent_that_is_not_known_are_told_the_same(
    hub: Site, token: str
) -> None:
    member, nobody = Candidate(), Candidate("other", "b" * 32)
    async with raw_agent(hub) as agent:
        await member.join(agent, token)
    liar = Candidate(member.node, member.agent_id, member.machine_id)
    other_token = JoinToken.new(JoinToken.parse(token).hub).text()
    assert await liar.refused(hub) == await nobody.refused(hub) == (Close.UNAUTHORISED, door_module.NOT_JOINED)
    assert (
        await liar.refused(hub, other_token)
        == await nobody.refused(hub, other_token)
        == (Close.UNAUTHORISED, door_module.WRONG_TOKEN)
    )


@pytest.mark.parametrize(
    "forged",
    [
        {"proof": "0" * 64},
        {"token_proof": "0" * 64},
        {"proof": None},
        {"proof": "x" * 64},
        {"proof": "0" * 63},
        {"type": "report", "report": {"node": "n", "boot_id": "boot-1", "sequence": 1, "interval_seconds": 1}},
        {"type": "heartbeat"},
        {"type": "hello"},
    ],
    ids=str,
)
async def test_a_forged_proof_opens_nothing_and_leaves_nothing(
    forged: dict[str, object], hub: Site, token: str, tmp_path: Path
) -> None:
    candidate = Candidate()
    async with raw_agent(hub) as agent:
        greetings = await candidate.meet(agent)
        await agent.say(candidate.proof(greetings, token) | forged)
        await agent.say(report(1))
        code, _ = await agent.closed()
    assert code in (Close.UNAUTHORISED, Close.BAD_MESSAGE)
    assert await hub.get("/api/nodes") == []
    assert records_in(tmp_path) == []


async def test_what_was_changed_on_the_way_is_no_proof(hub: Site, token: str) -> None:
    candidate = Candidate()
    async with raw_agent(hub) as agent:
        said = candidate.hello()
        await agent.say(said.replace(b'"node": "n"', b'"node": "m"').decode())
        heard = await agent.connection.recv(decode=False)
        assert isinstance(heard, bytes)
        await agent.say(candidate.proof((said, heard), token))
        assert (await agent.closed())[0] == Close.UNAUTHORISED


async def test_a_conversation_that_was_recorded_cannot_be_said_again(hub: Site, token: str) -> None:
    candidate = Candidate()
    async with raw_agent(hub) as agent:
        greetings = await candidate.meet(agent)
        recorded = json.dumps(candidate.proof(greetings, token))
        await agent.say(recorded)
        assert (await agent.hear())["type"] == "welcome"
    async with raw_agent(hub) as agent:
        await agent.say(greetings[0].decode())
        assert await agent.connection.recv(decode=False) != greetings[1]
        await agent.say(recorded)
        assert (await agent.closed())[0] == Close.UNAUTHORISED


async def test_the_hubs_own_proof_cannot_be_turned_against_it(hub: Site, token: str) -> None:
    """Who has the hub prove itself in one conversation learns nothing that proves an agent, in that one or another."""
    candidate = Candidate()
    async with raw_agent(hub) as agent:
        greetings = await candidate.meet(agent)
        await agent.say(candidate.proof(greetings, token))
        welcome = await agent.hear()
    async with raw_agent(hub) as agent:
        await agent.say(greetings[0].decode())
        await agent.connection.recv()
        await agent.say({"type": "proof", "proof": welcome["proof"], "token_proof": welcome["proof"]})
        assert (await agent.closed())[0] == Close.UNAUTHORISED
    hubs_side = handshake.proof(candidate.secret(greetings[1]), "hub", *greetings)
    assert hubs_side != handshake.proof(candidate.secret(greetings[1]), "agent", *greetings)


async def test_a_hubs_challenge_sent_back_to_it_is_no_hello(hub: Site) -> None:
    candidate = Candidate()
    async with raw_agent(hub) as agent:
        _, heard = await candidate.meet(agent)
        await agent.say(heard.decode())
        assert (await agent.closed())[0] == Close.BAD_MESSAGE
    key = json.loads(heard)["key"]
    async with raw_agent(hub) as agent:  # the hub's own key as the agent's
        greetings = await candidate.meet(agent, key=key)
        await agent.say(candidate.proof(greetings))
        assert (await agent.closed())[0] == Close.UNAUTHORISED


@pytest.mark.parametrize("number", [0, 1, handshake.PRIME - 1, handshake.PRIME, 2**2048 - 1], ids=lambda n: n % 97)
async def test_a_key_that_gives_a_secret_which_anybody_knows_is_none(number: int, hub: Site, token: str) -> None:
    candidate = Candidate()
    key = number.to_bytes(256).hex()
    async with raw_agent(hub) as agent:
        greetings = await candidate.meet(agent, key=key)
        await agent.say(candidate.proof(greetings, token))
        code, reason = await agent.closed()
    assert (code, "key" in reason) == (Close.BAD_MESSAGE, True)


async def test_a_stolen_secret_is_of_no_use_to_another_agent_name_or_machine(hub: Site, token: str) -> None:
    member = Candidate()
    async with raw_agent(hub) as agent:
        await member.join(agent, token)
        await agent.say(report(1))
        await hub.node_when("n", lambda node: node["report"])
        other_id = Candidate("n", "b" * 32, member.machine_id, member.keys)
        other_name = Candidate("other", member.agent_id, member.machine_id, member.keys)
        other_machine = Candidate("n", member.agent_id, "e" * 32, member.keys)
        no_machine = Candidate("n", member.agent_id, None, member.keys)
        assert (await other_id.refused(hub))[0] == Close.UNAUTHORISED
        assert (await other_name.refused(hub))[0] == Close.UNAUTHORISED
        assert (await other_machine.refused(hub))[0] == Close.COPIED
        assert (await no_machine.refused(hub))[0] == Close.COPIED
        node = await hub.node_when("n", lambda node: node["verdict"])
        assert (node["status"], node["verdict"]["code"]) == ("online", "copied")
        await agent.say(report(2))  # who was there first is not disturbed
        await hub.node_when("n", lambda node: node["report"]["sequence"] == 2)


async def test_the_token_does_not_let_an_agent_be_another_that_has_joined(hub: Site, token: str) -> None:
    member = Candidate()
    async with raw_agent(hub) as agent:
        await member.join(agent, token)
        await agent.say(report(1))
        await hub.node_when("n", lambda node: node["report"])
        assert (await Candidate("n", "b" * 32).refused(hub, token))[0] == Close.NAME_TAKEN
        assert (await Candidate("n", member.agent_id).refused(hub, token))[0] == Close.UNAUTHORISED
        node = await hub.node_when("n", lambda node: node["verdict"])
        assert node["verdict"]["code"] == "forged"
    assert (await Candidate("n", "b" * 32).refused(hub, token))[0] == Close.NAME_TAKEN  # nor while it is away


async def test_an_agent_too_old_to_join_is_told_what_to_do(hub: Site) -> None:
    async with raw_agent(hub) as agent:
        await agent.say(hello("old", agent_id="a" * 32))
        assert await agent.closed() == (Close.UNAUTHORISED, door_module.TOO_OLD)
    async with raw_agent(hub) as agent:
        await agent.say(hello("new", protocol=9, oldest_protocol=9))
        assert (await agent.closed())[0] == Close.PROTOCOL
    assert await hub.get("/api/nodes") == []


# ---- those who wait ----


async def test_strangers_wait_at_most_twenty_and_nothing_of_theirs_is_shown_or_kept(hub: Site, tmp_path: Path) -> None:
    for number in range(25):
        assert (await Candidate(f"n{number}", f"{number:032x}").refused(hub))[0] == Close.UNAUTHORISED
    assert (await notices(hub))["agents_waiting"] == "20 agents wait to be admitted."
    assert await hub.get("/api/nodes") == []
    assert records_in(tmp_path) == []


PROXIED = Config(hub=HubSection(proxies=["127.0.0.1", "10.0.0.0/8"]))
WRONG = JoinToken("0" * 32, "1" * 32).text()


async def status_of(hub: Site, address: str) -> tuple[int, str | None]:
    """How the hub answers an agent at ``address`` that opens a connection, and when it may come back."""
    try:
        async with raw_agent(hub, {"X-Forwarded-For": address}):
            return 101, None
    except InvalidStatus as refused:
        return refused.response.status_code, refused.response.headers["Retry-After"]


@pytest.mark.parametrize(
    ("address", "neighbour", "stranger"),
    [
        ("203.0.113.9", "203.0.113.9", "203.0.113.10"),
        ("2001:db8:0:1::1", "2001:db8:0:1:ffff::2", "2001:db8:0:2::1"),
    ],
)
async def test_of_who_fails_again_and_again_fewer_are_heard_for_a_while(
    address: str, neighbour: str, stranger: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(door_module, "FAILURES", 3)
    monkeypatch.setattr(admission, "TIRED_PER_SECOND", 0)
    async with strict_hub(config=PROXIED) as hub:
        for _ in range(3):
            assert (await Candidate().refused(hub, WRONG, address))[1] == door_module.WRONG_TOKEN
        for one in (neighbour, address):
            status, seconds = await status_of(hub, one)
            assert (status, 1 <= int(seconds or 0) <= 10) == (429, True)
        assert await status_of(hub, stranger) == (101, None)
        assert (await hub.get("/health?verbose"))["refused"] == {"not_joined": 5}


async def test_who_shakes_hands_and_goes_before_it_is_welcome_has_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door_module, "FAILURES", 4)
    monkeypatch.setattr(admission, "TIRED_PER_SECOND", 0)
    async with strict_hub(config=PROXIED) as hub:
        address = {"X-Forwarded-For": "203.0.113.9"}
        async with raw_agent(hub, address):
            pass
        async with raw_agent(hub, address) as agent:
            await agent.say("}{")
            await agent.closed()
        async with raw_agent(hub, address) as agent:
            await Candidate().meet(agent)
        monkeypatch.setattr("gpumon.hub.agentlink.HELLO_SECONDS", 0.3)
        async with raw_agent(hub, address) as agent:
            assert (await agent.closed())[0] == Close.TOO_SLOW

        async def is_tired() -> bool:
            return (await status_of(hub, address["X-Forwarded-For"]))[0] == 429

        await until(is_tired)


async def test_who_shares_an_address_with_one_that_fails_proves_itself_and_is_welcome(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those who have joined, and those who do so now."""
    monkeypatch.setattr(door_module, "FAILURES", 3)
    member, address = Candidate(), "203.0.113.9"
    async with strict_hub(tmp_path, PROXIED) as hub:
        async with raw_agent(hub, {"X-Forwarded-For": address}) as agent:
            await member.join(agent, token_in(tmp_path))
        for _ in range(5):
            assert (await Candidate("m", "b" * 32).refused(hub, WRONG, address))[1] == door_module.WRONG_TOKEN
        async with raw_agent(hub, {"X-Forwarded-For": address}) as agent:
            await member.join(agent)
        async with raw_agent(hub, {"X-Forwarded-For": address}) as agent:
            await Candidate("m", "c" * 32).join(agent, token_in(tmp_path))


async def test_who_only_waits_locks_nobody_out_who_comes_from_the_same_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(door_module, "FAILURES", 3)
    async with strict_hub(tmp_path, PROXIED) as hub:
        for number in range(5):
            candidate = Candidate(f"n{number}", f"{number:032x}")
            assert (await candidate.refused(hub, address="203.0.113.9"))[1] == door_module.NOT_JOINED
        async with raw_agent(hub, {"X-Forwarded-For": "203.0.113.9"}) as agent:
            await Candidate().join(agent, token_in(tmp_path))


@pytest.mark.parametrize("address", ["10.0.0.9", "127.0.0.1"])
async def test_neither_proxies_nor_the_hubs_machine_are_locked_out(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(door_module, "FAILURES", 3)
    async with strict_hub(config=PROXIED) as hub:
        for _ in range(5):
            await Candidate().refused(hub, WRONG, address)
        assert (await status_of(hub, address))[0] == 101
    async with strict_hub() as hub:
        for _ in range(5):
            await Candidate().refused(hub, WRONG)


# ---- who need not join ----


async def test_an_agent_on_the_hubs_machine_need_not_join(tmp_path: Path) -> None:
    async with running_hub(state_folder=tmp_path) as hub, raw_agent(hub) as agent:
        await agent.say(hello())
        assert (await agent.hear())["proof"] is None
        assert "open_push" not in await notices(hub)


async def test_an_agent_on_the_hubs_machine_cannot_be_one_that_has_joined_and_both_are_told_what_helps(
    tmp_path: Path,
) -> None:
    member = Candidate()
    async with strict_hub(tmp_path) as hub, raw_agent(hub) as agent:
        greetings = await member.meet(agent)
        await agent.say(member.proof(greetings, token_in(tmp_path)))
        assert (await agent.hear())["type"] == "welcome"
    revoke = f"gpumon agents revoke {member.code(greetings[1])}"
    async with running_hub(state_folder=tmp_path) as hub, raw_agent(hub) as agent:
        await member.join(agent)
        await agent.say(report(1))
        async with raw_agent(hub) as other:
            await other.say(hello(agent_id=member.agent_id))
            code, reason = await other.closed()
            assert code == Close.NAME_TAKEN
            assert reason == f"another agent has joined by its name; if that is gone, run here: {revoke}"
        node = await hub.node_when("n", lambda node: node["verdict"])
        assert node["verdict"]["code"] == "forged"
        assert node["verdict"]["hint"].endswith(f"run on the hub's machine: {revoke}")


@pytest.mark.parametrize("push", ["token", "open"])
async def test_an_id_that_has_joined_is_nobody_elses_who_does_not_prove_it(push: Any, tmp_path: Path) -> None:
    """An agent's id is public: be it on the hub's machine or on an open hub, and under whatever name."""
    member = Candidate()
    async with running_hub(Config(auth=AuthSection(push=push)), state_folder=tmp_path) as hub:
        await hub.get("/health")
        async with raw_agent(hub) as agent:
            await member.join(agent, token_in(tmp_path), insists=True)
            await agent.say(report(1))
            for other in (hello("other", agent_id=member.agent_id), hello("other", agent_id=member.agent_id, key=None)):
                async with raw_agent(hub) as stranger:
                    await stranger.say(other)
                    assert await stranger.closed() == (Close.UNAUTHORISED, door_module.NOT_PROVEN)
            liar = Candidate("other", member.agent_id)
            assert (await liar.refused(hub))[0] == Close.UNAUTHORISED
            await agent.say(report(2))
            node = await hub.node_when("n", lambda node: node["report"] and node["report"]["sequence"] == 2)
            assert node["verdict"]["code"] == "forged"
        assert [node["name"] for node in await hub.get("/api/nodes")] == ["n"]


@pytest.mark.parametrize("wrong", ["n", "A" * 32, "a" * 31, "a" * 33, "g" * 32])
async def test_ids_are_none_that_could_be_taken_for_a_name(wrong: str, hub: Site, token: str) -> None:
    for words in ({"agent_id": wrong}, {"machine_id": wrong}):
        async with raw_agent(hub) as agent:
            await agent.say(Candidate().hello(**words).decode())
            code, reason = await agent.closed()
            assert (code, reason) == (Close.BAD_MESSAGE, f"hello: {next(iter(words))} {door_module.BAD_ID}")
    assert "agents_waiting" not in await notices(hub)
    async with raw_agent(hub) as agent:
        await Candidate(machine_id=None).join(agent, token)


PROXIES_HEADERS = ["X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "X-Real-IP", "Forwarded", "Via"]


@pytest.mark.parametrize("header", [*PROXIES_HEADERS, "Origin"])
async def test_what_a_proxy_or_a_web_page_sends_from_the_hubs_machine_is_not_of_it(header: str) -> None:
    async with running_hub() as hub:
        url = hub.url.replace("http", "ws") + "/api/push"
        value = hub.url if header == "Origin" else "10.0.0.9"
        subprotocols = [Subprotocol(wire.SUBPROTOCOL)]
        async with connect(
            url, subprotocols=subprotocols, proxy=None, additional_headers={header: value}
        ) as connection:
            await connection.send(json.dumps(hello()))
            with contextlib.suppress(Exception):
                await connection.recv()
            assert connection.close_code == Close.UNAUTHORISED


async def test_what_a_proxy_on_the_hubs_machine_brings_is_not_of_it_though_it_adds_no_header(tmp_path: Path) -> None:
    proxied = Config(hub=HubSection(proxies=["127.0.0.1"]))
    async with running_hub(proxied, state_folder=tmp_path, read=Config) as hub:
        await hub.get("/health")
        async with raw_agent(hub) as agent:
            await agent.say(hello())
            assert await agent.closed() == (Close.UNAUTHORISED, door_module.TOO_OLD)
        async with raw_agent(hub) as agent:
            await Candidate().join(agent, token_in(tmp_path))
        os.kill(os.getpid(), signal.SIGHUP)  # from now on there is none

        async def is_welcome() -> bool:
            async with raw_agent(hub) as agent:
                await agent.say(hello("m"))
                with contextlib.suppress(ConnectionClosed):
                    return bool((await agent.hear())["type"] == "welcome")
                return False

        await until(is_welcome)


async def test_who_was_of_the_hubs_machine_is_shown_out_when_a_proxy_is_there_now(tmp_path: Path) -> None:
    later = Config(hub=HubSection(proxies=["127.0.0.1"]))
    async with running_hub(state_folder=tmp_path, read=lambda: later) as hub:
        await hub.get("/health")
        async with raw_agent(hub) as local, raw_agent(hub) as agent:
            await local.say(hello("local"))
            await local.hear()
            await Candidate().join(agent, token_in(tmp_path), insists=True)
            os.kill(os.getpid(), signal.SIGHUP)
            assert await local.closed() == (Close.UNAUTHORISED, door_module.NOT_JOINED)
            await agent.say(report(1))
            await hub.node_when("n", lambda node: node["report"])


@pytest.mark.parametrize("change", [{"secret": "0" * 64}, {"secret": None, "key": "0" * 32}, {"machine_id": "0" * 32}])
async def test_who_is_another_by_the_time_that_it_is_kept_does_not_come_in(
    change: dict[str, Any], hub: Site, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An admin admits another under the same id while the disk is written."""
    member, save = Candidate(), Roster.save
    async with raw_agent(hub) as agent:
        await member.join(agent, token)

    async def save_and_be_overtaken(roster: Roster) -> None:
        await save(roster)
        record = roster.get(member.agent_id)
        assert record is not None
        roster.put(replace(record, **change))

    monkeypatch.setattr(Roster, "save", save_and_be_overtaken)
    assert await member.refused(hub) == (Close.REVOKED, door_module.REVOKED)


async def test_a_hub_that_is_open_takes_everybody_and_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    config = Config(auth=AuthSection(push="open"))
    async with strict_hub(tmp_path, config) as hub:
        assert 'auth.push is "open"' in caplog.text
        assert "whoever can reach it" in (await notices(hub))["open_push"]
        async with raw_agent(hub) as agent:
            await agent.say(hello())
            assert (await agent.hear())["type"] == "welcome"
        async with raw_agent(hub) as agent:  # one that insists on a hub's proof gets it there as well
            await Candidate("m", "b" * 32).join(agent, token_in(tmp_path), insists=True)


async def test_a_hub_that_is_closed_at_a_sighup_shows_out_who_has_not_joined(tmp_path: Path) -> None:
    later = Config(auth=AuthSection(push="token"))
    opened = Config(auth=AuthSection(push="open"))
    async with running_hub(opened, state_folder=tmp_path, trusts_loopback=False, read=lambda: later) as hub:
        await hub.get("/health")
        async with raw_agent(hub) as stranger, raw_agent(hub) as agent:
            await stranger.say(hello("stranger"))
            await stranger.hear()
            await Candidate().join(agent, token_in(tmp_path), insists=True)
            os.kill(os.getpid(), signal.SIGHUP)
            assert await stranger.closed() == (Close.UNAUTHORISED, door_module.NOT_JOINED)
            await agent.say(report(1))
            await hub.node_when("n", lambda node: node["report"])
            assert "open_push" not in await notices(hub)


async def test_a_token_that_was_deleted_is_made_anew_at_a_sighup_and_who_has_joined_stays(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with running_hub(state_folder=tmp_path, trusts_loopback=False, read=Config) as hub:
        await hub.get("/health")
        member, old = Candidate(), token_in(tmp_path)
        async with raw_agent(hub) as agent:
            await member.join(agent, old)
        (tmp_path / "join-token").unlink()
        os.kill(os.getpid(), signal.SIGHUP)
        await until_true(lambda: "the configuration was read again" in caplog.text)
        assert (await Candidate("m", "b" * 32).refused(hub, old))[1] == door_module.WRONG_TOKEN
        async with raw_agent(hub) as agent:
            await Candidate("m", "b" * 32).join(agent, token_in(tmp_path))
        async with raw_agent(hub) as agent:
            await member.join(agent)


# ---- what can go wrong with what is kept ----


async def test_without_a_folder_agents_join_for_this_run() -> None:
    async with strict_hub() as hub:
        assert (await Candidate().refused(hub))[0] == Close.UNAUTHORISED


async def test_a_second_hub_in_one_folder_says_so_and_harms_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(statefile, "LOCK_SECONDS", 0.1)
    async with strict_hub(tmp_path) as first:
        async with strict_hub(tmp_path) as second:
            assert "another hub uses" in caplog.text
            assert (await Candidate().refused(second, token_in(tmp_path)))[0] == Close.UNAUTHORISED
        async with raw_agent(first) as agent:
            await Candidate().join(agent, token_in(tmp_path))


def record_of(number: int, **more: Any) -> Record:
    return Record(
        agent_id=f"{number:032x}",
        node="\U0001f680" * 250 + str(number),
        machine_id="d" * 32,
        key="e" * 32,
        secret="f" * 64,
        admitted_by="token",
        admitted_at="2026-01-01T00:00:00.000Z",
        **more,
    )


async def test_what_is_kept_can_always_be_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a file of state no more is read than its bound; what would be longer is refused, revoked ones make room."""
    monkeypatch.setattr(statefile, "MAX_BYTES", 50_000)
    roster = open_roster(tmp_path)
    number = 0
    while roster.put(record_of(number)):
        number += 1
    assert 20 < number < MAX_RECORDS
    for record in list(roster):
        roster.revoke(record.agent_id, "2026-01-02T00:00:00.000Z")
    await roster.save()
    assert roster.put(record_of(number))
    assert len(list(roster)) == number
    await roster.save()
    roster.close()
    again = open_roster(tmp_path)
    assert {one.agent_id for one in again} == {f"{one:032x}" for one in range(1, number + 1)}
    again.close()


@pytest.mark.parametrize("content", [b"", b"{}", b'{"private_key": "x"}', b'{"private_key": "' + b"0" * 64 + b'"}'])
async def test_a_damaged_file_is_set_aside_and_said(
    content: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "hub.json").write_bytes(content)
    async with strict_hub(tmp_path) as hub, raw_agent(hub) as agent:
        assert "hub.json is damaged" in caplog.text
        assert (tmp_path / "hub.damaged").read_bytes() == content
        await Candidate().join(agent, token_in(tmp_path))


@pytest.mark.parametrize("content", ["", "nonsense", JoinToken("0" * 32, "1" * 32).text()])
async def test_a_token_that_is_none_of_this_hub_is_replaced(content: str, tmp_path: Path) -> None:
    (tmp_path / "join-token").write_text(content)
    async with strict_hub(tmp_path) as hub, raw_agent(hub) as agent:
        await Candidate().join(agent, token_in(tmp_path))
    assert token_in(tmp_path) != content


async def test_a_full_disk_lets_agents_join_and_is_told_until_it_is_mended(
    hub: Site, token: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        async with raw_agent(hub) as agent:
            await Candidate().join(agent, token)
        assert "No space left" in (await notices(hub))["not_kept"]
        assert records_in(tmp_path) == []
    async with raw_agent(hub) as agent:
        await Candidate("m", "b" * 32).join(agent, token)
    assert "not_kept" not in await notices(hub)
    assert len(records_in(tmp_path)) == 2


async def test_a_disk_that_hangs_delays_nobody_for_long_and_holds_one_thread(
    hub: Site, token: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gpumon.hub.roster.WRITE_SECONDS", 0.2)
    mended, began = threading.Event(), []
    original = os.fsync

    def hang(file: int) -> None:
        began.append(file)
        mended.wait(30)
        original(file)

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", hang)
        async with AsyncExitStack() as stack:
            for number in range(4):
                agent = await stack.enter_async_context(raw_agent(hub))
                await Candidate(f"n{number}", f"{number:032x}").join(agent, token)
            assert "its disk does not answer" in (await notices(hub))["not_kept"]
            assert len(began) == 1
        mended.set()
        await until_true(lambda: len(records_in(tmp_path)) == 4)
