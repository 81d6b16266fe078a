"""What rarely changes of a node, as it is told to who looks at the whole fleet: it travels only when it has changed.

Processes are summed up by user and job, and their memory is rounded, so that what breathes a little does not renew the
card.
"""

from collections.abc import Sequence
from operator import attrgetter
from typing import Final, NamedTuple

from gpumon.glance import MIB, GpuCard, Holder, HostCard, NodeCard, ReportCard
from gpumon.model import (
    SLOWDOWNS,
    Gpu,
    Node,
    Process,
    Report,
)
from gpumon.timestamp import rfc3339
from gpumon.wire import encode

SIGNIFICANT_BITS: Final = 7
MOST_HOLDERS: Final = 16
CLOCK_STEP_SECONDS: Final = 5
IDLE_TOLD_AFTER_SECONDS: Final = 60.0
"""Who is idle for a moment is not worth a card."""
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
    "processes.user",
    "processes.command",
    "processes.container",
    "processes.job",
)


class _Seen(NamedTuple):
    """What a GPU's part of a card was made of, and that part."""

    facts: tuple[object, ...]
    card: GpuCard


class Card:
    """A node's card as JSON. It is another object once it has changed, also if it changes back: who has been told of
    one by this object knows it.
    """

    __slots__ = ("json", "seen")

    def __init__(self, json: bytes, seen: Sequence[_Seen] = ()) -> None:
        self.json = json
        self.seen = seen


def card_of(node: Node, seen_at: float | None, before: Card | None = None) -> Card:
    """The card of ``node``; ``before`` is its last one, which stays if nothing on it has changed.

    Most GPUs show the same facts most of the time: to see that costs a fraction of making their part anew.
    """
    seen = [] if node.report is None else _look(node, node.report, seen_at, () if before is None else before.seen)
    data = encode(_node_card(node, [one.card for one in seen]))
    if before is None or before.json != data:
        return Card(data, seen)
    before.seen = seen
    return before


def _look(node: Node, report: Report, seen_at: float | None, before: Sequence[_Seen]) -> list[_Seen]:
    told_before = "" if seen_at is None else rfc3339(seen_at - IDLE_TOLD_AFTER_SECONDS)
    found = []
    for number, gpu in enumerate(report.gpus):
        since = node.idle_since.get(gpu.key)
        if since is not None and since > told_before:
            since = None
        held = None if gpu.processes is None else list(map(_facts_of_process, gpu.processes))
        facts = (since, held, *_facts_of_gpu(gpu))
        last = before[number] if number < len(before) else None
        found.append(last if last is not None and last.facts == facts else _Seen(facts, _gpu_card(gpu, since)))
    return found


def _node_card(node: Node, gpus: list[GpuCard]) -> NodeCard:
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
        kind=node.kind,
        status=node.status,
        status_since=node.status_since,
        source=node.source,
        error=node.error,
        clock_offset_seconds=offset,
        flapping=node.flapping,
        verdict=node.verdict,
        evidence=node.evidence,
        report=None if node.report is None else _report_card(node, node.report, gpus),
    )


def _report_card(node: Node, report: Report, gpus: list[GpuCard]) -> ReportCard:
    host = report.host
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
        gpus=gpus,
    )


def _gpu_card(gpu: Gpu, idle_since: str | None) -> GpuCard:
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
        power_limit_watts=None if gpu.power_limit_watts is None else round(gpu.power_limit_watts),
        throttle_reasons=None if reasons is None else [reason for reason in reasons if reason in SLOWDOWNS],
        ecc_uncorrected_total=gpu.ecc_uncorrected_total or None,
        recovery_action=None if gpu.recovery_action == "none" else gpu.recovery_action,
        xids=[xid.code for xid in gpu.xids or () if xid.gravity != "info"],
        mig_enabled=gpu.mig_enabled,
        mig_profiles=[one.profile or "" for one in gpu.mig_devices] if gpu.mig_devices else None,
        idle_since=idle_since,
        process_count=len(gpu.processes or ()) + gpu.processes_truncated,
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
        memory_partial=0 < len(known) < len(processes),
        processes=len(processes),
    )


def _roughly(number: int) -> int:
    """``number`` to a few binary digits."""
    step: int = 1 << max(0, number.bit_length() - SIGNIFICANT_BITS)
    return round(number / step) * step


_facts_of_gpu: Final = attrgetter(
    "index",
    "uuid",
    "name",
    "pci_bus_id",
    "status",
    "error",
    "asleep",
    "memory_total_bytes",
    "memory_kind",
    "slowdown_temperature_celsius",
    "power_limit_watts",
    "throttle_reasons",
    "ecc_uncorrected_total",
    "recovery_action",
    "xids",
    "mig_enabled",
    "mig_devices",
    "processes_truncated",
    "unavailable",
    "suspect",
)
_facts_of_process: Final = attrgetter(
    "pid", "user", "command", "name", "type", "started_at", "container", "job", "memory_used_bytes"
)
"""All that :func:`_gpu_card` reads: what is not among it would be told late. A test compares."""
