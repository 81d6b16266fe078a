// Who uses what, over all nodes that are shown.

import { addSums, gpuKey, memoryOf, type Sum, sumOf } from "./fleet";
import type { Entry } from "./store";

/** GPUs of one node. */
export interface Place {
  readonly node: string;
  readonly alias: string;
  readonly indices: readonly number[];
}

export interface Usage {
  /** Null: processes whose owner is not known. */
  readonly user: string | null;
  readonly gpuCount: number;
  readonly memoryBytes: Sum;
  /** Of the GPUs used, by how much they are busy now; null where none of them tells. */
  readonly meanUtilizationPercent: number | null;
  /** How many of these GPUs compute nothing now, and since when the longest of them, as far as the hub knows. */
  readonly idleCount: number;
  readonly idleSince: number | null;
  readonly places: readonly Place[];
}

interface Tab {
  gpuCount: number;
  memoryBytes: Sum;
  idleCount: number;
  idleSince: number | null;
  readonly utilization: number[];
  readonly places: Map<string, { alias: string; indices: number[] }>;
}

/** Most GPUs first, then most memory. Nodes that are not online are left out: nobody knows who is there now. */
export function usageOf(entries: readonly Entry[]): readonly Usage[] {
  const tabs = new Map<string | null, Tab>();
  for (const entry of entries) {
    const node = entry.node.value;
    if (node.status !== "online") continue;
    const idle = entry.idleSince.value;
    for (const gpu of entry.matching.value ?? []) {
      const processes = (gpu.processes ?? []).filter(({ type }) => type !== "graphics");
      for (const user of new Set(processes.map((process) => process.user))) {
        const tab = tabs.get(user) ?? open(tabs, user);
        const since = idle.get(gpuKey(gpu));
        tab.gpuCount += 1;
        for (const process of processes) if (process.user === user) tab.memoryBytes = addSums(tab.memoryBytes, memoryOf(process));
        if (gpu.utilization_percent !== null) tab.utilization.push(gpu.utilization_percent);
        if (since !== undefined) {
          tab.idleCount += 1;
          tab.idleSince = Math.min(tab.idleSince ?? since, since);
        }
        const place = tab.places.get(node.name) ?? { alias: node.alias, indices: [] };
        place.indices.push(gpu.index);
        tab.places.set(node.name, place);
      }
    }
  }
  return [...tabs].map(([user, tab]) => close(user, tab)).sort(byUse);
}

function open(tabs: Map<string | null, Tab>, user: string | null): Tab {
  const tab: Tab = { gpuCount: 0, memoryBytes: sumOf([]), idleCount: 0, idleSince: null, utilization: [], places: new Map() };
  tabs.set(user, tab);
  return tab;
}

function close(user: string | null, { utilization, places, ...tab }: Tab): Usage {
  const sum = utilization.reduce((total, percent) => total + percent, 0);
  return {
    ...tab,
    user,
    meanUtilizationPercent: utilization.length === 0 ? null : sum / utilization.length,
    places: [...places].map(([node, place]) => ({ node, ...place })),
  };
}

function byUse(a: Usage, b: Usage): number {
  return b.gpuCount - a.gpuCount || (b.memoryBytes.known ?? -1) - (a.memoryBytes.known ?? -1) || (a.user ?? "").localeCompare(b.user ?? "");
}
