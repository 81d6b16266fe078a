"""What is told of a node that has more to tell than a hub takes."""

import pytest

from gpumon.agent.boards import BOARDS
from gpumon.agent.fitting import fitting
from gpumon.agent.scenario import Scenario
from gpumon.agent.simulate import SimulatedReader
from gpumon.config import AgentSection
from gpumon.model import MAX_GPUS, MAX_NODE_PROCESSES, Gpu, MigDevice, Process, Report
from gpumon.wire import MAX_REPORT_BYTES, decode_report, encode, report_frame
from tests.running import running_agent, running_hub


def processes_of(report: Report) -> list[Process]:
    holders = [one for gpu in report.gpus for one in (gpu, *(gpu.mig_devices or ()))]
    return [process for one in holders for process in one.processes or ()]


def test_a_report_that_fits_is_left_as_it_is() -> None:
    report = Report(node="n", gpus=[Gpu(index=0, processes=[Process(pid=1)])])
    assert fitting(report) == (report, encode(report))
    assert fitting(report)[0] is report
    assert b'"error":null' in encode(report)


@pytest.mark.parametrize("board", sorted(BOARDS.keys() - {"a100-mig"}))  # which has more slices than a hub takes
async def test_of_the_most_gpus_that_a_node_may_have_everything_is_told(board: str) -> None:
    reader = SimulatedReader(Scenario.parse(f"{board}:{MAX_GPUS}"), 1)
    for _ in range(3):
        sample = await reader.read()
    whole = Report(node="n" * 64, gpus=sample.gpus)
    report, data = fitting(whole)
    assert report == whole
    assert processes_of(report)
    assert len(report_frame(data)) <= MAX_REPORT_BYTES
    assert decode_report(data) == report


def test_of_very_many_processes_those_with_the_most_memory_are_told_and_the_rest_is_counted() -> None:
    crowds = [
        [Process(pid=pid, command="x" * 1000, memory_used_bytes=(512 - pid) * 8 + index) for pid in range(512)]
        for index in range(8)
    ]
    gpus = [Gpu(index=index, processes=crowd, processes_truncated=7) for index, crowd in enumerate(crowds)]
    report, data = fitting(Report(node="n", gpus=[*gpus, Gpu(index=8), Gpu(index=9, processes=[])]))
    size = len(report_frame(data))
    assert MAX_REPORT_BYTES - 4096 < size <= MAX_REPORT_BYTES
    assert decode_report(data) == report
    kept = processes_of(report)
    every = sorted((one.memory_used_bytes or 0 for crowd in crowds for one in crowd), reverse=True)
    assert sorted((one.memory_used_bytes or 0 for one in kept), reverse=True) == every[: len(kept)]
    assert [gpu.processes_truncated for gpu in report.gpus[:8]] == [
        7 + 512 - len(gpu.processes or ()) for gpu in report.gpus[:8]
    ]
    assert (report.gpus[8].processes, report.gpus[9].processes) == (None, [])
    (advice,) = report.advice
    assert advice.code == "processes_left_out"
    assert f"{8 * 519} processes" in advice.message
    assert f" {len(kept)} with the most memory" in advice.message


def test_no_node_tells_of_more_processes_than_a_hub_takes_of_one_and_no_gpu_is_left_out() -> None:
    crowd = [Process(pid=pid) for pid in range(1, 513)]
    slices = [MigDevice(index=index, processes=crowd[256 * index :][:256]) for index in range(2)]
    report, data = fitting(Report(node="n", gpus=[Gpu(index=index, mig_devices=slices) for index in range(8)]))
    assert decode_report(data) == report
    assert len(processes_of(report)) == MAX_NODE_PROCESSES
    assert [len(one.processes or ()) for gpu in report.gpus for one in gpu.mig_devices or ()] == [125] * 16
    assert [gpu.processes_truncated for gpu in report.gpus] == [512 - 250] * 8


def test_a_process_of_a_slice_is_counted_once() -> None:
    crowd = [Process(pid=pid) for pid in range(1, 401)]
    slices = [MigDevice(index=0, processes=crowd)]
    whole = [Gpu(index=index, processes=crowd, mig_devices=slices) for index in range(4)]
    report, _ = fitting(Report(node="n", gpus=whole))
    for gpu in report.gpus:
        told = {one.pid for one in gpu.processes or ()} | {
            one.pid for part in gpu.mig_devices or () for one in part.processes or ()
        }
        assert len(told) + gpu.processes_truncated == 400
    assert "1600 processes" in report.advice[0].message


async def test_a_hub_takes_a_report_of_the_most_gpus_of_the_wordiest_board() -> None:
    async with running_hub() as hub:
        settings = AgentSection(name="n", hub=[hub.url])
        async with running_agent(settings, simulate=f"gb10:{MAX_GPUS}"):
            node = await hub.node_when("n", lambda node: node["report"])
    gpus = node["report"]["gpus"]
    assert len(gpus) == MAX_GPUS
    assert sum(len(gpu["processes"]) for gpu in gpus) > 0
    assert all("fan_speed_percent" in gpu for gpu in gpus)  # null, and there
