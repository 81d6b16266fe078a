import { expect, test } from "vitest";

import cases from "../../tests/availability.json";
import { heldAt, idleOf } from "../src/activity";
import { gpuKey, gpuState } from "../src/fleet";
import type { Gpu, NodeStatus } from "../src/types";
import { gpu, node, report } from "./fixtures";

interface Case {
  readonly why: string;
  readonly state: string;
  readonly status?: NodeStatus;
  readonly idle_seconds?: number;
  readonly gpu: Partial<Gpu>;
}

const NOW = Date.parse("2026-11-23T14:00:00.000Z");

// The terminal follows the same table (tests/test_availability.py), so that nobody is told two things of one GPU.
test.each(cases as unknown as readonly Case[])("$state: $why", ({ state, status = "online", idle_seconds, gpu: values }) => {
  const one = gpu({ uuid: "GPU-a", memory_total_bytes: null, ...values });
  const since = idle_seconds === undefined ? {} : { "GPU-a": new Date(NOW - idle_seconds * 1_000).toISOString() };
  const of = node("n", { status, report: report([one]), idle_since: since });
  const isHeld = heldAt(idleOf(of), NOW).has(gpuKey(one));
  expect(gpuState(one, status, isHeld)).toBe(state);
});
