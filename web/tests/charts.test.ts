import { expect, test } from "vitest";

import { figuresOf, lonely, throttledBands, valuesOf, xidsOf } from "../src/charts";
import { gpu } from "./fixtures";

test("the figures are of what is known, and nothing at all where nothing is", () => {
  expect(figuresOf([null, 4, 8, null])).toEqual({ newest: 8, lowest: 4, mean: 6, highest: 8 });
  expect(figuresOf([4, null, null])?.newest).toBeNull();
  expect(figuresOf([null, null])).toBeNull();
  expect(figuresOf([])).toBeNull();
});

test("a value between gaps is seen by itself", () => {
  expect(lonely([1, null, 2, null, 3, 4])).toEqual([0, 2]);
});

test("a GPU that the hub remembers nothing of has no values", () => {
  const past = { step_seconds: 10, at: [0], series: [{ gpu: "GPU-0", metric: "power_draw_watts", values: [1] }] };
  expect(valuesOf(past, gpu(), "power_draw_watts")).toEqual([1]);
  expect(valuesOf(past, gpu({ uuid: "GPU-1" }), "power_draw_watts")).toEqual([]);
});

test("a GPU's bands are the spans in which it was slowed down at all, joined where they touch", () => {
  const values = [0, 12, 100, null, 5, 0];
  const past = {
    step_seconds: 10,
    at: [100, 110, 120, 130, 140, 150],
    series: [{ gpu: "GPU-0", metric: "throttled_percent", values }],
    xids: [
      { gpu: "GPU-1", code: 79, gravity: "critical", meaning: "m", at: 101 },
      { gpu: "GPU-0", code: 63, gravity: "critical", meaning: "m", at: 125 },
    ],
  } as const;
  expect(throttledBands(past, gpu())).toEqual([
    [110, 130],
    [140, 150],
  ]);
  expect(throttledBands(past, gpu({ uuid: "GPU-1" }))).toEqual([]);
  expect(xidsOf(past, gpu()).map(({ code }) => code)).toEqual([63]);
  expect(xidsOf({ step_seconds: 10, at: [], series: [] }, gpu())).toEqual([]);
});
