// The part of the view that a link carries, so that it can be passed on: not the taste of who made it.

import type { Filters } from "./filter";
import { DENSITIES, TABS, type View } from "./view";

export type Shared = Pick<View, "tab" | "open" | "filters" | "density" | "isKiosk" | "areUsersBlurred">;

export function readAddress(search: string): Shared {
  const asked = new URLSearchParams(search);
  const text = (name: string): string | null => asked.get(name) || null;
  const number = (name: string): number | null => {
    const value = Number(asked.get(name));
    return Number.isFinite(value) && value > 0 ? value : null;
  };
  const filters: Filters = {
    text: asked.get("find") ?? "",
    freeOnly: asked.has("free"),
    freeMemoryGib: number("memory"),
    model: text("model"),
    user: text("user"),
    tag: text("tag"),
    gpuCount: number("gpus"),
  };
  return {
    tab: TABS.find((one) => one === asked.get("view")) ?? "nodes",
    open: text("node"),
    density: DENSITIES.find((one) => one === asked.get("as")) ?? null,
    filters,
    isKiosk: asked.get("kiosk") === "1",
    areUsersBlurred: asked.get("blur") === "1",
  };
}

/** `search` with the view in it. A language stands there only where somebody asked for one. */
export function writeAddress(search: string, view: Shared & Pick<View, "language">): string {
  const parameters = new URLSearchParams(search);
  if (parameters.has("lang")) parameters.set("lang", view.language);
  const put = (name: string, value: string | number | null): void =>
    value === null || value === "" ? parameters.delete(name) : parameters.set(name, String(value));
  const { text, freeOnly, freeMemoryGib, model, user, tag, gpuCount } = view.filters;
  put("blur", view.areUsersBlurred ? 1 : null);
  put("view", view.tab === "nodes" ? null : view.tab);
  put("node", view.open);
  put("as", view.density);
  put("find", text);
  put("free", freeOnly ? "1" : null);
  put("memory", freeMemoryGib);
  put("model", model);
  put("user", user);
  put("tag", tag);
  put("gpus", gpuCount);
  const written = parameters.toString();
  return written === "" ? "" : `?${written}`;
}
