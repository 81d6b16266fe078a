// Memory that is held while nothing is computed, as far as this page has watched: the hub tells no past yet.

import { gpuKey } from "./fleet";
import type { Gpu, Node } from "./types";

export const HELD_AFTER_MS = 15 * 60_000;
const HELD_ABOVE_FRACTION = 0.1;
const IDLE_BELOW_PERCENT = 2;
/** Who has not looked for longer than this cannot say what happened meanwhile. */
const LOOKED_AWAY_MS = 60_000;

/** Since when each GPU of one node has been idle with memory held, by the hub's time. */
export class IdleWatch {
  #since = new Map<string, number>();
  #lookedAt = Number.NEGATIVE_INFINITY;

  /** Look at `node` at `now`, in milliseconds; returns since when which of its GPUs idle. */
  observe(node: Node, now: number): ReadonlyMap<string, number> {
    const before = now - this.#lookedAt > LOOKED_AWAY_MS ? new Map<string, number>() : this.#since;
    this.#lookedAt = now;
    this.#since = new Map();
    for (const gpu of node.status === "online" ? (node.report?.gpus ?? []) : []) {
      if (idles(gpu)) this.#since.set(gpuKey(gpu), before.get(gpuKey(gpu)) ?? now);
    }
    return this.#since;
  }
}

function idles(gpu: Gpu): boolean {
  const { utilization_percent: utilization, memory_used_bytes: used, memory_total_bytes: total } = gpu;
  if (gpu.status !== "ok" || utilization === null || used === null || total === null) return false;
  return utilization < IDLE_BELOW_PERCENT && used > HELD_ABOVE_FRACTION * total;
}

/** The GPUs of `since` that have idled for so long at `now` that their memory counts as held in vain. */
export function heldAt(since: ReadonlyMap<string, number>, now: number): ReadonlySet<string> {
  return new Set([...since].filter(([, at]) => now - at >= HELD_AFTER_MS).map(([key]) => key));
}
