"""The agent's end of the wire, against a real hub and against hubs that misbehave."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from websockets.asyncio.server import ServerConnection, serve

from gpumon import wire
from gpumon.agent import link as module
from gpumon.agent.link import Backoff, Link, push_url
from gpumon.agent.outbox import Outbox
from gpumon.agent.sample import Sample
from gpumon.agent.sampler import Sampler
from gpumon.config import AgentSection
from gpumon.model import Gpu
from gpumon.wire import Close
from tests.running import running_agent, running_hub, until_true

Conversation = Callable[[ServerConnection], Awaitable[None]]


class FakeHub:
    """A hub that talks as a test says; counts who comes."""

    def __init__(self) -> None:
        self.visits = 0
        self.url = ""


@asynccontextmanager
async def fake_hub(talk: Conversation) -> AsyncIterator[FakeHub]:
    hub = FakeHub()

    async def meet(connection: ServerConnection) -> None:
        hub.visits += 1
        await talk(connection)
        with contextlib.suppress(Exception):
            async for _ in connection:
                pass

    async with serve(meet, "127.0.0.1", 0, subprotocols=[wire.SUBPROTOCOL]) as server:  # type: ignore[list-item]
        hub.url = f"http://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}"
        yield hub


async def welcome(connection: ServerConnection) -> None:
    await connection.recv()
    await connection.send(json.dumps({"type": "welcome", "hub_version": "0", "last_sequence": 0}))


def reporting_to(*hubs: str) -> AgentSection:
    return AgentSection(name="n", hub=list(hubs), interval_seconds=0.2)


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Back-off a hundred times faster."""
    monkeypatch.setattr(module, "FIRST_SECONDS", 0.005)
    monkeypatch.setattr(module, "MOST_SECONDS", 0.3)
    monkeypatch.setattr(module, "SLOW_SECONDS", 0.6)


async def test_an_agent_reports_to_a_hub_and_says_who_it_is() -> None:
    async with running_hub() as hub, running_agent(reporting_to(hub.url), simulate=3) as agent:
        node = await hub.node_when("n", lambda node: node["status"] == "online")
        assert (node["source"], node["port"], len(node["report"]["gpus"])) == ("push", agent.port, 3)
        assert node["report"]["simulated"] is True


async def test_an_agent_finds_its_hub_whenever_that_starts_and_restarts() -> None:
    async with running_hub() as first:
        port = first.port
        await first.get("/health")
    async with running_agent(reporting_to(f"http://127.0.0.1:{port}")):
        for _ in range(2):
            async with running_hub(port=port) as hub:
                await hub.node_when("n", lambda node: node["status"] == "online")


async def test_when_one_hub_fails_the_next_is_tried() -> None:
    async with running_hub() as hub, running_agent(reporting_to("http://127.0.0.1:9", hub.url)):
        await hub.node_when("n", lambda node: node["status"] == "online")


async def test_what_was_not_acknowledged_is_sent_again_in_order_without_a_gap() -> None:
    heard: list[list[int]] = []

    async def never_acknowledges(connection: ServerConnection) -> None:
        await welcome(connection)
        heard.append([])
        while len(heard[-1]) < 3 * len(heard):
            heard[-1].append(json.loads(await connection.recv())["report"]["sequence"])
        await connection.close(Close.GOING_AWAY)

    async with fake_hub(never_acknowledges) as hub, running_agent(reporting_to(hub.url)):
        await until_true(lambda: len(heard) > 3)
    assert heard[:3] == [list(range(1, 3 * visit + 1)) for visit in (1, 2, 3)]


async def test_what_a_hub_has_is_not_sent_again() -> None:
    heard: list[int] = []

    async def remembers(connection: ServerConnection) -> None:
        await connection.recv()
        await connection.send(json.dumps({"type": "welcome", "hub_version": "0", "last_sequence": len(heard)}))
        heard.extend([json.loads(await connection.recv())["report"]["sequence"] for _ in range(3)])
        await connection.close(Close.GOING_AWAY)

    async with fake_hub(remembers) as hub, running_agent(reporting_to(hub.url)):
        await until_true(lambda: len(heard) >= 9)
    assert heard[:9] == list(range(1, 10))


@pytest.mark.parametrize(
    "answer",
    ["nonsense", '{"type": "ack", "sequence": 1}', '{"type": "welcome"}'],
    ids=["not JSON", "no welcome first", "half a welcome"],
)
async def test_a_hub_that_talks_nonsense_is_left_and_tried_again(answer: str) -> None:
    async def nonsense(connection: ServerConnection) -> None:
        await connection.recv()
        await connection.send(answer)

    async with fake_hub(nonsense) as hub, running_agent(reporting_to(hub.url)) as agent:
        await until_true(lambda: hub.visits >= 3)
        assert (await agent.get("/health"))["status"] == "ok"


async def test_a_hub_that_refuses_with_a_status_is_tried_again_for_ever() -> None:
    visits = 0

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal visits
        visits += 1
        await reader.readuntil(b"\r\n\r\n")
        status = (401, 403, 404, 429, 500, 503)[visits % 6]
        writer.write(f"HTTP/1.1 {status} No\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno".encode())
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(refuse, "127.0.0.1", 0)
    async with running_agent(reporting_to(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")):
        await until_true(lambda: visits >= 7)
    server.close()


async def test_a_redirect_is_not_followed_and_ends_nothing() -> None:
    visits = 0

    async def redirect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal visits
        visits += 1
        await reader.readuntil(b"\r\n\r\n")
        target = ("ws://[", "ws://h:99999/", "ws://a..b/", "ws://127.0.0.1:9/")[visits % 4]
        writer.write(f"HTTP/1.1 302 Go\r\nLocation: {target}\r\nContent-Length: 0\r\n\r\n".encode())
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(redirect, "127.0.0.1", 0)
    async with running_agent(reporting_to(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")) as agent:
        await until_true(lambda: visits >= 8)
        assert (await agent.get("/health"))["status"] == "ok"
    server.close()


class OnceAbsurd:
    """Gives one sample that no hub takes, and good ones before and after."""

    simulated = True

    def __init__(self) -> None:
        self.reads = 0

    async def read(self) -> Sample:
        self.reads += 1
        return Sample(gpus=[Gpu(index=0, utilization_percent=101 if self.reads == 3 else 1)])


async def test_a_report_that_the_hub_refuses_is_dropped_and_the_rest_goes_on() -> None:
    async with running_hub() as hub, asyncio.TaskGroup() as group:
        sampler, outbox = Sampler(OnceAbsurd(), "n", 0.05), Outbox()
        link = Link([hub.url], sampler, outbox, None)
        tasks = [group.create_task(sampler.run(outbox.put)), group.create_task(link.run())]
        await hub.node_when("n", lambda node: node["report"] and node["report"]["sequence"] > 5)
        for task in tasks:
            task.cancel()


def test_back_off_grows_with_failures_and_starts_over_only_after_a_link_has_held(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "FIRST_SECONDS", 0.5)
    monkeypatch.setattr(module, "MOST_SECONDS", 30.0)
    monkeypatch.setattr("random.uniform", lambda _, high: high)
    backoff = Backoff()
    assert [backoff.after(0.1) for _ in range(8)] == [0.5, 1, 2, 4, 8, 16, 30, 30]
    assert backoff.after(29) == 30
    assert backoff.after(31) == 0.5
    assert backoff.after(0.1) == 1


async def test_a_refusal_that_time_does_not_heal_is_retried_slowly(monkeypatch: pytest.MonkeyPatch) -> None:
    delays: list[bool] = []
    original = Backoff.after

    def spy(self: Backoff, spent_seconds: float, *, slow: bool = False) -> float:
        delays.append(slow)
        return original(self, spent_seconds, slow=slow)

    monkeypatch.setattr(Backoff, "after", spy)

    async def refuse(connection: ServerConnection) -> None:
        await connection.recv()
        await connection.close(Close.NAME_TAKEN, "give one of them another --name")

    async with fake_hub(refuse) as hub, running_agent(reporting_to(hub.url)):
        await until_true(lambda: bool(delays))
    assert delays[0] is True


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
