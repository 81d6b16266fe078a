"""Which GPUs are free: the one rule, for whatever tells it in a terminal or as text.

The page follows the same rule (``web/src/fleet.ts``, ``web/src/activity.ts``); the table of cases in
``tests/availability.json`` holds the two together. What is not known is never called free.
"""

from typing import Final, Literal

from gpumon.model import Gpu, MigDevice, Node
from gpumon.timestamp import seconds

State = Literal["free", "busy", "held", "fault", "unknown"]

FREE_BELOW_BYTES: Final = 500 * 2**20
FREE_BELOW_FRACTION: Final = 0.02
"""What a driver may hold on a GPU that nobody uses."""
HELD_AFTER_SECONDS: Final = 15 * 60.0
HELD_ABOVE_FRACTION: Final = 0.1


def state_of(gpu: Gpu, node: Node, now: float) -> State:
    """How a GPU of ``node`` is at ``now``, in seconds since the epoch by the hub's clock.

    ``held``: it has long been idle with memory in use, so who holds it may have forgotten it.
    """
    if node.status != "online":
        return "unknown"
    if gpu.status != "ok" or gpu.error is not None:
        return "fault"
    if gpu.asleep:  # nobody uses it, or it would be awake
        return "free"
    state = _use_of(gpu, gpu.processes_truncated)
    return "held" if state == "busy" and _is_held(gpu, node, now) else state


def state_of_slice(device: MigDevice, gpu: Gpu, node: Node) -> State:
    """How a slice of ``gpu`` is, by the same rule: nobody knows how long one has been idle."""
    if node.status != "online":
        return "unknown"
    return "fault" if gpu.status != "ok" or gpu.error is not None else _use_of(device, 0)


def memory_free(part: Gpu | MigDevice) -> int | None:
    """The bytes that can be had of a GPU or a slice, None where nobody knows."""
    if part.memory_free_bytes is not None:
        return part.memory_free_bytes
    if part.memory_total_bytes is None or part.memory_used_bytes is None:
        return None
    return max(0, part.memory_total_bytes - part.memory_used_bytes)


def idle_since(gpu: Gpu, node: Node) -> float | None:
    """Since when it has been idle, as far as the hub knows, in seconds since the epoch."""
    told = node.idle_since.get(gpu.key)
    try:
        return None if told is None else seconds(told)
    except ValueError:
        return None


def _use_of(part: Gpu | MigDevice, unlisted: int) -> State:
    # A display holds a little of its GPU for ever, and leaves the rest to whoever computes.
    if unlisted or any(process.type != "graphics" for process in part.processes or ()):
        return "busy"
    if part.memory_used_bytes is None:
        return "unknown"
    if part.memory_used_bytes >= max(FREE_BELOW_BYTES, FREE_BELOW_FRACTION * (part.memory_total_bytes or 0)):
        return "busy"
    return "unknown" if part.processes is None else "free"


def _is_held(gpu: Gpu, node: Node, now: float) -> bool:
    used, total = gpu.memory_used_bytes, gpu.memory_total_bytes
    if used is None or total is None or used <= HELD_ABOVE_FRACTION * total:
        return False
    since = idle_since(gpu, node)
    return since is not None and now - since >= HELD_AFTER_SECONDS
