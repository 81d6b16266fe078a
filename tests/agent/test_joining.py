"""How an agent joins a hub, and what it makes of hubs that cannot prove who they are."""

import json
import os
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection

from gpumon import handshake, statefile
from gpumon.agent import joining as module
from gpumon.agent.app import Service
from gpumon.agent.identity import Bond, Identity, identity
from gpumon.agent.joining import Joining, TokenSource
from gpumon.errors import JoinError
from gpumon.handshake import JoinToken, KeyPair
from gpumon.wire import Challenge
from tests.agent.hubs import QUICK, fake_hub, hear, reporting_to, welcome
from tests.running import Site, program, running_agent, running_hub, until, until_true


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[Site]:
    """A hub that takes its own machine for any other."""
    async with running_hub(state_folder=tmp_path / "hub", trusts_loopback=False) as site:
        await site.get("/health")
        yield site


def token_of_hub(folder: Path) -> JoinToken:
    return JoinToken.parse((folder / "hub" / "join-token").read_text())


def joining(hub: str, folder: Path, token: JoinToken | None = None, file: Path | None = None) -> Any:
    """An agent that runs, with its state in ``folder`` and its token from where it is given."""
    service = Service(None, folder / "agent", TokenSource(token, file))
    return running_agent(reporting_to(hub), service=service, pace=QUICK)


def state_in(folder: Path) -> dict[str, Any]:
    found = json.loads((folder / "agent" / "agent-n.json").read_text())
    assert isinstance(found, dict)
    return found


def impostor(keys: KeyPair, answers: Callable[[dict[str, Any], bytes, bytes], str | None], told: list[str]) -> Any:
    """A hub with ``keys`` that proves itself by what ``answers`` makes of the agent's proof and the greetings; what the
    agent says after that goes to ``told``.
    """

    async def talk(connection: ServerConnection) -> None:
        hello = await connection.recv(decode=False)
        challenge = json.dumps({"type": "challenge", "key": keys.public, "nonce": handshake.nonce()}).encode()
        await connection.send(challenge, text=True)
        proof = answers(await hear(connection), hello, challenge)
        await connection.send(json.dumps({"type": "welcome", "hub_version": "0", "proof": proof}))
        while True:
            told.append(str(await connection.recv()))

    return fake_hub(talk)


# ---- joining ----


async def test_an_agent_joins_once_and_then_needs_no_token(hub: Site, tmp_path: Path) -> None:
    async with joining(hub.url, tmp_path, token_of_hub(tmp_path)):
        first = await hub.node_when("n", lambda node: node["report"])
    (bond,) = state_in(tmp_path)["hubs"]
    assert (bond["url"], bond["hub"]) == (hub.url, token_of_hub(tmp_path).hub)
    async with joining(hub.url, tmp_path):
        node = await hub.node_when("n", lambda node: node["report"]["boot_id"] != first["report"]["boot_id"])
    assert node["agent_id"] == first["agent_id"]


async def test_what_an_agent_keeps_is_its_owners_alone_and_holds_no_token(hub: Site, tmp_path: Path) -> None:
    token = token_of_hub(tmp_path)
    async with joining(hub.url, tmp_path, token):
        await hub.node_when("n", lambda node: node["report"])
    file = tmp_path / "agent" / "agent-n.json"
    assert file.stat().st_mode & 0o777 == 0o600
    assert token.secret not in file.read_text()


async def test_the_state_of_an_older_agent_gets_a_key(hub: Site, tmp_path: Path) -> None:
    statefile.write(tmp_path / "agent" / "agent-n.json", json.dumps({"agent_id": "ab" * 16, "node": "n"}).encode())
    async with joining(hub.url, tmp_path, token_of_hub(tmp_path)):
        assert (await hub.node_when("n", lambda node: node["report"]))["agent_id"] == "ab" * 16


async def test_a_token_file_is_read_when_it_is_there(
    hub: Site, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "token"
    async with joining(hub.url, tmp_path, file=file):
        await until_true(lambda: "it has not joined this hub" in caplog.text)
        file.write_text("nonsense")
        await until_true(lambda: "no join token of gpumon" in caplog.text)
        assert "nonsense" not in caplog.text
        file.write_text(token_of_hub(tmp_path).text() + "\n")
        await hub.node_when("n", lambda node: node["report"])


async def test_who_is_not_admitted_says_in_words_what_to_do_and_comes_back_slowly(
    hub: Site, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with joining(hub.url, tmp_path) as agent:
        await until_true(lambda: "it has not joined this hub (4001)" in caplog.text)
        said = caplog.text
        assert "gpumon hub --print-join" in said
        link = (await agent.get("/health?verbose"))["link"]
        assert "gpumon agents admit " in link["last_error"]
    assert "waits to be admitted: " in said
    code = said.rpartition("waits to be admitted: ")[2].split()[0]
    assert f"gpumon agents admit {code}" in said  # both sides show the same


async def test_a_wrong_token_is_told(hub: Site, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with joining(hub.url, tmp_path, JoinToken.new(token_of_hub(tmp_path).hub)):
        await until_true(lambda: "its join token is not this hub's" in caplog.text)
    assert "hubs" in state_in(tmp_path)
    assert state_in(tmp_path)["hubs"] == []


# ---- hubs that cannot prove themselves ----


async def test_a_hub_that_does_not_prove_itself_hears_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    told: list[str] = []

    async def talk(connection: ServerConnection) -> None:
        await welcome(connection)
        while True:
            told.append(str(await connection.recv()))

    async with fake_hub(talk) as hub, joining(hub.url, tmp_path, JoinToken.new("0" * 32)):
        await until_true(lambda: "it does not prove that it is the hub" in caplog.text)
        await until_true(lambda: hub.visits > 1)
    assert told == []


def _no_proof(_proof: dict[str, Any], _hello: bytes, _challenge: bytes) -> None:
    return None


def _reflected(proof: dict[str, Any], _hello: bytes, _challenge: bytes) -> str:
    return str(proof["proof"])


def _by_token(proof: dict[str, Any], _hello: bytes, _challenge: bytes) -> str:
    return str(proof["token_proof"])


@pytest.mark.parametrize("answers", [_no_proof, _reflected, _by_token])
async def test_an_impostor_with_the_hubs_public_key_hears_nothing(
    answers: Any, hub: Site, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It has all that ever crossed the wire, the agent's own proofs among it."""
    del hub
    told: list[str] = []
    state = json.loads((tmp_path / "hub" / "hub.json").read_text())
    public = KeyPair.of(int(state["private_key"], 16))
    async with impostor(public, answers, told) as false, joining(false.url, tmp_path, token_of_hub(tmp_path)):
        await until_true(lambda: "cannot prove that it is the hub" in caplog.text)
        await until_true(lambda: false.visits > 1)
    assert told == []
    assert state_in(tmp_path)["hubs"] == []


async def test_another_hub_than_that_of_the_token_gets_no_proof(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[str] = []
    async with (
        impostor(KeyPair.new(), _reflected, told) as false,
        joining(false.url, tmp_path, JoinToken.new("0" * 32)),
    ):
        await until_true(lambda: "another hub than the one that the agent's join token is of" in caplog.text)
    assert told == []


async def test_another_hub_at_the_address_of_one_that_was_joined_hears_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither one with keys of its own, nor one that asks for nothing."""
    told: list[str] = []
    async with running_hub(state_folder=tmp_path / "hub", trusts_loopback=False) as hub:
        await hub.get("/health")
        async with joining(hub.url, tmp_path, token_of_hub(tmp_path)):
            await hub.node_when("n", lambda node: node["report"])
    async with impostor(KeyPair.new(), _reflected, told) as false:
        # As if it stood where the hub was: what the agent remembers of the one is that of the other.
        file = tmp_path / "agent" / "agent-n.json"
        file.write_text(file.read_text().replace(hub.url, false.url))
        async with joining(false.url, tmp_path):
            await until_true(lambda: "another hub than the one that this agent has joined there" in caplog.text)

    async def talk(connection: ServerConnection) -> None:
        await welcome(connection)
        while True:
            told.append(str(await connection.recv()))

    async with fake_hub(talk) as open_one:
        file.write_text(file.read_text().replace(false.url, open_one.url))
        async with joining(open_one.url, tmp_path):
            await until_true(lambda: "it does not prove that it is the hub" in caplog.text)
    assert told == []


async def test_a_hub_that_was_set_up_anew_is_joined_by_its_new_token(tmp_path: Path) -> None:
    port = None
    for number in (1, 2):
        folder = tmp_path / str(number)
        async with running_hub(state_folder=folder / "hub", trusts_loopback=False, port=port or 0) as hub:
            port = hub.port
            await hub.get("/health")
            async with joining(hub.url, tmp_path, token_of_hub(folder)):
                await hub.node_when("n", lambda node: node["report"])
    assert len(state_in(tmp_path)["hubs"]) == 1


async def test_an_agent_without_a_token_reports_to_a_hub_that_asks_for_nothing(tmp_path: Path) -> None:
    """Such as one of an older version, or one on its own machine."""
    reports: list[dict[str, Any]] = []

    async def talk(connection: ServerConnection) -> None:
        assert (await welcome(connection))["insists"] is False
        reports.append(await hear(connection))

    async with fake_hub(talk) as hub, joining(hub.url, tmp_path):
        await until_true(lambda: reports)


async def test_a_disk_that_is_full_does_not_keep_an_agent_from_joining(
    hub: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    token = token_of_hub(tmp_path)
    monkeypatch.setattr(statefile.HeldFile, "write", full)
    async with joining(hub.url, tmp_path, token):
        await hub.node_when("n", lambda node: node["report"])
    assert "that this agent has joined" in caplog.text
    assert "No space left" in caplog.text


@pytest.mark.parametrize(
    ("joined", "spelled"),
    [
        ("http://Hub.Lab:8080", "ws://hub.lab.:8080/"),
        ("http://hub", "http://hub:80"),
        ("https://hub", "wss://HUB:443/#sha256=" + "0" * 64),
        ("http://hub:8080", "https://hub:8080"),
        ("http://hub:8080/one/", "http://hub:8080/two"),
        ("http://[::1]:8080", "http://[0:0:0:0:0:0:0:1]:8080"),
        ("http://[2001:DB8::A]:8080", "ws://[2001:db8:0::000a]:8080"),
        ("http://10.0.0.5:8080", "http://[::ffff:10.0.0.5]:8080"),
        ("http://münchen.example:8080", "http://xn--mnchen-3ya.example:8080"),
        ("http://MÜNCHEN.example:8080", "http://münchen.example.:8080"),
    ],
)
async def test_a_hub_that_was_joined_must_prove_itself_however_it_is_spelled(joined: str, spelled: str) -> None:
    bond = Bond(joined, "0" * 32, "0" * 64)
    for url in (joined, spelled):
        who = Joining(Identity("ab" * 16, None, bonds=[bond]), TokenSource())
        assert await who.prepare(url)
        with pytest.raises(JoinError, match="another hub than the one that this agent has joined there"):
            who.answer(url, (b"hello", b"challenge"), Challenge(key=KeyPair.new().public, nonce=handshake.nonce()))


@pytest.mark.parametrize("url", ["http://hub:8081", "http://hub", "http://hub.lab:8080", "https://hub", "http://[::1"])
async def test_a_hub_elsewhere_is_another(url: str) -> None:
    bonds = [Bond("http://hub:8080", "0" * 32, "0" * 64), Bond("no URL at all]:", "0" * 32, "0" * 64)]
    assert not await Joining(Identity("ab" * 16, None, bonds=bonds), TokenSource()).prepare(url)


async def test_an_impostor_hears_nothing_where_the_address_is_spelled_otherwise_now(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[str] = []

    async def talk(connection: ServerConnection) -> None:
        await welcome(connection)
        while True:
            told.append(str(await connection.recv()))

    async with running_hub(state_folder=tmp_path / "hub", trusts_loopback=False) as hub:
        await hub.get("/health")
        async with joining(hub.url, tmp_path, token_of_hub(tmp_path)):
            await hub.node_when("n", lambda node: node["report"])
    async with fake_hub(talk) as false:
        file = tmp_path / "agent" / "agent-n.json"
        file.write_text(file.read_text().replace(hub.url, false.url))
        spelled = false.url.replace("http://127.0.0.1", "ws://[::ffff:127.0.0.1]") + "/"
        async with joining(spelled, tmp_path):
            await until_true(lambda: "it does not prove that it is the hub" in caplog.text)
    assert told == []


# ---- disks that hang ----


@pytest.fixture
def hanging(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that cannot be opened until somebody writes to it, as on a disk that is not there; few wait for it."""
    monkeypatch.setattr(module, "READ_SECONDS", 0.05)
    file = tmp_path / "token"
    os.mkfifo(file)
    return file


def comes_back(file: Path, text: str) -> None:
    was = file.rename(file.with_name("was"))
    file.write_text(text)
    os.close(os.open(was, os.O_WRONLY))  # the thread that reads may go on


async def test_a_token_on_a_disk_that_hangs_is_told_and_read_when_it_comes_back(
    hub: Site, tmp_path: Path, hanging: Path
) -> None:
    async with joining(hub.url, tmp_path, file=hanging) as agent:

        async def is_told() -> bool:
            told = str((await agent.get("/health?verbose"))["link"]["last_error"])
            return "the file of the agent's own join token could not be read within 0.05 s" in told

        await until(is_told)
        seen = set()

        async def is_tried_again() -> bool:
            seen.add((await agent.get("/health?verbose"))["link"]["last_error_at"])
            return len(seen) > 10

        await until(is_tried_again)
        assert [one.name for one in threading.enumerate()].count(module.READER) == 1
        comes_back(hanging, token_of_hub(tmp_path).text())
        await hub.node_when("n", lambda node: node["report"])


async def test_one_that_has_joined_needs_no_disk_for_its_token(hub: Site, tmp_path: Path, hanging: Path) -> None:
    async with joining(hub.url, tmp_path, token_of_hub(tmp_path)):
        first = await hub.node_when("n", lambda node: node["report"])
    async with joining(hub.url, tmp_path, file=hanging):
        await hub.node_when("n", lambda node: node["report"]["boot_id"] != first["report"]["boot_id"])
        os.close(os.open(hanging, os.O_WRONLY))  # the thread that reads may end


def test_an_agent_whose_disk_hangs_ends_when_it_is_told_to(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "token")
    local = ("--host=127.0.0.1", "--port=0")
    with program("hub", *local) as hub:
        url = f"http://127.0.0.1:{hub.port('hub')}"
        with program(
            "agent", *local, "--simulate=1", f"--hub={url}", f"--join-token-file={tmp_path / 'token'}"
        ) as agent:
            agent.wait_for("the file of the agent's own join token could not be read within 3 s")
            assert agent.end() == 0


async def test_a_token_that_no_thread_can_be_had_to_read_is_told_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    agent = Joining(identity(None, "n"), TokenSource(None, tmp_path / "token"))
    with pytest.raises(JoinError, match="token: this machine allows no further thread to read it"):
        await agent._token_of_file()


# ---- the program ----


def test_a_token_that_is_none_is_told_without_being_quoted(tmp_path: Path) -> None:
    with program(
        "agent", "--host=127.0.0.1", "--port=0", "--simulate=1", environment={"GPUMON_JOIN_TOKEN": "hunter2"}
    ) as agent:
        assert agent.status() == 2
    assert "GPUMON_JOIN_TOKEN: this is no join token of gpumon" in agent.said
    assert "hunter2" not in agent.said
    with pytest.raises(JoinError) as error:
        TokenSource(None, tmp_path).token()
    assert str(tmp_path) in str(error.value)


async def test_the_line_that_a_hub_prints_lets_a_node_join(tmp_path: Path) -> None:
    state = f"--state-dir={tmp_path / 'hub'}"
    with program("hub", "--host=0.0.0.0", "--port=0", state) as hub:
        line = hub.wait_for(r"to let a node join, run on it: GPUMON_JOIN_TOKEN=(\S+) gpumon agent --hub (\S+)")
        port = int(line[2].rpartition(":")[2])
        with program(
            "agent",
            "--host=127.0.0.1",
            "--port=0",
            "--simulate=1",
            f"--hub=http://127.0.0.1:{port}",
            "--name=n",
            f"--state-dir={tmp_path / 'agent'}",
            environment={"GPUMON_JOIN_TOKEN": line[1]},
        ) as agent:
            agent.wait_for("this agent has joined the hub")
            with program("hub", "--print-join", state, f"--port={port}") as again:
                assert again.status() == 0
            assert again.wrote.strip() == f"GPUMON_JOIN_TOKEN={line[1]} gpumon agent --hub {line[2]}"
    with program("hub", "--host=0.0.0.0", "--port=0", state) as hub:
        hub.wait_for("gpumon hub --print-join' on this machine shows how")
    assert line[1] not in hub.said


def test_the_line_can_be_had_before_the_hub_ever_ran(tmp_path: Path) -> None:
    lines = []
    for _ in range(2):
        with program("hub", "--print-join", f"--state-dir={tmp_path}") as hub:
            assert hub.status() == 0
        lines.append(hub.wrote)
    assert lines[0] == lines[1] != ""
    (tmp_path / "file").touch()
    with program("hub", "--print-join", f"--state-dir={tmp_path / 'file'}") as hub:
        assert hub.status() == 2
    assert "--state-dir: " in hub.said
