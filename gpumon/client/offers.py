"""What is free on which node, and which of it fits best. No I/O, no clock."""

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple

from gpumon.availability import idle_since, memory_free, state_of, state_of_slice
from gpumon.client.choice import Choice
from gpumon.model import Gpu, MigDevice, Node

SIMULATED_VARIABLE: Final = "GPUMON_SIMULATED"
HOST: Final = re.compile(r"[0-9A-Za-z_:](?:[0-9A-Za-z._:%-]*[0-9A-Za-z])?")
"""What may stand behind ssh: nothing that it, or a shell, takes for something else."""
UUID: Final = re.compile(r"(?:GPU|MIG)-[0-9A-Za-z/-]+")


class Wanted(NamedTuple):
    """What is looked for, all on one node: each of ``gpus`` has ``memory_bytes`` free, and ``model`` in its name.

    ``is_slice``: a slice of a GPU that is partitioned by MIG; else whole GPUs.
    """

    gpus: int = 1
    memory_bytes: int = 0
    model: str = ""
    is_slice: bool = False
    choice: Choice = Choice(statuses=("online",))


class Part(NamedTuple):
    """A GPU, or a slice, that is free. ``idle_since`` is in seconds since the epoch, where it is known."""

    gpu: Gpu
    device: Gpu | MigDevice
    memory_free_bytes: int | None
    idle_since: float | None

    @property
    def name(self) -> str:
        """What names it over time."""
        return self.gpu.key if self.device is self.gpu else self.device.uuid or ""


class Offer(NamedTuple):
    """Parts of one node that are as wanted; ``left`` is how many free GPUs the node has beside them."""

    node: Node
    host: str
    parts: Sequence[Part]
    left: int

    @property
    def variables(self) -> dict[str, str]:
        """What makes CUDA see these and no others.

        By UUID, which means the same GPU whatever the order of devices is; agents that tell none go by the index, which
        is that of the driver: CUDA counts otherwise unless it is told to go by PCI bus ID.
        """
        label = {SIMULATED_VARIABLE: "1"} if is_simulated(self.node) else {}
        uuids = [part.device.uuid or "" for part in self.parts]
        if all(UUID.fullmatch(uuid) for uuid in uuids):
            return label | {"CUDA_VISIBLE_DEVICES": ",".join(uuids)}
        indices = ",".join(str(part.gpu.index) for part in self.parts)
        return label | {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": indices}


IsSettled = Callable[[Node, Part], bool]


def best_offer(
    nodes: Iterable[Node], wanted: Wanted, now: float, is_settled: IsSettled = lambda *_: True
) -> Offer | None:
    """The one that fits best at ``now``, by the hub's clock: of one model, on the node with the fewest free GPUs left
    over, with the least memory to spare, idle for longest; then as the hub orders its nodes.

    Simulated nodes are offered where there is no other with GPUs.
    """
    known = list(nodes)
    chosen = wanted.choice.among(known)
    if any(_has_gpus(node) and not is_simulated(node) for node in _everywhere(wanted).among(known)):
        chosen = [node for node in chosen if not is_simulated(node)]
    offers = [offer for node in chosen for offer in _offers(node, wanted, now, is_settled)]
    return min(offers, key=_fit, default=None)


def is_possible(nodes: Iterable[Node], wanted: Wanted) -> bool:
    """Whether some node has as many such GPUs, or slices, whoever uses them now."""
    for node in _everywhere(wanted).among(nodes):
        gpus = node.report.gpus if node.report is not None else ()
        parts = [part for gpu in gpus for part in _all_parts(gpu, is_slice=wanted.is_slice)]
        if sum(_is_wanted(part, wanted) for part in parts) >= wanted.gpus:
            return True
    return False


def is_simulated(node: Node) -> bool:
    """Whether its GPUs do not exist."""
    return node.report is not None and node.report.simulated


def _everywhere(wanted: Wanted) -> Choice:
    """The nodes that could be chosen if they were well."""
    return wanted.choice._replace(statuses=())


def _has_gpus(node: Node) -> bool:
    return node.report is not None and bool(node.report.gpus)


def _fit(offer: Offer) -> tuple[bool, int, int, float]:
    models = {part.gpu.name for part in offer.parts}
    memory = sum(part.memory_free_bytes or 0 for part in offer.parts)
    idle = max((float("inf") if part.idle_since is None else part.idle_since) for part in offer.parts)
    return len(models) > 1, offer.left, memory, idle


def _offers(node: Node, wanted: Wanted, now: float, is_settled: IsSettled) -> Iterable[Offer]:
    host = host_of(node)
    if host is None or node.report is None:
        return
    free = free_parts(node, now, is_slice=wanted.is_slice)
    fitting = [part for part in free if _is_wanted(part, wanted) and is_settled(node, part)]
    by_model: dict[str | None, list[Part]] = {}
    for part in fitting:
        by_model.setdefault(part.gpu.name, []).append(part)
    for group in [*by_model.values(), fitting]:
        if len(group) >= wanted.gpus:
            by_fit = sorted(group, key=lambda part: (part.memory_free_bytes or 0, part.idle_since or now))
            chosen = sorted(by_fit[: wanted.gpus], key=lambda part: part.gpu.index)
            yield Offer(node, host, chosen, len(free) - len(chosen))


def free_parts(node: Node, now: float, *, is_slice: bool) -> list[Part]:
    """What is free of a node. A GPU that is partitioned cannot be had as a whole, and a slice only by its UUID."""
    found = []
    for gpu in node.report.gpus if node.report is not None else ():
        if is_slice:
            found += [
                Part(gpu, device, memory_free(device), None)
                for device in gpu.mig_devices or ()
                if UUID.fullmatch(device.uuid or "") and state_of_slice(device, gpu, node) == "free"
            ]
        elif not gpu.mig_enabled and state_of(gpu, node, now) == "free":
            free = memory_free(gpu)
            if not free and gpu.asleep:  # then nothing is used, whatever was last read
                free = gpu.memory_total_bytes
            found.append(Part(gpu, gpu, free, idle_since(gpu, node)))
    return found


def _all_parts(gpu: Gpu, *, is_slice: bool) -> Iterable[Part]:
    """All that could ever be free of a GPU, with the memory that it would have then."""
    devices: Iterable[Gpu | MigDevice] = (gpu.mig_devices or ()) if is_slice else () if gpu.mig_enabled else (gpu,)
    return [Part(gpu, device, device.memory_total_bytes, None) for device in devices]


def _is_wanted(part: Part, wanted: Wanted) -> bool:
    names = f"{part.gpu.name or ''}\n{part.device.name or ''}".casefold()
    return (part.memory_free_bytes or 0) >= wanted.memory_bytes and wanted.model.casefold() in names


def host_of(node: Node) -> str | None:
    """Where to log in: its host name, else its address; None where neither could be one."""
    hostname = None if node.report is None else node.report.hostname
    return next((one for one in (node.host, hostname, node.address) if one and HOST.fullmatch(one)), None)


class FreeSince:
    """Since when what is free has been, as far as we have seen it. Moments are by the hub's clock."""

    def __init__(self, *, is_slice: bool = False) -> None:
        self._is_slice = is_slice
        self._since: dict[tuple[str, str], float] | None = None

    def look(self, nodes: Iterable[Node], now: float) -> None:
        """See what is free now; what is not starts over when it comes back. At first the hub's word is taken for how
        long it has been idle; if by that it was busy in between two looks, it counts from then.
        """
        before, found = self._since, {}
        for node in nodes:
            for part in free_parts(node, now, is_slice=self._is_slice):
                told = part.idle_since
                known = (now if told is None else told) if before is None else before.get((node.name, part.name), now)
                found[node.name, part.name] = known if told is None else max(known, min(told, now))
        self._since = found

    def doubt(self) -> None:
        """What happens from now on is not seen."""
        self._since = None

    def seconds(self, node: Node, part: Part, now: float) -> float:
        """For how long a part has been seen free; negative where it has not."""
        return now - (self._since or {}).get((node.name, part.name), float("inf"))
