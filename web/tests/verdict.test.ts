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

describe("what an agent says is told in Chinese with its figures", () => {
  const zh = createLocale("zh", []);
  const told = (code: string, message: string) => translateFault({ code, message, hint: "as the agent hints" }, zh);
  test.each([
    ["crash", "The process that reads the GPUs has died while reading GPU 3 (GPU-1f).", "正在读取 GPU 3 (GPU-1f)。"],
    ["crash", "GPU 5: The process that reads the GPUs has died while looking up the processes on GPU 5.", "查询 GPU 5 上的进程。"],
    ["crash", "The process that reads the GPUs has died.", "读取 GPU 的进程异常终止。"],
    ["protocol", "The process that reads the GPUs talks nonsense while listing its GPUs.", "应答混乱，当时正在列出 GPU。"],
    ["timeout", "The driver has not answered for 12 s while starting.", "驱动已有 12 秒没有应答，当时正在启动驱动。"],
    ["nvml_999", "The NVIDIA driver failed to start (NVML return code 999).", "无法启动（NVML 返回码 999）。"],
    ["nvml_3", "2 of 4 GPUs are not well; GPU 1: The driver gives no access to this GPU (NVML return code 3).", "（NVML 返回码 3）。"],
    ["error", "The NVIDIA driver failed to list its GPUs (an answer that is none).", "无法列出 GPU，且应答无效。"],
    ["error", "Its agent reports the status 'error', and no reason.", "未说明原因"],
    ["persistence_off", "Persistence mode is off on GPU 0, 2: the driver starts a GPU anew.", "GPU 0, 2 未开启"],
    ["persistence_off", "Persistence mode is off on every GPU: the driver starts a GPU anew.", "所有 GPU"],
    [
      "gpus_missing",
      "The PCI bus has 8 NVIDIA GPUs for the driver, which lists 6. Not listed: 0000:17:00.0, 0000:65:00.0, ….",
      "有 8 块应由驱动管理的 NVIDIA GPU，驱动只列出 6 块。未列出：0000:17:00.0, 0000:65:00.0, …。",
    ],
    [
      "driver_mismatch",
      "The NVIDIA driver was updated to 580.95.05, but the old one (570.133.20) is still loaded in the kernel.",
      "已更新到 580.95.05，但内核中仍加载着旧版本 570.133.20。",
    ],
    ["long_uptime", "This machine has been up for 61 days. With B200 boards", "连续运行 61 天"],
    [
      "processes_left_out",
      "900 processes hold GPUs of this node, which is more than a report has room for: told are the 640 with the most memory",
      "有 900 个进程占用该节点的 GPU，一份报告放不下：只列出占用显存最多的 640 个",
    ],
  ])("%s: %s", (code, message, words) => {
    expect(told(code, message).message).toContain(words);
  });
  test("also its hint, where its code has several", () => {
    const hint = "See whether nvidia-smi works here; in a container that once worked, restart the container.";
    const message = "The NVIDIA driver failed to start (NVML return code 999).";
    expect(translateFault({ code: "nvml_999", message, hint }, zh).hint).toMatch(/^检查/);
    expect(told("nvml_999", message).hint).toBe("as the agent hints");
    expect(told("nvml_x", message).message).toBe(message);
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
