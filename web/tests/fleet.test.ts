import { describe, expect, test } from "vitest";

import { brakesOf, byMemory, gpuState, gravesOf, isPrivate, marksOf, insertNode, sumTallies, tally } from "../src/fleet";
import { gpu, node, process, report } from "./fixtures";

const MIB = 2 ** 20;
const GIB = 2 ** 30;

describe("the state of a GPU", () => {
  test("is free with no process and next to no memory in use", () => {
    expect(gpuState(gpu({ memory_used_bytes: 499 * MIB, memory_total_bytes: 8 * GIB }), "online")).toBe("free");
  });
  test("allows two per cent of a large card", () => {
    expect(gpuState(gpu({ memory_used_bytes: 1.5 * GIB, memory_total_bytes: 80 * GIB }), "online")).toBe("free");
    expect(gpuState(gpu({ memory_used_bytes: 1.6 * GIB, memory_total_bytes: 80 * GIB }), "online")).toBe("busy");
  });
  test("is busy with a process, whatever its memory", () => {
    expect(gpuState(gpu({ processes: [process()], memory_used_bytes: null }), "online")).toBe("busy");
  });
  test("stays free under a display that holds a little of it", () => {
    const display = process({ type: "graphics" });
    expect(gpuState(gpu({ processes: [display], memory_used_bytes: 300 * MIB }), "online")).toBe("free");
    expect(gpuState(gpu({ processes: [display, process()], memory_used_bytes: 300 * MIB }), "online")).toBe("busy");
    expect(gpuState(gpu({ processes: [process({ type: null })], memory_used_bytes: 300 * MIB }), "online")).toBe("busy");
  });
  test("is never free when processes or memory are not known", () => {
    expect(gpuState(gpu({ processes: null }), "online")).toBe("unknown");
    expect(gpuState(gpu({ memory_used_bytes: null }), "online")).toBe("unknown");
  });
  test("is free while it sleeps, though nothing else is known of it", () => {
    const asleep = gpu({ asleep: true, processes: null, memory_used_bytes: null, memory_total_bytes: null });
    expect(gpuState(asleep, "online")).toBe("free");
  });
  test("is unknown on a node that is not online, and a fault when the GPU is lost", () => {
    expect(gpuState(gpu(), "stale")).toBe("unknown");
    expect(gpuState(gpu({ asleep: true }), "stale")).toBe("unknown");
    expect(gpuState(gpu({ status: "lost" }), "online")).toBe("fault");
    expect(gpuState(gpu({ error: { code: "x", message: "x", hint: null } }), "online")).toBe("fault");
  });
});

test("the headline counts power and free GPUs of online nodes only", () => {
  const sum = sumTallies([
    tally(node("a", { report: report([gpu(), gpu({ processes: [process()] })]) })),
    tally(node("b", { status: "offline" })),
    tally(node("c", { status: "pending", report: null })),
    tally(node("d", { report: report([gpu()], { simulated: true }) })),
  ]);
  expect(sum.gpus).toEqual({ free: 2, busy: 1, held: 0, fault: 0, unknown: 1 });
  expect(sum.nodes).toEqual({ online: 2, stale: 0, offline: 1, pending: 1 });
  expect(sum.powerWatts).toEqual({ known: 300, missing: 0 });
  expect(sum.simulatedNodes).toBe(1);
});

test("power that nobody tells is not known, and what some tell is at least that much", () => {
  const told = (...draws: readonly (number | null)[]) =>
    sumTallies([
      tally(node("a", { report: report(draws.map((power_draw_watts) => gpu({ power_draw_watts }))) })),
      tally(node("b", { status: "pending", report: null })),
    ]).powerWatts;
  expect(told(null, null)).toEqual({ known: null, missing: 2 });
  expect(told(0)).toEqual({ known: 0, missing: 0 });
  expect(told(250, null)).toEqual({ known: 250, missing: 1 });
});

test("processes come by memory, most first, unknown last", () => {
  const sorted = byMemory([
    process({ pid: 1, memory_used_bytes: null }),
    process({ pid: 4, memory_used_bytes: 5 }),
    process({ pid: 3, memory_used_bytes: 5 }),
    process({ pid: 2, memory_used_bytes: 0 }),
    process({ pid: 5, memory_used_bytes: 9 }),
  ]);
  expect(sorted.map(({ pid }) => pid)).toEqual([5, 3, 4, 2, 1]);
});

test("a new node goes behind the configured ones, by name", () => {
  const names = (list: readonly { name: string }[]): string[] => list.map(({ name }) => name);
  const list = [node("z"), node("a"), node("b", { configured: false }), node("d", { configured: false })];
  expect(names(insertNode(list, node("c", { configured: false })))).toEqual(["z", "a", "b", "c", "d"]);
  expect(names(insertNode(list, node("e", { configured: false })))).toEqual(["z", "a", "b", "d", "e"]);
  expect(names(insertNode(list, node("c")))).toEqual(["z", "a", "c", "b", "d"]);
});

test("a GPU is hot near the temperature that it names itself, and never by a guess", () => {
  expect(marksOf(gpu({ temperature_celsius: 88, slowdown_temperature_celsius: 92 }), "online")).toEqual(["hot"]);
  expect(marksOf(gpu({ temperature_celsius: 86, slowdown_temperature_celsius: 92 }), "online")).toEqual([]);
  expect(marksOf(gpu({ temperature_celsius: 99, slowdown_temperature_celsius: null }), "online")).toEqual([]);
  expect(marksOf(gpu({ temperature_celsius: 92, slowdown_temperature_celsius: 92 }), "offline")).toEqual([]);
});

test("a GPU is throttled by heat or its power supply, not by a cap on its power", () => {
  expect(marksOf(gpu({ throttle_reasons: ["gpu_idle", "sw_power_cap"] }), "online")).toEqual([]);
  expect(marksOf(gpu({ throttle_reasons: ["hw_thermal_slowdown"] }), "online")).toEqual(["throttled"]);
});

test("why a GPU is throttled is told once, and hardware only where nothing more precise is known", () => {
  const of = (...throttle_reasons: string[]): readonly string[] => brakesOf(gpu({ throttle_reasons }));
  expect(of("hw_slowdown", "sw_thermal_slowdown", "hw_thermal_slowdown")).toEqual(["heat"]);
  expect(of("hw_power_brake_slowdown", "hw_thermal_slowdown")).toEqual(["power", "heat"]);
  expect(of("hw_slowdown", "sw_power_cap", "constructor")).toEqual(["hardware"]);
  expect(brakesOf(gpu({ throttle_reasons: null }))).toEqual([]);
});

test("an Xid that is a trifle is no mark, one whose gravity is not told is", () => {
  const xids = [{ code: 43, gravity: "info" }, { code: 63, gravity: "critical" }, { code: 79 }] as const;
  expect(gravesOf(gpu({ xids })).map(({ code }) => code)).toEqual([63, 79]);
  expect(gravesOf(gpu())).toEqual([]);
});

test("a GPU whose processes are private is as busy as it is, and says what is private", () => {
  const hidden = gpu({ processes: [], processes_truncated: 2, memory_used_bytes: 0, unavailable: { processes: "private" } });
  expect(gpuState(hidden, "online")).toBe("busy");
  expect(gpuState({ ...hidden, processes_truncated: 0 }, "online")).toBe("free");
  expect(isPrivate(hidden, "user")).toBe(true);
  const nameless = gpu({ unavailable: { "processes.user": "private" } });
  expect([isPrivate(nameless, "user"), isPrivate(nameless, "command")]).toEqual([true, false]);
  expect(isPrivate(gpu({ unavailable: { processes: "denied" } }), "user")).toBe(false);
});
