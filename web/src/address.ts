// The part of the view that a link carries, so that it can be passed on: not the taste of who made it.

import type { View } from "./view";

export type Shared = Pick<View, "open">;

export function readAddress(search: string): Shared {
  const asked = new URLSearchParams(search);
  return { open: asked.get("node") || null };
}

/** `search` with the view in it. A language stands there only where somebody asked for one. */
export function writeAddress(search: string, view: Shared & Pick<View, "language">): string {
  const parameters = new URLSearchParams(search);
  if (parameters.has("lang")) parameters.set("lang", view.language);
  const put = (name: string, value: string | null): void =>
    value === null || value === "" ? parameters.delete(name) : parameters.set(name, value);
  put("node", view.open);
  const written = parameters.toString();
  return written === "" ? "" : `?${written}`;
}
