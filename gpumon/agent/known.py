"""The GPUs that were ever seen here: one that is lost, or cannot be asked, is still this machine's GPU."""

import logging
from collections.abc import ItemsView
from dataclasses import dataclass

from msgspec.structs import replace

from gpumon.agent.words import VANISHED, unread
from gpumon.agent.zeros import SUSPECT_SECONDS, Zeros
from gpumon.model import Fault, Gpu

log = logging.getLogger(__name__)


@dataclass
class Seen:
    """A GPU as it was last read, when by the reader's clock, and how its zeros are to be taken."""

    gpu: Gpu
    at: float
    zeros: Zeros


class KnownGpus:
    """GPUs by key: the UUID, or ``#2`` while that of GPU 2 has never been told. An index is only today's."""

    def __init__(self, doubt: float = SUSPECT_SECONDS) -> None:
        self._seen: dict[str, Seen] = {}
        self._doubt = doubt  # of a utilisation that is 0 for so many seconds

    def __contains__(self, key: str) -> bool:
        return key in self._seen

    def items(self) -> ItemsView[str, Seen]:
        return self._seen.items()

    def index(self, key: str) -> int:
        return self._seen[key].gpu.index

    def key(self, index: int) -> str:
        """Who has this index, or had it last."""
        holders = [key for key, seen in self._seen.items() if seen.gpu.index == index]
        holders.sort(key=lambda key: self._seen[key].gpu.error == VANISHED)  # whose index may be another's by now
        return holders[0] if holders else f"#{index}"

    def uuid(self, index: int) -> str | None:
        seen = self._seen.get(self.key(index))
        return seen.gpu.uuid if seen else None

    def take(self, gpu: Gpu, now: float) -> str:
        """A GPU as it was read; its key. One that cannot tell who it is, is who it was."""
        if gpu.uuid is not None:
            self._seen.pop(f"#{gpu.index}", None)
        key = gpu.uuid or self.key(gpu.index)
        seen = self._seen.get(key)
        if seen is None:
            seen = self._seen[key] = Seen(gpu, now, Zeros(self._doubt))
        identity = {name: getattr(gpu, name) or getattr(seen.gpu, name) for name in ("uuid", "name", "pci_bus_id")}
        reasons = {field: reason for field, reason in gpu.unavailable.items() if not identity.get(field)}
        seen.gpu = seen.zeros.judged(replace(gpu, **identity, unavailable=reasons), now)
        seen.at = now
        return key

    def expect(self, key: str, gpu: Gpu, fault: Fault) -> None:
        """There is a GPU that could not be read even once."""
        if key not in self._seen:
            self._seen[key] = Seen(unread(gpu, "unresponsive", fault, "timeout"), 0.0, Zeros(self._doubt))

    def renumber(self, key: str, index: int) -> None:
        """The driver counts differently today."""
        seen = self._seen.get(key)
        if seen is not None:
            seen.gpu = replace(seen.gpu, index=index)

    def settle(self, present: set[str]) -> None:
        """After a whole pass: a GPU that was not in it is lost, unless another board is in its place."""
        places = {self._seen[key].gpu.pci_bus_id for key in present if key in self._seen} - {None}
        for key in self._seen.keys() - present:
            gpu = self._seen[key].gpu
            if gpu.uuid is None or gpu.pci_bus_id in places:
                del self._seen[key]
            elif gpu.error != VANISHED:
                log.warning("GPU %d (%s) is no longer listed by the driver", gpu.index, gpu.uuid)
                self._seen[key].gpu = unread(gpu, "lost", VANISHED, "lost")
