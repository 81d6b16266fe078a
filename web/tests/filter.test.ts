import { describe, expect, test } from "vitest";

import { type Filters, matchingGpus, NO_FILTERS, offersOf } from "../src/filter";
import { sshLine, visibleDevices } from "../src/shell";
import type { Gpu } from "../src/types";
import { gpu, node, process, report } from "./fixtures";

const GIB = 2 ** 30;

const GPUS: readonly Gpu[] = [
  gpu({ index: 0, name: "NVIDIA H100", memory_used_bytes: 0 }),
  gpu({ index: 1, name: "NVIDIA H100", memory_used_bytes: 60 * GIB, processes: [process({ user: "alice", pid: 4711 })] }),
  gpu({ index: 2, name: "NVIDIA A100", memory_used_bytes: 10 * GIB, processes: [process({ user: "bob" })] }),
];

function found(filters: Partial<Filters>, values: Parameters<typeof node>[1] = {}): number[] | null {
  const one = node("gpu01", { alias: "学习", report: report(GPUS), ...values });
  return matchingGpus(one, { ...NO_FILTERS, ...filters })?.map(({ index }) => index) ?? null;
}

describe("filters", () => {
  test("that ask for nothing let everything through, nodes without GPUs too", () => {
    expect(found({})).toEqual([0, 1, 2]);
    expect(found({}, { report: null })).toEqual([]);
  });
  test("ask for free GPUs, free memory, a model, a user", () => {
    expect(found({ freeOnly: true })).toEqual([0]);
    expect(found({ freeMemoryGib: 30 })).toEqual([0, 2]);
    expect(found({ model: "A100" })).toEqual([2]);
    expect(found({ user: "alice" })).toEqual([1]);
    expect(found({ user: "alice", model: "A100" })).toBeNull();
  });
  test("ask for a tag of the node, with what else is asked for", () => {
    const tagged = { tags: ["room 204", "teaching"] };
    expect(found({ tag: "teaching" }, tagged)).toEqual([0, 1, 2]);
    expect(found({ tag: "teaching", freeOnly: true }, tagged)).toEqual([0]);
    expect(found({ tag: "teach" }, tagged)).toBeNull();
    expect(found({ tag: "teaching" })).toBeNull();
    expect(found({ text: "room bob" }, tagged)).toEqual([2]);
    expect(found({ tag: "teaching" }, { ...tagged, report: null })).toEqual([]);
  });
  test("ask for a number of such GPUs on one node", () => {
    expect(found({ model: "H100", gpuCount: 2 })).toEqual([0, 1]);
    expect(found({ model: "H100", gpuCount: 3 })).toBeNull();
    expect(found({ gpuCount: 4 })).toBeNull();
  });
  test("find each word in the node, the GPU or its processes", () => {
    expect(found({ text: "GPU01 bob" })).toEqual([2]);
    expect(found({ text: "4711" })).toEqual([1]);
    expect(found({ text: "学习" })).toEqual([0, 1, 2]);
    expect(found({ text: "gpu01 carol" })).toBeNull();
  });
  test("find a node without GPUs by its name, while no GPU is asked for", () => {
    expect(found({ text: "gpu01" }, { report: null })).toEqual([]);
    expect(found({ text: "gpu01", freeOnly: true }, { report: null })).toBeNull();
  });
  test("promise nothing of a node that does not answer", () => {
    expect(found({ freeMemoryGib: 1 }, { status: "offline" })).toBeNull();
    expect(found({ freeOnly: true }, { status: "stale" })).toBeNull();
  });
});

test("what is free is offered by model", () => {
  const offers = offersOf(node("n"), [...GPUS, gpu({ index: 3, name: "NVIDIA A100" }), gpu({ index: 4, name: null })]);
  expect(offers.map(({ model, gpus }) => [model, gpus.map(({ index }) => index)])).toEqual([
    ["H100", [0]],
    ["A100", [3]],
    [null, [4]],
  ]);
  expect(offersOf(node("n", { status: "offline" }), GPUS)).toEqual([]);
});

describe("a line for a terminal", () => {
  test("names the GPUs, and their order where boards differ", () => {
    const mixed = node("n", { report: report(GPUS) });
    expect(visibleDevices(GPUS.slice(0, 2), mixed)).toBe("CUDA_DEVICE_ORDER=PCI_BUS_ID CUDA_VISIBLE_DEVICES=0,1");
    const equal = node("n", { report: report(GPUS.slice(0, 2)) });
    expect(visibleDevices(GPUS.slice(1, 2), equal)).toBe("CUDA_VISIBLE_DEVICES=1");
  });
  test("holds nothing that a shell would read", () => {
    expect(sshLine(node("n", { host: "gpu01.lab" }))).toBe("ssh gpu01.lab");
    expect(sshLine(node("n", { host: "a;reboot", address: "10.0.0.1" }))).toBe("ssh 10.0.0.1");
    expect(sshLine(node("n", { host: "-oProxyCommand=x" }))).toBeNull();
    expect(sshLine(node("n", { host: "$(x)", address: "fd00::1" }))).toBe("ssh fd00::1");
  });
});
