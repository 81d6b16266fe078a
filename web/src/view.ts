// What the viewer has chosen to see, apart from what the hub tells.

import type { Filters } from "./filter";
import type { Language } from "./locale";

export const THEMES = ["system", "light", "dark"] as const;
export type Theme = (typeof THEMES)[number];

export interface View {
  readonly theme: Theme;
  readonly language: Language;
  readonly filters: Filters;
  /** The name of the node whose details are shown. */
  readonly open: string | null;
}

export function nextOf<T>(choices: readonly T[], present: T): T {
  return choices[(choices.indexOf(present) + 1) % choices.length] ?? present;
}
