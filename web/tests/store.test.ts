import { afterEach, beforeEach, expect, test, vi } from "vitest";

import { Store } from "../src/store";
import type { Node } from "../src/types";
import { node, view } from "./fixtures";

const BROWSER_NOW = Date.parse("2026-11-23T12:00:00.000Z");

beforeEach(() => {
  vi.useFakeTimers({ now: BROWSER_NOW });
});
afterEach(() => {
  vi.useRealTimers();
});

function snapshot(nodes: readonly Node[], sentAt = "2026-11-23T12:00:00.000Z") {
  return { type: "snapshot", sent_at: sentAt, hub_version: "0.1.0", nodes } as const;
}
function update(...nodes: Node[]) {
  return { type: "nodes", sent_at: "2026-11-23T12:00:00.000Z", nodes } as const;
}
function names(store: Store): string[] {
  return store.entries.value.map(({ name }) => name);
}

test("a snapshot replaces everything, in its order", () => {
  const store = new Store(view());
  expect(store.loaded.value).toBe(false);
  store.apply(snapshot([node("b"), node("a")]));
  store.apply(snapshot([node("c"), node("b")]));
  expect(names(store)).toEqual(["c", "b"]);
  expect(store.loaded.value).toBe(true);
  expect(store.hubVersion.value).toBe("0.1.0");
});

test("a change of one node touches no other node and not the list", () => {
  const store = new Store(view());
  store.apply(snapshot([node("a"), node("b")]));
  const list = store.entries.value;
  const changed = vi.fn();
  const untouched = vi.fn();
  list[0]?.node.subscribe(changed);
  list[1]?.node.subscribe(untouched);
  store.apply(update(node("a", { status: "offline" })));
  expect(changed).toHaveBeenCalledTimes(2);
  expect(untouched).toHaveBeenCalledTimes(1);
  expect(store.entries.value).toBe(list);
  expect(store.totals.value.nodes.offline).toBe(1);
});

test("a node not seen before is inserted, one that is removed goes", () => {
  const store = new Store(view());
  store.apply(snapshot([node("z"), node("m", { configured: false })]));
  store.apply(update(node("b", { configured: false }), node("y")));
  expect(names(store)).toEqual(["z", "y", "b", "m"]);
  store.apply({ type: "removed", names: ["z", "nobody"] });
  expect(names(store)).toEqual(["y", "b", "m"]);
});

test("a node that ceases to be configured moves to its new place", () => {
  const store = new Store(view());
  store.apply(snapshot([node("c"), node("a"), node("d", { configured: false })]));
  store.apply(update(node("c", { configured: false })));
  expect(names(store)).toEqual(["a", "c", "d"]);
});

test("the hub's clock is taken from the message that was quickest", () => {
  const store = new Store(view());
  store.apply(snapshot([], "2026-11-23T11:00:00.000Z"));
  expect(store.now.value).toBe(BROWSER_NOW - 3_600_000);
  vi.advanceTimersByTime(2_000);
  store.apply({ ...update(), sent_at: "2026-11-23T11:00:00.500Z" });
  store.tick();
  expect(store.now.value).toBe(BROWSER_NOW - 3_600_000 + 2_000);
  store.observeRoughTime(BROWSER_NOW);
  expect(store.now.value).toBe(BROWSER_NOW - 3_600_000 + 2_000);
});

test("the moment of loss is told in the hub's time and stays while the hub is lost", () => {
  const store = new Store(view());
  store.apply(snapshot([], "2026-11-23T11:00:00.000Z"));
  store.setLink("lost", BROWSER_NOW);
  store.setLink("lost", BROWSER_NOW + 5_000);
  expect(store.link.value).toEqual({ state: "lost", contactAt: BROWSER_NOW - 3_600_000 });
});

test("notices stand until a message says otherwise, and the same ones again change nothing", () => {
  const store = new Store(view());
  const notices = [{ code: "mass_silence", message: "m", hint: null }];
  store.apply({ ...snapshot([]), notices });
  const before = store.notices.value;
  store.apply({ ...update(), notices: structuredClone(notices) });
  expect(store.notices.value).toBe(before);
  store.apply(update());
  expect(store.notices.value).toBe(before);
  store.apply({ ...update(), notices: [] });
  expect(store.notices.value).toEqual([]);
});

test("the snapshot of a hub that knows no notices ends those of the hub before it", () => {
  const store = new Store(view());
  store.apply({ ...snapshot([]), notices: [{ code: "x", message: "m", hint: null }] });
  store.apply(snapshot([]));
  expect(store.notices.value).toEqual([]);
});

test("the age of the data is told in the hub's time", () => {
  const store = new Store(view());
  store.apply(snapshot([], "2026-11-23T11:00:00.000Z"));
  store.heard(BROWSER_NOW + 2_000);
  expect(store.heardAt.value).toBe(BROWSER_NOW - 3_600_000 + 2_000);
});
