// Which nodes and GPUs the viewer wants to see: pure functions of what the hub tells and what was asked for.

import { gpuState, modelOf } from "./fleet";
import type { Gpu, Node } from "./types";

const GIB = 2 ** 30;

/** All of these must hold; null and "" ask for nothing. */
export interface Filters {
  /** Words, each of which must occur in the names of the node, its GPUs or their processes. */
  readonly text: string;
  readonly freeOnly: boolean;
  readonly freeMemoryGib: number | null;
  readonly model: string | null;
  readonly user: string | null;
  readonly tag: string | null;
  /** So many GPUs for which all that holds, on one node. */
  readonly gpuCount: number | null;
}

export const NO_FILTERS: Filters = {
  text: "",
  freeOnly: false,
  freeMemoryGib: null,
  model: null,
  user: null,
  tag: null,
  gpuCount: null,
};

export function isFiltering(filters: Filters): boolean {
  return (Object.keys(NO_FILTERS) as (keyof Filters)[]).some((name) => filters[name] !== NO_FILTERS[name]);
}

/** The GPUs of `node` that are asked for, or null where the node as a whole is not. */
export function matchingGpus(node: Node, filters: Filters): readonly Gpu[] | null {
  const gpus = node.report?.gpus ?? [];
  if (!isFiltering(filters)) return gpus;
  const tags = node.tags ?? [];
  if (filters.tag !== null && !tags.includes(filters.tag)) return null;
  const words = filters.text.toLowerCase().split(/\s+/).filter(Boolean);
  const ofNode = [node.name, node.alias, node.address, node.host, ...tags].join("\n").toLowerCase();
  const matching = gpus.filter((gpu) => isWanted(gpu, node, filters) && isNamed(words, ofNode, gpu));
  if (matching.length === 0) {
    // A node that told no GPUs yet can still be looked for by its name and tags.
    const asksForGpus = isFiltering({ ...filters, text: "", tag: null });
    return !asksForGpus && words.every((word) => ofNode.includes(word)) ? gpus : null;
  }
  return matching.length >= (filters.gpuCount ?? 1) ? matching : null;
}

function isWanted(gpu: Gpu, node: Node, { freeOnly, freeMemoryGib, model, user }: Filters): boolean {
  if (freeOnly && gpuState(gpu, node.status) !== "free") return false;
  if (freeMemoryGib !== null && (freeMemory(gpu, node) ?? -1) < freeMemoryGib * GIB) return false;
  if (model !== null && modelOf(gpu) !== model) return false;
  return user === null || (gpu.processes?.some((process) => process.user === user) ?? false);
}

/** Bytes that can be had now; null where nobody knows, as of a node that does not answer. */
function freeMemory(gpu: Gpu, node: Node): number | null {
  if (node.status !== "online" || gpu.status !== "ok") return null;
  if (gpu.memory_free_bytes !== null && gpu.memory_free_bytes !== undefined) return gpu.memory_free_bytes;
  if (gpu.memory_total_bytes === null || gpu.memory_used_bytes === null) return null;
  return gpu.memory_total_bytes - gpu.memory_used_bytes;
}

function isNamed(words: readonly string[], ofNode: string, gpu: Gpu): boolean {
  if (words.length === 0) return true;
  const processes = gpu.processes ?? [];
  const ofGpu = [gpu.name, gpu.uuid, ...processes.flatMap(({ user, command, name, pid }) => [user, command, name, pid])]
    .join("\n")
    .toLowerCase();
  return words.every((word) => ofNode.includes(word) || ofGpu.includes(word));
}

/** GPUs of one model that are free on one node. */
export interface Offer {
  readonly node: Node;
  readonly model: string | null;
  readonly gpus: readonly Gpu[];
}

/** What is free of `gpus`, a board's own offer each. */
export function offersOf(node: Node, gpus: readonly Gpu[]): readonly Offer[] {
  const byModel = new Map<string | null, Gpu[]>();
  for (const gpu of gpus) {
    if (gpuState(gpu, node.status) !== "free") continue;
    const model = modelOf(gpu);
    byModel.set(model, [...(byModel.get(model) ?? []), gpu]);
  }
  return [...byModel].map(([model, free]) => ({ node, model, gpus: free }));
}
