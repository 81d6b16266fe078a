"""Who may speak for a node, where two would."""

from dataclasses import dataclass, field

from gpumon.errors import GpumonError
from gpumon.model import Fault
from gpumon.wire import HEARTBEAT_SECONDS, Close, Hello

PATIENCE_SECONDS = 2 * HEARTBEAT_SECONDS
RESTART_BEATS = 3
MOST_REMEMBERED = 16


class RefusedError(GpumonError):
    """A connection ends; the code and the text tell the agent why. ``counts``: against its address, if it was not
    welcome yet.
    """

    def __init__(self, code: Close, reason: str, *, counts: bool = True) -> None:
        super().__init__(reason)
        self.code = code
        self.counts = counts


@dataclass(frozen=True, slots=True)
class Claimant:
    """An agent that claims a node: its own words, and where it speaks from. ``ousted`` are the runs of the same agent
    that gave way to it.
    """

    hello: Hello
    address: str | None
    ousted: tuple[str, ...] = field(default=())

    def after(self, first: "Claimant") -> "Claimant":
        """The same, in the place of ``first``."""
        known = set(first.ousted) | {first.hello.boot_id}
        return Claimant(self.hello, self.address, tuple(known - {self.hello.boot_id})[-MOST_REMEMBERED:])


def refusal(first: Claimant, second: Claimant, silent_seconds: float) -> RefusedError | None:
    """Why ``second`` may not take the node from ``first``, who was last heard ``silent_seconds`` ago; None if it may.

    - The same agent (by its id, from the same machine as far as is known): the newest connection is the right one.
      Unless it gave way to the first before: then there are two of them at once.
    - The same id from another machine: a disk was copied. The first stays while it is alive.
    - Another agent, or the same id with another key: the first stays while it is alive, for 10 s; where both come from
      one host, for three beats, since it is most likely the same one, restarted without its id.
    """
    one, two = first.hello, second.hello
    alive = silent_seconds <= PATIENCE_SECONDS
    is_other_key = None not in (one.key, two.key) and one.key != two.key
    if one.agent_id is not None and one.agent_id == two.agent_id and not is_other_key:
        is_copy = _are_two_machines(one, two) or two.boot_id in first.ousted
        return copied(first) if is_copy and alive else None
    if one.boot_id == two.boot_id and not is_other_key:
        return None
    if (first.address, one.hostname) == (second.address, two.hostname):
        alive = silent_seconds <= RESTART_BEATS * min(two.interval_seconds, HEARTBEAT_SECONDS)
    if not alive:
        return None
    return RefusedError(
        Close.NAME_TAKEN, f"another agent, at {first.address}, is {two.node} already: give one of them another --name"
    )


def is_elsewhere(first: Claimant, second: Claimant, silent_seconds: float) -> bool:
    """Whether the living agent ``first``, of another name, has the id of ``second`` and another machine."""
    return silent_seconds <= PATIENCE_SECONDS and _are_two_machines(first.hello, second.hello)


def copied(first: Claimant) -> RefusedError:
    """What an agent is told whose id is used elsewhere."""
    return RefusedError(
        Close.COPIED, f"its agent id is in use at {first.address}: if a disk was copied, delete the agent-*.json here"
    )


def claim(error: RefusedError, second: Claimant) -> Fault:
    """What the node of the first shows of a refused second."""
    if error.code == Close.COPIED:
        return Fault(
            code="copied",
            message=f"An agent at {second.address} has the id of this node's agent, as after copying a disk; "
            "it was refused.",
            hint="Delete its state file (agent-NAME.json) on that machine, and restart the agent there.",
        )
    return Fault(
        code="name_taken",
        message=f"Another agent, at {second.address}, claims this name as well; it was refused.",
        hint="Give one of the two another --name.",
    )


def _are_two_machines(one: Hello, two: Hello) -> bool:
    return None not in (one.machine_id, two.machine_id) and one.machine_id != two.machine_id
