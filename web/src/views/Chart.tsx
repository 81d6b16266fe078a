import type { Signal } from "@preact/signals";
import { useEffect, useRef, useState } from "preact/hooks";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";

import type { NodePast } from "../archive";
import { lonely, type Quantity, SPAN, type Span, throttledBands, valuesOf, xidsOf } from "../charts";
import type { Format } from "../format";
import { useLocale } from "../locale";
import type { Gpu } from "../types";
import type { Theme } from "../view";

const HEIGHT = 150;
const FONT = "11px system-ui, sans-serif";

interface Props {
  readonly quantity: Quantity;
  readonly past: NodePast;
  readonly gpu: Gpu;
  readonly gpus: readonly Gpu[];
  readonly span: Span;
  readonly moment: Signal<number | null>;
  readonly theme: Theme;
}

/** One quantity over time. */
export function Chart(props: Props) {
  const { quantity, past, gpu, gpus, span, moment, theme } = props;
  const { text, format } = useLocale();
  const place = useRef<HTMLDivElement>(null);
  const scheme = useColorScheme();
  useEffect(() => {
    const box = place.current;
    if (box === null) return undefined;
    const drawn = new uPlot(options(props, box, format), dataOf(props), box);
    const stop = moment.subscribe((at) => point(drawn, at));
    const watcher = new ResizeObserver(() => {
      if (box.clientWidth > 0 && box.clientWidth !== drawn.width) {
        drawn.setSize({ width: box.clientWidth, height: HEIGHT });
      }
    });
    watcher.observe(box);
    return () => {
      watcher.disconnect();
      stop();
      drawn.destroy();
    };
    // Of a GPU, what is drawn changes with its past alone, not with each report.
  }, [quantity, past, gpu.index, gpus.length, span, theme, scheme, format]);
  const values = valuesOf(past, gpu, quantity.field);
  const at = moment.value;
  const value = (at === null ? (values.at(-1) ?? values.at(-2)) : values[at]) ?? null;
  const time = at === null ? null : format.clock((past.at[at] ?? 0) * 1_000);
  return (
    <figure data-chart={quantity.field}>
      <figcaption>
        {text.charted[quantity.field]} <strong>{value === null ? "—" : quantity.show(format, value)}</strong>
        {time !== null && <span class="aside"> {text.charts.at(time)}</span>}
      </figcaption>
      <div ref={place} class="plot" aria-hidden="true" />
    </figure>
  );
}

/** Counts how often the system changed between light and dark. */
function useColorScheme(): number {
  const [changes, setChanges] = useState(0);
  useEffect(() => {
    const dark = matchMedia("(prefers-color-scheme: dark)");
    const changed = (): void => setChanges((before) => before + 1);
    dark.addEventListener("change", changed);
    return () => dark.removeEventListener("change", changed);
  }, []);
  return changes;
}

/** The chosen GPU after the others, so that it lies above them; then its limit. */
function dataOf({ past, gpu, gpus, quantity }: Props): uPlot.AlignedData {
  const limit = quantity.limit(gpu);
  const lines = [...others(gpus, gpu), gpu].map((one) => padded(valuesOf(past, one, quantity.field), past.at.length));
  return [[...past.at], ...lines, past.at.map(() => limit)];
}

function others(gpus: readonly Gpu[], gpu: Gpu): readonly Gpu[] {
  return gpus.filter((one) => one.index !== gpu.index);
}

function padded(values: readonly (number | null)[], length: number): (number | null)[] {
  return Array.from({ length }, (_, at) => values[at] ?? null);
}

function options(props: Props, box: HTMLElement, format: Format): uPlot.Options {
  const { past, gpu, gpus, quantity, span, moment } = props;
  const ink = inksOf(box);
  const end = past.at.at(-1) ?? 0;
  const line = (color: string, width: number): uPlot.Series => ({
    stroke: color,
    width,
    points: {
      show: true,
      size: 2 + width,
      filter: (plot, series) => lonely((plot.data[series] ?? []) as (number | null)[]),
    },
  });
  const axis = { stroke: ink.text, font: FONT, grid: { stroke: ink.grid, width: 1 }, ticks: { show: false } };
  return {
    width: Math.max(box.clientWidth, 120),
    height: HEIGHT,
    legend: { show: false },
    padding: [8, 20, 0, 0],
    cursor: { y: false, drag: { x: false, y: false, setScale: false }, points: { show: false } },
    scales: {
      x: { range: () => [end - SPAN[span].seconds, end] },
      y: { range: (_, __, highest) => [0, 1.05 * Math.max(highest, quantity.top(gpu) ?? 0, 1)] },
    },
    axes: [
      { ...axis, size: 24, space: 64, values: (_, moments) => moments.map((at) => format.hourMinute(at * 1_000)) },
      {
        ...axis,
        size: 62,
        space: 34,
        // Gibibytes at round numbers of their own.
        ...(quantity.field === "memory_used_bytes" && { incrs: [1, 2, 4, 8, 16, 32, 64, 128, 256].map((one) => one * 2 ** 30) }),
        values: (_, values) => values.map((value) => quantity.show(format, value)),
      },
    ],
    series: [
      {},
      ...others(gpus, gpu).map(() => line(ink.others, 1)),
      line(ink.chosen, 2),
      { stroke: ink.limit, width: 1.5, dash: [6, 4], points: { show: false } },
    ],
    hooks: {
      drawClear: [(plot) => drawBands(plot, props, ink)],
      setCursor: [
        ({ cursor }) => {
          moment.value = cursor.idx ?? null;
        },
      ],
    },
  };
}

/** When the GPU was slowed down, and when its driver reported an error, behind all the lines. */
function drawBands({ ctx, bbox, valToPos }: uPlot, { past, gpu }: Props, ink: Inks): void {
  const place = (moment: number): number =>
    Math.min(Math.max(valToPos(moment, "x", true), bbox.left), bbox.left + bbox.width);
  ctx.save();
  ctx.globalAlpha = 0.25;
  ctx.fillStyle = ink.throttled;
  for (const [start, end] of throttledBands(past, gpu)) {
    const left = place(start);
    ctx.fillRect(left, bbox.top, Math.max(1, place(end) - left), bbox.height);
  }
  ctx.globalAlpha = 1;
  ctx.fillStyle = ink.xid;
  for (const { at } of xidsOf(past, gpu)) {
    ctx.fillRect(place(at) - devicePixelRatio, bbox.top, 2 * devicePixelRatio, bbox.height);
  }
  ctx.restore();
}

interface Inks {
  readonly throttled: string;
  readonly xid: string;
  readonly chosen: string;
  readonly others: string;
  readonly limit: string;
  readonly text: string;
  readonly grid: string;
}

/** The colours of the present theme, as the legend has them. */
function inksOf(box: HTMLElement): Inks {
  const charts = box.closest(".charts") ?? box;
  const of = (ink: string): string => getComputedStyle(charts.querySelector(`[data-ink="${ink}"]`) ?? charts).color;
  const { color, borderTopColor } = getComputedStyle(box);
  return {
    throttled: of("throttled"),
    xid: of("xid"),
    chosen: of("chosen"),
    others: of("others"),
    limit: of("limit"),
    text: color,
    grid: borderTopColor,
  };
}

/** Show where `at` is, without telling it back. */
function point(plot: uPlot, at: number | null): void {
  const moment = at === null ? undefined : plot.data[0][at];
  if (plot.cursor.idx === at && at !== null) return;
  const left = moment === undefined ? -10 : plot.valToPos(moment, "x");
  plot.setCursor({ left, top: moment === undefined ? -10 : 10 }, false);
}
