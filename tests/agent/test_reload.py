"""An agent as a program: SIGHUP, its state, its watchdog, its end."""

import asyncio
import json
import os
import signal
import threading
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from gpumon.agent.app import Service
from gpumon.agent.reload import Settings
from gpumon.config import AgentSection, DnsSection, TlsSection
from tests.agent.hubs import fake_hub, hear, hear_in_order, welcome
from tests.running import Program, program, running_agent, running_hub, until, until_true

LOCAL = ("--host=127.0.0.1", "--port=0", "--simulate=1")


async def heard(agent: Program, pattern: str) -> str:
    """A line of the agent's log, while the event loop of this test goes on."""
    match = await asyncio.to_thread(agent.wait_for, pattern)
    return match.string


async def test_on_sighup_hubs_and_interval_are_taken_over_and_the_rest_is_named(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    goodbyes: list[int | None] = []

    async def listen(connection: Any) -> None:
        await welcome(connection)
        await hear_in_order(connection)
        await connection.wait_closed()
        goodbyes.append(connection.close_code)

    async with fake_hub(listen) as first, running_hub() as second:

        def write(hub: str, **more: object) -> None:
            file.write_text(json.dumps({"agent": {"hub": [hub], "name": "n"} | more}))

        write(first.url, interval_seconds=60)
        with program("agent", *LOCAL, f"--config={file}") as agent:
            await heard(agent, "connected to gpumon 0")
            write(second.url, interval_seconds=0.5, name="m", tags=["cold"])
            agent.process.send_signal(signal.SIGHUP)
            await heard(agent, r"agent\.name: what the file says now counts when the agent is started anew")
            assert "agent.hub, agent.tags, agent.interval_seconds" in await heard(agent, "taken over")
            node = await second.node_when("n", lambda node: node["report"] and node["report"]["sequence"] > 3)
            assert node["report"]["interval_seconds"] == 0.5
            assert node["tags"] == ["cold"]
            await until_true(lambda: goodbyes == [1001])
            agent.process.send_signal(signal.SIGHUP)
            await heard(agent, "taken over: nothing, for nothing changed")
            assert agent.end() == 0


async def test_a_bad_file_changes_nothing_and_each_of_its_faults_is_told(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    async with running_hub() as hub:
        file.write_text(json.dumps({"agent": {"hub": [hub.url], "name": "n"}}))
        with program("agent", *LOCAL, "--interval=0.2", f"--config={file}") as agent:
            await heard(agent, "connected to gpumon")
            file.write_text('{"agent": {"hub": ["ftp://x", 5], "interval_seconds": 0}}')
            agent.process.send_signal(signal.SIGHUP)
            for fault in (r"agent\.hub\[1\]", r"agent\.interval_seconds: 0 is not allowed", "nothing was changed"):
                assert "reload" in await heard(agent, fault)
            file.unlink()
            agent.process.send_signal(signal.SIGHUP)
            await heard(agent, "cannot be read")
            before = (await hub.node("n"))["report"]["sequence"]
            await hub.node_when("n", lambda node: node["report"]["sequence"] > before)
            assert agent.end() == 0


async def test_flags_win_over_the_file_after_a_reload_too(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_text("{}")
    async with running_hub() as hub:
        with program("agent", *LOCAL, "--name=n", f"--hub={hub.url}", f"--config={file}") as agent:
            await heard(agent, "connected to gpumon")
            file.write_text('{"agent": {"hub": ["http://127.0.0.1:9"]}}')
            agent.process.send_signal(signal.SIGHUP)
            await heard(agent, "nothing changed")


async def test_hubs_may_be_given_and_taken_while_the_agent_runs(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_text("{}")
    async with running_hub() as hub:
        with program("agent", *LOCAL, "--name=n", "--interval=0.2", f"--config={file}") as agent:
            await heard(agent, "agent n")
            file.write_text(json.dumps({"agent": {"hub": [hub.url]}}))
            agent.process.send_signal(signal.SIGHUP)
            await hub.node_when("n", lambda node: node["status"] == "online")
            file.write_text("{}")
            agent.process.send_signal(signal.SIGHUP)
            await heard(agent, "left, as it is not configured any longer")
            file.write_text(json.dumps({"agent": {"hub": [hub.url]}}))
            agent.process.send_signal(signal.SIGHUP)
            before = (await hub.node("n"))["report"]["sequence"]
            await hub.node_when("n", lambda node: node["report"]["sequence"] > before)


async def test_a_changed_dns_server_is_asked_at_once(tmp_path: Path) -> None:
    """The name is unknown to the system, and known to the server that the file names later."""
    import dns.message
    import dns.rrset

    class Server(asyncio.DatagramProtocol):
        def connection_made(self, transport: Any) -> None:
            self.transport = transport

        def datagram_received(self, data: bytes, addr: Any) -> None:
            query = dns.message.from_wire(data)
            answer = dns.message.make_response(query)
            if query.question[0].rdtype.name == "A":
                answer.answer.append(dns.rrset.from_text_list(query.question[0].name, 60, "IN", "A", ["127.0.0.1"]))
            self.transport.sendto(answer.to_wire(), addr)

    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(Server, ("127.0.0.1", 0))
    port = transport.get_extra_info("sockname")[1]
    file = tmp_path / "config.json"
    async with running_hub() as hub:
        settings: dict[str, object] = {"agent": {"hub": [f"http://hub.lab.invalid:{hub.port}"], "name": "n"}}
        file.write_text(json.dumps(settings))
        with program("agent", *LOCAL, f"--config={file}") as agent:
            await heard(agent, "No address for hub.lab.invalid|its name is not resolved")
            file.write_text(json.dumps(settings | {"dns": {"server": f"127.0.0.1:{port}", "enabled": True}}))
            agent.process.send_signal(signal.SIGHUP)
            await heard(agent, "taken over: dns")
            await hub.node_when("n", lambda node: node["status"] == "online")
    transport.close()


async def test_a_disk_that_hangs_is_told_and_what_it_says_later_is_not_taken(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("gpumon.agent.reload.READ_SECONDS", 0.05)
    go, tags = threading.Event(), iter((["stale"], ["fresh"]))

    def read() -> Settings:
        found = next(tags)
        assert go.wait(20)
        return AgentSection(name="n", tags=found), DnsSection(), TlsSection()

    async with running_agent(AgentSection(name="n"), service=Service(read, None)) as agent:
        await agent.get("/gpu-info")
        try:
            for _ in range(3):
                caplog.clear()
                os.kill(os.getpid(), signal.SIGHUP)
                await until_true(
                    lambda: "reload: the file could not be read within 0.05 s: its disk hangs" in caplog.text
                )
        finally:
            go.set()
        monkeypatch.setattr("gpumon.agent.reload.READ_SECONDS", 20.0)
        os.kill(os.getpid(), signal.SIGHUP)

        async def has_taken() -> bool:
            return bool((await agent.get("/gpu-info"))["tags"] == ["fresh"])

        await until(has_taken)


async def test_without_a_file_sighup_ends_nothing(tmp_path: Path) -> None:
    with program("agent", *LOCAL, folder=tmp_path) as agent:
        await heard(agent, "agent .* on http")
        agent.process.send_signal(signal.SIGHUP)
        await heard(agent, "there is no file to read again")
        assert agent.end() == 0


async def test_an_agent_keeps_its_identity_where_it_is_told_and_a_simulation_only_there(tmp_path: Path) -> None:
    hellos: list[dict[str, Any]] = []

    async def listen(connection: Any) -> None:
        hellos.append(await welcome(connection))

    async def start(*more: str, **environment: str) -> str:
        known = len(hellos)
        with program("agent", *LOCAL, "--name=n", *more, environment=environment) as agent:
            await until_true(lambda: len(hellos) > known)
            assert agent.end() == 0
        return str(hellos[-1]["agent_id"])

    home, state = tmp_path / "home", tmp_path / "state"
    async with fake_hub(listen) as hub:
        where = f"--hub={hub.url}"
        kept = await start(where, f"--state-dir={state}")
        assert await start(where, GPUMON_STATE_DIR=str(state)) == kept
        file = tmp_path / "config.json"
        file.write_text(json.dumps({"agent": {"state_dir": str(state), "hub": [hub.url]}}))
        assert await start(f"--config={file}") == kept
        passing = await start(where, HOME=str(home), XDG_STATE_HOME=str(home))
        assert passing != kept
        assert await start(where, HOME=str(home), XDG_STATE_HOME=str(home)) != passing
    assert [path.name for path in state.iterdir()] == ["agent-n.json"]
    assert not home.exists()


@pytest.mark.parametrize("given", ["XDG_STATE_HOME", "HOME"])
async def test_a_real_agent_keeps_its_identity_in_the_users_folder_for_state_once_it_has_a_hub(
    given: str, tmp_path: Path
) -> None:
    from tests.fakenvml import environment

    nothing = environment(tmp_path / "none", library=False)
    folder = tmp_path / ("gpumon" if given == "XDG_STATE_HOME" else ".local/state/gpumon")
    clean = {"XDG_STATE_HOME": "not/absolute"} if given == "HOME" else {}
    real = ("agent", "--host=127.0.0.1", "--port=0", "--name=n")
    with program(*real, environment=nothing | clean | {given: str(tmp_path)}) as agent:
        await heard(agent, "agent n on http")
        assert agent.end() == 0
    assert not folder.exists()

    async def listen(connection: Any) -> None:
        await welcome(connection)

    async with fake_hub(listen) as hub:
        with program(*real, f"--hub={hub.url}", environment=nothing | clean | {given: str(tmp_path)}) as agent:
            await heard(agent, "connected to gpumon")
            assert agent.end() == 0
    assert [path.name for path in folder.iterdir()] == ["agent-n.json"]


async def test_an_agent_that_is_halted_for_a_while_goes_on_and_misses_nothing(tmp_path: Path) -> None:
    taken: list[int] = []

    async def listen(connection: Any) -> None:
        await welcome(connection, last=taken[-1] if taken else 0)
        while True:
            message = await hear(connection)
            if message["type"] == "report" and not message["ahead"]:
                taken.append(message["report"]["sequence"])

    async with fake_hub(listen) as hub:
        with program("agent", *LOCAL, "--interval=0.2", f"--hub={hub.url}", folder=tmp_path) as agent:
            await until_true(lambda: len(taken) > 3)
            agent.process.send_signal(signal.SIGSTOP)
            await asyncio.sleep(1)  # what is tested is time that passes
            agent.process.send_signal(signal.SIGCONT)
            known = len(taken)
            await until_true(lambda: len(taken) > known + 5)
            assert agent.end() == 0
    assert taken == list(range(1, len(taken) + 1))


async def test_the_agents_own_health_answers_while_no_hub_does(tmp_path: Path) -> None:
    with program("agent", *LOCAL, "--interval=0.2", "--hub=http://127.0.0.1:9", folder=tmp_path) as agent:
        port = await asyncio.to_thread(agent.port, "agent")

        def ask() -> dict[str, Any]:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health?verbose", timeout=30) as response:
                return dict(json.load(response)["link"])

        async def is_waiting() -> bool:
            link = await asyncio.to_thread(ask)
            return bool(link["reports_waiting"] > 2 and link["bytes_waiting"] > 0 and link["last_error"])

        await until(is_waiting)
        assert agent.end() == 0
