// What is not as it should be, worst first: in a fleet of hundreds nobody looks at all of it.

import { gpuKey, gpuState, type GpuState, type Mark, marksOf } from "./fleet";
import type { Gpu, Node } from "./types";

/** A node that is not well (`gpu` null), or one of its GPUs that is not. */
export interface Exception {
  readonly node: Node;
  readonly gpu: Gpu | null;
  readonly kind: "node" | Mark | Extract<GpuState, "fault" | "held">;
}

const RANKS: readonly Exception["kind"][] = ["node", "fault", "repair", "throttled", "hot", "held"];

/** Of each GPU the worst alone is told. Those of a node that is not online are told with it. */
export function exceptionsOf(node: Node, gpus: readonly Gpu[], held: ReadonlySet<string>): readonly Exception[] {
  if (node.status !== "online") return [{ node, gpu: null, kind: "node" }];
  const ofGpus = gpus.flatMap((gpu): Exception[] => {
    const state = gpuState(gpu, node.status, held.has(gpuKey(gpu)));
    const kinds: Exception["kind"][] = [...marksOf(gpu, node.status)];
    if (state === "fault" || state === "held") kinds.push(state);
    const worst = RANKS.find((kind) => kinds.includes(kind));
    return worst === undefined ? [] : [{ node, gpu, kind: worst }];
  });
  // A sick GPU is what such a verdict speaks of, and stands there itself.
  const isNode = Boolean(node.verdict) && !ofGpus.some(({ kind }) => kind === "fault");
  return isNode ? [{ node, gpu: null, kind: "node" }, ...ofGpus] : ofGpus;
}

export function worstFirst(exceptions: readonly Exception[]): readonly Exception[] {
  return [...exceptions].sort((a, b) => RANKS.indexOf(a.kind) - RANKS.indexOf(b.kind));
}
