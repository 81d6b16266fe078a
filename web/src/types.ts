// The hub's words, field by field: gpumon/model.py and the messages of api/events.

export type ReportStatus = "ok" | "degraded" | "no_driver" | "driver_mismatch" | "no_gpus" | "error";
export type GpuStatus = "ok" | "lost" | "unresponsive" | "error";
export type NodeStatus = "online" | "stale" | "offline" | "pending";
export type Source = "push" | "poll";
export type ProcessType = "compute" | "graphics" | "compute+graphics";
/** What the hub lets this page do; `isKnown`: it has said so. */
export interface Access {
  readonly mayLook: boolean;
  readonly isLoggedIn: boolean;
  readonly isKnown: boolean;
}

/** An agent that has joined; `code` is what it shows by itself as well. */
export interface JoinedAgent {
  readonly id: string;
  readonly node: string;
  readonly code: string;
  readonly state: "joined" | "expected" | "revoked";
  readonly admitted_at: string;
  readonly revoked_at: string | null;
  readonly address: string | null;
}

/** An agent that would join; `replaces` is the id of the one that its name belongs to. */
export interface WaitingAgent {
  readonly id: string;
  readonly node: string;
  readonly code: string;
  readonly address: string | null;
  readonly first_seen_at: string;
  readonly replaces: string | null;
}

/** What the hub tells of its agents to who is logged in. */
export interface Agents {
  readonly joined: readonly JoinedAgent[];
  readonly waiting: readonly WaitingAgent[];
}

export type Reason =
  | "unsupported"
  | "denied"
  | "no_data"
  | "lost"
  | "reset_required"
  | "driver"
  | "timeout"
  | "error"
  | "private"
  | "not_told";

export interface Fault {
  readonly code: string;
  readonly message: string;
  readonly hint: string | null;
}

export type Channel = "push" | "poll" | "name" | "driver" | "clock" | "claim";

/** What one channel shows of a node that is not well, and since when. */
export interface Evidence {
  readonly channel: Channel;
  readonly code: string;
  readonly message: string;
  readonly at: string;
}

/** How a host name became addresses. `is_kept`: nobody answers now, these are the last good ones. */
export interface Resolution {
  readonly host: string;
  readonly addresses: readonly string[];
  readonly server: string;
  readonly answered_at: string;
  readonly ttl_seconds: number;
  readonly is_kept: boolean;
}

export interface Process {
  readonly pid: number;
  readonly name: string | null;
  readonly user: string | null;
  readonly command: string | null;
  readonly type: ProcessType | null;
  readonly memory_used_bytes: number | null;
  readonly utilization_percent: number | null;
  readonly started_at: string | null;
  readonly container: string | null;
  readonly job: string | null;
  /** How many processes of one user and job this line stands for, where it is more than one. */
  readonly together?: number;
  /** Some of these do not tell their memory: it is at least what is told. */
  readonly partial?: boolean;
}

export interface MigDevice {
  readonly index: number;
  readonly uuid: string | null;
  readonly name: string | null;
  readonly profile?: string | null;
  readonly memory_total_bytes: number | null;
  readonly memory_used_bytes: number | null;
  readonly memory_free_bytes: number | null;
  readonly processes?: readonly Process[] | null;
}

/** Where used memory goes; `cause` says what most likely holds what no process accounts for, if that is no trifle. */
export interface MemoryLedger {
  readonly processes_bytes: number;
  readonly reserved_bytes: number | null;
  readonly unaccounted_bytes: number;
  readonly cause: string | null;
}

/** An error that the driver reported of a GPU since its agent started; at a glance nothing but its code is told. */
export interface Xid {
  readonly code: number;
  readonly meaning?: string;
  readonly gravity?: "info" | "warning" | "critical";
  readonly count?: number;
  readonly last_at?: string;
}

export interface Gpu {
  readonly index: number;
  readonly uuid: string | null;
  readonly name: string | null;
  readonly pci_bus_id: string | null;
  readonly status: GpuStatus;
  readonly error: Fault | null;
  /** Switched off while nobody uses it; it is well, and not read, for that would wake it. */
  readonly asleep?: boolean;
  readonly utilization_percent: number | null;
  readonly memory_utilization_percent: number | null;
  readonly encoder_utilization_percent: number | null;
  readonly decoder_utilization_percent: number | null;
  readonly memory_total_bytes: number | null;
  readonly memory_used_bytes: number | null;
  readonly memory_free_bytes: number | null;
  readonly memory_reserved_bytes: number | null;
  readonly memory_kind?: "dedicated" | "unified" | null;
  readonly memory_ledger?: MemoryLedger | null;
  readonly temperature_celsius: number | null;
  readonly memory_temperature_celsius: number | null;
  readonly slowdown_temperature_celsius?: number | null;
  readonly fan_speed_percent: number | null;
  readonly power_draw_watts: number | null;
  readonly power_limit_watts: number | null;
  readonly energy_joules_total: number | null;
  readonly sm_clock_megahertz: number | null;
  readonly sm_clock_max_megahertz?: number | null;
  readonly memory_clock_megahertz: number | null;
  readonly performance_state: string | null;
  readonly throttle_reasons: readonly string[] | null;
  readonly ecc_uncorrected_total: number | null;
  readonly ecc_corrected_total?: number | null;
  /** What it takes to make it work again; null or "none": nothing. */
  readonly recovery_action?: string | null;
  readonly pcie_generation: number | null;
  readonly pcie_width: number | null;
  readonly persistence_mode: boolean | null;
  readonly compute_mode: string | null;
  readonly mig_enabled: boolean | null;
  readonly mig_devices: readonly MigDevice[] | null;
  readonly sampled_at: string | null;
  readonly processes: readonly Process[] | null;
  /** How many more there are, for which there was no room. */
  readonly processes_truncated?: number;
  readonly xids?: readonly Xid[] | null;
  readonly unavailable: Readonly<Record<string, Reason>>;
  /** Fields whose value seems to be no measurement. */
  readonly suspect?: readonly string[];
}

/** The machine around the GPUs. */
export interface Host {
  readonly cpu_count: number | null;
  readonly cpu_utilization_percent: number | null;
  readonly load_average_1m: number | null;
  readonly memory_total_bytes: number | null;
  readonly memory_available_bytes: number | null;
  readonly swap_total_bytes: number | null;
  readonly swap_used_bytes: number | null;
  readonly disk_total_bytes: number | null;
  readonly disk_free_bytes: number | null;
  readonly uptime_seconds: number | null;
}

export interface Report {
  readonly schema: number;
  readonly node: string;
  readonly hostname: string | null;
  readonly agent_version: string | null;
  readonly boot_id: string | null;
  readonly sequence: number | null;
  readonly sampled_at: string | null;
  readonly interval_seconds: number | null;
  readonly simulated: boolean;
  readonly driver_version: string | null;
  readonly cuda_version: string | null;
  readonly nvml_version: string | null;
  readonly status: ReportStatus;
  readonly error: Fault | null;
  readonly advice?: readonly Fault[];
  readonly host?: Host | null;
  readonly gpus: readonly Gpu[];
}

/** What may be absent is so from an older hub, as after one was put back under an open page. */
export interface Node {
  readonly name: string;
  readonly alias: string;
  readonly tags?: readonly string[];
  readonly host: string | null;
  readonly port: number | null;
  readonly address: string | null;
  readonly configured: boolean;
  /** What it is polled as; left out at a glance where that is usual. */
  readonly kind?: string;
  readonly status: NodeStatus;
  readonly status_since: string;
  readonly last_seen_at: string | null;
  readonly source: Source | null;
  readonly error: Fault | null;
  readonly clock_offset_seconds: number | null;
  readonly agent_id?: string | null;
  readonly flapping?: boolean;
  readonly verdict?: Fault | null;
  readonly evidence?: readonly Evidence[];
  readonly resolution?: Resolution | null;
  readonly reports_late?: number;
  readonly reports_lost?: number;
  /** Of the GPUs that are idle: since when, as far as the hub knows. */
  readonly idle_since?: Readonly<Record<string, string>>;
  readonly report: Report | null;
}

/** What every message may carry: what the hub has to say of itself and of the fleet as a whole. */
interface Noticing {
  readonly notices?: readonly Fault[];
}

export interface SnapshotMessage extends Noticing {
  readonly type: "snapshot";
  readonly view?: never;
  readonly sent_at: string;
  readonly hub_version: string;
  readonly nodes: readonly Node[];
}

export interface NodesMessage extends Noticing {
  readonly type: "nodes";
  readonly view?: never;
  readonly sent_at: string;
  readonly nodes: readonly Node[];
}

export interface RemovedMessage extends Noticing {
  readonly type: "removed";
  readonly sent_at?: string;
  readonly names: readonly string[];
}

/** The processes of one user and job on a GPU; `pid` and `command` are those of the largest. */
export interface Holder extends Partial<Pick<Process, "user" | "command" | "type" | "started_at" | "container" | "job">> {
  readonly pid: number;
  readonly memory_used_mebibytes?: number;
  readonly memory_partial?: boolean;
  readonly processes?: number;
}

/** Of a GPU what rarely changes; what is left out is null, empty or as usual. */
export interface GpuCard extends Partial<Omit<Gpu, "index" | "processes" | "mig_devices" | "xids">> {
  readonly index: number;
  readonly xids?: readonly number[];
  readonly mig_profiles?: readonly string[];
  readonly idle_since?: string;
  readonly process_count?: number;
  readonly holders?: readonly Holder[];
}

/** Of a node what rarely changes, likewise. */
export interface NodeCard extends Partial<Omit<Node, "name" | "alias" | "status_since" | "report" | "idle_since">> {
  readonly name: string;
  readonly alias: string;
  readonly status_since: string;
  readonly report?: Partial<Omit<Report, "gpus" | "host">> & {
    readonly gpus?: readonly GpuCard[];
    readonly host?: Partial<Host>;
  };
}

type Values = readonly (number | null)[];

/** What changes all the time, in columns over `names`; of each GPU a whole number, in the order of the card. */
export interface Numbers {
  readonly names: readonly string[];
  readonly seen_seconds_ago: Values;
  readonly host_cpu_utilization_percent?: Values;
  readonly host_memory_used_percent?: Values;
  readonly utilization_percent: readonly Values[];
  readonly memory_used_mebibytes: readonly Values[];
  readonly temperature_celsius: readonly Values[];
  readonly power_draw_watts: readonly Values[];
  readonly fan_speed_percent: readonly Values[];
}

/** All nodes at a glance: numbers of those that changed, cards where these did. */
export interface OverviewMessage extends Noticing {
  readonly type: "snapshot" | "nodes";
  readonly view: "overview";
  readonly sent_at: string;
  readonly hub_version: string;
  readonly cards: readonly NodeCard[];
  readonly numbers: Numbers;
}

export type Message = SnapshotMessage | NodesMessage | RemovedMessage | OverviewMessage;

/** How this page gets its numbers: pushed, asked for, not at all, or not yet known. */
export type LinkState = "connecting" | "live" | "polling" | "lost";
