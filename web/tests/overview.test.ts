import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";

import { gpuState, memoryOf } from "../src/fleet";
import { NEW_A_SLICE, Store } from "../src/store";
import type { GpuCard, Node, NodeCard, OverviewMessage } from "../src/types";
import { gpu, node, report, view } from "./fixtures";

const NOW = Date.parse("2026-11-23T12:00:00.000Z");
const GIB = 2 ** 30;

beforeEach(() => void vi.useFakeTimers({ now: NOW }));
afterEach(() => void vi.useRealTimers());

function card(name: string, values: Partial<NodeCard> = {}, ...gpus: GpuCard[]): NodeCard {
  const told = gpus.length === 0 ? [{ index: 0, uuid: "GPU-0", memory_total_bytes: 80 * GIB, holders: [] }] : gpus;
  const known = { name, alias: name, configured: true, status: "online", status_since: new Date(NOW).toISOString() } as const;
  return { ...known, report: { driver_version: "580", gpus: told }, ...values };
}

/** Of each node the utilisation of its one GPU. */
function message(type: OverviewMessage["type"], cards: readonly NodeCard[], utilization: Readonly<Record<string, number>>): OverviewMessage {
  const names = Object.keys(utilization);
  const each = (value: number): number[][] => names.map(() => [value]);
  return {
    type,
    view: "overview",
    sent_at: new Date().toISOString(),
    hub_version: "0",
    cards,
    numbers: {
      names,
      seen_seconds_ago: names.map(() => 2),
      host_cpu_utilization_percent: names.map(() => 12),
      host_memory_used_percent: names.map(() => 25),
      utilization_percent: Object.values(utilization).map((value) => [value]),
      memory_used_mebibytes: each(1_024),
      temperature_celsius: each(50),
      power_draw_watts: each(300),
      fan_speed_percent: each(40),
    },
  };
}

/** A store that works off a slice with each timer, as there are no frames here. */
function storeOf(...cards: NodeCard[]): Store {
  const after = (milliseconds: number, work: () => void): void => void setTimeout(work, milliseconds);
  const store = new Store(view(), { beforeFrame: (work) => after(10, work), after, now: () => Date.now() });
  store.apply(message("snapshot", cards, Object.fromEntries(cards.map(({ name }) => [name, 1]))));
  return store;
}

function nodeOf(store: Store, name: string): Node | undefined {
  return store.entries.value.find((entry) => entry.name === name)?.node.value;
}
function percent(store: Store, name: string): number | null | undefined {
  return nodeOf(store, name)?.report?.gpus[0]?.utilization_percent;
}

describe("a node told at a glance", () => {
  test("has its card and its numbers, and nothing more", () => {
    const told = nodeOf(storeOf(card("a", { address: "10.0.0.1" })), "a");
    expect(told).toMatchObject({ name: "a", address: "10.0.0.1", status: "online", error: null });
    expect(told?.last_seen_at).toBe("2026-11-23T11:59:58.000Z");
    expect(told?.report).toMatchObject({ driver_version: "580", cuda_version: null, simulated: false });
    const [first] = told?.report?.gpus ?? [];
    expect(first).toMatchObject({ utilization_percent: 1, memory_used_bytes: GIB, power_draw_watts: 300, sm_clock_megahertz: null });
  });
  test("has the machine around its GPUs, where its agent tells of one", () => {
    const host = { cpu_count: 64, memory_total_bytes: 512 * GIB };
    const store = storeOf(card("a", { report: { host, gpus: [] } }), card("b"));
    expect(nodeOf(store, "a")?.report?.host).toMatchObject({
      cpu_count: 64,
      cpu_utilization_percent: 12,
      memory_available_bytes: 384 * GIB,
      uptime_seconds: null,
    });
    expect(nodeOf(store, "b")?.report?.host).toBeNull();
  });
  test("has the sizes of a GPU's instances, the numbers of its Xids, and its tags", () => {
    const store = storeOf(card("a", { tags: ["cold"] }, { index: 0, mig_profiles: ["1g.10gb", ""], xids: [63], holders: [] }));
    const [first] = nodeOf(store, "a")?.report?.gpus ?? [];
    expect(first?.mig_devices).toMatchObject([{ profile: "1g.10gb", memory_used_bytes: null }, { profile: null }]);
    expect(first?.xids).toEqual([{ code: 63 }]);
    expect(nodeOf(store, "a")?.tags).toEqual(["cold"]);
  });
  test("has a line for each holder of a GPU, and is as busy as they make it", () => {
    const holder = { pid: 7, user: "alice", command: "python train.py", memory_used_mebibytes: 2_048, processes: 3 };
    const told = nodeOf(storeOf(card("a", {}, { index: 0, holders: [holder] }, { index: 1, holders: [{ pid: 8, type: "graphics" }] })), "a");
    const [busy, display] = told?.report?.gpus ?? [];
    expect(busy?.processes).toMatchObject([{ pid: 7, user: "alice", memory_used_bytes: 2 * GIB, together: 3, job: null }]);
    expect(busy && gpuState(busy, "online")).toBe("busy");
    expect(display?.processes?.[0]?.type).toBe("graphics");
  });
  test("says where not all processes of a holder tell their memory", () => {
    const holders = [{ pid: 7, memory_used_mebibytes: 1_024, memory_partial: true, processes: 3 }, { pid: 8 }];
    const told = nodeOf(storeOf(card("a", {}, { index: 0, holders })), "a")?.report?.gpus[0]?.processes ?? [];
    expect(told.map(memoryOf)).toEqual([{ known: GIB, missing: 1 }, { known: null, missing: 1 }]);
  });
  test("counts the processes that are not told, as those are that are private", () => {
    const holder = { pid: 7, processes: 3 };
    const gpus = [
      { index: 0, holders: [holder], process_count: 5 },
      { index: 1, holders: [], process_count: 2, unavailable: { processes: "private" as const } },
      { index: 2, holders: [holder], process_count: 3 },
    ];
    const told = nodeOf(storeOf(card("a", {}, ...gpus)), "a")?.report?.gpus ?? [];
    expect(told.map(({ processes_truncated: more }) => more)).toEqual([2, 2, 0]);
    expect(told.map((one) => gpuState(one, "online"))).toEqual(["busy", "busy", "busy"]);
  });
  test("is not called free where nobody told its processes", () => {
    const [first] = nodeOf(storeOf(card("a", {}, { index: 0 })), "a")?.report?.gpus ?? [];
    expect(first?.processes).toBeNull();
  });
  test("keeps its card while only numbers come, and has the new one as soon as it comes", () => {
    const store = storeOf(card("a"), card("b"));
    store.apply(message("nodes", [], { a: 42 }));
    vi.advanceTimersByTime(1_100);
    expect([percent(store, "a"), percent(store, "b")]).toEqual([42, 1]);
    expect(nodeOf(store, "a")?.report?.driver_version).toBe("580");
    store.apply(message("nodes", [card("a", { status: "offline" })], { a: 43 }));
    vi.advanceTimersByTime(1_100);
    expect(nodeOf(store, "a")?.status).toBe("offline");
  });
  test("loses no card to numbers that come while both wait", () => {
    const store = storeOf(card("a"));
    store.apply(message("nodes", [card("a", { alias: "Alpha" })], { a: 2 }));
    store.apply(message("nodes", [], { a: 3 }));
    vi.advanceTimersByTime(1_100);
    expect([nodeOf(store, "a")?.alias, percent(store, "a")]).toEqual(["Alpha", 3]);
  });
  test("whose card never came is left out, and one that is removed while it waits stays away", () => {
    const store = storeOf(card("a"));
    store.apply(message("nodes", [card("c")], { stranger: 5, c: 6 }));
    store.apply({ type: "removed", names: ["c"] });
    vi.advanceTimersByTime(1_100);
    expect(store.entries.value.map(({ name }) => name)).toEqual(["a"]);
  });
  test("idles since the moment on its card", () => {
    const idle = { index: 0, uuid: "u", memory_total_bytes: 2 * GIB, idle_since: "2026-11-23T11:00:00.000Z" };
    const store = storeOf(card("a", {}, idle));
    expect([...(store.entries.value[0]?.held.value ?? [])]).toEqual(["u"]);
  });
});

describe("a large fleet", () => {
  const cards = Array.from({ length: NEW_A_SLICE * 4 + 5 }, (_, at) => card(`n${1_000 - at}`));

  test("is counted at once, comes slice by slice, and stands in its order", () => {
    const store = storeOf(...cards);
    expect([store.count.value, store.entries.value.length]).toEqual([cards.length, 0]);
    vi.advanceTimersByTime(10);
    expect([store.count.value, store.entries.value.length]).toEqual([cards.length, NEW_A_SLICE]);
    vi.advanceTimersByTime(100);
    expect(store.entries.value.map(({ name }) => name)).toEqual(cards.map(({ name }) => name));
    expect(store.totals.value.nodes.online).toBe(cards.length);
  });
  test("stays on the page while it is told anew, less those that are gone", () => {
    const store = storeOf(...cards);
    vi.advanceTimersByTime(100);
    const before = store.entries.value[1];
    store.apply(message("snapshot", cards.slice(1), Object.fromEntries(cards.slice(1).map(({ name }) => [name, 9]))));
    expect(store.entries.value).toHaveLength(cards.length - 1);
    vi.advanceTimersByTime(100);
    expect(store.entries.value[0]).toBe(before);
    expect(percent(store, cards[1]?.name ?? "")).toBe(9);
  });
  test("has sums that are made once for each message, not for each of its slices", () => {
    const store = storeOf(...cards);
    vi.advanceTimersByTime(100);
    const seen = vi.fn();
    store.totals.subscribe(seen);
    seen.mockClear();
    store.apply(message("nodes", [], Object.fromEntries(cards.map(({ name }) => [name, 8]))));
    vi.advanceTimersByTime(2_000);
    expect(seen).toHaveBeenCalledTimes(1);
  });
});

describe("the node that is open", () => {
  const full = (percents: number, seen = 0): Node =>
    node("a", { last_seen_at: new Date(Date.now() - seen).toISOString(), report: report([gpu({ utilization_percent: percents, sm_clock_megahertz: 1_980 })]) });

  test("is shown in full, whatever comes at a glance", () => {
    const store = storeOf(card("a"));
    store.applyDetails([full(70)]);
    store.apply(message("nodes", [], { a: 42 }));
    vi.advanceTimersByTime(1_100);
    expect(percent(store, "a")).toBe(70);
    expect(nodeOf(store, "a")?.report?.gpus[0]?.sm_clock_megahertz).toBe(1_980);
  });
  test("is shown at a glance again when details end, or no longer come", () => {
    const store = storeOf(card("a"));
    store.applyDetails([full(70)]);
    store.apply(message("nodes", [], { a: 42 }));
    vi.advanceTimersByTime(1_100);
    store.endDetails();
    expect(percent(store, "a")).toBe(42);
    store.applyDetails([full(70, 6_000)]);
    store.apply(message("nodes", [], { a: 43 }));
    vi.advanceTimersByTime(1_100);
    expect(percent(store, "a")).toBe(43);
  });
});

test("a fleet that outgrows the way it is told is a misfit until it is told anew", () => {
  const store = new Store(view());
  const nodes = Array.from({ length: 12 }, (_, at) => node(`n${at}`));
  store.apply({ type: "snapshot", sent_at: new Date().toISOString(), hub_version: "0", nodes });
  expect([store.toldAs.value, store.isMisfit.value]).toEqual(["full", false]);
  store.apply({ type: "nodes", sent_at: new Date().toISOString(), nodes: [node("one more")] });
  expect(store.isMisfit.value).toBe(true);
  const cards = [...nodes.map(({ name }) => card(name)), card("one more")];
  store.apply(message("snapshot", cards, Object.fromEntries(cards.map(({ name }) => [name, 1]))));
  expect([store.toldAs.value, store.isMisfit.value]).toEqual(["overview", false]);
});
