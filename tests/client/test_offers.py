"""What is free, and which of it fits best."""

from typing import Any

import pytest

from gpumon.client.choice import Choice
from gpumon.client.offers import FreeSince, Offer, Wanted, best_offer, free_parts, host_of, is_possible
from gpumon.model import MigDevice, Node, Process, Report
from gpumon.timestamp import rfc3339
from tests.client.labs import GIB, busy_gpu, free_gpu, node

NOW = 1_795_456_800.0


def best(*nodes: Node, **wanted: Any) -> Offer | None:
    return best_offer(nodes, Wanted(**wanted), NOW)


def told(offer: Offer | None) -> tuple[str, list[int]] | None:
    return None if offer is None else (offer.node.name, [part.gpu.index for part in offer.parts])


def test_all_are_on_one_node_and_the_node_with_the_fewest_left_over_comes_first() -> None:
    big = node("big", *map(free_gpu, range(8)))
    small = node("small", free_gpu(0), busy_gpu(1), free_gpu(2))
    assert told(best(big, small, gpus=2)) == ("small", [0, 2])
    assert told(best(big, small, gpus=3)) == ("big", [0, 1, 2])
    assert best(small, small, gpus=3) is None


def test_of_those_that_fit_the_ones_with_the_least_to_spare_are_taken() -> None:
    one = node("n", free_gpu(0, 80), free_gpu(1, 24), free_gpu(2, 48))
    assert told(best(one)) == ("n", [1])
    assert told(best(one, memory_bytes=40 * GIB)) == ("n", [2])
    assert told(best(one, memory_bytes=60 * GIB)) == ("n", [0])
    assert best(one, memory_bytes=81 * GIB) is None


def test_of_equal_ones_that_which_has_been_idle_for_longest_is_taken() -> None:
    since = {"GPU-00000000": rfc3339(NOW - 60), "GPU-00000001": rfc3339(NOW - 600), "GPU-00000002": rfc3339(NOW - 5)}
    assert told(best(node("n", *map(free_gpu, range(3)), idle_since=since))) == ("n", [1])


def test_gpus_of_one_model_are_better_than_a_mixture() -> None:
    mixed = node("mixed", free_gpu(0, name="NVIDIA A100"), free_gpu(1))
    alike = node("alike", *map(free_gpu, range(8)))
    assert told(best(mixed, alike, gpus=2)) == ("alike", [0, 1])
    assert told(best(mixed, gpus=2)) == ("mixed", [0, 1])
    assert told(best(mixed, gpus=2, model="h100")) is None
    assert told(best(mixed, model="a100")) == ("mixed", [0])


@pytest.mark.parametrize("status", ["stale", "offline", "pending"])
def test_what_is_not_known_to_be_free_is_never_offered(status: str) -> None:
    assert best(node("n", free_gpu(0), status=status)) is None
    assert best(node("n", free_gpu(0, status="lost"))) is None
    assert best(node("n", free_gpu(0, processes=None))) is None
    assert best(node("n", free_gpu(0, processes_truncated=1))) is None
    assert best(node("n", busy_gpu(0))) is None


def test_memory_that_nobody_tells_is_not_told_as_none_and_a_sleeping_gpu_has_all_of_its() -> None:
    def memory_of(**values: Any) -> int | None:
        offer = best(node("n", free_gpu(0, **values)))
        return -1 if offer is None else offer.parts[0].memory_free_bytes

    assert memory_of(memory_total_bytes=None, memory_free_bytes=None) is None
    assert memory_of(memory_free_bytes=None, memory_used_bytes=0) == 80 * GIB
    assert memory_of(memory_free_bytes=0) == 0
    asleep = {"asleep": True, "processes": None, "memory_used_bytes": None, "memory_free_bytes": None}
    assert memory_of(**asleep) == 80 * GIB
    assert best(node("n", free_gpu(0, memory_total_bytes=None, memory_free_bytes=None)), memory_bytes=GIB) is None


def test_tags_and_names_narrow_the_choice() -> None:
    one, two = node("h100-1", free_gpu(0), tags=["Room 3"]), node("x", free_gpu(0), alias="h100-old")
    assert told(best(two, one, choice=Choice(tags=("room 3",)))) == ("h100-1", [0])
    assert told(best(two, one, choice=Choice(names=("h100-[0-9]",)))) == ("h100-1", [0])
    assert told(best(two, one, choice=Choice(names=("OLD",)))) == ("x", [0])
    assert told(best(two, one, choice=Choice(names=("H100-[0-9]",)))) == ("h100-1", [0])
    assert told(best(node("Big-1", free_gpu(0)), choice=Choice(names=("big-*",)))) == ("Big-1", [0])
    assert best(two, one, choice=Choice(names=("h100",), tags=("nowhere",))) is None


def test_simulated_gpus_are_offered_only_where_there_are_no_others_and_labelled() -> None:
    report = Report(node="sim", simulated=True, gpus=[free_gpu(0)])
    simulated = node("sim", report=report)
    offer = best(simulated, node("empty"))
    assert offer is not None
    assert offer.variables == {"GPUMON_SIMULATED": "1", "CUDA_VISIBLE_DEVICES": "GPU-00000000"}
    assert best(simulated, node("real", busy_gpu(0))) is None
    assert best(simulated, node("real", free_gpu(0), status="offline")) is None


def test_a_partitioned_gpu_is_had_by_slices_and_one_that_is_not_as_a_whole() -> None:
    def slice_of(index: int, memory_gib: int, **more: Any) -> MigDevice:
        size = memory_gib * GIB
        values: dict[str, Any] = {"uuid": f"MIG-{index}", "name": "NVIDIA A100 MIG", "processes": []}
        values |= {"memory_total_bytes": size, "memory_free_bytes": size, "memory_used_bytes": 0}
        return MigDevice(index=index, **(values | more))

    busy = slice_of(2, 10, processes=[Process(pid=1)])
    mig = free_gpu(1, mig_enabled=True, mig_devices=[slice_of(0, 40), slice_of(1, 10), busy, slice_of(3, 5, uuid=None)])
    one = node("n", free_gpu(0), mig)
    assert told(best(one, gpus=1)) == ("n", [0])
    assert best(one, gpus=2) is None
    offer = best(one, is_slice=True)
    assert offer is not None
    assert offer.variables == {"CUDA_VISIBLE_DEVICES": "MIG-1"}
    offer = best(one, is_slice=True, memory_bytes=20 * GIB)
    assert offer is not None
    assert offer.variables == {"CUDA_VISIBLE_DEVICES": "MIG-0"}


def test_gpus_of_agents_that_tell_no_uuid_go_by_the_drivers_index() -> None:
    offer = best(node("old", free_gpu(3, uuid=None)))
    assert offer is not None
    assert offer.variables == {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": "3"}
    offer = best(node("odd", free_gpu(2, uuid="GPU-$(reboot)")))
    assert offer is not None
    assert offer.variables["CUDA_VISIBLE_DEVICES"] == "2"


@pytest.mark.parametrize(
    ("host", "hostname", "address", "expected"),
    [
        ("gpu-1.lab", None, "10.0.0.1", "gpu-1.lab"),
        ("-oProxyCommand=reboot", "gpu-1", "10.0.0.1", "gpu-1"),
        ("a b", "$(reboot)", "10.0.0.1", "10.0.0.1"),
        (None, None, "fd00::1", "fd00::1"),
        ("x;y", "机器", "::1", "::1"),
        ("x\n", None, None, None),
    ],
)
def test_a_host_is_one_that_ssh_and_the_shell_take_for_nothing_else(
    host: str | None, hostname: str | None, address: str | None, expected: str | None
) -> None:
    report = Report(node="n", hostname=hostname, gpus=[free_gpu(0)])
    one = node("n", host=host, address=address, report=report)
    assert host_of(one) == expected
    assert (best(one) is None) is (expected is None)


def test_what_no_node_has_is_told_from_what_is_in_use() -> None:
    one = node("n", busy_gpu(0), busy_gpu(1), status="offline")
    assert is_possible([one], Wanted(2, 80 * GIB, "h100"))
    assert not is_possible([one], Wanted(3))
    assert not is_possible([one], Wanted(1, 81 * GIB))
    assert not is_possible([one], Wanted(1, 0, "b200"))
    assert not is_possible([one], Wanted(is_slice=True))


def seen(since: FreeSince, now: float, *nodes: Node) -> list[float]:
    """For how long each GPU that is free ``now`` has been."""
    since.look(nodes, now)
    return [since.seconds(one, part, now) for one in nodes for part in free_parts(one, now, is_slice=False)]


def test_how_long_a_gpu_has_been_free_is_what_was_seen() -> None:
    since = FreeSince()
    one, taken = node("n", free_gpu(0), busy_gpu(1)), node("n", busy_gpu(0), busy_gpu(1))
    assert seen(since, NOW, one) == [0]
    assert seen(since, NOW + 5, one) == [5]
    assert seen(since, NOW + 6, taken) == []
    assert seen(since, NOW + 7, one) == [0]
    since.doubt()  # the link was cut: nobody knows what happened
    assert seen(since, NOW + 60, one) == [0]


def test_the_hubs_word_counts_at_first_and_then_only_against_it() -> None:
    def idle(seconds_ago: float) -> Node:
        return node("n", free_gpu(0), idle_since={"GPU-00000000": rfc3339(NOW - seconds_ago)})

    since = FreeSince()
    assert seen(since, NOW, idle(300)) == [300]
    assert seen(since, NOW + 2, idle(-1)) == [1]  # somebody computed for a moment between two looks
    assert seen(since, NOW + 3, idle(-9)) == [0]  # nobody is idle since a moment to come
    later = FreeSince()
    assert seen(later, NOW) == []
    assert seen(later, NOW + 1, idle(300)) == [0]
