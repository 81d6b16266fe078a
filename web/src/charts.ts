// What the charts of a node show: quantities, their units and limits, and their figures. Knows nothing of drawing.

import type { NodePast, XidAt } from "./archive";
import type { Format } from "./format";
import { historyKey } from "./past";
import type { Gpu } from "./types";

export const SPANS = ["hour", "day"] as const;
export type Span = (typeof SPANS)[number];

/** How long each span is, in seconds, and how many points it is drawn with. */
export const SPAN: Readonly<Record<Span, { readonly seconds: number; readonly points: number }>> = {
  hour: { seconds: 3_600, points: 180 },
  day: { seconds: 86_400, points: 288 },
};

export type Charted =
  | "utilization_percent"
  | "memory_used_bytes"
  | "power_draw_watts"
  | "temperature_celsius"
  | "sm_clock_megahertz";

/** Beside what is charted: the share of each span in which a GPU was slowed down. */
export const THROTTLED = "throttled_percent";
export type Field = Charted | typeof THROTTLED;

export interface Quantity {
  readonly field: Charted;
  /** Where its scale ends at least, and where its line of the limit stands, if it has one. */
  readonly top: (gpu: Gpu) => number | null;
  readonly limit: (gpu: Gpu) => number | null;
  readonly show: (format: Format, value: number) => string;
}

export const QUANTITIES: readonly Quantity[] = [
  {
    field: "utilization_percent",
    top: () => 100,
    limit: () => null,
    show: (format, value) => format.percent(value),
  },
  {
    field: "memory_used_bytes",
    top: (gpu) => gpu.memory_total_bytes,
    limit: (gpu) => gpu.memory_total_bytes,
    show: (format, value) => format.bytes(value),
  },
  {
    field: "power_draw_watts",
    top: (gpu) => gpu.power_limit_watts,
    limit: (gpu) => gpu.power_limit_watts,
    show: (format, value) => format.power(value, null),
  },
  {
    field: "temperature_celsius",
    top: (gpu) => gpu.slowdown_temperature_celsius ?? null,
    limit: (gpu) => gpu.slowdown_temperature_celsius ?? null,
    show: (format, value) => format.celsius(value),
  },
  {
    field: "sm_clock_megahertz",
    top: (gpu) => gpu.sm_clock_max_megahertz ?? null,
    limit: (gpu) => gpu.sm_clock_max_megahertz ?? null,
    show: (format, value) => format.megahertz(value),
  },
];

type Values = readonly (number | null)[];

/** The values of one GPU, or nothing where the hub remembers none. */
export function valuesOf(past: NodePast, gpu: Gpu, field: Field): Values {
  const key = historyKey(gpu);
  return past.series.find((one) => one.gpu === key && one.metric === field)?.values ?? [];
}

/** A time from one moment to another, in seconds. */
export type Band = readonly [number, number];

/** When the GPU was slowed down, for some of each span at least. */
export function throttledBands(past: NodePast, gpu: Gpu): readonly Band[] {
  const bands: [number, number][] = [];
  valuesOf(past, gpu, THROTTLED).forEach((share, place) => {
    const start = past.at[place];
    if (!share || start === undefined) return;
    const last = bands.at(-1);
    if (last?.[1] === start) last[1] = start + past.step_seconds;
    else bands.push([start, start + past.step_seconds]);
  });
  return bands;
}

/** What the driver reported of the GPU, oldest first. */
export function xidsOf(past: NodePast, gpu: Gpu): readonly XidAt[] {
  const key = historyKey(gpu);
  return (past.xids ?? []).filter((xid) => xid.gpu === key);
}

export interface Figures {
  readonly newest: number | null;
  readonly lowest: number;
  readonly mean: number;
  readonly highest: number;
}

/** What stands beside the chart; null where nothing is known of the whole time. `newest` may be unknown by itself. */
export function figuresOf(values: Values): Figures | null {
  const known = values.filter((value) => value !== null);
  if (known.length === 0) return null;
  return {
    // The span that is being filled may have no sample yet.
    newest: values.at(-1) ?? values.at(-2) ?? null,
    lowest: Math.min(...known),
    mean: known.reduce((sum, value) => sum + value, 0) / known.length,
    highest: Math.max(...known),
  };
}

/** Values between two gaps, which no line would show. */
export function lonely(values: Values): number[] {
  return [...values.keys()].filter(
    (at) => values[at] != null && values[at - 1] == null && values[at + 1] == null,
  );
}
