import { describe, expect, test } from "vitest";

import api from "../../docs/api.md?raw";
import { createLocale, translateFault } from "../src/locale";
import { causeOf, foremostFirst, reportedAt, reportMoment } from "../src/verdict";
import { node, report } from "./fixtures";

function fault(code: string) {
  return { code, message: "as the hub says it", hint: "as the hub hints" };
}

test("the cause of a verdict is known by its code", () => {
  expect(causeOf(node("a", { status: "offline", verdict: fault("host_unreachable") }))).toBe("silent");
  expect(causeOf(node("a", { status: "online", verdict: fault("wedged") }))).toBe("hung");
  expect(causeOf(node("a", { status: "offline", verdict: fault("constructor") }))).toBeNull();
  expect(causeOf(node("a", { status: "offline" }))).toBeNull();
});

test("a report is dated by the hub's clock, however wrong its own", () => {
  const sampled = report([], { sampled_at: "2026-11-23T13:00:05.000Z" });
  expect(reportedAt(node("a", { report: sampled, clock_offset_seconds: 3_600 }))).toBe(
    Date.parse("2026-11-23T12:00:05.000Z"),
  );
  expect(reportedAt(node("a", { report: sampled }))).toBeNull();
  expect(reportedAt(node("a", { report: null, clock_offset_seconds: 1 }))).toBeNull();
});

test("half of the fleet at once stands above all other notices", () => {
  const codes = foremostFirst([fault("a"), fault("b"), fault("mass_silence")]).map(({ code }) => code);
  expect(codes).toEqual(["mass_silence", "a", "b"]);
});

describe("a fault", () => {
  test("is told in the words of the hub where the reader has English, or nobody translated it", () => {
    expect(translateFault(fault("lost"), createLocale("en", []))).toEqual({
      message: "as the hub says it",
      hint: "as the hub hints",
    });
    expect(translateFault(fault("toString"), createLocale("zh", [])).message).toBe("as the hub says it");
  });
  test("is told in Chinese by its code, with the hub's hint where there is more than one", () => {
    const { message, hint } = translateFault(fault("lost"), createLocale("zh", []));
    expect(message).toContain("GPU");
    expect(hint).toBe("as the hub hints");
  });
  test("says in any language which GPU it speaks of", () => {
    const zh = createLocale("zh", []);
    const told = translateFault({ ...fault("lost"), message: "2 of 8 GPUs are not well; GPU 3: The driver has lost it." }, zh);
    expect(told.message).toMatch(/^GPU 3：驱动/);
  });
  test("means what it means on its channel", () => {
    const zh = createLocale("zh", []);
    expect(translateFault(fault("lost"), zh, "push").message).not.toBe(translateFault(fault("lost"), zh, "driver").message);
  });
});

test("every code of the API's tables is told in Chinese", () => {
  const part = api.slice(api.indexOf("| `verdict.code` |"), api.indexOf("### Agents"));
  const rows = [...part.matchAll(/^\| (`[^|]*) \|/gm)].map(([, codes = ""]) => codes);
  const codes = rows.flatMap((row) => [...row.matchAll(/`([a-z_]+)`/g)].map(([, code = ""]) => code));
  const channels = new Set(["push", "poll", "name", "driver", "clock", "claim"]);
  const told = codes.filter((code) => !channels.has(code));
  expect(told).toContain("agent_died");
  expect(told).toContain("restart_needed");
  const { faults } = createLocale("zh", []);
  expect(told.filter((code) => !Object.hasOwn(faults, code))).toEqual([]);
});

test("a report is dated by its node's own clock, and at a glance by its last sign of life", () => {
  const seen = "2026-11-23T12:00:00.000Z";
  const at = Date.parse(seen);
  const made = node("a", { report: report([], { sampled_at: "2026-11-23T11:00:00.000Z" }), last_seen_at: seen });
  expect(reportMoment(made)).toBe(at - 3_600_000);
  const glanced = node("a", { report: report([]), last_seen_at: seen, clock_offset_seconds: -90 });
  expect(reportMoment(glanced)).toBe(at - 90_000);
  expect(reportMoment(node("a", { report: null, last_seen_at: null }))).toBeNull();
});
