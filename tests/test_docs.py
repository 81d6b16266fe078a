"""What the documentation lists is complete."""

import re
from pathlib import Path
from typing import get_args

import pytest
from msgspec.structs import replace

from gpumon.agent import metrics as agent_metrics
from gpumon.agent.boards import BOARDS
from gpumon.agent.linkstate import Diary
from gpumon.agent.sampler import Sampler
from gpumon.agent.scenario import FAULTS, Scenario
from gpumon.agent.simulate import SimulatedReader
from gpumon.agent.words import MEASURED, REASONS
from gpumon.catalog import METRICS
from gpumon.dcgmnames import DcgmNames
from gpumon.hub.door import Door
from gpumon.hub.gauges import NodeGauges, own_health
from gpumon.hub.ingest import Ingest
from gpumon.hub.roster import open_roster
from gpumon.measures import UNITS
from gpumon.model import Cost, Fault, Gpu, Host, MigDevice, Process, Reason, RemappedRows, Xid
from gpumon.prometheus import Family
from gpumon.refusals import Refusals
from tests.hub.world import World

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"


@pytest.mark.parametrize("field", [name for name in MEASURED if name != "processes_truncated"])
def test_every_field_of_a_gpu_is_explained(field: str) -> None:
    rows = [row for row in (DOCS / "gpus.md").read_text(encoding="utf-8").splitlines() if row.startswith("| `")]
    assert sum(f"`{field}`" in row.split("|")[1] for row in rows) == 1


@pytest.mark.parametrize("reason", get_args(Reason))
def test_every_reason_is_explained_with_its_codes(reason: str) -> None:
    text = (DOCS / "gpus.md").read_text(encoding="utf-8")
    (row,) = (line for line in text.splitlines() if line.startswith(f"| `{reason}` |"))
    for code, meaning in REASONS.items():
        assert (f" {code} " in row) == (meaning == reason), code


@pytest.mark.parametrize("word", [*BOARDS, *FAULTS])
def test_every_board_and_fault_that_can_be_simulated_is_explained(word: str) -> None:
    text = (DOCS / "configuration.md").read_text(encoding="utf-8").partition("## Simulated GPUs")[2]
    assert f"`{word}`" in text or f"`fault={word}" in text


def test_every_promise_names_tests_that_are_there() -> None:
    text = (DOCS / "security.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(tests/[\w/.]+)`", text))
    assert len(named) > 5
    assert [one for one in sorted(named) if not (ROOT / one).exists()] == []


def told_to_prometheus() -> list[Family]:
    """Every metric of hub and agent, with samples of those that have labels of their own."""
    world = World()
    gpu = Gpu(
        index=0,
        uuid="u",
        throttle_reasons=[],
        remapped_rows=RemappedRows(correctable=0, uncorrectable=0, pending=False, failure=False),
        xids=[Xid(code=1, meaning="", gravity="info", count=1, last_at="")],
        processes=[Process(pid=1, user="u", memory_used_bytes=1)],
        mig_devices=[MigDevice(index=0, memory_total_bytes=1, memory_used_bytes=1)],
    )
    world.push(replace(world.report(), gpus=[gpu], tags=["t"], host=Host(), agent=Cost()))
    world.hub.notice("code", Fault(code="code", message=""))
    nodes = NodeGauges(world.clock.time(), dcgm_names=False, shows_users=True)
    for member in world.hub.fleet:
        nodes.add(member)
    ingest = Ingest(world.hub, Door(open_roster(None), "token", world.clock))
    sampler = Sampler(SimulatedReader(Scenario.parse("1")), "n", 1.0)
    sampler.simulated = False
    state = Diary(1.0).state(0, 0, 0, 0)
    agent = [*agent_metrics.own_health(sampler, Refusals()), *agent_metrics.link_health(state)]
    return [*nodes.families, *own_health(world.hub, ingest, 0.0), *agent]


def test_every_metric_is_explained_as_it_is_told() -> None:
    text = (DOCS / "metrics.md").read_text(encoding="utf-8")
    rows = [row for row in text.splitlines() if row.startswith("| `gpumon_")]
    expected = []
    for family in told_to_prometheus():
        labels = re.findall(r'(\w+)="', family.chunks()[0].partition("\n")[0]) if family.chunks() else []
        prefix = family.sample.split("_")[1]
        shared = {"gpu": {"node", "gpu", "uuid"}, "mig": {"node", "gpu", "uuid"}, "hub": set(), "agent": set()}
        own = ", ".join(f"`{label}`" for label in labels if label not in shared.get(prefix, {"node"}))
        expected.append(f"| `{family.sample}` | {family.kind} | {own} | {family.help} |")
    assert sorted(rows) == sorted(expected)


def test_every_name_of_nvidias_is_listed() -> None:
    listed = (DOCS / "metrics.md").read_text(encoding="utf-8").partition("| `DCGM_FI_DEV_...`")[2].partition("\n\n")[0]
    assert set(re.findall(r"`([A-Z_]+)`", listed)) == {
        family.name.removeprefix("DCGM_FI_DEV_") for family in DcgmNames().families
    }


def test_prometheus_has_a_unit_for_each_of_the_catalogue() -> None:
    assert {metric.unit for metric in METRICS} <= UNITS.keys()
