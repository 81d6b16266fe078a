import { expect, test } from "vitest";

import { Store } from "../src/store";
import type { Node } from "../src/types";
import { usageOf } from "../src/users";
import { gpu, node, process, report, view } from "./fixtures";

const GIB = 2 ** 30;

function users(nodes: readonly Node[], store = new Store(view())) {
  store.apply({ type: "snapshot", sent_at: new Date().toISOString(), hub_version: "0", nodes });
  return usageOf(store.shown.value);
}

const SHARED = gpu({
  index: 0,
  utilization_percent: 90,
  processes: [
    process({ pid: 1, user: "alice", memory_used_bytes: 10 * GIB }),
    process({ pid: 2, user: "alice", memory_used_bytes: null }),
    process({ pid: 3, user: "bob", memory_used_bytes: 5 * GIB }),
    process({ pid: 4, user: "carol", type: "graphics" }),
  ],
});
const OTHER = gpu({ index: 1, uuid: "GPU-1", utilization_percent: 30, processes: [process({ user: "alice", memory_used_bytes: GIB })] });

test("a user is counted once a GPU, with all memory that is known, and where", () => {
  const [alice, bob, ...rest] = users([node("a", { report: report([SHARED, OTHER]) })]);
  expect(alice).toMatchObject({ user: "alice", gpuCount: 2, memoryBytes: { known: 11 * GIB, missing: 1 }, meanUtilizationPercent: 60 });
  expect(alice?.places).toEqual([{ node: "a", alias: "a", indices: [0, 1] }]);
  expect(bob).toMatchObject({ user: "bob", gpuCount: 1, memoryBytes: { known: 5 * GIB, missing: 0 } });
  expect(rest).toEqual([]);
});

test("memory that no process tells is not known", () => {
  const [erin] = users([node("a", { report: report([gpu({ processes: [process({ user: "erin", memory_used_bytes: null })] })]) })]);
  expect(erin?.memoryBytes).toEqual({ known: null, missing: 1 });
});

test("nobody is said to be on a node that is not online", () => {
  expect(users([node("a", { status: "offline", report: report([SHARED]) })])).toEqual([]);
});

test("how long a user's GPUs idle is told as far as the hub knows", () => {
  const idle = gpu({ utilization_percent: 0, memory_used_bytes: 40 * GIB, processes: [process({ user: "dave" })] });
  const since = "2026-11-23T12:00:00.000Z";
  const [dave] = users([node("a", { report: report([idle]), idle_since: { "GPU-0": since } })]);
  expect(dave).toMatchObject({ idleCount: 1, idleSince: Date.parse(since) });
});
