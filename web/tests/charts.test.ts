import { expect, test } from "vitest";

import { figuresOf, lonely, valuesOf } from "../src/charts";
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
