import { expect, test } from "vitest";

import { HELD_AFTER_MS, heldAt, IdleWatch } from "../src/idle";
import { gpu, node, report } from "./fixtures";

const GIB = 2 ** 30;
const MINUTE = 60_000;

function idle(utilization: number | null = 0, status: "online" | "stale" = "online") {
  return node("n", { status, report: report([gpu({ utilization_percent: utilization, memory_used_bytes: 40 * GIB })]) });
}

/** Looks every half minute for so long; what is idle since when in the end. */
function watch(watched: IdleWatch, minutes: number, from = 0): ReadonlyMap<string, number> {
  let since: ReadonlyMap<string, number> = new Map();
  for (let at = from; at <= from + minutes * MINUTE; at += MINUTE / 2) since = watched.observe(idle(), at);
  return since;
}

test("memory that nobody computes with is held in vain after a quarter of an hour", () => {
  const since = watch(new IdleWatch(), 15);
  expect(heldAt(since, HELD_AFTER_MS - 1).size).toBe(0);
  expect([...heldAt(since, HELD_AFTER_MS)]).toEqual(["GPU-0"]);
});

test("a little computing, a value that is not told, or a node that falls silent begins it anew", () => {
  for (const between of [idle(5), idle(null), idle(0, "stale")]) {
    const watched = new IdleWatch();
    watch(watched, 10);
    watched.observe(between, 10.5 * MINUTE);
    expect(watched.observe(idle(), 11 * MINUTE).get("GPU-0")).toBe(11 * MINUTE);
  }
});

test("who looked away does not know what happened meanwhile", () => {
  const watched = new IdleWatch();
  watch(watched, 10);
  expect(watched.observe(idle(), 20 * MINUTE).get("GPU-0")).toBe(20 * MINUTE);
});

test("next to no memory is held by nobody", () => {
  const unused = node("n", { report: report([gpu({ utilization_percent: 0, memory_used_bytes: GIB })]) });
  expect(new IdleWatch().observe(unused, 0).size).toBe(0);
});
