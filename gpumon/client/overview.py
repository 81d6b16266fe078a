"""Nodes told at a glance (docs/api.md, the overview), put together again: a card and a row of numbers make a node whose
details nobody told, so that whatever shows nodes knows no difference.
"""

from collections.abc import Sequence

from msgspec.structs import replace

from gpumon.glance import MIB, GpuCard, Holder, NodeCard, Numbers, ReportCard, Values
from gpumon.model import Gpu, MigDevice, Node, Process, Report
from gpumon.timestamp import rfc3339, seconds


def sketch(card: NodeCard) -> Node:
    """The node of ``card``, without its numbers."""
    report = None if card.report is None else _report(card.name, card.report)
    cards = [] if card.report is None else card.report.gpus
    gpus = [] if report is None else report.gpus
    return Node(
        name=card.name,
        alias=card.alias,
        tags=card.tags,
        host=card.host,
        port=card.port,
        address=card.address,
        configured=card.configured,
        kind=card.kind,
        status=card.status,
        status_since=card.status_since,
        source=card.source,
        error=card.error,
        flapping=card.flapping,
        verdict=card.verdict,
        idle_since={gpu.key: one.idle_since for gpu, one in zip(gpus, cards, strict=True) if one.idle_since},
        report=report,
    )


def filled(node: Node, numbers: Numbers, place: int, sent_at: str) -> Node:
    """``node`` with the numbers at ``place`` of the columns."""
    age = numbers.seen_seconds_ago[place]
    report = node.report
    if report is not None:
        columns = (
            numbers.utilization_percent,
            numbers.memory_used_mebibytes,
            numbers.temperature_celsius,
            numbers.power_draw_watts,
        )
        rows = [column[place] for column in columns]
        gpus = [_numbered(gpu, [_at(row, number) for row in rows]) for number, gpu in enumerate(report.gpus)]
        report = replace(report, gpus=gpus)
    return replace(node, last_seen_at=None if age is None else rfc3339(seconds(sent_at) - age), report=report)


def _at(row: Values, place: int) -> int | None:
    """A card and the numbers beside it tell of the same GPUs; one that came in between may not."""
    return row[place] if place < len(row) else None


def _numbered(gpu: Gpu, values: Sequence[int | None]) -> Gpu:
    utilization, memory, temperature, power = values
    return replace(
        gpu,
        utilization_percent=utilization,
        memory_used_bytes=None if memory is None else memory * MIB,
        temperature_celsius=temperature,
        power_draw_watts=power,
    )


def _report(node: str, card: ReportCard) -> Report:
    return Report(
        node=node,
        hostname=card.hostname,
        simulated=card.simulated,
        driver_version=card.driver_version,
        cuda_version=card.cuda_version,
        status=card.status,
        error=card.error,
        gpus=[_gpu(gpu) for gpu in card.gpus],
    )


def _gpu(card: GpuCard) -> Gpu:
    holders, profiles = card.holders, card.mig_profiles
    listed = sum(holder.processes for holder in holders or ())
    return Gpu(
        index=card.index,
        uuid=card.uuid,
        name=card.name,
        pci_bus_id=card.pci_bus_id,
        status=card.status,
        error=card.error,
        asleep=card.asleep,
        memory_total_bytes=card.memory_total_bytes,
        slowdown_temperature_celsius=card.slowdown_temperature_celsius,
        power_limit_watts=card.power_limit_watts,
        throttle_reasons=card.throttle_reasons,
        mig_enabled=card.mig_enabled,
        mig_devices=None
        if profiles is None
        else [MigDevice(index=slot, profile=profile or None) for slot, profile in enumerate(profiles)],
        processes=None if holders is None else [_process(holder) for holder in holders],
        processes_truncated=max(0, card.process_count - listed),
        unavailable=card.unavailable,
    )


def _process(holder: Holder) -> Process:
    """The processes of one user and job as one, which has the memory of all."""
    memory = holder.memory_used_mebibytes
    return Process(
        pid=holder.pid,
        user=holder.user,
        command=holder.command,
        type=holder.type,
        job=holder.job,
        memory_used_bytes=None if memory is None else memory * MIB,
    )
