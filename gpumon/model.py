"""The nouns of gpumon: what an agent reports and what a hub tells. Typed, frozen, no I/O, no clock.

Names are the field's own, with their units. ``None`` (``null`` on the wire) means that the hardware or
the driver does not tell; :attr:`Gpu.unavailable` says why. The bounds are those of the wire: a decoder
refuses what lies outside, so nothing behind it need ask again.
"""

from typing import Annotated, Literal

from msgspec import Meta, Struct

SCHEMA = 1
MAX_GPUS = 128
MAX_PROCESSES = 512
"""Of one GPU."""
MAX_NODE_PROCESSES = 2000
MAX_MIG_DEVICES = 128
"""Of one node."""

Name = Annotated[str, Meta(min_length=1, max_length=256)]
NodeName = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=256,
        # No '/' and no '.' or '..', for the name stands in a URL; nothing that is not seen or turns text around.
        pattern=r"^(?!\s)(?!\.{1,2}\Z)[^/\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]+(?<!\s)\Z",
        description="text of 1 to 256 characters without '/', control characters and outer spaces",
    ),
]
Text = Annotated[str, Meta(max_length=256)]
Tag = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=40,
        # Nothing that is not seen or turns text around; who separates tags by commas is told of it.
        pattern=r"^(?!\s)[^,\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]+(?<!\s)\Z",
        description="text of 1 to 40 characters without commas, control characters and outer spaces",
    ),
]
Tags = Annotated[list[Tag], Meta(max_length=16, description="a list of at most 16 tags")]
LongText = Annotated[str, Meta(max_length=1024)]
Timestamp = Annotated[str, Meta(max_length=40, description="RFC 3339, UTC, milliseconds")]
Count = Annotated[int, Meta(ge=0, le=2**53)]
Percent = Annotated[float, Meta(ge=0, le=100)]
Quantity = Annotated[float, Meta(ge=0, le=2**53)]
Celsius = Annotated[float, Meta(ge=-100, le=1000)]

ReportStatus = Literal["ok", "degraded", "no_driver", "driver_mismatch", "no_gpus", "error"]
GpuStatus = Literal["ok", "lost", "unresponsive", "error"]
NodeStatus = Literal["online", "stale", "offline", "pending"]
Source = Literal["push", "poll"]
Platform = Literal["linux", "wsl"]
MemoryKind = Literal["dedicated", "unified"]
Gravity = Literal["info", "warning", "critical"]
ProcessType = Literal["compute", "graphics", "compute+graphics"]
Channel = Literal["push", "poll", "name", "driver", "clock", "claim"]
Reason = Literal[
    "unsupported", "denied", "no_data", "lost", "reset_required", "driver", "timeout", "error", "private", "not_told"
]
Kind = Literal["gpumon", "gpustat", "dcgm-exporter", "nvidia-gpu-exporter", "nvitop-exporter"]
"""What answers for a node that is polled: our agent (or the program that gpumon replaces), or another program."""


class Fault(Struct, frozen=True, kw_only=True, gc=False):
    """What is wrong, for a program (``code``) and for a person (``message``, and what to do: ``hint``)."""

    code: Text
    message: LongText
    hint: LongText | None = None


class Process(Struct, frozen=True, kw_only=True, gc=False):
    """A process that holds a GPU."""

    pid: Count
    name: Text | None = None
    user: Text | None = None
    command: LongText | None = None
    type: ProcessType | None = None
    memory_used_bytes: Count | None = None
    utilization_percent: Percent | None = None
    started_at: Timestamp | None = None
    container: Text | None = None
    job: Text | None = None


class MigDevice(Struct, frozen=True, kw_only=True, gc=False):
    """A slice of a GPU that is partitioned by MIG. ``profile`` is its size, such as ``1g.10gb``."""

    index: Count
    uuid: Text | None = None
    name: Text | None = None
    profile: Text | None = None
    gpu_instance_id: Count | None = None
    compute_instance_id: Count | None = None
    memory_total_bytes: Count | None = None
    memory_used_bytes: Count | None = None
    memory_free_bytes: Count | None = None
    processes: Annotated[list[Process], Meta(max_length=MAX_PROCESSES)] | None = None


class RemappedRows(Struct, frozen=True, kw_only=True, gc=False):
    """Rows of memory that the GPU has replaced by spare ones. ``failure``: there was no spare one left."""

    correctable: Count
    uncorrectable: Count
    pending: bool
    failure: bool


class MemoryLedger(Struct, frozen=True, kw_only=True, gc=False):
    """Where the used memory of a GPU goes: used = processes + unaccounted, and what is reserved beside it.

    ``cause`` says in words what most likely holds the unaccounted part, where it is more than a trifle.
    """

    processes_bytes: Count
    reserved_bytes: Count | None = None
    unaccounted_bytes: Count
    cause: LongText | None = None


class Xid(Struct, frozen=True, kw_only=True, gc=False):
    """An error that the driver has reported of a GPU, by NVIDIA's number, since the agent started."""

    code: Count
    meaning: LongText
    gravity: Gravity
    count: Count
    last_at: Timestamp


SLOWDOWNS = frozenset(("hw_slowdown", "sw_thermal_slowdown", "hw_thermal_slowdown", "hw_power_brake_slowdown"))
"""Those of :attr:`Gpu.throttle_reasons` that are worth a look: heat, the power supply, a fault. A cap on power is none
of them, for most GPUs are run by one.
"""


class Gpu(Struct, frozen=True, kw_only=True, gc=False):
    """One GPU at one moment. ``uuid`` is its identity; ``index`` is only what the driver calls it today.

    ``asleep``: the system has cut its power while nobody uses it; it is well, and not read, for that would
    wake it. ``suspect`` names fields whose value is told by the driver and yet seems to be no measurement.
    """

    index: Count
    uuid: Text | None = None
    name: Text | None = None
    pci_bus_id: Text | None = None
    status: GpuStatus = "ok"
    error: Fault | None = None
    asleep: bool = False
    utilization_percent: Percent | None = None
    memory_utilization_percent: Percent | None = None
    encoder_utilization_percent: Percent | None = None
    decoder_utilization_percent: Percent | None = None
    memory_total_bytes: Count | None = None
    memory_used_bytes: Count | None = None
    memory_free_bytes: Count | None = None
    memory_reserved_bytes: Count | None = None
    memory_kind: MemoryKind | None = None
    memory_ledger: MemoryLedger | None = None
    temperature_celsius: Celsius | None = None
    memory_temperature_celsius: Celsius | None = None
    slowdown_temperature_celsius: Celsius | None = None
    fan_speed_percent: Quantity | None = None
    power_draw_watts: Quantity | None = None
    power_draw_average_watts: Quantity | None = None
    power_draw_instant_watts: Quantity | None = None
    power_limit_watts: Quantity | None = None
    energy_joules_total: Quantity | None = None
    sm_clock_megahertz: Quantity | None = None
    sm_clock_max_megahertz: Quantity | None = None
    memory_clock_megahertz: Quantity | None = None
    memory_clock_max_megahertz: Quantity | None = None
    performance_state: Text | None = None
    throttle_reasons: Annotated[list[Text], Meta(max_length=32)] | None = None
    ecc_uncorrected_total: Count | None = None
    ecc_corrected_total: Count | None = None
    ecc_uncorrected_lifetime_total: Count | None = None
    ecc_corrected_lifetime_total: Count | None = None
    remapped_rows: RemappedRows | None = None
    recovery_action: Text | None = None
    pcie_generation: Count | None = None
    pcie_generation_max: Count | None = None
    pcie_width: Count | None = None
    pcie_width_max: Count | None = None
    nvlink_active_count: Count | None = None
    nvlink_count: Count | None = None
    persistence_mode: bool | None = None
    compute_mode: Text | None = None
    mig_enabled: bool | None = None
    mig_devices: Annotated[list[MigDevice], Meta(max_length=64)] | None = None
    sampled_at: Timestamp | None = None
    processes: Annotated[list[Process], Meta(max_length=MAX_PROCESSES)] | None = None
    processes_truncated: Count = 0
    xids: Annotated[list[Xid], Meta(max_length=64)] | None = None
    unavailable: Annotated[dict[Text, Reason], Meta(max_length=64)] = {}
    suspect: Annotated[list[Text], Meta(max_length=64)] = []

    @property
    def key(self) -> str:
        """What names it over time, as far as it tells."""
        return self.uuid or self.pci_bus_id or f"#{self.index}"

    @property
    def throttled_percent(self) -> float | None:
        """100 while it is slowed down by one of :data:`SLOWDOWNS`, else 0: over a time, the share of it."""
        reasons = self.throttle_reasons
        return None if reasons is None else 0.0 if SLOWDOWNS.isdisjoint(reasons) else 100.0


class Host(Struct, frozen=True, kw_only=True, gc=False):
    """The machine around the GPUs: what someone asks next when a GPU idles.

    ``platform`` is ``wsl`` for Linux inside Windows, whose driver it uses.
    """

    platform: Platform | None = None
    cpu_count: Count | None = None
    cpu_utilization_percent: Percent | None = None
    load_average_1m: Quantity | None = None
    load_average_5m: Quantity | None = None
    load_average_15m: Quantity | None = None
    memory_total_bytes: Count | None = None
    memory_available_bytes: Count | None = None
    swap_total_bytes: Count | None = None
    swap_used_bytes: Count | None = None
    disk_total_bytes: Count | None = None
    disk_free_bytes: Count | None = None
    uptime_seconds: Quantity | None = None


class Cost(Struct, frozen=True, kw_only=True, gc=False):
    """What the agent itself costs, reader included.

    A driver that gets slow is a sign of a GPU that gets sick: ``slowest_call_seconds`` is the longest that
    one driver call took in the newest sample, ``slowest_call`` its name.
    """

    cpu_seconds_total: Quantity | None = None
    resident_bytes: Count | None = None
    sample_seconds: Quantity | None = None
    slowest_call: Text | None = None
    slowest_call_seconds: Quantity | None = None


class Report(Struct, frozen=True, kw_only=True, gc=False):
    """What one agent says of its machine at one moment.

    Only ``node`` must be there, so that the answers of agents that nobody here has met can be read:
    whatever else is missing is null or its default. ``tags`` are what its people sort machines by, ``advice`` is what
    is no fault yet.
    """

    schema: Count = SCHEMA
    node: Name
    hostname: Text | None = None
    agent_version: Text | None = None
    boot_id: Text | None = None
    sequence: Count | None = None
    sampled_at: Timestamp | None = None
    interval_seconds: Quantity | None = None
    simulated: bool = False
    tags: Tags = []
    driver_version: Text | None = None
    cuda_version: Text | None = None
    nvml_version: Text | None = None
    status: ReportStatus = "ok"
    error: Fault | None = None
    advice: Annotated[list[Fault], Meta(max_length=16)] = []
    host: Host | None = None
    agent: Cost | None = None
    gpus: Annotated[list[Gpu], Meta(max_length=MAX_GPUS)] = []


class Evidence(Struct, frozen=True, kw_only=True, gc=False):
    """What one channel shows of a node that is not well, and since when: a verdict is drawn from these.

    ``push`` is the link of its agent, ``poll`` our asking it, ``name`` the look-up of its host, ``driver``
    what its reports say of themselves, ``clock`` the time it claims, ``claim`` others who claim its name.
    """

    channel: Channel
    code: Text
    message: LongText
    at: Timestamp


class Resolution(Struct, frozen=True, kw_only=True, gc=False):
    """How a host name became addresses: who answered (in words), when, and for how long it holds.

    ``is_kept``: nobody answers now, and these are the last good addresses.
    """

    host: Text
    addresses: list[Text]
    server: Text
    answered_at: Timestamp
    ttl_seconds: Quantity
    is_kept: bool = False


class Node(Struct, frozen=True, kw_only=True, gc=False):
    """A node as the hub tells of it: who it is, how it is, and the last report it gave.

    ``report`` is kept while the node is offline; ``last_seen_at`` dates its last sign of life. A node that is
    not well has a ``verdict``, the most likely cause in one sentence, drawn from ``evidence``.
    ``tags`` are those of the configuration, then those of its agent that are others; ``kind`` is what it is polled as.
    ``reports_late`` came after a gap in its link, ``reports_lost`` never will, both of the agent's present run.
    ``idle_since`` holds those GPUs that are idle, by UUID (PCI address or ``#`` and index, where there is none): since
    when, as far as the hub knows.
    """

    name: Name
    alias: Text
    tags: list[Tag] = []
    host: Text | None
    port: Count | None
    address: Text | None = None
    configured: bool
    kind: Kind = "gpumon"
    status: NodeStatus = "pending"
    status_since: Timestamp
    last_seen_at: Timestamp | None = None
    source: Source | None = None
    error: Fault | None = None
    clock_offset_seconds: float | None = None
    agent_id: Text | None = None
    flapping: bool = False
    verdict: Fault | None = None
    evidence: list[Evidence] = []
    resolution: Resolution | None = None
    reports_late: Count = 0
    reports_lost: Count = 0
    idle_since: dict[Text, Timestamp] = {}
    report: Report | None = None


class Problem(Struct, frozen=True, kw_only=True, gc=False):
    """An HTTP error, ``application/problem+json`` (RFC 9457)."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
