"""A node at a glance: what its card holds, what its numbers are, and how both travel."""

import json
from typing import Any

import msgspec
from msgspec.structs import replace

from gpumon.glance import NodeCard, Numbers
from gpumon.hub.card import MOST_HOLDERS
from gpumon.hub.overview import Glance, OverviewLetter, glance_of
from gpumon.model import Fault, Gpu, Host, MigDevice, Node, Process, Report, Xid

AT = "2026-11-23T12:00:00.000Z"
SEEN = 1_795_435_200.0
GIB = 2**30


def process(pid: int, user: str | None = "alice", gib: float | None = 1.0, **more: Any) -> Process:
    used = None if gib is None else int(gib * GIB)
    return Process(pid=pid, user=user, memory_used_bytes=used, **{"type": "compute"} | more)


def node(*gpus: Gpu, host: Host | None = None, **more: Any) -> Node:
    known: dict[str, Any] = {"alias": "n", "host": None, "port": None, "configured": True}
    known |= {"status": "online", "status_since": AT}
    return Node(name="n", report=Report(node="n", sampled_at=AT, gpus=list(gpus), host=host), **known | more)


def card(one: Node, seen_at: float = SEEN) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(glance_of(one, seen_at).card.json)
    return found


def gpu_card(gpu: Gpu, **more: Any) -> dict[str, Any]:
    found: dict[str, Any] = card(node(gpu, **more))["report"]["gpus"][0]
    return found


def message(*glances: Glance, kind: str = "nodes", sent_at: str = AT) -> OverviewLetter:
    rows = {f"n{number}": glance.row for number, glance in enumerate(glances)}
    cards = {f"n{number}": glance.card for number, glance in enumerate(glances)}
    return OverviewLetter(kind, "e-1", sent_at, rows, cards)


def test_numbers_that_move_leave_the_card_as_it_is() -> None:
    calm = Gpu(index=0, utilization_percent=3, power_draw_watts=80)
    before = glance_of(node(calm, clock_offset_seconds=-0.2), SEEN)
    busy = Gpu(index=0, utilization_percent=93, memory_used_bytes=GIB, temperature_celsius=71, power_draw_watts=412.6)
    after = glance_of(replace(node(busy, last_seen_at=AT), clock_offset_seconds=0.7), SEEN + 1, before.card)
    assert after.card is before.card
    assert (after.row.utilization, after.row.memory) == ([93], [1024])
    assert (after.row.temperature, after.row.power, after.row.fan) == ([71], [413], [None])


def test_a_card_that_changes_and_changes_back_is_news() -> None:
    first = glance_of(node(), SEEN).card
    second = glance_of(node(status="stale"), SEEN, first).card
    third = glance_of(node(), SEEN, second).card
    assert first.json == third.json
    assert first is not third


def test_memory_is_told_in_steps_of_what_a_page_shows() -> None:
    assert glance_of(node(Gpu(index=0, memory_used_bytes=GIB + 7 * 2**20)), SEEN).row.memory == [1024]
    assert glance_of(node(Gpu(index=0, memory_used_bytes=GIB + 9 * 2**20)), SEEN).row.memory == [1040]


def test_processes_are_summed_up_by_user_and_job_and_told_by_the_largest() -> None:
    processes = [
        process(1, gib=2, command="python a.py", started_at=AT),
        process(2, gib=3, command="python b.py"),
        process(3, gib=9, job="slurm:1"),
        process(4, user="root", gib=None, type="graphics", name="Xorg"),
    ]
    told = gpu_card(Gpu(index=0, processes=processes))
    assert told["process_count"] == 4
    assert [(one["pid"], one.get("processes", 1), one.get("memory_used_mebibytes")) for one in told["holders"]] == [
        (3, 1, 9216),
        (2, 2, 5120),
        (4, 1, None),
    ]
    assert told["holders"][1]["command"] == "python b.py"
    assert told["holders"][2] == {"pid": 4, "user": "root", "command": "Xorg", "type": "graphics"}


def test_memory_that_breathes_a_little_does_not_renew_the_card() -> None:
    first = glance_of(node(Gpu(index=0, processes=[process(1, gib=71.0)])), SEEN)
    second = glance_of(node(Gpu(index=0, processes=[process(1, gib=71.1)])), SEEN, first.card)
    third = glance_of(node(Gpu(index=0, processes=[process(1, gib=64.0)])), SEEN, second.card)
    assert first.card is second.card is not third.card


def test_of_a_crowd_the_largest_are_told_and_all_are_counted() -> None:
    crowd = [process(pid, user=f"u{pid}", gib=pid) for pid in range(1, 41)]
    told = gpu_card(Gpu(index=0, processes=crowd))
    assert (told["process_count"], len(told["holders"])) == (40, MOST_HOLDERS)
    assert told["holders"][0]["user"] == "u40"


def test_processes_that_nobody_told_are_not_none() -> None:
    assert "holders" not in gpu_card(Gpu(index=0))
    assert gpu_card(Gpu(index=0, processes=[]))["holders"] == []


def test_what_is_wrong_with_a_gpu_is_on_its_card_and_trifles_are_not() -> None:
    fault = Fault(code="lost", message="It fell off the bus.")
    xids = [Xid(code=code, meaning="m", gravity=gravity, count=1, last_at=AT) for code, gravity in XIDS]
    sick = Gpu(
        index=0,
        status="lost",
        error=fault,
        throttle_reasons=["gpu_idle", "hw_slowdown"],
        ecc_uncorrected_total=3,
        xids=xids,
        unavailable={"fan_speed_percent": "unsupported", "pcie_width": "lost"},
        suspect=["utilization_percent", "pcie_width"],
    )
    told = gpu_card(sick)
    assert told["error"]["message"] == "It fell off the bus."
    assert (told["throttle_reasons"], told["xids"], told["ecc_uncorrected_total"]) == (["hw_slowdown"], [79], 3)
    assert (told["unavailable"], told["suspect"]) == ({"fan_speed_percent": "unsupported"}, ["utilization_percent"])


XIDS: list[tuple[int, Any]] = [(13, "info"), (79, "critical")]


def test_slices_are_told_by_their_profiles() -> None:
    slices = [MigDevice(index=number, profile="1g.10gb") for number in range(2)]
    assert gpu_card(Gpu(index=0, mig_enabled=True, mig_devices=slices))["mig_profiles"] == ["1g.10gb"] * 2


def test_idleness_is_on_the_card_once_it_has_lasted_a_minute() -> None:
    idle = {"u": AT}
    gpu = Gpu(index=0, uuid="u")
    assert "idle_since" not in card(node(gpu, idle_since=idle), SEEN + 59)["report"]["gpus"][0]
    assert card(node(gpu, idle_since=idle), SEEN + 60)["report"]["gpus"][0]["idle_since"] == AT


def test_the_moment_of_the_last_numbers_is_told_of_a_node_that_is_not_online() -> None:
    assert "sampled_at" not in card(node(clock_offset_seconds=1.234))["report"]
    offline = card(node(status="offline", clock_offset_seconds=1.234))
    assert (offline["report"]["sampled_at"], offline["clock_offset_seconds"]) == (AT, 1.234)


def test_the_machine_is_told_by_its_size_and_how_much_of_it_is_used() -> None:
    host = Host(cpu_count=64, cpu_utilization_percent=12.4, memory_total_bytes=100, memory_available_bytes=60)
    told = glance_of(node(host=host), SEEN)
    assert (told.row.host_cpu, told.row.host_memory) == (12, 40)
    assert json.loads(told.card.json)["report"]["host"] == {"cpu_count": 64, "memory_total_bytes": 100}


def test_a_message_is_columns_and_cards_of_the_types_in_the_schema() -> None:
    two = node(Gpu(index=0, utilization_percent=1), Gpu(index=1))
    told = json.loads(b"".join(message(glance_of(two, SEEN - 2), glance_of(node(), None)).json()))
    assert (told["type"], told["view"], told["notices"]) == ("nodes", "overview", [])
    numbers = msgspec.convert(told["numbers"], Numbers)
    assert numbers.names == ["n0", "n1"]
    assert numbers.seen_seconds_ago == [2, None]
    assert numbers.utilization_percent == [[1, None], []]
    assert [one.name for one in msgspec.convert(told["cards"], list[NodeCard])] == ["n", "n"]


def test_of_two_messages_the_newest_numbers_of_each_node_win_and_no_card_is_lost() -> None:
    first = message(glance_of(node(Gpu(index=0, utilization_percent=1)), SEEN), glance_of(node(), SEEN))
    newer = glance_of(node(Gpu(index=0, utilization_percent=2)), SEEN).row
    both = first.followed_by(OverviewLetter("nodes", "e-2", AT, {"n0": newer}, {}))
    assert both.identity == "e-2"
    assert both.rows == {"n0": newer, "n1": first.rows["n1"]}
    assert both.cards == first.cards
    assert list(both.without(["n0"]).names) == ["n1"]
    assert list(both.without(["n0"]).cards) == ["n1"]
