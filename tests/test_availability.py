"""Which GPUs are free: the table of cases that the page's own tests read as well."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gpumon.availability import idle_since, memory_free, state_of, state_of_slice
from gpumon.model import Gpu, MigDevice, Node, NodeStatus, Process, Report
from gpumon.timestamp import rfc3339

NOW = 1_795_456_800.0
GIB = 2**30
CASES = json.loads((Path(__file__).parent / "availability.json").read_text())


def node(gpu: Gpu, status: NodeStatus = "online", idle_seconds: float | None = None) -> Node:
    return Node(
        name="n",
        alias="n",
        host="h",
        port=None,
        configured=True,
        status=status,
        status_since=rfc3339(NOW),
        idle_since={} if idle_seconds is None else {"GPU-a": rfc3339(NOW - idle_seconds)},
        report=Report(node="n", gpus=[gpu]),
    )


@pytest.mark.parametrize("case", CASES, ids=[case["why"] for case in CASES])
def test_a_gpu_is_as_the_page_would_call_it(case: dict[str, Any]) -> None:
    gpu = msgspec.convert({"index": 0, "uuid": "GPU-a", **case["gpu"]}, Gpu)
    of = node(gpu, case.get("status", "online"), case.get("idle_seconds"))
    assert state_of(gpu, of, NOW) == case["state"]


@pytest.mark.parametrize(
    ("device", "state"),
    [
        (MigDevice(index=0, memory_used_bytes=0, processes=[]), "free"),
        (MigDevice(index=0, memory_used_bytes=0, processes=[Process(pid=1)]), "busy"),
        (MigDevice(index=0, memory_used_bytes=5 * GIB, memory_total_bytes=10 * GIB, processes=[]), "busy"),
        (MigDevice(index=0, memory_used_bytes=0), "unknown"),
    ],
)
def test_a_slice_goes_by_the_same_rule(device: MigDevice, state: str) -> None:
    gpu = Gpu(index=0, uuid="GPU-a", mig_enabled=True, mig_devices=[device])
    assert state_of_slice(device, gpu, node(gpu)) == state
    assert state_of_slice(device, gpu, node(gpu, "offline")) == "unknown"
    lost = msgspec.structs.replace(gpu, status="lost")
    assert state_of_slice(device, lost, node(lost)) == "fault"


def test_free_memory_is_what_the_driver_says_or_what_is_left_or_unknown() -> None:
    assert memory_free(Gpu(index=0, memory_free_bytes=3, memory_total_bytes=10, memory_used_bytes=5)) == 3
    assert memory_free(Gpu(index=0, memory_total_bytes=10, memory_used_bytes=4)) == 6
    assert memory_free(Gpu(index=0, memory_total_bytes=10, memory_used_bytes=11)) == 0
    assert memory_free(Gpu(index=0, memory_total_bytes=10)) is None


def test_a_moment_that_is_none_is_not_known() -> None:
    gpu = Gpu(index=0, uuid="GPU-a")
    assert idle_since(gpu, node(gpu, idle_seconds=60)) == NOW - 60
    assert idle_since(gpu, msgspec.structs.replace(node(gpu), idle_since={"GPU-a": "long ago"})) is None
