"""Which GPUs are there and which of them sleep, as the kernel tells: what to look at before the driver is asked.

A GPU of a laptop is switched off by the kernel while nobody uses it, and a question of ours would switch it
on again. So it is looked at first, and told as ``asleep`` without a call. One that is awake and idles is left
alone for a while after each reading: asked every second, it would never fall asleep. Only GPUs whose
``power/control`` is ``auto`` are looked at in every pass; on a server there are none.
"""

import math
import os
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path

from msgspec.structs import replace

from gpumon.agent.machine import is_container, platform, text
from gpumon.agent.pci import OWN_DRIVER, Board, Bus, Information, canonical, information
from gpumon.agent.pipe import Start
from gpumon.agent.words import unread
from gpumon.model import MAX_GPUS, Fault, Gpu
from gpumon.timestamp import rfc3339

UNKNOWN = Information(None, None, None, excluded=False)
MAX_NAMED = 16  # addresses in a sentence


class Presence:
    """The kernel's view of this machine's GPUs, renewed at the beginning of a pass."""

    def __init__(self, start: Start) -> None:
        self._root = Path(start.root)
        self.platform = platform(self._root)
        self._wakes = start.wake_sleeping_gpus
        self._rest_seconds = start.rest_seconds
        self._bus = Bus(self._root)
        self._boards: list[Board] = []
        self._own: list[str] = []  # addresses of those that NVIDIA's driver has
        self._may_sleep: frozenset[str] = frozenset()
        self._asleep: frozenset[str] = frozenset()
        self._resting: dict[str, tuple[float, Gpu]] = {}  # until when, and what was read
        self._looked_at = -math.inf
        self._judged: tuple[int, float] | None = None  # how many the driver listed, and which look it was held against
        self._missing: Fault | None = None

    def look(self, seconds: float) -> None:
        """Which of them sleep now; once in so many ``seconds`` also which there are."""
        now = time.monotonic()
        if now >= self._looked_at + seconds:
            self._looked_at = now
            self._boards = self._bus.boards()[:MAX_GPUS]
            self._own = [board.address for board in self._boards if board.driver == OWN_DRIVER]
            if not self._wakes:
                self._may_sleep = frozenset(board.address for board in self._boards if board.may_sleep)
        if self._may_sleep:
            self._asleep = frozenset(address for address in self._may_sleep if self._bus.is_suspended(address))
            self._resting = {one: rest for one, rest in self._resting.items() if self._rests(one, rest[0], now)}
        else:
            self._asleep = frozenset()

    def _rests(self, address: str, until: float, now: float) -> bool:
        return now < until and address in self._may_sleep and address not in self._asleep

    # ---- sleep ----

    @property
    def all_asleep(self) -> bool:
        return bool(self._asleep) and self._asleep.issuperset(self._own)

    @property
    def all_quiet(self) -> bool:
        """Whether none of them is to be asked anything now."""
        return bool(self._may_sleep) and (self._asleep | self._resting.keys()).issuperset(self._own)

    def was_read(self, gpu: Gpu) -> None:
        """It is left alone for a while, if it idles and may sleep."""
        if self._may_sleep and gpu.pci_bus_id is not None and gpu.status == "ok" and idles(gpu):
            address = canonical(gpu.pci_bus_id)
            if address in self._may_sleep:
                self._resting[address] = time.monotonic() + self._rest_seconds, gpu

    def sleeper(self, index: int, count: int, addresses: Callable[[], Mapping[int, str]]) -> Gpu | None:
        """GPU ``index`` of ``count`` if it is to be left alone, else None; of one that rests, what was read last.

        ``addresses`` are those that the driver has told.

        The driver counts by address. So it is known which GPU an index is before it has told, as long as it
        counts as many as the kernel and has told nothing else of any of them.
        """
        if not self._asleep and not self._resting:
            return None
        own = dict(enumerate(self._own))
        told = {place: canonical(address) for place, address in addresses().items()}
        agreed = count == len(own) and all(own.get(place) == address for place, address in told.items())
        address = told.get(index) or (own.get(index) if agreed else None)
        if address in self._resting:
            return replace(self._resting[address][1], index=index)
        return self._sleeping(index, address) if address in self._asleep else None

    def sleepers(self) -> Iterator[Gpu]:
        """All of them, where :attr:`all_asleep`."""
        for index, address in enumerate(self._own):
            yield self._sleeping(index, address)

    def _sleeping(self, index: int, address: str | None) -> Gpu:
        known = information(self._root, address or "") or UNKNOWN
        domain, _, rest = (address or "").partition(":")
        gpu = Gpu(
            index=index,
            uuid=known.uuid,
            name=known.name,
            pci_bus_id=f"{domain.rjust(8, '0')}:{rest}".upper(),  # as the driver's library writes it
            sampled_at=rfc3339(time.time()),
        )
        return asleep(gpu)

    # ---- presence ----

    def kernel_module(self) -> str:
        """How the driver's part in the kernel describes itself; nothing where there is none."""
        return text(self._root / "proc/driver/nvidia/version")

    def missing(self, count: int, addresses: Callable[[], Mapping[int, str]]) -> Fault | None:
        """Which GPUs the driver should list and does not: it lists ``count``, these ``addresses`` among them.

        Not those that were given to another driver, to another container or, by the driver's own settings,
        to nobody.
        """
        if self._judged != (count, self._looked_at):
            self._judged = count, self._looked_at
            self._missing = self._compare(count, {canonical(address) for address in addresses().values()})
        return self._missing

    def _compare(self, count: int, listed: Collection[str]) -> Fault | None:
        kept = [board.address for board in self._boards if not board.given_away]
        if len(kept) <= count or self.platform == "wsl":
            return None
        if not (self._root / "proc/driver/nvidia/gpus").is_dir():
            return None  # hidden, so that nothing can be told
        contained = is_container(self._root)
        expected = [address for address in kept if self._is_ours(address, contained=contained)]
        absent = [address for address in expected if address not in listed]
        if len(expected) <= count or not absent:
            return None
        return missing_fault(absent, len(expected), count)

    def _is_ours(self, address: str, *, contained: bool) -> bool:
        """Whether we are meant to have this GPU. In a container the bus shows those of everybody."""
        known = information(self._root, address)
        if known is None:  # hidden, or, on the machine itself, refused by the driver
            return not contained
        if known.excluded:
            return False
        # Not opened, which would start the GPU; that a container was not given it, is seen without.
        return known.minor is None or os.access(self._root / f"dev/nvidia{known.minor}", os.R_OK | os.W_OK)


def idles(gpu: Gpu) -> bool:
    """Whether nobody computes on it. A display that holds it does not keep it awake."""
    return not gpu.utilization_percent and all(process.type == "graphics" for process in gpu.processes or ())


def asleep(gpu: Gpu) -> Gpu:
    """Who ``gpu`` is, without any value: it is well, and left alone."""
    sleeping = unread(gpu, "ok", None, "no_data")
    unknown = [name for name in ("uuid", "name", "pci_bus_id") if getattr(gpu, name) is None]
    reasons = {**sleeping.unavailable, **dict.fromkeys(unknown, "no_data")}
    return replace(sleeping, asleep=True, unavailable=reasons)


def missing_fault(absent: list[str], expected: int, count: int) -> Fault:
    shown = ", ".join(absent[:MAX_NAMED]) + (", …" if len(absent) > MAX_NAMED else "")
    return Fault(
        code="gpus_missing",
        message=f"The PCI bus has {expected} NVIDIA GPUs for the driver, which lists {count}. Not listed: {shown}.",
        hint=(
            "See what 'dmesg | grep -i nvrm' says of these addresses. One that is left out on purpose is no longer "
            "missed once its driver_override in /sys/bus/pci/devices names another driver, or 'none'."
        ),
    )
