import { expect, test } from "vitest";

import { exceptionsOf, worstFirst } from "../src/exceptions";
import { gpu, node, process } from "./fixtures";

const busy = gpu({ index: 1, uuid: "GPU-1", processes: [process()] });
const lost = gpu({ index: 2, uuid: "GPU-2", status: "lost" });
const hot = gpu({ index: 3, uuid: "GPU-3", temperature_celsius: 90, slowdown_temperature_celsius: 90 });
const verdict = { code: "lost", message: "GPU 2: lost", hint: null };

test("of a node that is well only its odd GPUs are told, each by its worst", () => {
  const found = exceptionsOf(node("a"), [gpu(), busy, lost, hot], new Set(["GPU-1", "GPU-3"]));
  expect(found.map(({ gpu: one, kind }) => [one?.index, kind])).toEqual([
    [1, "held"],
    [2, "fault"],
    [3, "hot"],
  ]);
  expect(exceptionsOf(node("a"), [gpu(), busy], new Set())).toEqual([]);
});

test("a node that is not online is told alone, a verdict on a sick GPU by that GPU", () => {
  expect(exceptionsOf(node("a", { status: "offline" }), [lost], new Set()).map(({ kind }) => kind)).toEqual(["node"]);
  expect(exceptionsOf(node("a", { verdict }), [lost], new Set()).map(({ kind }) => kind)).toEqual(["fault"]);
  expect(exceptionsOf(node("a", { verdict }), [busy], new Set()).map(({ kind }) => kind)).toEqual(["node"]);
});

test("a GPU whose driver asks for a repair is worth a look, whatever it does meanwhile", () => {
  const found = exceptionsOf(node("a"), [gpu({ recovery_action: "gpu_reset" }), gpu({ recovery_action: "none" })], new Set());
  expect(found.map(({ kind }) => kind)).toEqual(["repair"]);
});

test("the worst comes first", () => {
  const found = worstFirst([
    ...exceptionsOf(node("a"), [busy, hot], new Set(["GPU-1"])),
    ...exceptionsOf(node("b", { status: "stale" }), [], new Set()),
    ...exceptionsOf(node("c"), [lost], new Set()),
  ]);
  expect(found.map(({ kind }) => kind)).toEqual(["node", "fault", "hot", "held"]);
});
