"""What strangers are told of processes: a node with the rest left out, each gap with its reason.

It is left out here, before anything is encoded: what a page hides, whoever asks can read.
"""

from collections.abc import Sequence
from typing import Final

from msgspec.structs import replace

from gpumon.config import Privacy
from gpumon.model import Gpu, MigDevice, Node, Process, Reason

EVERYTHING: Final[Privacy] = "commands"
HIDDEN: Final[dict[Privacy, tuple[str, ...]]] = {
    "commands": (),
    "users": ("command",),
    "names": ("command", "user", "container", "job"),
}
"""Fields of a process that are left out; of ``nothing`` the processes are."""
PRIVATE: Final[Reason] = "private"


def veiled(node: Node, privacy: Privacy) -> Node:
    """``node`` as somebody sees it who sees no more of its processes than ``privacy``."""
    if privacy == EVERYTHING or node.report is None:
        return node
    gpus = [_gpu(gpu, privacy) for gpu in node.report.gpus]
    return replace(node, report=replace(node.report, gpus=gpus))


def _gpu(gpu: Gpu, privacy: Privacy) -> Gpu:
    slices = gpu.mig_devices
    if slices is not None:
        slices = [_slice(one, privacy) for one in slices]
    if gpu.processes is None:  # which has its own reason
        return replace(gpu, mig_devices=slices) if slices is not None else gpu
    if privacy == "nothing":
        # That somebody computes here is told, or a GPU that is taken would look free.
        computing = sum(process.type != "graphics" for process in gpu.processes)
        return replace(
            gpu,
            mig_devices=slices,
            processes=[],
            processes_truncated=gpu.processes_truncated + computing,
            unavailable=gpu.unavailable | {"processes": PRIVATE},
        )
    hidden = HIDDEN[privacy]
    return replace(
        gpu,
        mig_devices=slices,
        processes=_processes(gpu.processes, hidden),
        unavailable=gpu.unavailable | {f"processes.{field}": PRIVATE for field in hidden},
    )


def _slice(one: MigDevice, privacy: Privacy) -> MigDevice:
    if one.processes is None:
        return one
    return replace(one, processes=None if privacy == "nothing" else _processes(one.processes, HIDDEN[privacy]))


def _processes(processes: Sequence[Process], hidden: Sequence[str]) -> list[Process]:
    nothing = dict.fromkeys(hidden)
    return [replace(process, **nothing) for process in processes]
