"""What an admin does: who waits is shown, admitted or turned away; who has joined is shown, and shown out."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from gpumon.hub import door as door_module
from gpumon.wire import Close
from tests.hub.agents import hello, raw_agent, report
from tests.hub.candidates import Candidate
from tests.running import Site, running_hub, until


class Admin:
    """Somebody with the hub's token."""

    def __init__(self, hub: Site, folder: Path) -> None:
        self.hub = hub
        self._headers = {"Authorization": f"Bearer {(folder / 'viewers.token').read_text().strip()}"}

    async def agents(self) -> dict[str, Any]:
        return await self._ask("GET", "/api/agents", 200)

    async def admit(self, agent: str, status: int = 200) -> dict[str, Any]:
        return await self._ask("POST", f"/api/agents/{quote(agent, safe='')}/admit", status)

    async def revoke(self, agent: str, status: int = 204) -> dict[str, Any]:
        return await self._ask("DELETE", f"/api/agents/{quote(agent, safe='')}", status)

    async def _ask(self, method: str, path: str, status: int) -> dict[str, Any]:
        async with self.hub.session.request(method, self.hub.url + path, headers=self._headers) as response:
            text = await response.text()
            assert response.status == status, text
            found = json.loads(text) if text else {}
            assert isinstance(found, dict)
            return found


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[Site]:
    """A hub that takes its own machine for any other."""
    async with running_hub(state_folder=tmp_path, trusts_loopback=False) as site:
        await site.get("/health")
        yield site


@pytest.fixture
def admin(hub: Site, tmp_path: Path) -> Admin:
    return Admin(hub, tmp_path)


@pytest.fixture
def token(hub: Site, tmp_path: Path) -> str:  # noqa: ARG001  (which has made it)
    return (tmp_path / "join-token").read_text()


async def waits(hub: Site, candidate: Candidate) -> str:
    """Let it come, and be refused; its code."""
    async with raw_agent(hub) as agent:
        greetings = await candidate.meet(agent)
        await agent.say(candidate.proof(greetings))
        assert (await agent.closed())[0] == Close.UNAUTHORISED
        return candidate.code(greetings[1])


async def notices(hub: Site) -> dict[str, str]:
    return {notice["code"]: notice["message"] for notice in (await hub.get("/health"))["notices"]}


async def test_who_waits_is_shown_admitted_by_its_code_and_comes_in_at_its_next_try(hub: Site, admin: Admin) -> None:
    candidate = Candidate()
    code = await waits(hub, candidate)
    assert (await notices(hub))["agents_waiting"] == "1 agent waits to be admitted."
    (waiter,) = (await admin.agents())["waiting"]
    assert (waiter["id"], waiter["node"], waiter["code"]) == (candidate.agent_id, "n", code)
    assert (waiter["address"], waiter["replaces"]) == ("127.0.0.1", None)
    assert set(waiter) == {"id", "node", "code", "address", "first_seen_at", "last_seen_at", "replaces"}
    assert (await admin.admit(code))["state"] == "expected"
    assert "agents_waiting" not in await notices(hub)
    async with raw_agent(hub) as agent:
        await candidate.join(agent)
        (joined,) = (await admin.agents())["joined"]
        assert (joined["state"], joined["admitted_by"], joined["address"]) == ("joined", "admin", "127.0.0.1")
        assert joined["code"] == code
    assert (await admin.agents())["waiting"] == []


async def test_only_the_very_agent_that_waited_is_admitted(hub: Site, admin: Admin) -> None:
    """Another that says it is that one, with a key of its own, is not."""
    candidate = Candidate()
    code = await waits(hub, candidate)
    await waits(hub, Candidate())
    assert len((await admin.agents())["waiting"]) == 2
    await admin.admit("n", 409)
    await admin.admit(candidate.agent_id, 409)
    await admin.admit(code)
    assert (await Candidate().refused(hub))[0] == Close.UNAUTHORISED
    async with raw_agent(hub) as agent:
        await candidate.join(agent)


async def test_who_waits_is_admitted_by_its_code_and_by_nothing_that_it_says_of_itself(hub: Site, admin: Admin) -> None:
    """Whoever is faster has the name, or even the id, of the one that an admin expects."""
    candidate = Candidate()
    code = await waits(hub, candidate)
    for what in ("n", candidate.agent_id):
        assert "by its code" in (await admin.admit(what, 409))["detail"]
    assert (await admin.agents())["joined"] == []
    await admin.admit(code.lower())


async def test_who_shows_the_key_of_one_that_waits_and_has_it_not_changes_nothing_of_it(
    hub: Site, admin: Admin
) -> None:
    candidate = Candidate()
    code = await waits(hub, candidate)
    before = (await admin.agents())["waiting"]
    async with raw_agent(hub) as agent:
        greetings = await Candidate("evil").meet(agent, key=candidate.keys.public, machine_id="e" * 32)
        await agent.say(Candidate().proof(greetings))
        assert (await agent.closed())[0] == Close.UNAUTHORISED
    assert (await admin.agents())["waiting"] == before
    await admin.admit(code)
    async with raw_agent(hub) as agent:
        await candidate.join(agent)


async def test_a_hub_that_is_restarted_still_expects_whom_an_admin_has_admitted(tmp_path: Path) -> None:
    candidate = Candidate()
    async with running_hub(state_folder=tmp_path, trusts_loopback=False) as hub:
        await hub.get("/health")
        code = await waits(hub, candidate)
        await Admin(hub, tmp_path).admit(code)
    async with running_hub(state_folder=tmp_path, trusts_loopback=False) as hub, raw_agent(hub) as agent:
        await candidate.join(agent)


async def test_who_is_turned_away_is_not_shown_again(hub: Site, admin: Admin) -> None:
    candidate = Candidate()
    await admin.revoke(await waits(hub, candidate))
    assert "agents_waiting" not in await notices(hub)
    await waits(hub, candidate)
    assert (await admin.agents())["waiting"] == []


async def test_at_most_twenty_wait_and_one_that_is_gone_gives_way(
    hub: Site, admin: Admin, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(22):
        await waits(hub, Candidate(f"n{number}", f"{number:032x}"))
    assert [one["node"] for one in (await admin.agents())["waiting"]] == [f"n{number}" for number in range(20)]
    monkeypatch.setattr("gpumon.hub.waiting.GIVES_WAY_SECONDS", 0.0)
    await waits(hub, Candidate("late", "f" * 32))
    found = [one["node"] for one in (await admin.agents())["waiting"]]
    assert (len(found), found[0], found[-1]) == (20, "n1", "late")


async def test_who_does_not_come_any_longer_is_forgotten(
    hub: Site, admin: Admin, monkeypatch: pytest.MonkeyPatch
) -> None:
    await waits(hub, Candidate())
    monkeypatch.setattr("gpumon.hub.waiting.FORGOTTEN_SECONDS", 0.0)

    async def nobody_waits() -> bool:
        return not (await admin.agents())["waiting"]

    await until(nobody_waits)
    assert "agents_waiting" not in await notices(hub)


async def test_a_revoked_agent_is_cut_off_at_once_and_stays_out_with_its_secret_and_the_token(
    hub: Site, admin: Admin, token: str
) -> None:
    candidate, bystander = Candidate(), Candidate("m", "b" * 32)
    async with raw_agent(hub) as agent, raw_agent(hub) as other:
        await candidate.join(agent, token)
        await bystander.join(other, token)
        await agent.say(report(1))
        await hub.node_when("n", lambda node: node["report"])
        await admin.revoke("n")
        assert await agent.closed() == (Close.REVOKED, door_module.REVOKED)
        node = await hub.node_when("n", lambda node: node["verdict"])
        assert (node["verdict"]["code"], door_module.REVOKED in node["verdict"]["message"]) == ("push_refused", True)
        assert await candidate.refused(hub) == (Close.REVOKED, door_module.REVOKED)
        assert await candidate.refused(hub, token) == (Close.REVOKED, door_module.REVOKED)
        await other.say(report(1, "m"))
        await hub.node_when("m", lambda node: node["report"])
    states = {one["node"]: one["state"] for one in (await admin.agents())["joined"]}
    assert states == {"n": "revoked", "m": "joined"}
    await admin.admit("n")  # a mistake is mended
    async with raw_agent(hub) as agent:
        await candidate.join(agent)


async def test_every_link_under_a_revoked_id_is_cut(tmp_path: Path) -> None:
    """One that came without proof before the agent of its id joined, too."""
    candidate = Candidate()
    async with running_hub(state_folder=tmp_path) as hub:
        await hub.get("/health")
        async with raw_agent(hub) as before, raw_agent(hub) as agent:
            await before.say(hello("other", agent_id=candidate.agent_id))
            assert (await before.hear())["type"] == "welcome"
            await candidate.join(agent, (tmp_path / "join-token").read_text(), insists=True)
            await Admin(hub, tmp_path).revoke("n")
            assert await agent.closed() == (Close.REVOKED, door_module.REVOKED)
            assert await before.closed() == (Close.REVOKED, door_module.REVOKED)


async def test_revoking_holds_over_a_restart(tmp_path: Path) -> None:
    candidate = Candidate()
    async with running_hub(state_folder=tmp_path, trusts_loopback=False) as hub:
        await hub.get("/health")
        async with raw_agent(hub) as agent:
            await candidate.join(agent, (tmp_path / "join-token").read_text())
            await Admin(hub, tmp_path).revoke(candidate.agent_id)
    async with running_hub(state_folder=tmp_path, trusts_loopback=False) as hub:
        assert (await candidate.refused(hub))[0] == Close.REVOKED


async def test_a_machine_that_was_set_up_anew_is_admitted_in_place_of_itself(
    hub: Site, admin: Admin, token: str
) -> None:
    before, after = Candidate(), Candidate("n", "b" * 32)
    async with raw_agent(hub) as agent:
        await before.join(agent, token)
        assert (await after.refused(hub, token))[0] == Close.NAME_TAKEN
        (waiter,) = (await admin.agents())["waiting"]
        assert waiter["replaces"] == before.agent_id
        await admin.admit(waiter["code"])
        assert (await agent.closed())[0] == Close.REVOKED  # at once: it is somebody else now
    async with raw_agent(hub) as agent:
        await after.join(agent)
    assert (await before.refused(hub))[0] == Close.UNAUTHORISED
    assert [one["id"] for one in (await admin.agents())["joined"]] == [after.agent_id]


async def test_an_agent_that_moved_to_another_machine_is_admitted_there(hub: Site, admin: Admin, token: str) -> None:
    candidate = Candidate()
    async with raw_agent(hub) as agent:
        await candidate.join(agent, token)
    candidate.machine_id = "e" * 32
    assert (await candidate.refused(hub))[0] == Close.COPIED
    (waiter,) = (await admin.agents())["waiting"]
    assert waiter["replaces"] == candidate.agent_id
    await admin.admit(waiter["code"])
    async with raw_agent(hub) as agent:
        await candidate.join(agent)


@pytest.mark.parametrize("by", ["code", "id", "node"])
async def test_revoking_an_agent_whose_copy_waits_revokes_both(by: str, hub: Site, admin: Admin, token: str) -> None:
    """A copied disk waits under the code, the id and the name of the agent that it was copied from."""
    candidate = Candidate()
    async with raw_agent(hub) as agent:
        await candidate.join(agent, token)
        copy = Candidate("n", candidate.agent_id, "e" * 32, candidate.keys)
        assert (await copy.refused(hub))[0] == Close.COPIED
        (waiter,) = (await admin.agents())["waiting"]
        await admin.revoke(waiter[by])
        assert await agent.closed() == (Close.REVOKED, door_module.REVOKED)
    found = await admin.agents()
    assert ([one["state"] for one in found["joined"]], found["waiting"]) == (["revoked"], [])
    assert await copy.refused(hub) == await candidate.refused(hub) == (Close.REVOKED, door_module.REVOKED)
    assert (await admin.agents())["waiting"] == []


async def test_who_calls_itself_by_what_another_is_called_is_not_taken_for_it(
    hub: Site, admin: Admin, token: str
) -> None:
    """Names and ids are free to choose; only a code is what it is."""
    victim = Candidate("n")
    async with raw_agent(hub) as agent:
        await victim.join(agent, token)
        code = (await admin.agents())["joined"][0]["code"]
        await waits(hub, Candidate(victim.agent_id, "b" * 32))
        await waits(hub, Candidate(code, "c" * 32))
        await admin.revoke(victim.agent_id, 409)
        await admin.admit(code, 404)  # nobody waits under this code: who has it as its name is not meant
        await admin.revoke(code.lower())
        assert (await agent.closed())[0] == Close.REVOKED
    assert len((await admin.agents())["waiting"]) == 2


async def test_who_waited_and_joins_by_the_token_waits_no_longer(hub: Site, admin: Admin, token: str) -> None:
    candidate = Candidate()
    await waits(hub, candidate)
    async with raw_agent(hub) as agent:
        await candidate.join(agent, token)
    assert (await admin.agents())["waiting"] == []


@pytest.mark.parametrize("what", ["nobody", "机器", "a b", "%2e%2e", "<script>", "x" * 5000])
async def test_an_agent_that_there_is_not_is_said(what: str, admin: Admin) -> None:
    assert "no agent waits or was revoked" in (await admin.admit(what, 404))["detail"]
    assert "no agent has joined or waits" in (await admin.revoke(what, 404))["detail"]
