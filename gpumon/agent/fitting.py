"""A report made to fit into what a hub takes of one node: one message of bounded size, and so many processes.

What is missed least goes first: ``null`` written out, for what is not there means the same; then the processes that
hold the least memory, of the whole node. These are counted, and the report says so.
"""

import itertools
from collections.abc import Iterator
from typing import Any, Final

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from gpumon import wire
from gpumon.model import MAX_NODE_PROCESSES, Fault, Gpu, MigDevice, Process, Report

FRAME_BYTES: Final = 1024
MAX_REPORT_BYTES: Final = wire.MAX_REPORT_BYTES - FRAME_BYTES
ADVICE_BYTES: Final = 512


def fitting(report: Report) -> tuple[Report, bytes]:
    """``report`` and its bytes, or as much of it as a hub takes. What is too large without a single process stays so,
    and the hub refuses it in words.
    """
    count = sum(len(one.processes or ()) for one in _holders(report))
    if count <= MAX_NODE_PROCESSES:
        for data in (wire.encode(report), _terse(report)):
            if len(data) <= MAX_REPORT_BYTES:
                return report, data
    report = _with_largest(report, count)
    return report, _terse(report)


def _holders(report: Report) -> Iterator[Gpu | MigDevice]:
    """What has processes: GPUs and slices of them."""
    for gpu in report.gpus:
        yield gpu
        yield from gpu.mig_devices or ()


def _with_largest(report: Report, count: int) -> Report:
    """The report with as many of its ``count`` processes as there is room for, those with the most memory."""
    excess = len(_terse(report)) + ADVICE_BYTES - MAX_REPORT_BYTES
    crowded = count - MAX_NODE_PROCESSES
    left_out: set[tuple[int, int]] = set()
    for _, holder, place, process in _least_first(report):
        if excess <= 0 and len(left_out) >= crowded:
            break
        left_out.add((holder, place))
        excess -= len(_terse(process)) + 1  # with the comma
    numbers = itertools.count()
    gpus = [_without(left_out, gpu, numbers) for gpu in report.gpus]
    told, untold = sum(len(_pids(gpu)) for gpu in gpus), sum(gpu.processes_truncated for gpu in gpus)
    return replace(report, gpus=gpus, advice=[*report.advice, _crowded(told, untold)])


def _without(left_out: set[tuple[int, int]], gpu: Gpu, numbers: Iterator[int]) -> Gpu:
    """The GPU without what is left out of it and its slices; what stands nowhere any more is counted."""

    def kept(processes: list[Process] | None) -> list[Process] | None:
        holder = next(numbers)
        return processes and [one for place, one in enumerate(processes) if (holder, place) not in left_out]

    processes = kept(gpu.processes)
    slices = gpu.mig_devices and [replace(one, processes=kept(one.processes)) for one in gpu.mig_devices]
    rest = replace(gpu, processes=processes, mig_devices=slices)
    return replace(rest, processes_truncated=gpu.processes_truncated + len(_pids(gpu) - _pids(rest)))


def _pids(gpu: Gpu) -> set[int]:
    """A process of a slice may stand in the list of the GPU as well."""
    return {process.pid for one in (gpu, *(gpu.mig_devices or ())) for process in one.processes or ()}


def _least_first(report: Report) -> list[tuple[int, int, int, Process]]:
    """Memory, holder's number, place there and process, the least first. Unknown memory is the least, and of equals
    those that come last in their lists: no GPU is left out for another one's sake.
    """
    rows = [
        (-1 if process.memory_used_bytes is None else process.memory_used_bytes, number, place, process)
        for number, holder in enumerate(_holders(report))
        for place, process in enumerate(holder.processes or ())
    ]
    return sorted(rows, key=lambda row: (row[0], -row[2], -row[1]))


def _crowded(told: int, untold: int) -> Fault:
    return Fault(
        code="processes_left_out",
        message=(
            f"{told + untold} processes hold GPUs of this node, which is more than a report has room for: told are the "
            f"{told} with the most memory, and of each GPU how many are not."
        ),
        hint="'gpumon probe' on the node shows more of them.",
    )


def _terse(value: Struct) -> bytes:
    """As JSON, without what is null."""
    return msgspec.json.encode(_told(msgspec.to_builtins(value)))


def _told(value: Any) -> Any:  # noqa: ANN401  (JSON)
    if isinstance(value, dict):
        return {key: _told(one) for key, one in value.items() if one is not None}
    return [_told(one) for one in value] if isinstance(value, list) else value
