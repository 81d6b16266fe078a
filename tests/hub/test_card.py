"""A node's card is made anew only where something on it has changed, and then always."""

import msgspec
import pytest

from gpumon.glance import GpuCard
from gpumon.hub.card import card_of
from gpumon.model import Fault, Gpu, MigDevice, Node, Process, Report, Xid

SEEN_AT = 1_800_000_000.0
AT = "2027-01-15T08:00:00.000Z"
PROCESS = Process(
    pid=7,
    name="python",
    user="ann",
    command="python train.py",
    type="compute",
    memory_used_bytes=2**33,
    utilization_percent=50.0,
    started_at=AT,
    container="docker:3f2a9c0d1e2f",
    job="slurm:1",
)
GPU = Gpu(index=0, uuid="GPU-a", name="H200", pci_bus_id="0000:01:00.0", processes=[PROCESS])
OTHERS: dict[str, object] = {
    "index": 1,
    "uuid": "GPU-b",
    "name": "H100",
    "pci_bus_id": "0000:02:00.0",
    "status": "lost",
    "error": Fault(code="lost", message="gone"),
    "asleep": True,
    "memory_total_bytes": 2**37,
    "memory_kind": "unified",
    "slowdown_temperature_celsius": 90.0,
    "power_limit_watts": 700.0,
    "throttle_reasons": ["hw_slowdown"],
    "ecc_uncorrected_total": 3,
    "recovery_action": "reset",
    "xids": [Xid(code=79, meaning="gone", gravity="critical", count=1, last_at=AT)],
    "mig_enabled": True,
    "mig_devices": [MigDevice(index=0, profile="1g.10gb")],
    "processes": [],
    "unavailable": {"fan_speed_percent": "unsupported"},
    "suspect": ["utilization_percent"],
}
OTHER_PROCESSES: dict[str, object] = {
    "pid": 8,
    "name": "java",
    "user": "bob",
    "command": "python test.py",
    "type": "graphics",
    "memory_used_bytes": 2**34,
    "started_at": "2027-01-15T09:00:00.000Z",
    "container": "podman:3f2a9c0d1e2f",
    "job": "slurm:2",
}


def node(gpu: Gpu, idle_since: str | None = None) -> Node:
    return Node(
        name="n",
        alias="n",
        host=None,
        port=None,
        configured=False,
        status="online",
        status_since=AT,
        idle_since={} if idle_since is None else {"GPU-a": idle_since},
        report=Report(node="n", gpus=[gpu]),
    )


def check_follows(before: Node, after: Node) -> None:
    last = card_of(before, SEEN_AT)
    assert card_of(after, SEEN_AT, last).json == card_of(after, SEEN_AT).json
    assert card_of(after, SEEN_AT, last) is not last


@pytest.mark.parametrize("field", OTHERS)
def test_a_card_follows_each_fact_of_a_gpu(field: str) -> None:
    check_follows(node(GPU), node(msgspec.structs.replace(GPU, **{field: OTHERS[field]})))


@pytest.mark.parametrize("field", OTHER_PROCESSES)
def test_a_card_follows_each_fact_of_a_process(field: str) -> None:
    named = PROCESS if field != "name" else msgspec.structs.replace(PROCESS, command=None)
    other = msgspec.structs.replace(named, **{field: OTHER_PROCESSES[field]})
    check_follows(
        node(msgspec.structs.replace(GPU, processes=[named])), node(msgspec.structs.replace(GPU, processes=[other]))
    )


def test_a_card_follows_idleness_once_it_has_lasted() -> None:
    check_follows(node(GPU), node(GPU, idle_since="2027-01-15T07:00:00.000Z"))


def test_a_card_stays_while_only_numbers_change() -> None:
    last = card_of(node(GPU), SEEN_AT)
    busier = msgspec.structs.replace(PROCESS, utilization_percent=90.0)
    numbers = {"utilization_percent": 90.0, "power_draw_watts": 400.0, "temperature_celsius": 60.0}
    other = msgspec.structs.replace(GPU, processes=[busier], **numbers)
    assert card_of(node(other), SEEN_AT, last) is last


def test_the_facts_above_are_all_that_a_card_tells_of_a_gpu() -> None:
    made = {"mig_profiles": "mig_devices", "process_count": "processes", "holders": "processes"}
    told = {made.get(field.name, field.name) for field in msgspec.structs.fields(GpuCard)}
    assert told == {*OTHERS, "idle_since"}


def test_a_holder_says_where_not_all_of_its_processes_tell_their_memory() -> None:
    silent = msgspec.structs.replace(PROCESS, pid=8, memory_used_bytes=None)
    for processes, memory, is_partial in (
        ([PROCESS], 8192, False),
        ([PROCESS, silent], 8192, True),
        ([silent], None, False),
    ):
        card = card_of(node(msgspec.structs.replace(GPU, processes=processes)), SEEN_AT)
        (holder,) = msgspec.json.decode(card.json)["report"]["gpus"][0]["holders"]
        assert (holder.get("memory_used_mebibytes"), holder.get("memory_partial", False)) == (memory, is_partial)
