// Memory that is held while nothing is computed, by what the hub knows of the past.

import { gpuKey } from "./fleet";
import { parseMoment } from "./format";
import type { Gpu, Node } from "./types";

export const HELD_AFTER_MS = 15 * 60_000;
const HELD_ABOVE_FRACTION = 0.1;

/** Since when which GPUs of `node` have been idle with memory held, in milliseconds of the hub's time. */
export function idleOf(node: Node): ReadonlyMap<string, number> {
  const since = new Map<string, number>();
  const told = node.idle_since;
  if (told === undefined || node.status !== "online") return since;
  for (const gpu of node.report?.gpus ?? []) {
    const at = parseMoment(told[gpu.uuid ?? gpu.pci_bus_id ?? `#${gpu.index}`] ?? null);
    if (at !== null && holdsMemory(gpu)) since.set(gpuKey(gpu), at);
  }
  return since;
}

function holdsMemory({ memory_used_bytes: used, memory_total_bytes: total }: Gpu): boolean {
  return used !== null && total !== null && used > HELD_ABOVE_FRACTION * total;
}

/** The GPUs of `since` that have idled for so long at `now` that their memory counts as held in vain. */
export function heldAt(since: ReadonlyMap<string, number>, now: number): ReadonlySet<string> {
  return new Set([...since].filter(([, at]) => now - at >= HELD_AFTER_MS).map(([key]) => key));
}
