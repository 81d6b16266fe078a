// Nodes told at a glance, put together again: a card and a row of numbers make a node whose details nobody told.

import type { Gpu, GpuCard, Holder, Host, Node, NodeCard, OverviewMessage, Process, Report } from "./types";

const MIB = 2 ** 20;

/** What a message says of one node; the card only where it is news. */
export interface Glimpse {
  readonly name: string;
  readonly card: NodeCard | null;
  readonly row: Row;
}

/** The numbers of one node. `seenAt` is in milliseconds of the hub's time. */
export interface Row {
  readonly seenAt: number | null;
  readonly hostCpuPercent: number | null;
  readonly hostMemoryPercent: number | null;
  readonly gpus: readonly GpuNumbers[];
}

type GpuNumbers = Pick<
  Gpu,
  "utilization_percent" | "memory_used_bytes" | "temperature_celsius" | "power_draw_watts" | "fan_speed_percent"
>;

export function glimpsesOf({ cards, numbers, sent_at }: OverviewMessage): Map<string, Glimpse> {
  const byName = new Map(cards.map((card) => [card.name, card]));
  const sentAt = Date.parse(sent_at);
  return new Map(
    numbers.names.map((name, at) => {
      const age = numbers.seen_seconds_ago[at] ?? null;
      const row: Row = {
        seenAt: age === null ? null : sentAt - age * 1_000,
        hostCpuPercent: numbers.host_cpu_utilization_percent?.[at] ?? null,
        hostMemoryPercent: numbers.host_memory_used_percent?.[at] ?? null,
        gpus: rowOf(numbers, at),
      };
      return [name, { name, card: byName.get(name) ?? null, row }];
    }),
  );
}

function rowOf(numbers: OverviewMessage["numbers"], at: number): readonly GpuNumbers[] {
  const memory = numbers.memory_used_mebibytes[at];
  return (numbers.utilization_percent[at] ?? []).map((utilization, gpu) => {
    const used = memory?.[gpu] ?? null;
    return {
      utilization_percent: utilization,
      memory_used_bytes: used === null ? null : used * MIB,
      temperature_celsius: numbers.temperature_celsius[at]?.[gpu] ?? null,
      power_draw_watts: numbers.power_draw_watts[at]?.[gpu] ?? null,
      fan_speed_percent: numbers.fan_speed_percent[at]?.[gpu] ?? null,
    };
  });
}

/** Of two glimpses of a node the later one, with the newest card that was told. */
export function laterOf(before: Glimpse, later: Glimpse): Glimpse {
  return later.card === null ? { ...later, card: before.card } : later;
}

/** A card is unfolded once, and then only filled with numbers. */
export class Sketch {
  readonly #node: Node;
  readonly #report: Report | null;

  constructor(card: NodeCard) {
    const { report, ...known } = card;
    this.#report = report === undefined ? null : reportOf(report, card.name);
    this.#node = { ...NODE, ...known, idle_since: idleSinceOf(report?.gpus ?? []), report: this.#report };
  }

  filled(row: Row): Node {
    const { seenAt, gpus } = row;
    const report = this.#report;
    const last_seen_at = seenAt === null ? null : new Date(seenAt).toISOString();
    if (report === null) return { ...this.#node, last_seen_at };
    return {
      ...this.#node,
      last_seen_at,
      report: {
        ...report,
        ...(report.host && { host: hostOf(report.host, row) }),
        gpus: report.gpus.map((gpu, at) => ({ ...gpu, ...gpus[at] })),
      },
    };
  }
}

function hostOf(host: Host, { hostCpuPercent, hostMemoryPercent: used }: Row): Host {
  const total = host.memory_total_bytes;
  return {
    ...host,
    cpu_utilization_percent: hostCpuPercent,
    memory_available_bytes: total === null || used === null ? null : total * (1 - used / 100),
  };
}

function idleSinceOf(gpus: readonly GpuCard[]): Readonly<Record<string, string>> {
  const told = gpus.filter(({ idle_since }) => idle_since !== undefined);
  return Object.fromEntries(told.map((gpu) => [gpu.uuid ?? gpu.pci_bus_id ?? `#${gpu.index}`, gpu.idle_since ?? ""]));
}

function reportOf({ gpus, host, ...known }: NonNullable<NodeCard["report"]>, node: string): Report {
  return { ...REPORT, ...known, node, host: host === undefined ? null : { ...HOST, ...host }, gpus: (gpus ?? []).map(gpuOf) };
}

function gpuOf({ holders, mig_profiles, xids, idle_since: _, process_count: count, ...known }: GpuCard): Gpu {
  const told = (holders ?? []).reduce((sum, { processes }) => sum + (processes ?? 1), 0);
  const slices = mig_profiles?.map((profile, index) => ({ ...SLICE, index, profile: profile || null })) ?? null;
  return {
    ...GPU,
    ...known,
    mig_devices: slices,
    processes: holders?.map(processOf) ?? null,
    processes_truncated: Math.max(0, (count ?? 0) - told),
    xids: xids?.map((code) => ({ code })) ?? [],
  };
}

function processOf({ memory_used_mebibytes: memory, memory_partial: partial, processes, ...known }: Holder): Process {
  const together = processes === undefined ? {} : { together: processes };
  const marked = partial === true ? { ...together, partial } : together;
  return { ...PROCESS, ...known, ...marked, memory_used_bytes: memory === undefined ? null : memory * MIB };
}

const PROCESS: Omit<Process, "pid"> = {
  name: null,
  user: null,
  command: null,
  type: null,
  memory_used_bytes: null,
  utilization_percent: null,
  started_at: null,
  container: null,
  job: null,
};

const SLICE = { uuid: null, name: null, memory_total_bytes: null, memory_used_bytes: null, memory_free_bytes: null };

const GPU: Omit<Gpu, "index"> = {
  uuid: null,
  name: null,
  pci_bus_id: null,
  status: "ok",
  error: null,
  utilization_percent: null,
  memory_utilization_percent: null,
  encoder_utilization_percent: null,
  decoder_utilization_percent: null,
  memory_total_bytes: null,
  memory_used_bytes: null,
  memory_free_bytes: null,
  memory_reserved_bytes: null,
  temperature_celsius: null,
  memory_temperature_celsius: null,
  fan_speed_percent: null,
  power_draw_watts: null,
  power_limit_watts: null,
  energy_joules_total: null,
  sm_clock_megahertz: null,
  memory_clock_megahertz: null,
  performance_state: null,
  throttle_reasons: null,
  ecc_uncorrected_total: null,
  pcie_generation: null,
  pcie_width: null,
  persistence_mode: null,
  compute_mode: null,
  mig_enabled: null,
  mig_devices: null,
  sampled_at: null,
  processes: null,
  unavailable: {},
};

const REPORT: Omit<Report, "node"> = {
  schema: 1,
  hostname: null,
  agent_version: null,
  boot_id: null,
  sequence: null,
  sampled_at: null,
  interval_seconds: null,
  simulated: false,
  driver_version: null,
  cuda_version: null,
  nvml_version: null,
  status: "ok",
  error: null,
  gpus: [],
};

const HOST: Host = {
  cpu_count: null,
  cpu_utilization_percent: null,
  load_average_1m: null,
  memory_total_bytes: null,
  memory_available_bytes: null,
  swap_total_bytes: null,
  swap_used_bytes: null,
  disk_total_bytes: null,
  disk_free_bytes: null,
  uptime_seconds: null,
};

const NODE = {
  host: null,
  port: null,
  address: null,
  configured: false,
  status: "pending",
  last_seen_at: null,
  source: null,
  error: null,
  clock_offset_seconds: null,
} as const;
