"""A fleet as rows: one a GPU, or one a node. What they say, in which order, and which are asked for."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Final, Literal, NamedTuple, TypeVar

from msgspec import Struct

from gpumon.availability import State, idle_since, state_of
from gpumon.model import Gpu, Node, NodeStatus, Process
from gpumon.sums import Sum, sum_of
from gpumon.timestamp import rfc3339

Row = TypeVar("Row")
Order = Literal["node", "util", "memory", "temperature", "power", "user", "model", "state"]

ORDERS: Final[tuple[Order, ...]] = ("node", "util", "memory", "temperature", "power", "user", "model", "state")
DESCENDING: Final = frozenset({"util", "memory", "temperature", "power"})
"""Of these the most comes first."""
STATES: Final[tuple[State, ...]] = ("free", "held", "busy", "fault", "unknown")


class GpuRow(NamedTuple):
    """A GPU, or a node that tells of none."""

    node: Node
    gpu: Gpu | None
    state: State
    idle_since: float | None

    @property
    def model(self) -> str | None:
        """The board, without the name of the only maker."""
        return None if self.gpu is None or self.gpu.name is None else self.gpu.name.removeprefix("NVIDIA ")

    @property
    def processes(self) -> Sequence[Process]:
        return self.gpu.processes or () if self.gpu is not None else ()

    @property
    def users(self) -> list[str]:
        """Who computes, or draws, on it: most memory first."""
        return list(dict.fromkeys(process.user for process in self.processes if process.user is not None))


class NodeRow(NamedTuple):
    """What the GPUs of a node are together. What is old, since the node is not online, is not added up."""

    node: Node
    states: Counter[State]
    utilization_percent: float | None
    memory_used_bytes: Sum
    memory_total_bytes: Sum
    temperature_celsius: float | None
    power_draw_watts: Sum
    models: list[str]
    users: list[str]

    @property
    def gpu_count(self) -> int:
        return self.states.total()


def gpu_rows(nodes: Iterable[Node], now: float) -> list[GpuRow]:
    """A row for each GPU at ``now``, by the hub's clock, and one for each node without any."""
    found = []
    for node in nodes:
        gpus = node.report.gpus if node.report is not None else ()
        found += [GpuRow(node, gpu, state_of(gpu, node, now), idle_since(gpu, node)) for gpu in gpus]
        if not gpus:
            found.append(GpuRow(node, None, "unknown", None))
    return found


def node_rows(rows: Iterable[GpuRow]) -> list[NodeRow]:
    """A row for each node of ``rows``, of those of its GPUs that are among them."""
    of_node: dict[str, list[GpuRow]] = {}
    for row in rows:
        of_node.setdefault(row.node.name, []).append(row)
    return [_node_row(some) for some in of_node.values()]


def _node_row(rows: Sequence[GpuRow]) -> NodeRow:
    node = rows[0].node
    gpus = [row.gpu for row in rows if row.gpu is not None]
    live = gpus if node.status == "online" else []
    loads = [gpu.utilization_percent for gpu in live if gpu.utilization_percent is not None]
    heats = [gpu.temperature_celsius for gpu in live if gpu.temperature_celsius is not None]
    return NodeRow(
        node=node,
        states=Counter(row.state for row in rows if row.gpu is not None),
        utilization_percent=sum(loads) / len(loads) if loads else None,
        memory_used_bytes=sum_of(gpu.memory_used_bytes for gpu in live),
        memory_total_bytes=sum_of(gpu.memory_total_bytes for gpu in gpus),
        temperature_celsius=max(heats, default=None),
        power_draw_watts=sum_of(gpu.power_draw_watts for gpu in live),
        models=list(dict.fromkeys(row.model for row in rows if row.model is not None)),
        users=list(dict.fromkeys(user for row in rows for user in row.users)),
    )


# ---- which, and in which order ----


def matching(rows: Iterable[GpuRow], words: str) -> list[GpuRow]:
    """Those rows in which each of ``words`` occurs: in what names the node, the GPU, its state or its processes."""
    wanted = words.casefold().split()
    return [row for row in rows if all(word in _text_of(row) for word in wanted)] if wanted else list(rows)


def _text_of(row: GpuRow) -> str:
    node, gpu = row.node, row.gpu
    parts = [node.name, node.alias, *node.tags, node.status, row.state, row.model, gpu.uuid if gpu else None]
    parts += [part for one in row.processes for part in (one.user, one.command, one.name, one.job)]
    return "\n".join(part for part in parts if part is not None).casefold()


def sorted_rows(rows: Iterable[GpuRow], order: Order, *, is_reversed: bool) -> list[GpuRow]:
    """In this order; what is not known stands last, either way."""
    return _sorted(rows, _GPU_KEYS[order], is_descending=(order in DESCENDING) != is_reversed)


def sorted_nodes(rows: Iterable[NodeRow], order: Order, *, is_reversed: bool) -> list[NodeRow]:
    """The same of nodes."""
    return _sorted(rows, _NODE_KEYS[order], is_descending=(order in DESCENDING) != is_reversed)


def _sorted(rows: Iterable[Row], key: Callable[[Row], float | str | None] | None, *, is_descending: bool) -> list[Row]:
    found = list(rows)
    if key is None:
        return found[::-1] if is_descending else found
    keyed = [(key(row), row) for row in found]
    known = [(value, row) for value, row in keyed if value is not None]
    known.sort(key=lambda one: one[0], reverse=is_descending)
    return [row for _, row in known] + [row for value, row in keyed if value is None]


_GPU_KEYS: Final[dict[Order, Callable[[GpuRow], float | str | None] | None]] = {
    "node": None,
    "util": lambda row: None if row.gpu is None else row.gpu.utilization_percent,
    "memory": lambda row: None if row.gpu is None else row.gpu.memory_used_bytes,
    "temperature": lambda row: None if row.gpu is None else row.gpu.temperature_celsius,
    "power": lambda row: None if row.gpu is None else row.gpu.power_draw_watts,
    "user": lambda row: next(iter(row.users), None),
    "model": lambda row: row.model,
    "state": lambda row: STATES.index(row.state),
}
_NODE_KEYS: Final[dict[Order, Callable[[NodeRow], float | str | None] | None]] = {
    "node": None,
    "util": lambda row: row.utilization_percent,
    "memory": lambda row: row.memory_used_bytes.value,
    "temperature": lambda row: row.temperature_celsius,
    "power": lambda row: row.power_draw_watts.value,
    "user": lambda row: next(iter(row.users), None),
    "model": lambda row: next(iter(row.models), None),
    "state": lambda row: -row.states["free"],
}


# ---- for a program ----


class ProcessRecord(Struct, frozen=True, kw_only=True):
    """Who holds a GPU: all processes of one user and job together, with ``pid`` and ``command`` of the largest."""

    pid: int
    user: str | None
    command: str | None
    job: str | None
    memory_used_bytes: int | None


class GpuRecord(Struct, frozen=True, kw_only=True):
    """A row of ``gpumon top --json``: names as in the API, and ``state``."""

    node: str
    alias: str
    tags: list[str]
    status: NodeStatus
    simulated: bool
    state: State
    idle_since: str | None
    index: int | None
    uuid: str | None
    name: str | None
    utilization_percent: float | None
    memory_used_bytes: int | None
    memory_total_bytes: int | None
    temperature_celsius: float | None
    power_draw_watts: float | None
    power_limit_watts: float | None
    processes: list[ProcessRecord] | None
    processes_truncated: int


def record(row: GpuRow) -> GpuRecord:
    """A row, for a program."""
    node, gpu = row.node, row.gpu or Gpu(index=0)
    return GpuRecord(
        node=node.name,
        alias=node.alias,
        tags=node.tags,
        status=node.status,
        simulated=node.report is not None and node.report.simulated,
        state=row.state,
        idle_since=None if row.idle_since is None else rfc3339(row.idle_since),
        index=None if row.gpu is None else gpu.index,
        uuid=gpu.uuid,
        name=gpu.name,
        utilization_percent=gpu.utilization_percent,
        memory_used_bytes=gpu.memory_used_bytes,
        memory_total_bytes=gpu.memory_total_bytes,
        temperature_celsius=gpu.temperature_celsius,
        power_draw_watts=gpu.power_draw_watts,
        power_limit_watts=gpu.power_limit_watts,
        processes=None if gpu.processes is None else [_process(one) for one in gpu.processes],
        processes_truncated=gpu.processes_truncated,
    )


def _process(one: Process) -> ProcessRecord:
    return ProcessRecord(
        pid=one.pid, user=one.user, command=one.command, job=one.job, memory_used_bytes=one.memory_used_bytes
    )
