// What a viewer likes, kept by the browser from visit to visit.

import { isLanguage } from "./locale";
import { DENSITIES, THEMES, type View } from "./view";

export type Kept = Pick<View, "theme" | "language" | "density">;

const PREFIX = "gpumon.";

/** A browser that keeps nothing, as with cookies refused, fails already when asked for its storage. */
type GiveStorage = () => Storage;

function read(storage: GiveStorage, name: keyof Kept): string | null {
  try {
    return storage().getItem(PREFIX + name);
  } catch {
    return null;
  }
}

export function recall(storage: GiveStorage): Partial<Kept> {
  const theme = THEMES.find((one) => one === read(storage, "theme"));
  const language = read(storage, "language");
  const density = DENSITIES.find((one) => one === read(storage, "density"));
  return {
    ...(theme !== undefined && { theme }),
    ...(density !== undefined && { density }),
    ...(language !== null && isLanguage(language) && { language }),
  };
}

/** Keeps what the viewer changed. What a link or the browser proposed was nobody's choice. */
export function remember(storage: GiveStorage, before: Kept, now: Kept): void {
  for (const name of ["theme", "language", "density"] as const) {
    if (before[name] === now[name]) continue;
    try {
      storage().setItem(PREFIX + name, now[name] ?? "");
    } catch {
      // Then it holds until the page is closed.
    }
  }
}
