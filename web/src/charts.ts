// What the charts of a node show: quantities, their units and limits, and their figures. Knows nothing of drawing.

import type { NodePast } from "./archive";
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

export type Field = "utilization_percent" | "memory_used_bytes" | "power_draw_watts" | "temperature_celsius";

export interface Quantity {
  readonly field: Field;
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
];

type Values = readonly (number | null)[];

/** The values of one GPU, or nothing where the hub remembers none. */
export function valuesOf(past: NodePast, gpu: Gpu, field: Field): Values {
  const key = historyKey(gpu);
  return past.series.find((one) => one.gpu === key && one.metric === field)?.values ?? [];
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
