"""The past by REST, by a real client against a real hub."""

import asyncio
import json
import time
from typing import Any
from urllib.parse import quote, urlencode

import pytest

from gpumon.hub import packing
from gpumon.hub import past as past_module
from gpumon.hub.history import COARSE_BUCKETS, FINE_SECONDS, MOST_OF_ONE_NODE, column
from gpumon.hub.ring import FIELDS
from gpumon.timestamp import rfc3339
from tests.hub.agents import RawAgent, hello, raw_agent, report
from tests.running import Site, running_hub

GPUS = [
    {"index": 0, "uuid": "GPU-a", "power_draw_watts": 100.0, "temperature_celsius": 50},
    {"index": 1, "uuid": "GPU-b", "power_draw_watts": 200.0},
]


async def asked(hub: Site, path: str, **query: object) -> tuple[int, Any]:
    async with hub.session.get(f"{hub.url}{path}?{urlencode(query, doseq=True)}") as response:
        return response.status, await response.json(content_type=None)


async def has_reported(hub: Site, agent: RawAgent) -> None:
    await agent.say(report(1, gpus=GPUS))
    await hub.node_when("n", lambda node: node["report"])


async def test_every_remembered_metric_of_every_gpu_comes_in_one_call() -> None:
    async with running_hub() as hub, raw_agent(hub) as agent:
        await agent.say(hello())
        await has_reported(hub, agent)
        status, past = await asked(hub, "/api/nodes/n/history")
        assert status == 200
        assert (past["node"], past["step_seconds"]) == ("n", FINE_SECONDS)
        assert {(one["gpu"], one["metric"]) for one in past["series"]} == {
            (gpu, metric) for gpu in ("GPU-a", "GPU-b") for metric in FIELDS
        }
        for series in past["series"]:
            assert len(series["values"]) == len(past["at"])
        (watts,) = [one for one in past["series"] if (one["gpu"], one["metric"]) == ("GPU-b", "power_draw_watts")]
        assert watts["unit"] == "watts"
        assert [value for value in watts["values"] if value is not None] == [200.0]
        assert past["at"][-1] <= time.time()


async def test_one_gpu_and_one_metric_can_be_asked_for_and_the_time_as_well() -> None:
    async with running_hub() as hub, raw_agent(hub) as agent:
        await agent.say(hello())
        await has_reported(hub, agent)
        now = time.time()
        for end in (now, rfc3339(now), rfc3339(now).replace("Z", "+00:00")):
            query = {"gpu": "GPU-a", "metric": "power_draw_watts,temperature_celsius", "from": now - 300, "to": end}
            status, past = await asked(hub, "/api/nodes/n/history", points=15, **query)
            assert status == 200
            assert [(one["gpu"], one["metric"]) for one in past["series"]] == [
                ("GPU-a", "power_draw_watts"),
                ("GPU-a", "temperature_celsius"),
            ]
            assert 8 <= len(past["at"]) <= 16
            assert past["at"][0] <= now - 300 < past["at"][1]


async def test_errors_of_the_driver_stand_beside_the_values_of_their_gpu_and_time() -> None:
    def reported(code: int, seconds_ago: float) -> dict[str, object]:
        at = rfc3339(time.time() - seconds_ago)
        return {"code": code, "meaning": "m", "gravity": "warning", "count": 1, "last_at": at}

    async with running_hub() as hub, raw_agent(hub) as agent:
        await agent.say(hello())
        gpus = [GPUS[0] | {"xids": [reported(63, 60), reported(13, 7200)]}, GPUS[1] | {"xids": [reported(79, 30)]}]
        await agent.say(report(1, gpus=gpus))
        await hub.node_when("n", lambda node: node["report"])
        _, past = await asked(hub, "/api/nodes/n/history", metric="throttled_percent")
        assert [(one["gpu"], one["code"]) for one in past["xids"]] == [("GPU-a", 63), ("GPU-b", 79)]
        assert abs(past["xids"][0]["at"] - time.time() + 60) < 30
        _, day = await asked(hub, "/api/nodes/n/history", **{"from": time.time() - 80_000, "gpu": "GPU-a"})
        assert [one["code"] for one in day["xids"]] == [13, 63]


async def test_a_report_that_comes_late_is_dated_by_the_hubs_clock() -> None:
    async with running_hub() as hub, raw_agent(hub) as agent:
        await agent.say(hello())
        wrong, ago = 7200, 20 * FINE_SECONDS
        live = report(9, gpus=[{"index": 0, "uuid": "GPU-a", "power_draw_watts": 9}])
        live["report"]["sampled_at"] = rfc3339(time.time() + wrong)  # type: ignore[index]
        await agent.say({**live, "ahead": True})
        await hub.node_when("n", lambda node: node["report"])
        late = report(1, gpus=[{"index": 0, "uuid": "GPU-a", "power_draw_watts": 1}], late=True)
        late["report"]["sampled_at"] = rfc3339(time.time() + wrong - ago)  # type: ignore[index]
        await agent.say(late)
        await hub.node_when("n", lambda node: node["reports_late"] == 1)
        _, past = await asked(hub, "/api/nodes/n/history", metric="power_draw_watts")
        known = [(at, value) for at, value in zip(past["at"], past["series"][0]["values"], strict=True) if value]
        assert [value for _, value in known] == [1.0]  # what came ahead comes again
        assert abs(known[0][0] - (time.time() - ago)) < 3 * FINE_SECONDS


async def test_the_whole_fleet_is_told_with_one_time_for_all() -> None:
    async with running_hub() as hub, raw_agent(hub) as agent:
        await agent.say(hello())
        await has_reported(hub, agent)
        status, past = await asked(hub, "/api/history", metric="power_draw_watts", points=30)
        assert status == 200
        assert [one["gpu"] for one in past["nodes"]["n"]] == ["GPU-a", "GPU-b"]
        assert {len(one["values"]) for one in past["nodes"]["n"]} == {len(past["at"])}


@pytest.mark.parametrize(
    ("limit", "points", "words"),
    [
        ("MOST_VALUES", 180, "values were asked for; allowed: at most 2000, so fewer points or metrics"),
        (
            "MOST_READ",
            1,
            "spans of 60 s were asked for; allowed: at most 2000, so a shorter time, fewer nodes or metrics",
        ),
    ],
)
async def test_what_is_asked_for_is_bounded_and_so_is_what_it_is_made_of(
    monkeypatch: pytest.MonkeyPatch, limit: str, points: int, words: str
) -> None:
    async with running_hub() as hub, raw_agent(hub) as agent:
        await agent.say(hello())
        await has_reported(hub, agent)
        monkeypatch.setattr(past_module, limit, 2000)
        day = {"from": time.time() - 90_000, "points": points}
        for path in ("/api/nodes/n/history", "/api/history"):
            status, problem = await asked(hub, path, **day)
            assert (status, words in problem["detail"]) == (400, True)
            status, past = await asked(hub, path, metric="power_draw_watts", gpu="GPU-b", **day)
            assert status == 200
            (series,) = past["nodes"]["n"] if "nodes" in past else past["series"]
            assert [value for value in series["values"] if value is not None] == [200.0]


def test_the_largest_node_can_be_asked_for_its_day() -> None:
    assert MOST_OF_ONE_NODE * len(FIELDS) * COARSE_BUCKETS <= past_module.MOST_READ


@pytest.mark.parametrize("path", ["/api/nodes/n/history", "/api/history"])
async def test_others_are_served_while_the_past_is_read(monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    read, turns = 0, set()

    def note(*question: Any) -> Any:
        nonlocal read
        read += 1
        turns.add(turn)
        return column(*question)

    async with running_hub() as hub, raw_agent(hub) as agent:
        await agent.say(hello())
        await agent.hear()
        await agent.say(report(1, gpus=[{"index": index, "uuid": f"GPU-{index}"} for index in range(64)]))
        await hub.node_when("n", lambda node: node["report"])
        monkeypatch.setattr(past_module, "column", note)
        asking = asyncio.create_task(asked(hub, path, **{"from": time.time() - 90_000, "points": 1}))
        turn = 0
        while not asking.done():
            turn += 1
            await asyncio.sleep(0)
        assert (await asking)[0] == 200
        assert read == 64 * len(FIELDS)
        assert len(turns) >= 64 * len(FIELDS) * COARSE_BUCKETS // (2 * past_module.READ_AT_ONCE)


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ({"metric": "name"}, "metric: 'name' is not remembered; allowed: utilization_percent"),
        ({"points": "0"}, "points: '0' is not allowed; allowed: a whole number from 1 to 2000"),
        ({"points": "9" * 5000}, "points: '999"),
        ({"points": "²"}, "points: '²' is not allowed"),
        ({"from": "yesterday"}, "from: 'yesterday' is not allowed; allowed: RFC 3339"),
        ({"from": "nan"}, "from: 'nan' is not allowed"),
        ({"from": "-5"}, "from: '-5' is not allowed"),
        ({"to": "1e400"}, "to: '1e400' is not allowed"),
        ({"from": "2026-01-02T00:00:00Z", "to": "2026-01-01T00:00:00Z"}, "from: '2026-01-02T00:00:00Z' is later"),
        ({"form": "1"}, "'form' is no parameter; allowed: gpu, metric, from, to, points"),
    ],
)
async def test_a_bad_question_is_told_what_is_allowed(query: dict[str, str], words: str) -> None:
    async with running_hub() as hub, raw_agent(hub) as agent:
        await agent.say(hello())
        await agent.hear()
        for path in ("/api/nodes/n/history", "/api/history"):
            status, problem = await asked(hub, path, **query)
            assert status == 400
            assert problem["detail"].startswith(words)


async def test_who_is_not_known_is_not_found() -> None:
    async with running_hub() as hub, raw_agent(hub) as agent:
        await agent.say(hello())
        await has_reported(hub, agent)
        status, problem = await asked(hub, f"/api/nodes/{quote('m')}/history")
        assert (status, problem["detail"]) == (404, "there is no node 'm'; /api/nodes lists them")
        status, problem = await asked(hub, "/api/nodes/n/history", gpu="GPU-x")
        assert (status, problem["detail"][-12:]) == (404, "GPU-a, GPU-b")


async def test_the_distant_past_and_the_future_are_gaps_and_not_errors() -> None:
    async with running_hub() as hub, raw_agent(hub) as agent:
        await agent.say(hello())
        await has_reported(hub, agent)
        for query in ({"from": 0}, {"from": 0, "to": 1000}, {"to": "2199-01-01T00:00:00Z", "from": 5}):
            status, past = await asked(hub, "/api/nodes/n/history", metric="power_draw_watts", points=50, **query)
            assert status == 200
            assert len(past["at"]) <= 51


async def test_the_past_of_some_nodes_can_be_asked_for_and_comes_compressed() -> None:
    async with running_hub() as hub, raw_agent(hub) as agent, raw_agent(hub) as other:
        await agent.say(hello())
        await has_reported(hub, agent)
        await other.say(hello(node="o", boot="boot-2"))
        await other.say(report(1, node="o", boot="boot-2", gpus=GPUS))
        await hub.node_when("o", lambda node: node["report"])
        everyone = (await asked(hub, "/api/history"))[1]
        assert set(everyone["nodes"]) == {"n", "o"}
        status, some = await asked(hub, "/api/history", node=["o", "gone"], metric="power_draw_watts")
        assert (status, set(some["nodes"])) == (200, {"o"})
        known = [[value for value in one["values"] if value is not None] for one in some["nodes"]["o"]]
        assert known == [[100.0], [200.0]]
        async with hub.session.get(f"{hub.url}/api/history?node=o") as response:
            assert response.headers["Content-Encoding"] == "gzip"
        status, problem = await asked(hub, "/api/nodes/n/history", node="o")
        assert (status, "'node' is no parameter" in problem["detail"]) == (400, True)


async def test_values_are_no_longer_than_they_are_exact() -> None:
    async with running_hub() as hub, raw_agent(hub) as agent:
        await agent.say(hello())
        await agent.say(report(1, gpus=[{"index": 0, "uuid": "GPU-a", "power_draw_watts": 312.4}]))
        await hub.node_when("n", lambda node: node["report"])
        _, past = await asked(hub, "/api/nodes/n/history", metric="power_draw_watts")
        assert [value for value in past["series"][0]["values"] if value is not None] == [312.4]


async def test_a_large_answer_is_the_same_packed_and_not(hub: Site) -> None:
    async with raw_agent(hub) as agent:
        await agent.say(hello())
        await agent.hear()
        gpus = [{"index": index, "utilization_percent": index} for index in range(64)]
        await agent.say(report(1, gpus=gpus))
        await hub.node_when("n", lambda node: node["report"])
        url = f"{hub.url}/api/nodes/n/history?points=360&to=9999999999&from=1"
        async with hub.session.get(url, headers={"Accept-Encoding": "identity"}) as plain:
            data = await plain.read()
            assert "Content-Encoding" not in plain.headers
            assert int(plain.headers["Content-Length"]) == len(data) > 4 * packing.PIECE_BYTES
        async with hub.session.get(url, headers={"Accept-Encoding": "gzip"}) as packed:
            assert packed.headers["Content-Encoding"] == "gzip"
            assert (await packed.json())["series"] == json.loads(data)["series"]


@pytest.mark.parametrize("size", [0, 1, 65_535, 65_536, 65_537, 1_000_000])
def test_what_was_packed_is_unpacked_piece_by_piece(size: int) -> None:
    data = bytes(at * at % 251 for at in range(size))
    pieces = list(packing.unpacked(packing.body(data)))
    assert b"".join(pieces) == data
    assert all(len(piece) <= packing.PIECE_BYTES for piece in pieces)
