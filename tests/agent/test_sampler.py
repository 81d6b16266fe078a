import asyncio
import json
from typing import Any

import pytest

from gpumon.agent.sample import Sample
from gpumon.agent.sampler import Account, Sampler
from gpumon.model import Cost, Fault, Gpu
from tests.running import until_true


class ScriptedReader:
    """Gives what it is told to, as slowly as it is told to."""

    simulated = False

    def __init__(self) -> None:
        self.sample = Sample(driver_version="580.1", gpus=[Gpu(index=0)])
        self.gate = asyncio.Event()
        self.gate.set()
        self.reads = 0

    async def read(self) -> Sample:
        self.reads += 1
        await self.gate.wait()
        return self.sample


async def test_reports_are_numbered_without_gaps_and_carry_who_made_them() -> None:
    reports: asyncio.Queue[tuple[int, bytes]] = asyncio.Queue()
    sampler = Sampler(ScriptedReader(), "n", 0.01)
    task = asyncio.create_task(sampler.run(lambda sequence, report: reports.put_nowait((sequence, report))))
    for expected in range(1, 6):
        sequence, data = await asyncio.wait_for(reports.get(), 20)
        report = json.loads(data)
        assert sequence == report["sequence"] == expected
        assert (report["node"], report["boot_id"], report["schema"]) == ("n", sampler.boot_id, 1)
        assert (report["driver_version"], report["simulated"], len(report["gpus"])) == ("580.1", False, 1)
        assert report["sampled_at"].endswith("Z")
    task.cancel()


async def test_beats_that_a_slow_sample_overran_are_left_out() -> None:
    reader = ScriptedReader()
    delivered: list[int] = []
    sampler = Sampler(reader, "n", 0.05)
    loop = asyncio.get_running_loop()
    began = loop.time()
    task = asyncio.create_task(sampler.run(lambda sequence, _: delivered.append(sequence)))
    await until_true(lambda: delivered)
    reader.gate.clear()
    await until_true(lambda: reader.reads >= 2)
    twenty_beats = loop.time() + 1
    await until_true(lambda: loop.time() > twenty_beats)
    reader.gate.set()
    known = len(delivered)
    await until_true(lambda: len(delivered) >= known + 2)
    assert reader.reads <= (loop.time() - began) / 0.05 - 10  # however late this test itself may be
    assert delivered == list(range(1, len(delivered) + 1))
    task.cancel()


async def test_health_speaks_the_words_of_the_newest_report() -> None:
    reader = ScriptedReader()
    fault = Fault(code="no_driver", message="there is none", hint="install one")
    reader.sample = Sample(status="no_driver", error=fault)
    sampler = Sampler(reader, "n", 0.01)
    status, error = sampler.health()
    assert status == "error"
    assert error is not None
    assert error.code == "starting"
    task = asyncio.create_task(sampler.run(lambda *_: None))
    await until_true(lambda: sampler.newest)
    assert sampler.health() == ("no_driver", fault)
    task.cancel()


async def test_health_tells_when_no_sample_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gpumon.agent.sampler.LEAST_OVERDUE_SECONDS", 0.05)
    reader = ScriptedReader()
    reader.gate.clear()
    sampler = Sampler(reader, "n", 0.001)
    task = asyncio.create_task(sampler.run(lambda *_: None))
    await until_true(lambda: (error := sampler.health()[1]) and error.code == "no_sample")
    task.cancel()


async def first_report(reader: ScriptedReader) -> dict[str, Any]:
    reports: asyncio.Queue[bytes] = asyncio.Queue()
    task = asyncio.create_task(Sampler(reader, "n", 0.01).run(lambda _, report: reports.put_nowait(report)))
    report: dict[str, Any] = json.loads(await asyncio.wait_for(reports.get(), 20))
    task.cancel()
    return report


async def test_a_report_tells_of_the_machine_and_of_its_own_cost() -> None:
    reader = ScriptedReader()
    reader.sample = Sample(cost=Cost(slowest_call="nvmlDeviceGetName", slowest_call_seconds=1.5))
    report = await first_report(reader)
    assert report["host"]["memory_total_bytes"] > 0
    assert report["host"]["cpu_count"] > 0
    assert report["agent"]["cpu_seconds_total"] > 0
    assert report["agent"]["resident_bytes"] > 0
    assert report["agent"]["sample_seconds"] >= 0
    assert (report["agent"]["slowest_call"], report["agent"]["slowest_call_seconds"]) == ("nvmlDeviceGetName", 1.5)


async def test_around_simulated_gpus_there_is_no_machine() -> None:
    reader = ScriptedReader()
    reader.simulated = True
    report = await first_report(reader)
    assert (report["simulated"], report["host"]) == (True, None)
    assert report["agent"]["cpu_seconds_total"] > 0


def test_agent_and_reader_cost_what_both_cost() -> None:
    alone = Account().cost(None, 0.25)
    both = Account().cost(Cost(cpu_seconds_total=1000, resident_bytes=2**40), 0.25)
    assert alone.cpu_seconds_total is not None
    assert alone.resident_bytes is not None
    assert both.cpu_seconds_total is not None
    assert both.resident_bytes is not None
    assert alone.cpu_seconds_total < 1000 <= both.cpu_seconds_total
    assert alone.resident_bytes < 2**40 <= both.resident_bytes
    assert alone.sample_seconds == both.sample_seconds == 0.25


def test_when_the_reader_is_replaced_the_account_goes_on() -> None:
    account = Account()
    totals: list[float] = []
    for seconds in (1000.0, 1001.0, None, 2.0, 3.0, None, 1.0):
        total = account.cost(Cost(cpu_seconds_total=seconds), 0).cpu_seconds_total
        assert total is not None
        totals.append(total)
    assert totals == sorted(totals)
    assert 1005 <= totals[-1] < 2000


async def test_a_new_interval_counts_at_once() -> None:
    made: list[int] = []
    sampler = Sampler(ScriptedReader(), "n", 3600)
    task = asyncio.create_task(sampler.run(lambda sequence, _: made.append(sequence)))
    await until_true(lambda: made)
    sampler.pace(0.01)
    await until_true(lambda: len(made) > 5)
    assert sampler.newest is not None
    assert sampler.newest.interval_seconds == 0.01
    task.cancel()
