"""What is told of a node to who looks at the whole fleet: a card and a row of numbers.

The card holds what rarely changes and travels only when it has; the numbers are rounded to what a page shows, and
travel as columns over the nodes, which compress to a few bytes for each GPU. Processes are summed up by user and job,
and their memory is rounded, so that what breathes a little does not renew the card. Absent fields are null.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple, Self

import orjson
from msgspec import Struct

from gpumon.hub.history import key
from gpumon.hub.letters import News
from gpumon.model import (
    Evidence,
    Fault,
    Gpu,
    GpuStatus,
    MemoryKind,
    Name,
    Node,
    NodeStatus,
    Process,
    ProcessType,
    Reason,
    Report,
    ReportStatus,
    Source,
    Tag,
    Text,
    Timestamp,
)
from gpumon.timestamp import rfc3339, seconds
from gpumon.wire import encode

MIB: Final = 2**20
MEMORY_STEP_MEBIBYTES: Final = 16
SIGNIFICANT_BITS: Final = 7
MOST_HOLDERS: Final = 16
CLOCK_STEP_SECONDS: Final = 5
IDLE_TOLD_AFTER_SECONDS: Final = 60.0
"""Who is idle for a moment is not worth a card."""
WORTH_A_LOOK: Final = frozenset(
    ("hw_slowdown", "sw_thermal_slowdown", "hw_thermal_slowdown", "hw_power_brake_slowdown")
)
SHOWN: Final = (
    "name",
    "utilization_percent",
    "memory_used_bytes",
    "memory_total_bytes",
    "temperature_celsius",
    "power_draw_watts",
    "power_limit_watts",
    "fan_speed_percent",
    "processes",
)


class Holder(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The processes of one user and job on a GPU: ``pid``, ``command`` and the rest are the largest one's.

    ``memory_used_mebibytes`` is that of all, to about 1 %; ``processes`` their number.
    """

    pid: int
    user: Text | None = None
    command: str | None = None
    type: ProcessType | None = None
    started_at: Timestamp | None = None
    container: Text | None = None
    job: Text | None = None
    memory_used_mebibytes: int | None = None
    processes: int = 1


class GpuCard(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Of a GPU what rarely changes. ``throttle_reasons`` are those worth a look, ``xids`` codes of all but trifles,
    ``holders`` the largest ones; ``idle_since`` is told of a GPU that has been idle for a minute.
    """

    index: int
    uuid: Text | None = None
    name: Text | None = None
    pci_bus_id: Text | None = None
    status: GpuStatus = "ok"
    error: Fault | None = None
    asleep: bool = False
    memory_total_bytes: int | None = None
    memory_kind: MemoryKind | None = None
    slowdown_temperature_celsius: float | None = None
    power_limit_watts: int | None = None
    throttle_reasons: list[Text] | None = None
    ecc_uncorrected_total: int | None = None
    recovery_action: Text | None = None
    xids: list[int] = []
    mig_enabled: bool | None = None
    mig_profiles: list[str] | None = None
    idle_since: Timestamp | None = None
    process_count: int = 0
    holders: list[Holder] | None = None
    unavailable: dict[Text, Reason] = {}
    suspect: list[Text] = []


class HostCard(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Of the machine around the GPUs what rarely changes."""

    platform: str | None = None
    cpu_count: int | None = None
    memory_total_bytes: int | None = None


class ReportCard(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Of a report what rarely changes; ``sampled_at`` is told of the last one of a node that is not online."""

    hostname: Text | None = None
    agent_version: Text | None = None
    sampled_at: Timestamp | None = None
    interval_seconds: float | None = None
    simulated: bool = False
    driver_version: Text | None = None
    cuda_version: Text | None = None
    status: ReportStatus = "ok"
    error: Fault | None = None
    host: HostCard | None = None
    gpus: list[GpuCard] = []


class NodeCard(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Of a node what rarely changes. ``clock_offset_seconds`` is rounded to 5 s while the node is online."""

    name: Name
    alias: Text
    tags: list[Tag] = []
    host: Text | None = None
    port: int | None = None
    address: Text | None = None
    configured: bool = False
    status: NodeStatus = "pending"
    status_since: Timestamp
    source: Source | None = None
    error: Fault | None = None
    clock_offset_seconds: float | None = None
    flapping: bool = False
    verdict: Fault | None = None
    evidence: list[Evidence] = []
    report: ReportCard | None = None


Values = list[int | None]
"""A whole number for each GPU, in the order of the card; null where it is not known."""


class Numbers(Struct, frozen=True, kw_only=True):
    """What changes all the time, in columns over ``names``: ages count back from the message's ``sent_at``."""

    names: list[Name]
    seen_seconds_ago: list[int | None]
    host_cpu_utilization_percent: list[int | None]
    host_memory_used_percent: list[int | None]
    utilization_percent: list[Values]
    memory_used_mebibytes: list[Values]
    temperature_celsius: list[Values]
    power_draw_watts: list[Values]
    fan_speed_percent: list[Values]


class Card:
    """A node's card as JSON. It is another object once it has changed, also if it changes back: who has been told of
    one by this object knows it.
    """

    __slots__ = ("json",)

    def __init__(self, json: bytes) -> None:
        self.json = json


class Row(NamedTuple):
    """A node's numbers: one place of each column. ``seen_at`` is in seconds since the epoch, by the hub's clock."""

    seen_at: float | None
    host_cpu: int | None
    host_memory: int | None
    utilization: Values
    memory: Values
    temperature: Values
    power: Values
    fan: Values


class Glance(NamedTuple):
    """All that is told of a node."""

    card: Card
    row: Row


def glance_of(node: Node, seen_at: float | None, before: Card | None = None) -> Glance:
    """``node`` at a glance; ``before`` is its last card, which stays if nothing on it has changed."""
    data = encode(_node_card(node, seen_at))
    return Glance(before if before is not None and before.json == data else Card(data), _row(node, seen_at))


class OverviewLetter(News):
    """How nodes are at a glance: numbers of each in ``rows``, and the cards that are news."""

    def __init__(
        self,
        kind: str,
        identity: str,
        sent_at: str,
        rows: Mapping[str, Row],
        cards: Mapping[str, Card],
        notices: Sequence[Fault] = (),
    ) -> None:
        super().__init__(kind, identity, sent_at, notices)
        self.rows = rows
        self.cards = cards

    @property
    def names(self) -> Iterable[str]:
        return self.rows

    @property
    def size(self) -> int:
        return sum(len(card.json) for card in self.cards.values()) + 200 * len(self.rows)

    def content(self) -> dict[str, object]:
        head: dict[str, object] = {"view": "overview"}
        cards = [orjson.Fragment(card.json) for card in self.cards.values()]
        return head | super().content() | {"cards": cards, "numbers": self._numbers()}

    def followed_by(self, later: Self) -> Self:
        return self._like(later, {**self.rows, **later.rows}, {**self.cards, **later.cards})

    def among(self, names: Iterable[str]) -> Self:
        rows = {name: row for name, row in self.rows.items() if name in names}
        return self._like(self, rows, {name: card for name, card in self.cards.items() if name in names})

    def _like(self, dated: "OverviewLetter", rows: Mapping[str, Row], cards: Mapping[str, Card]) -> Self:
        return type(self)(self.kind, dated.identity, dated.sent_at, rows, cards, dated.notices)

    def _numbers(self) -> dict[str, object]:
        now = seconds(self.sent_at)
        rows = self.rows.values()
        return {
            "names": list(self.rows),
            "seen_seconds_ago": [None if row.seen_at is None else max(0, round(now - row.seen_at)) for row in rows],
            "host_cpu_utilization_percent": [row.host_cpu for row in rows],
            "host_memory_used_percent": [row.host_memory for row in rows],
            "utilization_percent": [row.utilization for row in rows],
            "memory_used_mebibytes": [row.memory for row in rows],
            "temperature_celsius": [row.temperature for row in rows],
            "power_draw_watts": [row.power for row in rows],
            "fan_speed_percent": [row.fan for row in rows],
        }


def _row(node: Node, seen_at: float | None) -> Row:
    report = node.report
    gpus: Sequence[Gpu] = report.gpus if report is not None else ()
    host = report.host if report is not None else None
    memory = None
    if host is not None and host.memory_total_bytes and host.memory_available_bytes is not None:
        memory = max(0, round(100 - 100 * host.memory_available_bytes / host.memory_total_bytes))
    return Row(
        seen_at,
        _whole(host.cpu_utilization_percent if host is not None else None),
        memory,
        [_whole(gpu.utilization_percent) for gpu in gpus],
        [_mebibytes(gpu.memory_used_bytes) for gpu in gpus],
        [_whole(gpu.temperature_celsius) for gpu in gpus],
        [_whole(gpu.power_draw_watts) for gpu in gpus],
        [_whole(gpu.fan_speed_percent) for gpu in gpus],
    )


def _whole(value: float | None) -> int | None:
    return None if value is None else round(value)


def _mebibytes(size: int | None) -> int | None:
    return None if size is None else round(size / MIB / MEMORY_STEP_MEBIBYTES) * MEMORY_STEP_MEBIBYTES


def _node_card(node: Node, seen_at: float | None) -> NodeCard:
    is_online = node.status == "online"
    offset = node.clock_offset_seconds
    if offset is not None and is_online:
        offset = float(round(offset / CLOCK_STEP_SECONDS) * CLOCK_STEP_SECONDS)
    return NodeCard(
        name=node.name,
        alias=node.alias,
        tags=node.tags,
        host=node.host,
        port=node.port,
        address=node.address,
        configured=node.configured,
        status=node.status,
        status_since=node.status_since,
        source=node.source,
        error=node.error,
        clock_offset_seconds=offset,
        flapping=node.flapping,
        verdict=node.verdict,
        evidence=node.evidence,
        report=None if node.report is None else _report_card(node, node.report, seen_at),
    )


def _report_card(node: Node, report: Report, seen_at: float | None) -> ReportCard:
    host = report.host
    told_before = "" if seen_at is None else rfc3339(seen_at - IDLE_TOLD_AFTER_SECONDS)
    return ReportCard(
        hostname=report.hostname,
        agent_version=report.agent_version,
        sampled_at=None if node.status == "online" else report.sampled_at,
        interval_seconds=report.interval_seconds,
        simulated=report.simulated,
        driver_version=report.driver_version,
        cuda_version=report.cuda_version,
        status=report.status,
        error=report.error,
        host=None
        if host is None
        else HostCard(platform=host.platform, cpu_count=host.cpu_count, memory_total_bytes=host.memory_total_bytes),
        gpus=[_gpu_card(gpu, node.idle_since, told_before) for gpu in report.gpus],
    )


def _gpu_card(gpu: Gpu, idle_since: Mapping[str, str], told_before: str) -> GpuCard:
    since = idle_since.get(key(gpu))
    reasons = gpu.throttle_reasons
    return GpuCard(
        index=gpu.index,
        uuid=gpu.uuid,
        name=gpu.name,
        pci_bus_id=gpu.pci_bus_id,
        status=gpu.status,
        error=gpu.error,
        asleep=gpu.asleep,
        memory_total_bytes=gpu.memory_total_bytes,
        memory_kind=gpu.memory_kind,
        slowdown_temperature_celsius=gpu.slowdown_temperature_celsius,
        power_limit_watts=_whole(gpu.power_limit_watts),
        throttle_reasons=None if reasons is None else [reason for reason in reasons if reason in WORTH_A_LOOK],
        ecc_uncorrected_total=gpu.ecc_uncorrected_total or None,
        recovery_action=None if gpu.recovery_action == "none" else gpu.recovery_action,
        xids=[xid.code for xid in gpu.xids or () if xid.gravity != "info"],
        mig_enabled=gpu.mig_enabled,
        mig_profiles=[one.profile or "" for one in gpu.mig_devices] if gpu.mig_devices else None,
        idle_since=since if since is not None and since <= told_before else None,
        process_count=len(gpu.processes or ()),
        holders=None if gpu.processes is None else _holders(gpu.processes),
        unavailable={name: gpu.unavailable[name] for name in SHOWN if name in gpu.unavailable},
        suspect=[name for name in gpu.suspect if name in SHOWN],
    )


def _holders(processes: Sequence[Process]) -> list[Holder]:
    together: dict[tuple[str | None, str | None, bool], list[Process]] = {}
    for process in processes:
        together.setdefault((process.user, process.job, process.type == "graphics"), []).append(process)
    found = [_holder(of_one) for of_one in together.values()]
    found.sort(key=lambda one: (-(one.memory_used_mebibytes or 0), one.pid))
    return found[:MOST_HOLDERS]


def _holder(processes: Sequence[Process]) -> Holder:
    largest = max(processes, key=lambda one: (one.memory_used_bytes or 0, -one.pid))
    known = [one.memory_used_bytes for one in processes if one.memory_used_bytes is not None]
    return Holder(
        pid=largest.pid,
        user=largest.user,
        command=largest.command or largest.name,
        type=largest.type,
        started_at=largest.started_at,
        container=largest.container,
        job=largest.job,
        memory_used_mebibytes=_roughly(round(sum(known) / MIB)) if known else None,
        processes=len(processes),
    )


def _roughly(number: int) -> int:
    """``number`` to a few binary digits."""
    step: int = 1 << max(0, number.bit_length() - SIGNIFICANT_BITS)
    return round(number / step) * step
