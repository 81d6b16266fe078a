import { expect, test } from "vitest";

import { HELD_AFTER_MS, heldAt, idleOf } from "../src/activity";
import type { Gpu, Node } from "../src/types";
import { gpu, node, report } from "./fixtures";

const GIB = 2 ** 30;
const SINCE = "2026-11-23T12:00:00.000Z";
const AT = Date.parse(SINCE);

function holding(values: Partial<Gpu> = {}, more: Partial<Node> = {}): Node {
  const one = gpu({ memory_used_bytes: 40 * GIB, ...values });
  return node("n", { report: report([one]), idle_since: { "GPU-0": SINCE, "0:17": SINCE, "#0": SINCE }, ...more });
}

test("memory that nobody computes with is held in vain after a quarter of an hour", () => {
  const since = idleOf(holding());
  expect([...since]).toEqual([["GPU-0", AT]]);
  expect(heldAt(since, AT + HELD_AFTER_MS - 1).size).toBe(0);
  expect([...heldAt(since, AT + HELD_AFTER_MS)]).toEqual(["GPU-0"]);
});

test("a GPU without a UUID goes by its address, else by its index", () => {
  expect(idleOf(holding({ uuid: null, pci_bus_id: "0:17" })).size).toBe(1);
  expect(idleOf(holding({ uuid: null })).size).toBe(1);
  expect(idleOf(holding({ uuid: null, pci_bus_id: "0:18" })).size).toBe(0);
});

test("nothing is held by next to no memory, on a node that is silent, or as long as the hub tells of none", () => {
  expect(idleOf(holding({ memory_used_bytes: GIB })).size).toBe(0);
  expect(idleOf(holding({ memory_used_bytes: null })).size).toBe(0);
  expect(idleOf(holding({}, { status: "stale" })).size).toBe(0);
  expect(idleOf(holding({}, { idle_since: {} })).size).toBe(0);
  expect(idleOf(node("n", { report: report([gpu({ memory_used_bytes: 40 * GIB })]) })).size).toBe(0);
});
