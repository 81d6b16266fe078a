import { expect, test, vi } from "vitest";

import { fillPast } from "../src/archive";
import { BUCKETS, BUCKET_SECONDS, drawPath, type FleetPast, historyKey, meanSpark, Past, pieces } from "../src/past";
import { gpu, node, report } from "./fixtures";

const GIB = 2 ** 30;
const NOW = 1_795_456_800_000;
const LAST = NOW / 1_000 / BUCKET_SECONDS - 1;

function answer(values: readonly (number | null)[], metric = "utilization_percent"): FleetPast {
  const at = values.map((_, index) => (LAST - values.length + 1 + index) * BUCKET_SECONDS);
  return { step_seconds: BUCKET_SECONDS, at, nodes: { n: [{ gpu: "GPU-0", metric, values }] } };
}

function told(utilization: number | null, values: Parameters<typeof node>[1] = {}) {
  return node("n", { report: report([gpu({ utilization_percent: utilization, memory_used_bytes: 20 * GIB })]), ...values });
}

function watched(): Past {
  const past = new Past();
  past.want("n");
  past.tick(NOW);
  return past;
}

test("what the hub remembers is drawn up to the newest bucket that is full, and what it does not know is a gap", () => {
  const past = watched();
  past.fill(answer([50, null, 100]));
  expect(past.spark("n", gpu()).utilization.slice(-4)).toEqual([null, 0.5, null, 1]);
  expect(past.spark("n", gpu()).utilization).toHaveLength(BUCKETS);
});

test("what the stream tells goes on where the hub ended, as the mean of its bucket", () => {
  const past = watched();
  past.fill(answer([50]));
  past.observe(told(20), NOW);
  past.observe(told(40), NOW + 1_000);
  past.tick(NOW + 10_000);
  expect(past.spark("n", gpu()).utilization.slice(-2)).toEqual([0.5, 0.3]);
  expect(past.spark("n", gpu()).memory.at(-1)).toBe(0.25);
});

test("a node that is not online, and a value that is not told, are gaps and not zeros", () => {
  const past = watched();
  past.observe(told(null), NOW);
  past.observe(told(70, { status: "stale" }), NOW + 10_000);
  past.tick(NOW + 20_000);
  expect(past.spark("n", gpu()).utilization.slice(-2)).toEqual([null, null]);
});

test("memory without a known total has no line", () => {
  const past = watched();
  past.fill(answer([5 * GIB], "memory_used_bytes"));
  expect(past.spark("n", gpu({ memory_total_bytes: null })).memory.at(-1)).toBeNull();
  expect(past.spark("n", gpu({ memory_total_bytes: 10 * GIB })).memory.at(-1)).toBe(0.5);
});

test("only of nodes that were looked at anything is kept, and of those that are gone nothing", () => {
  const past = new Past();
  past.observe(told(50), NOW);
  past.tick(NOW + 10_000);
  expect(past.spark("n", gpu()).utilization.at(-1)).toBeNull();
  past.want("n");
  past.observe(told(50), NOW);
  expect(past.spark("n", gpu()).utilization.at(-1)).toBe(0.5);
  past.keep(new Set(["other"]));
  expect(past.spark("n", gpu()).utilization.at(-1)).toBeNull();
  expect(past.wanted.value.size).toBe(0);
});

test("a GPU goes by the name that the hub remembers it by", () => {
  expect(historyKey(gpu({ uuid: null, pci_bus_id: "0:1" }))).toBe("0:1");
  expect(historyKey(gpu({ uuid: null, index: 3 }))).toBe("#3");
});

test("several GPUs are drawn as the mean of what is known at each moment", () => {
  const one = { utilization: [1, null, 0.5], memory: [] };
  const other = { utilization: [0, null, null], memory: [] };
  expect(meanSpark([one, other]).utilization.slice(0, 3)).toEqual([0.5, null, 0.5]);
});

test("a path has a piece for each run of values, and none across a gap", () => {
  const line = [0, 1, null, 0.5];
  expect(pieces(line)).toEqual([
    [0, 1],
    [3, 3],
  ]);
  expect(drawPath(line, 10, false)).toBe("M0 10.0L1 0.0L2 0.0M3 5.0L4 5.0");
  expect(drawPath([0.5], 10, true)).toBe("M0 10L0 5.0L1 5.0L1 10Z");
});

test("nodes that come into view together are asked for in one question, again after the stream began anew", async () => {
  vi.useFakeTimers();
  const past = new Past();
  const asked: string[] = [];
  const end = fillPast(past, () => NOW, async (url) => {
    asked.push(url);
    return new Response(JSON.stringify(answer([1])));
  });
  past.want("n");
  past.want("o/ü");
  await vi.advanceTimersByTimeAsync(2_000);
  expect(asked).toHaveLength(1);
  expect(new URLSearchParams(asked[0]?.split("?")[1]).getAll("node")).toEqual(["n", "o/ü"]);
  past.askAgain();
  await vi.advanceTimersByTimeAsync(2_000);
  expect(asked).toHaveLength(2);
  end();
  vi.useRealTimers();
});

test("a hub that gives no answer is asked again, without haste", async () => {
  vi.useFakeTimers();
  const past = new Past();
  let asked = 0;
  const end = fillPast(past, () => NOW, async () => {
    asked += 1;
    throw new TypeError("no hub");
  });
  past.want("n");
  await vi.advanceTimersByTimeAsync(9_000);
  expect(asked).toBe(1);
  await vi.advanceTimersByTimeAsync(10_000);
  expect(asked).toBe(2);
  end();
  vi.useRealTimers();
});
