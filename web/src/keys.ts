// What each key does. Nothing is done with a key that is meant for a field, the browser or the system.

import { isFiltering, NO_FILTERS } from "./filter";
import type { Store } from "./store";
import { DENSITIES, nextOf, THEMES } from "./view";

/** In the order in which the help tells them. */
export const KEYS = ["/", "j k", "Enter", "Esc", "f", "u", "d", "t", "b", "?"] as const;

/** The controls that stand for a node or a user, one each, in the order of the page. */
const ROWS = "[data-row]";

export interface Pressed {
  readonly key: string;
  readonly ctrlKey: boolean;
  readonly metaKey: boolean;
  readonly altKey: boolean;
}

/** Do what a key asks for; returns whether it asked for anything. */
export function press(store: Store, pressed: Pressed, page: Document): boolean {
  const { key } = pressed;
  const focused = page.activeElement;
  if (pressed.ctrlKey || pressed.metaKey || pressed.altKey || page.querySelector("dialog[open]") !== null) return false;
  if (key === "Escape") return escape(store, focused);
  if (isField(focused)) return false;
  if (key === "j" || (key === "ArrowDown" && isRow(focused))) return step(page, 1);
  if (key === "k" || (key === "ArrowUp" && isRow(focused))) return step(page, -1);
  const view = store.view.peek();
  switch (key) {
    case "/":
      page.getElementById("find")?.focus();
      return true;
    case "?":
      store.choose({ isHelpOpen: true });
      return true;
    case "f":
      store.choose({ filters: { ...view.filters, freeOnly: !view.filters.freeOnly } });
      return true;
    case "u":
      store.choose({ tab: view.tab === "users" ? "nodes" : "users" });
      return true;
    case "d":
      store.choose({ density: nextOf(DENSITIES, store.density.peek()) });
      return true;
    case "b":
      store.choose({ areUsersBlurred: !view.areUsersBlurred });
      return true;
    case "t":
      store.choose({ theme: nextOf(THEMES, view.theme) });
      return true;
    default:
      return false;
  }
}

/** One thing at a time, the nearest first: leave the field, close the node, show everything again. */
function escape(store: Store, focused: Element | null): boolean {
  const { open, filters } = store.view.peek();
  if (isField(focused)) {
    if (focused.id === "find") store.choose({ filters: { ...filters, text: "" } });
    focused.blur();
  } else if (open !== null) store.choose({ open: null });
  else if (isFiltering(filters)) store.choose({ filters: NO_FILTERS });
  else return false;
  return true;
}

function step(page: Document, by: 1 | -1): boolean {
  const rows = [...page.querySelectorAll<HTMLElement>(ROWS)];
  const at = rows.findIndex((row) => row === page.activeElement);
  const next = at < 0 ? rows[by === 1 ? 0 : rows.length - 1] : rows[at + by];
  next?.focus();
  next?.scrollIntoView({ block: "nearest" });
  return next !== undefined;
}

function isRow(element: Element | null): boolean {
  return element?.matches(ROWS) ?? false;
}

function isField(element: Element | null): element is HTMLElement {
  return element?.matches("input, select, textarea") ?? false;
}
