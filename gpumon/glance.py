"""A node at a glance, as the hub tells it to who looks at the whole fleet: a card and a row of numbers.

The card holds what rarely changes and travels only when it has; the numbers travel as columns over the nodes. Absent
fields of a card are null.
"""

from typing import Final

from msgspec import Struct

from gpumon.model import (
    Evidence,
    Fault,
    GpuStatus,
    Kind,
    MemoryKind,
    Name,
    NodeStatus,
    ProcessType,
    Reason,
    ReportStatus,
    Source,
    Tag,
    Text,
    Timestamp,
)

MIB: Final = 2**20


class Holder(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The processes of one user and job on a GPU: ``pid``, ``command`` and the rest are the largest one's.

    ``memory_used_mebibytes`` is that of all, to about 1 %, or of those that tell it where ``memory_partial``;
    ``processes`` their number.
    """

    pid: int
    user: Text | None = None
    command: str | None = None
    type: ProcessType | None = None
    started_at: Timestamp | None = None
    container: Text | None = None
    job: Text | None = None
    memory_used_mebibytes: int | None = None
    memory_partial: bool = False
    processes: int = 1


class GpuCard(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Of a GPU what rarely changes. ``throttle_reasons`` are those worth a look, ``xids`` codes of all but trifles,
    ``holders`` the largest ones; ``idle_since`` is told of a GPU that has been idle for a minute.
    """

    index: int
    uuid: Text | None = None
    name: Text | None = None
    pci_bus_id: Text | None = None
    status: GpuStatus = "ok"
    error: Fault | None = None
    asleep: bool = False
    memory_total_bytes: int | None = None
    memory_kind: MemoryKind | None = None
    slowdown_temperature_celsius: float | None = None
    power_limit_watts: int | None = None
    throttle_reasons: list[Text] | None = None
    ecc_uncorrected_total: int | None = None
    recovery_action: Text | None = None
    xids: list[int] = []
    mig_enabled: bool | None = None
    mig_profiles: list[str] | None = None
    idle_since: Timestamp | None = None
    process_count: int = 0
    holders: list[Holder] | None = None
    unavailable: dict[Text, Reason] = {}
    suspect: list[Text] = []


class HostCard(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Of the machine around the GPUs what rarely changes."""

    platform: str | None = None
    cpu_count: int | None = None
    memory_total_bytes: int | None = None


class ReportCard(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Of a report what rarely changes; ``sampled_at`` is told of the last one of a node that is not online."""

    hostname: Text | None = None
    agent_version: Text | None = None
    sampled_at: Timestamp | None = None
    interval_seconds: float | None = None
    simulated: bool = False
    driver_version: Text | None = None
    cuda_version: Text | None = None
    status: ReportStatus = "ok"
    error: Fault | None = None
    host: HostCard | None = None
    gpus: list[GpuCard] = []


class NodeCard(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Of a node what rarely changes. ``clock_offset_seconds`` is rounded to 5 s while the node is online."""

    name: Name
    alias: Text
    tags: list[Tag] = []
    host: Text | None = None
    port: int | None = None
    address: Text | None = None
    configured: bool = False
    kind: Kind = "gpumon"
    status: NodeStatus = "pending"
    status_since: Timestamp
    source: Source | None = None
    error: Fault | None = None
    clock_offset_seconds: float | None = None
    flapping: bool = False
    verdict: Fault | None = None
    evidence: list[Evidence] = []
    report: ReportCard | None = None


Values = list[int | None]
"""A whole number for each GPU, in the order of the card; null where it is not known."""


class Numbers(Struct, frozen=True, kw_only=True):
    """What changes all the time, in columns over ``names``: ages count back from the message's ``sent_at``."""

    names: list[Name]
    seen_seconds_ago: list[int | None]
    host_cpu_utilization_percent: list[int | None]
    host_memory_used_percent: list[int | None]
    utilization_percent: list[Values]
    memory_used_mebibytes: list[Values]
    temperature_celsius: list[Values]
    power_draw_watts: list[Values]
    fan_speed_percent: list[Values]
