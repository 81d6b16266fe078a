"""The ``/gpu-info`` of the Go program that gpumon replaces, read as a report of ours.

There an unreadable value is 0, so a 0 that no GPU can have is null here. A utilisation or a used memory of
0 is a real value of an idle GPU, unless the GPU gave nothing at all. A process whose memory the driver does not
tell has all ones there, NVML's own mark for it.
"""

from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct

from gpumon.hub.foreign import Board, program
from gpumon.model import MAX_GPUS, MAX_PROCESSES, Count, Gpu, LongText, Name, Process, Quantity, Report, Text
from gpumon.timestamp import rfc3339, seconds
from gpumon.wire import check_counts, decode_stranger


class _Process(Struct, frozen=True):
    pid: Count
    name: LongText = ""
    used: int = 0


class _Gpu(Struct, frozen=True):
    id: Text = ""
    name: Text = ""
    utilization: Quantity = 0
    memory_used: Count = 0
    memory_total: Count = 0
    temperature: Annotated[float, Meta(ge=-100, le=1000)] = 0
    power_usage: Quantity = 0
    power_limit: Quantity = 0
    processes: Annotated[list[_Process], Meta(max_length=MAX_PROCESSES)] | None = None


class _Node(Struct, frozen=True):
    node_name: Name
    timestamp: str | float | None = None
    gpus: Annotated[list[_Gpu], Meta(max_length=MAX_GPUS)] | None = None


_decoder: msgspec.json.Decoder[_Node] = msgspec.json.Decoder(_Node)

TELLS: Final = frozenset({"name", "pci_bus_id"})
"""What may be empty there; a 0 is told of below."""
OF_PROCESSES: Final = frozenset({"name", "memory_used_bytes"})


def decode_legacy_report(data: bytes) -> Report:
    """The old program's answer as a report. Raises :class:`gpumon.errors.WireError`."""
    node = decode_stranger(_decoder, data)
    gpus = [_gpu(index, gpu) for index, gpu in enumerate(node.gpus or [])]
    report = Report(
        node=node.node_name,
        sampled_at=_moment(node.timestamp),
        status="ok" if gpus else "no_gpus",
        gpus=gpus,
    )
    check_counts(report)
    return report


def _gpu(index: int, gpu: _Gpu) -> Gpu:
    board = Board()
    read = gpu.memory_total > 0 or gpu.temperature > 0 or gpu.power_usage > 0
    board.text("name", gpu.name)
    board.text("pci_bus_id", gpu.id)
    board.number("utilization_percent", min(gpu.utilization, 100.0) if read or gpu.utilization else None)
    board.number("memory_total_bytes", gpu.memory_total or None)
    board.number("memory_used_bytes", gpu.memory_used if gpu.memory_total else None)
    board.number("memory_free_bytes", max(gpu.memory_total - gpu.memory_used, 0) if gpu.memory_total else None)
    board.number("temperature_celsius", gpu.temperature or None)
    board.number("power_draw_watts", gpu.power_usage or None, 0.001)
    board.number("power_limit_watts", gpu.power_limit or None, 0.001)
    board.tells_processes()
    for process in gpu.processes or []:
        used = process.used if 0 < process.used <= 2**53 else None
        board.process(Process(pid=process.pid, name=program(process.name), memory_used_bytes=used))
    return board.gpu(index, TELLS, OF_PROCESSES)


def _moment(timestamp: str | float | None) -> str | None:
    """The old program's time: RFC 3339 in any zone, or seconds since the epoch; Go's year 1 means none."""
    try:
        moment = seconds(timestamp) if isinstance(timestamp, str) else timestamp or 0.0
        return rfc3339(moment) if moment > 0 else None
    except (ValueError, OverflowError, OSError):
        return None
