// What a wall shows next: what does not fit a screen passes by, a screen at a time, then the users, then all over again.

import type { Tab } from "./view";

export const WALL_MS = 15_000;
/** So much of a screen stays on the next one, for who was reading. */
const OVERLAP = 0.15;

export interface Place {
  /** How far the page is scrolled, how much of it is seen, and how long it is, in pixels. */
  readonly top: number;
  readonly seen: number;
  readonly whole: number;
  readonly tab: Tab;
}

export function nextPlace({ top, seen, whole, tab }: Place): Pick<Place, "top" | "tab"> {
  const isAtEnd = top + seen >= whole - 1;
  if (!isAtEnd) return { tab, top: Math.min(top + seen * (1 - OVERLAP), whole - seen) };
  return { tab: tab === "nodes" ? "users" : "nodes", top: 0 };
}
