"""The log, over everything that strangers may say into it."""

import asyncio
import contextlib
import json
import logging
import re
from pathlib import Path

import aiohttp
import pytest
import websockets
from websockets.asyncio.client import connect

from gpumon import wire
from gpumon.logs import MAX_LOG_CHARACTERS, MAX_TRACEBACK_CHARACTERS, OneLine
from tests.authority import self_made
from tests.hub.agents import hello
from tests.hub.strangers import answer, stranger
from tests.running import Program, program

EVENT = re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} (DEBUG|INFO|WARNING|ERROR|CRITICAL) [\w.]+: ")
FORGED = "2026-01-01 00:00:00,000 INFO gpumon.hub.app: all is well"
HOSTILE = [
    f"a\n{FORGED}",
    f"a\r\n{FORGED}",
    f"a\x0b{FORGED}",
    f"a\x0c{FORGED}",
    f"a\x85{FORGED}",
    f"a\u2028{FORGED}",
    f"a\u2029{FORGED}",
    "a\x1b[2J\x1b[31mred",
    "a\x9b31mred",
    "a\x07\x08\x08\x00b",
    "a\u202egnp.exe",
    "a\u2066\u200f\u200bb",
    "a\ud800b",
    "a%s%n%(name)s{0}b",
    "a" * 100_000,
]


def line_of(said: str, fault: BaseException | None = None) -> str:
    """What is written of an event. Without a logger: pytest would keep what it is told, and cannot pass it on."""
    how = None if fault is None else (type(fault), fault, fault.__traceback__)
    record = logging.LogRecord("gpumon.test", logging.ERROR, "", 0, "%s: %s", (said, said), how, sinfo=said)
    return OneLine("%(asctime)s %(levelname)s %(name)s: %(message)s").format(record)


@pytest.mark.parametrize("said", HOSTILE, ids=range(len(HOSTILE)))
def test_whatever_is_said_is_one_line_without_signs_that_do_something(said: str) -> None:
    for fault in (None, ValueError(said), ExceptionGroup(said, [ValueError(said)])):
        line = line_of(said, fault)
        assert EVENT.match(line)
        assert line.isprintable()  # so there is nothing at which any program would end a line
        assert len(line) < 4 * MAX_LOG_CHARACTERS + 2 * 4 * MAX_TRACEBACK_CHARACTERS
        assert fault is None or len(said) > 1000 or "ValueError: a" in line


async def _talk(port: int, name: str) -> None:
    """Say ``name`` to a hub wherever a stranger may name something."""
    subprotocols = [websockets.Subprotocol(wire.SUBPROTOCOL)]
    url = f"ws://127.0.0.1:{port}/api/push"
    for words in (
        hello(node=name),
        hello(agent_version=name),
        hello(hostname=name),
        hello(boot=name),
        {name: name},
        {"type": name},
    ):
        async with connect(url, subprotocols=subprotocols, proxy=None, close_timeout=5) as link:
            await link.send(json.dumps(words))
            try:
                await link.recv()
                await link.send(json.dumps({"type": "report", "late": False, "report": {"node": name, "gpus": name}}))
                await link.recv()
            except websockets.ConnectionClosed:
                continue


def ended(one: Program) -> list[str]:
    """The lines that a program has written, to its end."""
    one.process.terminate()
    with contextlib.suppress(AssertionError):
        one.wait_for("what nobody says")
    assert one.process.wait(30) == 0
    return one.said.split("\n")[:-1]


async def test_a_hub_and_an_agent_among_hostile_strangers_write_one_line_an_event(tmp_path: Path) -> None:
    """Names, words, statuses and reasons that strangers choose, through the programs as they are."""
    text = "a\r\n" + FORGED + "\x1b[2J\u202e"
    async with (
        stranger(answer(text.encode(), f"500 {FORGED}\x1b[31m")) as port,
        stranger(answer(f"HTTP {text}".encode())) as other,
    ):
        nodes = [{"name": "n", "host": "127.0.0.1", "port": port}, {"name": "m", "host": "127.0.0.1", "port": other}]
        (tmp_path / "config.json").write_text(json.dumps({"nodes": nodes}))
        with program("--log-level=debug", "hub", "--host=127.0.0.1", "--port=0", folder=tmp_path) as hub:
            hub_port = await asyncio.to_thread(hub.port, "hub")
            refused = f"--hub=http://127.0.0.1:{port}"
            agent = program("--log-level=debug", "agent", "--host=127.0.0.1", "--port=0", "--simulate=1", refused)
            with agent as one:
                for said in (text, *HOSTILE[:-1]):
                    await _talk(hub_port, said)
                await asyncio.to_thread(one.wait_for, "WARNING .*; trying again")
                await asyncio.to_thread(hub.wait_for, "WARNING .*: [mn]: ")
                told = [await asyncio.to_thread(ended, each) for each in (one, hub)]
    for lines in told:
        assert len(lines) > 2
        for line in lines:
            assert EVENT.match(line), line
            assert line.isprintable(), line
            assert not line.startswith(FORGED)


async def test_no_secret_is_logged_however_much_is_told(tmp_path: Path) -> None:
    own = self_made(tmp_path)
    secrets = ("agents-own-secret", "viewers-secret", "cookies-secret", "nodes-secret")

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 401 No\r\nConnection: close\r\n\r\n" + head)
        writer.close()

    async with stranger(echo) as port:
        node = {"name": "n", "host": "127.0.0.1", "port": port, "token": secrets[3]}
        tls = {"certificate": str(own.certificate), "key": str(own.key)}
        (tmp_path / "config.json").write_text(json.dumps({"nodes": [node], "tls": tls}))
        closed = ("--host=127.0.0.1", "--port=0", "--require-login", f"--state-dir={tmp_path}")
        with program("--log-level=debug", "hub", *closed, folder=tmp_path) as hub:
            hub_port = await asyncio.to_thread(hub.port, "hub")
            token = (tmp_path / "viewers.token").read_text().strip()
            hub_url = f"https://127.0.0.1:{hub_port}#sha256={own.fingerprint}"
            arguments = ("--host=127.0.0.1", "--port=0", "--simulate=1", f"--hub={hub_url}")
            environment = {"GPUMON_AGENT_TOKEN": secrets[0]}
            with program("--log-level=debug", "agent", *arguments, environment=environment) as agent:
                await asyncio.to_thread(agent.wait_for, "connected to gpumon")
                for word, status in ((secrets[1], 401), (token, 200)):
                    headers = {"Authorization": f"Bearer {word}", "Cookie": f"gpumon={secrets[2]}"}
                    async with aiohttp.ClientSession(f"https://127.0.0.1:{hub_port}", headers=headers) as session:
                        for path in ("/api/nodes", f"/api/nodes?token={word}"):
                            async with session.get(path, ssl=False) as response:
                                assert response.status == status
                        with contextlib.suppress(aiohttp.WSServerHandshakeError):
                            async with session.ws_connect("/api/stream", ssl=False) as stream:
                                await stream.receive()
                await asyncio.to_thread(hub.wait_for, "status 401")
                told = [await asyncio.to_thread(ended, each) for each in (agent, hub)]
    for lines in told:
        assert not [line for line in lines if any(secret in line for secret in (*secrets, token))]
