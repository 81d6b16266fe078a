// What the numbers mean: pure functions of what the hub tells.

import type { Gpu, Node, NodeStatus, Process, Xid } from "./types";

export type GpuState = "free" | "busy" | "held" | "fault" | "unknown";
/** What is worth a look on a GPU, whatever its state. */
export type Mark = "repair" | "throttled" | "hot";

const MIB = 2 ** 20;
/** What a driver may hold on a GPU that nobody uses. */
export const FREE_BELOW_BYTES = 500 * MIB;
export const FREE_BELOW_FRACTION = 0.02;

/** A sum of what is known, null where nothing is, and how many it lacks: the whole is at least that much. */
export interface Sum {
  readonly known: number | null;
  readonly missing: number;
}

export interface Tally {
  readonly nodes: Readonly<Record<NodeStatus, number>>;
  readonly gpus: Readonly<Record<GpuState, number>>;
  readonly powerWatts: Sum;
  readonly simulatedNodes: number;
}

/** So near to the temperature at which it slows itself down, by its own telling, a GPU is hot. */
const HOT_WITHIN_CELSIUS = 5;
/** Why a GPU slows itself down, of what is worth a look: a cap on power is how most of them are run. */
export type Brake = "heat" | "power" | "hardware";
const BRAKES: Readonly<Record<string, Brake>> = {
  sw_thermal_slowdown: "heat",
  hw_thermal_slowdown: "heat",
  hw_power_brake_slowdown: "power",
  hw_slowdown: "hardware",
};

export function gpuKey(gpu: Gpu): string {
  return gpu.uuid ?? String(gpu.index);
}

/**
 * How a GPU is. What is not known is never called free.
 *
 * @param isHeld Whether it has long been idle with memory in use, which one report cannot tell.
 */
export function gpuState(gpu: Gpu, status: NodeStatus, isHeld = false): GpuState {
  const state = stateOfReport(gpu, status);
  return state === "busy" && isHeld ? "held" : state;
}

export function marksOf(gpu: Gpu, status: NodeStatus): readonly Mark[] {
  if (status !== "online") return [];
  const isBroken = gpu.recovery_action != null && gpu.recovery_action !== "none";
  const { temperature_celsius: temperature, slowdown_temperature_celsius: slowdown } = gpu;
  const isHot = temperature !== null && slowdown != null && temperature >= slowdown - HOT_WITHIN_CELSIUS;
  const isThrottled = brakesOf(gpu).length > 0;
  return [...(isBroken ? (["repair"] as const) : []), ...(isHot ? (["hot"] as const) : []), ...(isThrottled ? (["throttled"] as const) : [])];
}

const NO_BRAKES: readonly Brake[] = [];

/** Each once; "hardware" only where nothing more precise is told. */
export function brakesOf({ throttle_reasons: reasons }: Gpu): readonly Brake[] {
  if (!reasons || reasons.length === 0) return NO_BRAKES; // as of most GPUs, in each of their reports
  const found = new Set(reasons.flatMap((reason) => (Object.hasOwn(BRAKES, reason) ? [BRAKES[reason]] : [])));
  if (found.size > 1) found.delete("hardware");
  return [...found].filter((brake) => brake !== undefined);
}

/** Those of its Xids that are more than a trifle. */
export function gravesOf({ xids }: Gpu): readonly Xid[] {
  return (xids ?? []).filter(({ gravity }) => gravity !== "info");
}

function stateOfReport(gpu: Gpu, status: NodeStatus): GpuState {
  if (status !== "online") return "unknown";
  if (gpu.status !== "ok" || gpu.error !== null) return "fault";
  if (gpu.asleep) return "free"; // nobody uses it, or it would be awake
  // A display holds a little of its GPU for ever, and leaves the rest to whoever computes.
  if (gpu.processes?.some((process) => process.type !== "graphics") || gpu.processes_truncated) return "busy";
  if (gpu.memory_used_bytes === null) return "unknown";
  const allowance = Math.max(FREE_BELOW_BYTES, FREE_BELOW_FRACTION * (gpu.memory_total_bytes ?? 0));
  if (gpu.memory_used_bytes >= allowance) return "busy";
  return gpu.processes === null ? "unknown" : "free";
}

/** The program that the hub asks in place of an agent, where it does. */
export function foreignProgram({ kind, source }: Node): string | null {
  return source === "poll" && kind !== undefined && kind !== "gpumon" ? kind : null;
}

/** Whether the hub keeps this field of its processes from who is not logged in. */
export function isPrivate({ unavailable }: Gpu, field: "user" | "command" | "container" | "job"): boolean {
  return unavailable["processes"] === "private" || unavailable[`processes.${field}`] === "private";
}

/** The board, without the name of the only maker. */
export function modelOf(gpu: Gpu): string | null {
  return gpu.name?.replace(/^NVIDIA /, "") ?? null;
}

const NONE: Readonly<Record<GpuState, number>> = { free: 0, busy: 0, held: 0, fault: 0, unknown: 0 };

export function tally(node: Node, held: ReadonlySet<string> = new Set()): Tally {
  const gpus: Record<GpuState, number> = { ...NONE };
  const all = node.report?.gpus ?? [];
  for (const gpu of all) gpus[gpuState(gpu, node.status, held.has(gpuKey(gpu)))] += 1;
  const powerWatts = sumOf(node.status === "online" ? all.map((gpu) => gpu.power_draw_watts) : []);
  const nodes: Record<NodeStatus, number> = { online: 0, stale: 0, offline: 0, pending: 0 };
  nodes[node.status] += 1;
  return { nodes, gpus, powerWatts, simulatedNodes: node.report?.simulated === true ? 1 : 0 };
}

export function sumTallies(tallies: Iterable<Tally>): Tally {
  const nodes: Record<NodeStatus, number> = { online: 0, stale: 0, offline: 0, pending: 0 };
  const gpus: Record<GpuState, number> = { ...NONE };
  let powerWatts: Sum = { known: null, missing: 0 };
  let simulatedNodes = 0;
  for (const one of tallies) {
    for (const status of Object.keys(nodes) as NodeStatus[]) nodes[status] += one.nodes[status];
    for (const state of Object.keys(gpus) as GpuState[]) gpus[state] += one.gpus[state];
    powerWatts = addSums(powerWatts, one.powerWatts);
    simulatedNodes += one.simulatedNodes;
  }
  return { nodes, gpus, powerWatts, simulatedNodes };
}

export function sumOf(values: readonly (number | null)[]): Sum {
  const known = values.filter((value) => value !== null);
  const missing = values.length - known.length;
  return { known: known.length === 0 ? null : known.reduce((sum, value) => sum + value, 0), missing };
}

export function addSums(one: Sum, other: Sum): Sum {
  const known = one.known === null || other.known === null ? (one.known ?? other.known) : one.known + other.known;
  return { known, missing: one.missing + other.missing };
}

export function total<K extends string>(counts: Readonly<Record<K, number>>): number {
  return (Object.values(counts) as number[]).reduce((sum, count) => sum + count, 0);
}

/** Of processes that are told together some may not have told theirs. */
export function memoryOf({ memory_used_bytes: memory, partial }: Process): Sum {
  return partial === true ? { known: memory, missing: 1 } : sumOf([memory]);
}

/** Most memory first, unknown memory last, then by PID, so that equal rows keep their places. */
export function byMemory(processes: readonly Process[]): readonly Process[] {
  return [...processes].sort(
    (a, b) => (b.memory_used_bytes ?? -1) - (a.memory_used_bytes ?? -1) || a.pid - b.pid,
  );
}

/** Configured nodes keep the order in which the hub tells them; the others follow, by name. */
export function insertNode<T extends { readonly name: string; readonly configured: boolean }>(
  list: readonly T[],
  node: T,
): readonly T[] {
  const later = (other: T): boolean => !other.configured && (node.configured || other.name > node.name);
  const found = list.findIndex(later);
  return found < 0 ? [...list, node] : list.toSpliced(found, 0, node);
}
