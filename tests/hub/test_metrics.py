"""What a hub tells Prometheus: to whom, in which form, and how often it is made."""

import asyncio
import gzip
from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from gpumon.config import AgentSection, AuthSection, Config, MetricsSection
from gpumon.hub import metrics
from gpumon.hub.door import Door
from gpumon.hub.gauges import NodeGauges, own_health
from gpumon.hub.ingest import Ingest
from gpumon.hub.roster import open_roster
from gpumon.model import Gpu, MigDevice, Process, RemappedRows, Report, Xid
from gpumon.prometheus import document, format_for
from tests.hub.lock import locked_hub
from tests.hub.rawhttp import exchange, get
from tests.hub.world import World
from tests.prometheus import needs_prometheus, promtool
from tests.prometheus.reading import OPENMETRICS, Told, read, told
from tests.running import Site, running_agent, running_hub, until

EVIL = 'x"} 1\n# EOF\\ \u202e\u4e2d'


def said_by(world: World, *, dcgm_names: bool = False, shows_users: bool = True) -> Told:
    """What the hub of ``world`` says now."""
    world.hub.judge()
    nodes = NodeGauges(world.clock.time(), dcgm_names=dcgm_names, shows_users=shows_users)
    for member in world.hub.fleet:
        nodes.add(member)
    ingest = Ingest(world.hub, Door(open_roster(None), "token", world.clock))
    families = [*own_health(world.hub, ingest, None), *nodes.families]
    return read(b"".join(document(families, format_for(OPENMETRICS["Accept"]))).decode())


def with_gpus(world: World, *gpus: Gpu, **more: Any) -> Report:
    return replace(world.report(), gpus=list(gpus), **more)


@pytest.fixture
async def fleet() -> AsyncIterator[Site]:
    async with running_hub(Config(metrics=MetricsSection(dcgm_names=True))) as hub:
        settings = AgentSection(name="n", hub=[hub.url], interval_seconds=0.2)
        async with running_agent(settings, simulate="h200:2,rtx5090:1,a100-mig:1,fault=xid79:1,fault=throttled:2"):
            await hub.node_when("n", lambda node: node["report"])
            yield hub


@needs_prometheus
async def test_promtool_finds_no_fault_with_it() -> None:
    async with running_hub() as hub:
        settings = AgentSection(name="n", hub=[hub.url], interval_seconds=0.2)
        async with running_agent(settings, simulate="h200:2,rtx5090:1,a100-mig:1,fault=xid79:1,fault=throttled:2"):
            await hub.node_when("n", lambda node: node["report"])
            async with hub.session.get(f"{hub.url}/metrics") as response:
                text = await response.read()
    assert b"gpumon_mig_memory_used_bytes" in text
    assert promtool("check", "metrics", given=text) == ""


async def measured(hub: Site) -> Told | None:
    """What the hub says once it tells how long it took to say so before."""
    said = await told(hub)
    return said if "gpumon_hub_metrics_duration_seconds" in said.samples else None


async def test_both_formats_say_the_same(fleet: Site) -> None:
    await told(fleet)  # how long that took is told from now on
    async with fleet.session.get(f"{fleet.url}/metrics") as response:
        assert response.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        assert response.headers["Cache-Control"] == "no-store"
        assert response.headers["Vary"] == "Accept, Accept-Encoding"
        plain = read(await response.text(), "text/plain")
    strict = await until(lambda: measured(fleet))
    assert strict is not None
    assert plain.samples.keys() == strict.samples.keys()
    assert strict.kinds["gpumon_gpu_energy_joules"] == "counter"
    assert strict.kinds["gpumon_gpu"] == "info"
    assert strict.kinds["gpumon_hub_loop_lag_seconds"] == "histogram"
    assert strict.kinds["DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION"] == "unknown"
    assert len(strict.samples["gpumon_gpu_info"]) == len(strict.samples["DCGM_FI_DEV_XID_ERRORS"]) == 4


@pytest.mark.parametrize(
    "accept",
    [
        "application/openmetrics-text;version=1.0.0;escaping=values",
        "application/openmetrics-text;version=7.7.7;escaping=dots, text/plain",
        "application/openmetrics-text;version=a\\b;q=0.1",
    ],
)
async def test_there_are_two_answers_whatever_is_asked_for(fleet: Site, accept: str) -> None:
    async with fleet.session.get(f"{fleet.url}/metrics", headers={"Accept": accept}) as response:
        assert response.headers["Content-Type"] == "application/openmetrics-text; version=1.0.0; charset=utf-8"
        assert read(await response.text()).value("gpumon_node_up") == 1


async def test_it_is_compressed_when_asked(fleet: Site) -> None:
    plain = await exchange(fleet, get("/metrics", "Accept-Encoding: identity"))
    packed = await exchange(fleet, get("/metrics", "Accept-Encoding: gzip"))
    assert "content-encoding" not in plain.head
    assert "content-encoding: gzip" in packed.head
    assert len(packed.body) * 3 < len(plain.body)
    assert read(gzip.decompress(packed.body).decode(), "text").kinds == read(plain.body.decode(), "text").kinds
    assert f"content-length: {len(plain.body)}" in plain.head
    assert (await exchange(fleet, get("/metrics", method="HEAD"))).body == b""


async def test_it_is_made_once_for_all_who_ask_within_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[float] = []
    under_way = 0

    class Counted(NodeGauges):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            nonlocal under_way
            under_way += 1
            assert under_way == 1
            made.append(asyncio.get_running_loop().time())
            super().__init__(*arguments, **options)

        @property
        def families(self) -> Any:
            nonlocal under_way
            under_way = 0
            return super().families

    monkeypatch.setattr(metrics, "NodeGauges", Counted)
    async with running_hub() as hub:
        await asyncio.gather(*(told(hub) for _ in range(20)))
        known = len(made)  # 1, where 20 are answered within a second

        async def is_made_anew() -> bool:
            await told(hub)
            return len(made) > known

        await until(is_made_anew)
        assert all(later - sooner >= metrics.FRESH_SECONDS for sooner, later in pairwise(made))


async def test_who_must_log_in_must_do_so_here(tmp_path: Path) -> None:
    async with locked_hub(tmp_path, AuthSection(viewers="token")) as hub:
        async with hub.site.session.get(f"{hub.site.url}/metrics") as response:
            assert response.status == 401
            assert response.headers["WWW-Authenticate"].startswith("Bearer")
            assert b"gpumon_" not in await response.read()
        assert (await told(hub.site, {"Authorization": f"Bearer {hub.token}"})).value("gpumon_hub_info") == 1


@pytest.mark.parametrize(("privacy", "is_told"), [("nothing", False), ("names", False), ("users", True)])
async def test_strangers_learn_of_users_what_the_page_shows_them(tmp_path: Path, privacy: Any, is_told: bool) -> None:
    async with locked_hub(tmp_path, AuthSection(privacy=privacy)) as hub:
        settings = AgentSection(name="n", hub=[hub.site.url], interval_seconds=60)  # of both the same report
        async with running_agent(settings, simulate="h200:4"):
            await hub.site.node_when("n", lambda node: node["report"])
            stranger = await told(hub.site)
            admin = await told(hub.site, {"Authorization": f"Bearer {hub.token}"})
    assert ("gpumon_user_gpus" in stranger.samples) is is_told
    assert "gpumon_user_gpus" in admin.samples
    assert stranger.samples["gpumon_gpu_processes"] == admin.samples["gpumon_gpu_processes"]
    assert any(stranger.samples["gpumon_gpu_processes"].values())


def test_old_numbers_are_not_told() -> None:
    world = World()
    world.push()
    assert said_by(world).value("gpumon_gpu_utilization_ratio", node="a") == 0.01
    assert world.status_after(6) == "stale"
    told_of = said_by(world)
    assert told_of.value("gpumon_node_up", node="a") == 0
    assert told_of.values("gpumon_node_status", "status", node="a") == {
        "online": 0,
        "stale": 1,
        "offline": 0,
        "pending": 0,
    }
    assert not [name for name in told_of.samples if name.startswith(("gpumon_gpu", "gpumon_report", "gpumon_host"))]
    assert told_of.value("gpumon_node_last_seen_timestamp_seconds", node="a")
    assert told_of.values("gpumon_hub_nodes", "status") == {"online": 0, "stale": 1, "offline": 0, "pending": 1}


def test_xids_are_counted_by_their_number() -> None:
    world = World()
    seen = [
        Xid(code=code, meaning="", gravity="info", count=count, last_at="")
        for code, count in ((79, 3), (31, 1), (79, 2))
    ]
    world.push(with_gpus(world, Gpu(index=0, uuid="a", xids=seen)))
    assert said_by(world).values("gpumon_gpu_xid_errors_total", "xid") == {"79": 5, "31": 1}


def test_a_display_computes_nothing_and_on_a_lost_gpu_nobody_does() -> None:
    world = World()
    display = Process(pid=1, user="ann", type="graphics", memory_used_bytes=1)
    program = Process(pid=2, user="bob", type="compute", memory_used_bytes=2)
    world.push(
        with_gpus(
            world,
            Gpu(index=0, uuid="a", processes=[display, program]),
            Gpu(index=1, uuid="b", processes=[display]),
            Gpu(index=2, uuid="c", processes=[program], status="lost"),
        )
    )
    told_of = said_by(world)
    assert told_of.values("gpumon_gpu_processes", "uuid") == {"a": 1, "b": 0}
    assert told_of.values("gpumon_user_gpus", "user") == {"bob": 1}
    assert told_of.values("gpumon_user_gpu_memory_bytes", "user") == {"bob": 2}


def test_a_gpu_that_is_lost_in_its_sleep_is_lost() -> None:
    world = World()
    world.push(with_gpus(world, Gpu(index=0, uuid="s", asleep=True, status="lost")))
    assert said_by(world).value("gpumon_gpu_status", uuid="s", status="lost") == 1


def test_what_is_not_known_is_no_sample() -> None:
    world = World()
    world.push(with_gpus(world, Gpu(index=0), Gpu(index=1, temperature_celsius=40, status="lost")))
    told_of = said_by(world, dcgm_names=True)
    assert {name for name in told_of.samples if name.startswith(("gpumon_gpu", "DCGM"))} == {
        "gpumon_gpu_info",
        "gpumon_gpu_status",
    }
    assert told_of.value("gpumon_gpu_status", gpu="1", status="lost") == 1
    assert told_of.value("gpumon_gpu_status", gpu="1", status="ok") == 0


def test_what_agents_say_stays_within_its_label() -> None:
    world = World()
    process = Process(pid=1, user=EVIL, type="compute", memory_used_bytes=7)
    gpu = Gpu(
        index=0,
        uuid=EVIL,
        name=EVIL,
        pci_bus_id=EVIL,
        throttle_reasons=[EVIL, "hw_slowdown"],
        processes=[process],
        mig_devices=[MigDevice(index=0, profile=EVIL, memory_used_bytes=1)] * 2,
    )
    world.push(with_gpus(world, gpu, gpu, driver_version=EVIL, tags=["t"]))
    told_of = said_by(world, dcgm_names=True)
    assert told_of.value("gpumon_gpu_info", uuid=EVIL, name=EVIL, pci_bus_id=EVIL, driver_version=EVIL) == 1
    assert told_of.value("gpumon_user_gpu_memory_bytes", user=EVIL, node="a") == 14
    assert told_of.values("gpumon_gpu_throttled", "reason") == {
        "hw_power_brake_slowdown": 0,
        "hw_slowdown": 1,
        "hw_thermal_slowdown": 0,
        "sw_thermal_slowdown": 0,
        "sw_power_cap": 0,
    }
    assert told_of.value("gpumon_mig_memory_used_bytes", profile=EVIL) == 1
    assert told_of.value("gpumon_node_tag_info", node="a", tag="t") == 1


def test_labels_are_bounded() -> None:
    world = World()
    xids = [Xid(code=code, meaning="", gravity="info", count=1, last_at="") for code in range(64)]
    processes = [Process(pid=pid, user=f"u{pid:03}", memory_used_bytes=1000 - pid) for pid in range(300)]
    world.push(with_gpus(world, Gpu(index=0, xids=xids, processes=processes, processes_truncated=5)))
    told_of = said_by(world)
    assert len(told_of.samples["gpumon_gpu_xid_errors_total"]) == 16
    users = told_of.values("gpumon_user_gpu_memory_bytes", "user")
    assert len(users) == 33
    assert users["u031"] == 969
    assert users["(others)"] == sum(1000 - pid for pid in range(32, 300))
    assert told_of.value("gpumon_user_gpus", user="(others)") == 1
    assert told_of.value("gpumon_gpu_processes") == 305


@pytest.mark.parametrize("others", [0, 40])
def test_a_user_who_is_called_as_the_rest_is_one_of_them(others: int) -> None:
    world = World()
    processes = [Process(pid=pid, user=f"u{pid:03}", memory_used_bytes=10) for pid in range(others)]
    impostor = Process(pid=999, user="(others)", memory_used_bytes=1000)
    world.push(with_gpus(world, Gpu(index=0, processes=[impostor, *processes])))
    told_of = said_by(world)
    rest = max(0, others - 32)
    assert told_of.value("gpumon_user_gpu_memory_bytes", user="(others)") == 1000 + 10 * rest
    assert told_of.value("gpumon_user_gpus", user="(others)") == 1
    assert len(told_of.samples["gpumon_user_gpus"]) == min(others, 32) + 1


@pytest.mark.parametrize("users", [1, 40])
def test_memory_of_users_that_the_driver_does_not_tell_is_no_sample(users: int) -> None:
    world = World()
    world.push(with_gpus(world, Gpu(index=0, processes=[Process(pid=pid, user=f"u{pid:03}") for pid in range(users)])))
    told_of = said_by(world)
    assert told_of.value("gpumon_user_gpus", user="u000") == 1
    assert len(told_of.samples["gpumon_user_gpus"]) == min(users, 33)
    assert "gpumon_user_gpu_memory_bytes" not in told_of.samples


def test_idleness_and_sleep() -> None:
    world = World()
    busy, idle = Gpu(index=0, uuid="b", utilization_percent=50), Gpu(index=1, uuid="i", utilization_percent=0)
    asleep = Gpu(index=2, uuid="s", asleep=True)
    for _ in range(3):
        world.push(with_gpus(world, busy, idle, asleep))
        world.advance(1)
    told_of = said_by(world)
    assert told_of.values("gpumon_gpu_idle_seconds", "uuid") == {"b": 0, "i": pytest.approx(3, abs=0.01)}
    assert told_of.value("gpumon_gpu_status", uuid="s", status="asleep") == 1
    assert told_of.value("gpumon_gpu_status", uuid="s", status="ok") == 0


def test_nvidias_names_have_nvidias_units() -> None:
    world = World()
    gpu = Gpu(
        index=3,
        uuid="GPU-1",
        name="H200",
        pci_bus_id="00000000:18:00.0",
        utilization_percent=37,
        memory_used_bytes=3 * 2**20,
        energy_joules_total=12.5,
        sm_clock_megahertz=1980,
        ecc_corrected_total=4,
        remapped_rows=RemappedRows(correctable=1, uncorrectable=2, pending=False, failure=True),
        xids=[],
    )
    world.push(with_gpus(world, gpu, driver_version="580.1"))
    assert "DCGM_FI_DEV_GPU_UTIL" not in said_by(world).samples
    told_of = said_by(world, dcgm_names=True)
    ((labels, value),) = told_of.samples["DCGM_FI_DEV_GPU_UTIL"].items()
    assert dict(labels) == {
        "gpu": "3",
        "UUID": "GPU-1",
        "pci_bus_id": "00000000:18:00.0",
        "device": "nvidia3",
        "modelName": "H200",
        "Hostname": "a",
        "DCGM_FI_DRIVER_VERSION": "580.1",
    }
    assert value == 37
    found = {name: next(iter(of.values())) for name, of in told_of.samples.items() if name.startswith("DCGM")}
    assert found == {
        "DCGM_FI_DEV_GPU_UTIL": 37,
        "DCGM_FI_DEV_FB_USED": 3,
        "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION": 12_500,
        "DCGM_FI_DEV_SM_CLOCK": 1980,
        "DCGM_FI_DEV_ECC_SBE_VOL_TOTAL": 4,
        "DCGM_FI_DEV_CORRECTABLE_REMAPPED_ROWS": 1,
        "DCGM_FI_DEV_UNCORRECTABLE_REMAPPED_ROWS": 2,
        "DCGM_FI_DEV_ROW_REMAP_FAILURE": 1,
        "DCGM_FI_DEV_XID_ERRORS": 0,
    }


def test_what_comes_is_counted_by_what_becomes_of_it() -> None:
    world = World()
    first, second, third = world.report(), world.report(), world.report()
    world.push(first)
    world.push(first)
    world.push(third, ahead=True)
    world.push(second, late=True)
    polled = world.report(name="b")
    world.poll(polled, "b")
    world.poll(polled, "b")
    world.fail("refused", "b")
    told_of = said_by(world)
    assert told_of.values("gpumon_hub_reports_total", "outcome", source="push") == {
        "taken": 1,
        "late": 1,
        "ahead": 1,
        "duplicate": 1,
    }
    assert told_of.values("gpumon_hub_reports_total", "outcome", source="poll") == {"taken": 1, "duplicate": 1}
    assert told_of.values("gpumon_hub_polls_total", "outcome") == {"answered": 2, "failed": 1}
    assert told_of.value("gpumon_node_reports_late_total", node="a") == 1


def test_the_hub_tells_what_it_refuses() -> None:
    world = World()
    assert set(said_by(world).values("gpumon_hub_refusals_total", "reason").values()) == {0}
    world.hub.refusals.note("slow_reader", None, "words")
    world.hub.history.refused += 3
    told_of = said_by(world)
    assert told_of.value("gpumon_hub_refusals_total", reason="slow_reader") == 1
    assert told_of.value("gpumon_hub_history_refused_samples_total") == 3


async def test_the_hub_tells_who_is_connected_and_who_looks(fleet: Site) -> None:
    async with fleet.session.get(f"{fleet.url}/api/events") as stream:
        await stream.content.readline()

        async def is_told() -> bool:
            said = await told(fleet)
            assert said.value("gpumon_hub_agents_connected") == 1
            assert said.value("process_resident_memory_bytes")
            is_timed = bool(said.value("gpumon_hub_loop_lag_seconds_count"))
            return said.value("gpumon_hub_viewers") == 1 and is_timed

        await until(is_told)


def test_a_hub_follows_the_switch_while_it_runs() -> None:
    world = World()
    assert not world.hub.metrics.dcgm_names
    world.hub.reconfigure(Config(metrics=MetricsSection(dcgm_names=True)))
    assert world.hub.metrics.dcgm_names
