import type { NodeStatus } from "./types";

/** A screen reader must not be talked over: one announcement in this time at most. */
export const PAUSE_MS = 5_000;
/** More nodes than this are told as a number. */
const MOST_NODES = 3;

/** What changed since the last announcement, to be put into words. */
export interface News {
  /** Nodes that went or came back, and what they are now; null where they are too many to name. */
  readonly nodes: ReadonlyMap<string, NodeStatus> | null;
  readonly count: number;
  /** Codes of the hub's notices that are new. */
  readonly notices: readonly string[];
}

/** Gathers changes of state for those who listen: never numbers, never twice, never in quick succession. */
export class Herald {
  #told = new Map<string, NodeStatus>();
  #toldNotices = new Set<string>();
  #spokeAt = Number.NEGATIVE_INFINITY;
  #begun = false;

  /** What to say at `now` (milliseconds) of the present states, or null. The first states are no news. */
  hear(states: ReadonlyMap<string, NodeStatus>, notices: readonly string[], now: number): News | null {
    if (!this.#begun) {
      this.#begun = true;
      this.#told = new Map(states);
    }
    if (now - this.#spokeAt < PAUSE_MS) return null;
    const fresh = notices.filter((code) => !this.#toldNotices.has(code));
    const changed = [...states].filter(([name, status]) => isNews(this.#told.get(name), status));
    this.#toldNotices = new Set(notices);
    this.#forget(states);
    for (const [name, status] of changed) this.#told.set(name, status);
    if (fresh.length === 0 && changed.length === 0) return null;
    this.#spokeAt = now;
    const nodes = changed.length > MOST_NODES ? null : new Map(changed);
    return { nodes, count: changed.length, notices: fresh };
  }

  /** A name that comes back after its node was removed is a new one. */
  #forget(states: ReadonlyMap<string, NodeStatus>): void {
    for (const name of this.#told.keys()) if (!states.has(name)) this.#told.delete(name);
    for (const [name, status] of states) if (!this.#told.has(name)) this.#told.set(name, status);
  }
}

/** Stale and pending are on the way to one of the two. A node that only just appeared was missed by nobody. */
function isNews(before: NodeStatus | undefined, now: NodeStatus): boolean {
  if (before === undefined || before === now) return false;
  return now === "offline" || (now === "online" && before === "offline");
}
