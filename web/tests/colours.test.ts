// The colours of the states are chosen by measurement: readable in both themes, and apart for every kind of sight.

import { describe, expect, test } from "vitest";

import css from "../src/style/base.css?raw";

type Triple = readonly [number, number, number];

const STATES = ["free", "busy", "warning", "fault", "unknown"] as const;
const THEMES = ["light", "dark"] as const;
/** WCAG 2.1, 1.4.3: text of normal size. */
const LEAST_CONTRAST = 4.5;
/** Of CAM02-UCS, where 1 is about what can just be seen. */
const LEAST_DISTANCE = 10;

function token(name: string, theme: (typeof THEMES)[number]): Triple {
  const match = new RegExp(`--${name}: light-dark\\((#\\w{6}), (#\\w{6})\\)`).exec(css);
  const hex = match?.[theme === "light" ? 1 : 2];
  if (hex === undefined) throw new Error(`no colour ${name}`);
  return [1, 3, 5].map((at) => Number.parseInt(hex.slice(at, at + 2), 16) / 255) as unknown as Triple;
}

function times(matrix: readonly Triple[], [a, b, c]: Triple): Triple {
  return matrix.map(([x, y, z]) => x * a + y * b + z * c) as unknown as Triple;
}

/** sRGB (IEC 61966-2-1) without its curve. */
function linear(color: Triple): Triple {
  return color.map((value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4)) as unknown as Triple;
}

function luminance(color: Triple): number {
  const [r, g, b] = linear(color);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}

function contrast(a: Triple, b: Triple): number {
  const [low, high] = [luminance(a), luminance(b)].sort((x, y) => x - y) as [number, number];
  return (high + 0.05) / (low + 0.05);
}

/** Machado, Oliveira and Fernandes 2009, table of full severity; of linear sRGB. */
const SIGHTS: Readonly<Record<string, readonly Triple[]>> = {
  normal: [
    [1, 0, 0],
    [0, 1, 0],
    [0, 0, 1],
  ],
  deuteranopic: [
    [0.367322, 0.860646, -0.227968],
    [0.280085, 0.672501, 0.047413],
    [-0.01182, 0.04294, 0.968881],
  ],
  protanopic: [
    [0.152286, 1.052583, -0.204868],
    [0.114503, 0.786281, 0.099216],
    [-0.003882, -0.048116, 1.051998],
  ],
  tritanopic: [
    [1.255528, -0.076749, -0.178779],
    [-0.078411, 0.930809, 0.147602],
    [0.004733, 0.691367, 0.3039],
  ],
};

const TO_XYZ: readonly Triple[] = [
  [41.24564, 35.75761, 18.04375],
  [21.26729, 71.51522, 7.2175],
  [1.93339, 11.9192, 95.03041],
];
const CAT02: readonly Triple[] = [
  [0.7328, 0.4296, -0.1624],
  [-0.7036, 1.6975, 0.0061],
  [0.003, 0.0136, 0.9834],
];
/** From the sharpened responses of CAT02 to those of cones (Hunt, Pointer and Estevez). */
const TO_CONES: readonly Triple[] = [
  [0.7409792, 0.218025, 0.0410058],
  [0.2853532, 0.6242014, 0.0904454],
  [-0.009628, -0.005698, 1.015326],
];

/** CIECAM02 (CIE 159:2004) of linear sRGB under its own viewing conditions, in the uniform space of Luo, Cui and Li 2006. */
function uniform(color: Triple): Triple {
  const adaptingLuminance = 64 / Math.PI / 5;
  const [surround, impact, chromaticInduction] = [1, 0.69, 1];
  const k = 1 / (5 * adaptingLuminance + 1);
  const fl = 0.2 * k ** 4 * 5 * adaptingLuminance + 0.1 * (1 - k ** 4) ** 2 * (5 * adaptingLuminance) ** (1 / 3);
  const n = 0.2;
  const background = 0.725 * (1 / n) ** 0.2;
  const z = 1.48 + Math.sqrt(n);
  const degree = surround * (1 - (1 / 3.6) * Math.exp((-adaptingLuminance - 42) / 92));
  const white = times(CAT02, times(TO_XYZ, [1, 1, 1]));
  const compress = (value: number): number => {
    const power = ((fl * Math.abs(value)) / 100) ** 0.42;
    return (Math.sign(value) * 400 * power) / (power + 27.13) + 0.1;
  };
  const respond = (rgb: Triple): Triple => {
    const sharpened = times(CAT02, times(TO_XYZ, rgb));
    const adapted = sharpened.map((value, at) => value * ((100 * degree) / (white[at] ?? 1) + 1 - degree));
    return times(TO_CONES, adapted as unknown as Triple).map(compress) as unknown as Triple;
  };
  const achromatic = ([r, g, b]: Triple): number => (2 * r + g + b / 20 - 0.305) * background;
  const [r, g, b] = respond(color);
  const a = r - (12 * g) / 11 + b / 11;
  const bb = (r + g - 2 * b) / 9;
  const hue = Math.atan2(bb, a);
  const eccentricity = (Math.cos(hue + 2) + 3.8) / 4;
  const j = 100 * (achromatic([r, g, b]) / achromatic(respond([1, 1, 1]))) ** (impact * z);
  const t = ((50_000 / 13) * chromaticInduction * background * eccentricity * Math.hypot(a, bb)) / (r + g + (21 * b) / 20);
  const chroma = t ** 0.9 * Math.sqrt(j / 100) * (1.64 - 0.29 ** n) ** 0.73;
  const colourfulness = Math.log(1 + 0.0228 * chroma * fl ** 0.25) / 0.0228;
  return [(1.7 * j) / (1 + 0.007 * j), colourfulness * Math.cos(hue), colourfulness * Math.sin(hue)];
}

function distance(a: Triple, b: Triple): number {
  return Math.hypot(a[0] - b[0], a[1] - b[1], a[2] - b[2]);
}

describe.each(THEMES)("in the %s theme", (theme) => {
  test.each([...STATES, "text", "muted", "address"])("%s is readable on the page and on a panel", (name) => {
    const shade = token(name, theme);
    expect(contrast(shade, token("page", theme))).toBeGreaterThanOrEqual(LEAST_CONTRAST);
    expect(contrast(shade, token("panel", theme))).toBeGreaterThanOrEqual(LEAST_CONTRAST);
  });

  test.each(Object.keys(SIGHTS))("no two states look alike to %s sight", (sight) => {
    const matrix = SIGHTS[sight] ?? [];
    const seen = STATES.map((name) => {
      const color = times(matrix, linear(token(name, theme)));
      return uniform(color.map((value) => Math.min(1, Math.max(0, value))) as unknown as Triple);
    });
    for (const [at, one] of seen.entries()) {
      for (const other of seen.slice(at + 1)) expect(distance(one, other)).toBeGreaterThanOrEqual(LEAST_DISTANCE);
    }
  });
});

test("the measure knows colours that are told apart badly", () => {
  const [red, green] = [linear([0.86, 0.15, 0.15]), linear([0.09, 0.64, 0.29])];
  const through = (color: Triple): Triple => uniform(times(SIGHTS["deuteranopic"] ?? [], color));
  expect(distance(uniform(red), uniform(green))).toBeGreaterThan(50);
  expect(distance(through(red), through(green))).toBeLessThan(25);
  expect(contrast([1, 1, 1], [0, 0, 0])).toBeCloseTo(21);
  expect(uniform([1, 1, 1])[0]).toBeCloseTo(100, 0);
});
