"""What ``gpustat --json`` writes, behind any web server, read as a report of ours.

By gpustat 1.0 and 1.1 (its own ``jsonify``): memory in MiB, power in whole watts. A GPU that it cannot read has nothing
but its index and a name in double brackets. Its ``query_time`` is local time without a zone, so nobody knows when that
was, and ``sampled_at`` is null.
"""

import re
from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct, field

from gpumon.hub.foreign import LOST, MIB, TEXT_LENGTH, UNREADABLE, Boards, command, program, report
from gpumon.model import MAX_GPUS, Process, Report
from gpumon.wire import decode_stranger

MOST_PROCESSES: Final = 4096
"""Of one GPU; the largest of them are shown."""
OF_PROCESSES: Final = frozenset({"name", "user", "command", "memory_used_bytes"})
_UNKNOWN: Final = "?"
_FAULT: Final = re.compile(r"\(\(.*\)\)", re.DOTALL)


class _Process(Struct, frozen=True):
    pid: Annotated[int, Meta(ge=0, le=2**32)]
    username: str | None = None
    command: str | None = None
    full_command: list[str] | str | None = None
    gpu_memory_usage: float | None = None


class _Gpu(Struct, frozen=True):
    index: Annotated[int, Meta(ge=0, le=9999)]
    uuid: str | None = None
    name: str | None = None
    temperature: float | None = field(default=None, name="temperature.gpu")
    fan: float | None = field(default=None, name="fan.speed")
    utilization: float | None = field(default=None, name="utilization.gpu")
    encoder: float | None = field(default=None, name="utilization.enc")
    decoder: float | None = field(default=None, name="utilization.dec")
    power: float | None = field(default=None, name="power.draw")
    power_limit: float | None = field(default=None, name="enforced.power.limit")
    memory_used: float | None = field(default=None, name="memory.used")
    memory_total: float | None = field(default=None, name="memory.total")
    processes: Annotated[list[_Process], Meta(max_length=MOST_PROCESSES)] | None = None


class _Answer(Struct, frozen=True):
    gpus: Annotated[list[_Gpu], Meta(max_length=MAX_GPUS)]
    query_time: str
    hostname: str | None = None
    driver_version: str | None = None


_decoder: msgspec.json.Decoder[_Answer] = msgspec.json.Decoder(_Answer)


def read(body: bytes, node: str) -> Report:
    """The answer as the report of ``node``. Raises :class:`gpumon.errors.WireError`."""
    answer = decode_stranger(_decoder, body)
    boards = Boards()
    for gpu in answer.gpus:
        _add(boards, gpu)
    facts = {"hostname": answer.hostname, "driver_version": answer.driver_version}
    return report(node, boards.gpus(OF_PROCESSES), facts)


def _add(boards: Boards, gpu: _Gpu) -> None:
    board = boards.at(gpu.uuid or f"#{gpu.index}", gpu.index)
    if gpu.uuid is None and gpu.name is not None and _FAULT.fullmatch(gpu.name):
        is_lost = "lost" in gpu.name
        board.unread(LOST if is_lost else UNREADABLE, "lost" if is_lost else "error")
        return
    board.text("uuid", gpu.uuid)
    board.text("name", gpu.name)
    board.number("temperature_celsius", gpu.temperature)
    board.number("fan_speed_percent", gpu.fan)
    board.number("utilization_percent", gpu.utilization)
    board.number("encoder_utilization_percent", gpu.encoder)
    board.number("decoder_utilization_percent", gpu.decoder)
    board.number("power_draw_watts", gpu.power)
    board.number("power_limit_watts", gpu.power_limit)
    board.number("memory_used_bytes", gpu.memory_used, MIB)
    board.number("memory_total_bytes", gpu.memory_total, MIB)
    if gpu.processes is not None:
        board.tells_processes()
        for process in gpu.processes:
            board.process(_process(process))


def _process(process: _Process) -> Process:
    words = process.full_command or []
    words = [words] if isinstance(words, str) else words
    is_told = bool(words) and words != [_UNKNOWN]  # not so of a zombie, or of one that may not be looked at
    used = process.gpu_memory_usage
    return Process(
        pid=process.pid,
        name=None if process.command == _UNKNOWN else program(process.command),
        user=None if process.username == _UNKNOWN else (process.username or "")[:TEXT_LENGTH] or None,
        command=command(words) if is_told else None,
        memory_used_bytes=None if used is None or not 0 <= used <= 2**33 else round(used * MIB),
    )
