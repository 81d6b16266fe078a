import { describe, expect, test } from "vitest";

import { createFormat, parseMoment } from "../src/format";
import { createLocale, pickLanguage } from "../src/locale";
import { en } from "../src/messages/en";
import { zh } from "../src/messages/zh";
import { hubUrl } from "../src/views/Empty";

const GIB = 2 ** 30;
const english = createFormat("en", en);
const chinese = createFormat("zh", zh);

describe("numbers", () => {
  test("have their units, and a dash where they are not known", () => {
    expect(english.percent(96.6)).toBe("97%");
    expect(english.celsius(65.4)).toBe("65 °C");
    expect(english.memory(71.2 * GIB, 80 * GIB)).toBe("71.2 / 80.0 GiB");
    expect(english.memory(71.2 * GIB, null)).toBe("71.2 / — GiB");
    expect(english.power(654.6, 700)).toBe("655 / 700 W");
    expect(english.power(654.6, null)).toBe("655 W");
    expect(english.bytes(512 * 2 ** 20)).toBe("512 MiB");
    expect(english.bytes(1)).toBe("1 MiB");
    expect(english.bytes(9_999 * 2 ** 30)).toBe("9,999.0 GiB");
    expect(english.bytes(20 * 2 ** 40)).toBe("20.0 TiB");
    expect(english.memorySum(640.4 * 2 ** 30, 1_123.2 * 2 ** 30)).toBe("640 / 1,123 GiB");
    expect(english.memorySum(null, 2 ** 30)).toBe("— / 1 GiB");
    expect(english.kilowatts(61_200)).toBe("61.2 kW");
  });
});

describe("ages", () => {
  test("grow from seconds to days", () => {
    const ago = (seconds: number): string => english.ago(0, seconds * 1_000);
    expect(ago(1)).toBe("just now");
    expect(ago(3)).toMatch(/^3 sec/);
    expect(ago(130)).toMatch(/^2 min/);
    expect(ago(47 * 3_600)).toMatch(/^47 h/);
    expect(ago(49 * 3_600)).toMatch(/^2 days/);
    expect(chinese.ago(0, 3_000)).toMatch(/^3\s?秒前/);
  });
  test("of the future are now: two clocks never agree", () => {
    expect(english.ago(5_000, 0)).toBe("just now");
  });
  test("of a process are told in its two greatest units", () => {
    expect(english.duration((2 * 24 + 4) * 3_600_000)).toBe("2 d 4 h");
    expect(english.duration(3_600_000)).toBe("1 h");
    expect(english.duration(7 * 60_000 + 5)).toBe("7 min");
    expect(english.duration(-5)).toBe("0 s");
  });
  test("of no moment are none", () => {
    expect(parseMoment(null)).toBeNull();
    expect(parseMoment("yesterday")).toBeNull();
    expect(parseMoment("1970-01-01T00:00:01.500Z")).toBe(1_500);
  });
});

describe("the language", () => {
  test("is the one that is asked for, else the one chosen before, else the reader's first that we have, else English", () => {
    expect(pickLanguage("?lang=zh", "en", ["en-US"])).toBe("zh");
    expect(pickLanguage("?lang=fr", undefined, ["zh-CN", "en"])).toBe("zh");
    expect(pickLanguage("", undefined, ["de-DE", "zh-Hans-CN", "en"])).toBe("zh");
    expect(pickLanguage("", undefined, ["de"])).toBe("en");
    expect(pickLanguage("", "en", ["zh-CN"])).toBe("en");
  });
  test("survives what a browser takes over from a system without one", () => {
    expect(createLocale("en", ["en-US@posix"]).format.percent(1)).toBe("1%");
  });
  test("has every sentence translated", () => {
    expect(keys(zh)).toEqual(keys(en));
  });
});

test("the command of the empty page names this hub, with its port and path", () => {
  const at = { protocol: "http:", hostname: "hub", port: "8080", pathname: "/" };
  expect(hubUrl(at)).toBe("http://hub:8080");
  expect(hubUrl({ ...at, port: "" })).toBe("http://hub:80");
  expect(hubUrl({ ...at, protocol: "https:", port: "", pathname: "/gpu/index.html" })).toBe("https://hub:443/gpu");
});

function keys(value: object): unknown {
  return Object.entries(value).map(([key, inner]: [string, unknown]) =>
    typeof inner === "object" && inner !== null ? [key, keys(inner)] : key,
  );
}
