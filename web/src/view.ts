// What the viewer has chosen to see, apart from what the hub tells.

import type { Filters } from "./filter";
import type { Language } from "./locale";

export const THEMES = ["system", "light", "dark"] as const;
export type Theme = (typeof THEMES)[number];

export const DENSITIES = ["cards", "table", "map"] as const;
export type Density = (typeof DENSITIES)[number];

const MOST_CARDS = 12;
/** A fleet of no more nodes is told in full; beyond, details travel only of what is open. */
export const FULL_UP_TO = MOST_CARDS;
const MOST_LINES = 100;

/** How a fleet of that many nodes is shown to a viewer who did not choose. */
export function densityFor(nodes: number): Density {
  return nodes <= MOST_CARDS ? "cards" : nodes <= MOST_LINES ? "table" : "map";
}

export const TABS = ["nodes", "users"] as const;
export type Tab = (typeof TABS)[number];

export interface View {
  readonly isHelpOpen: boolean;
  /** On a wall nobody presses anything, and everybody stands far away. */
  readonly isKiosk: boolean;
  /** For pictures that leave the lab, and for walls that guests see. */
  readonly areUsersBlurred: boolean;
  readonly tab: Tab;
  readonly theme: Theme;
  readonly language: Language;
  /** Null: by the number of nodes. */
  readonly density: Density | null;
  readonly filters: Filters;
  /** The name of the node whose details are shown. */
  readonly open: string | null;
}

export function nextOf<T>(choices: readonly T[], present: T): T {
  return choices[(choices.indexOf(present) + 1) % choices.length] ?? present;
}
