// Why a node is not well: what its verdict's code means to the eye, and of when its numbers are.

import { parseMoment } from "./format";
import type { Fault, Node } from "./types";

/** The ways in which a node most often leaves, kept apart at a glance. */
export type Cause = "ended" | "killed" | "cut" | "silent" | "hung";

/** By the codes of the hub's verdicts; what an agent says of its driver comes in its own. */
const CAUSES: Readonly<Record<string, Cause>> = {
  agent_stopped: "ended",
  agent_died: "killed",
  link_lost: "cut",
  link_silent: "silent",
  host_unreachable: "silent",
  no_new_reports: "hung",
  timeout: "hung",
  wedged: "hung",
};

/** Half of the fleet at once is one event, and says more than each of its nodes. */
const FOREMOST_NOTICE = "mass_silence";

export function causeOf(node: Node): Cause | null {
  if (!node.verdict) return null;
  return (Object.hasOwn(CAUSES, node.verdict.code) && CAUSES[node.verdict.code]) || null;
}

/** When the last report reached the hub, in milliseconds of the hub's time; its own clock may be wrong. */
export function reportedAt(node: Node): number | null {
  const sampledAt = parseMoment(node.report?.sampled_at ?? null);
  return sampledAt === null || node.clock_offset_seconds === null
    ? null
    : sampledAt - node.clock_offset_seconds * 1_000;
}

/** When the report was made, by the node's own clock; at a glance as far as its last sign of life tells. */
export function reportMoment(node: Node): number | null {
  const sampledAt = parseMoment(node.report?.sampled_at ?? null);
  if (sampledAt !== null) return sampledAt;
  const seenAt = parseMoment(node.last_seen_at);
  return seenAt === null ? null : seenAt + (node.clock_offset_seconds ?? 0) * 1_000;
}

export function foremostFirst(notices: readonly Fault[]): readonly Fault[] {
  const rank = (notice: Fault): number => (notice.code === FOREMOST_NOTICE ? 0 : 1);
  return [...notices].sort((a, b) => rank(a) - rank(b));
}
