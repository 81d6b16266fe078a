"""Polling real servers that answer well, badly, endlessly or not at all."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from gpumon.config import AgentSection, Config, HubSection, NodeEntry
from tests.running import running_agent, running_hub

QUICK = HubSection(poll_interval_seconds=0.2)
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def answer(body: bytes, status: str = "200 OK", headers: str = "") -> Handler:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{headers}\r\n".encode() + body)
        await writer.drain()
        writer.close()

    return handle


async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
    while not reader.at_eof():
        writer.write(b"[" * 65536)
        await writer.drain()


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    del writer
    await reader.read()


async def hangs_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.close()


async def not_http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")
    writer.close()


@asynccontextmanager
async def stranger(handler: Handler) -> AsyncIterator[int]:
    """A server that treats each connection as ``handler`` says; its port."""

    async def guarded(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await handler(reader, writer)
        writer.close()

    server = await asyncio.start_server(guarded, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await asyncio.wait_for(server.wait_closed(), 5)


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


async def test_nobody_at_the_port_and_no_such_name_are_told_apart() -> None:
    entries = [NodeEntry(name="closed", host="127.0.0.1", port=9), NodeEntry(name="unknown", host="nowhere.invalid")]
    async with running_hub(polling(*entries)) as hub:
        closed = await hub.node_when("closed", lambda node: node["error"])
        assert closed["error"]["code"] == "no_connection"
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
