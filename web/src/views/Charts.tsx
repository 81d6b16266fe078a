import { type Signal, useComputed, useSignal } from "@preact/signals";
import { useEffect, useState } from "preact/hooks";

import { fetchNodePast, type NodePast } from "../archive";
import {
  type Charted,
  figuresOf,
  QUANTITIES,
  SPAN,
  SPANS,
  type Span,
  THROTTLED,
  throttledBands,
  valuesOf,
  xidsOf,
} from "../charts";
import { gpuKey } from "../fleet";
import { useLocale } from "../locale";
import type { Store } from "../store";
import type { Gpu } from "../types";
import { Chart } from "./Chart";
import { GpuFacts } from "./GpuFacts";
import type { ChartsProps } from "./LazyCharts";
import { Dash } from "./parts";

const LEAST_PAUSE_MS = 10_000;

/** What the GPUs of one node did: one of them drawn boldly, the others behind it, and its figures as text. */
export function Charts({ entry, store }: ChartsProps) {
  const { text } = useLocale();
  const span = useSignal<Span>("hour");
  const chosen = useSignal<string | null>(null);
  const moment = useSignal<number | null>(null);
  const gpus = entry.node.value.report?.gpus ?? [];
  const gpu = gpus.find((one) => gpuKey(one) === chosen.value) ?? entry.matching.value?.[0] ?? gpus[0];
  const past = usePast(entry.name, span.value, store);
  if (gpu === undefined) return null;
  return (
    <section class="charts" aria-label={text.charts.title} data-field="charts">
      <div class="chart-choices">
        <h3>{text.charts.title}</h3>
        <SpanChoice span={span} />
        {gpus.length > 1 && <GpuChoice gpus={gpus} gpu={gpu} chosen={chosen} />}
        <Legend gpu={gpu} others={gpus.length > 1} past={past} />
      </div>
      {past === null && <p class="dated">{text.charts.loading}</p>}
      {past === "failed" && <p class="dated">{text.charts.failed}</p>}
      {past !== null && past !== "failed" && (
        <Drawn past={past} gpu={gpu} gpus={gpus} span={span.value} moment={moment} store={store} />
      )}
      <div class="figures-and-facts">
        {past !== null && past !== "failed" && hasPast(past, gpus) && <FiguresTable past={past} gpu={gpu} />}
        <GpuFacts gpu={gpu} now={store.now} />
      </div>
    </section>
  );
}

/** The hub's answer, asked for again whenever it has something new to tell; null before the first. */
function usePast(name: string, span: Span, store: Store): NodePast | "failed" | null {
  const [past, setPast] = useState<NodePast | "failed" | null>(null);
  useEffect(() => {
    let isThere = true;
    let timer: ReturnType<typeof setTimeout> | undefined;
    const { seconds, points } = SPAN[span];
    async function ask(): Promise<void> {
      let pause = LEAST_PAUSE_MS;
      if (!document.hidden) {
        const fields = [...QUANTITIES.map(({ field }) => field), THROTTLED];
        const answer = await fetchNodePast(name, fields, seconds, points, store.now.peek());
        if (!isThere) return;
        // What was drawn stays while the hub is away: its axis tells of when it is.
        setPast((before) => answer ?? before ?? "failed");
        if (answer !== null) pause = Math.max(LEAST_PAUSE_MS, answer.step_seconds * 1_000);
      }
      timer = setTimeout(() => void ask(), pause);
    }
    setPast(null);
    void ask();
    return () => {
      isThere = false;
      clearTimeout(timer);
    };
  }, [name, span, store]);
  return past;
}

function SpanChoice({ span }: { span: Signal<Span> }) {
  const { text } = useLocale();
  return (
    <div role="group" aria-label={text.charts.spanTitle} class="spans">
      {SPANS.map((one) => (
        <button
          key={one}
          type="button"
          data-span={one}
          aria-pressed={one === span.value}
          onClick={() => {
            span.value = one;
          }}
        >
          {text.charts.span[one]}
        </button>
      ))}
    </div>
  );
}

interface GpuChoiceProps {
  readonly gpus: readonly Gpu[];
  readonly gpu: Gpu;
  readonly chosen: Signal<string | null>;
}

function GpuChoice({ gpus, gpu, chosen }: GpuChoiceProps) {
  const { text } = useLocale();
  return (
    <select
      data-choice="gpu"
      aria-label={text.charts.gpu}
      value={gpuKey(gpu)}
      onChange={({ currentTarget }) => {
        chosen.value = currentTarget.value;
      }}
    >
      {gpus.map((one) => (
        <option key={gpuKey(one)} value={gpuKey(one)}>
          {text.charts.chosen(String(one.index))}
        </option>
      ))}
    </select>
  );
}

/** Also where the charts take their colours from: a canvas has no style sheet. */
function Legend({ gpu, others, past }: { gpu: Gpu; others: boolean; past: NodePast | "failed" | null }) {
  const { text } = useLocale();
  const isTold = past !== null && past !== "failed";
  return (
    <ul class="legend">
      <li data-ink="chosen">{text.charts.chosen(String(gpu.index))}</li>
      {others && <li data-ink="others">{text.charts.others}</li>}
      <li data-ink="limit">{text.charts.limit}</li>
      <li data-ink="throttled" hidden={!isTold || throttledBands(past, gpu).length === 0}>
        {text.charts.throttled}
      </li>
      <li data-ink="xid" hidden={!isTold || xidsOf(past, gpu).length === 0}>
        {text.charts.xid}
      </li>
    </ul>
  );
}

interface DrawnProps {
  readonly past: NodePast;
  readonly gpu: Gpu;
  readonly gpus: readonly Gpu[];
  readonly span: Span;
  /** Which of the moments is looked at: by pointer or by the slider; null: the newest. */
  readonly moment: Signal<number | null>;
  readonly store: Store;
}

function Drawn({ past, gpu, gpus, span, moment, store }: DrawnProps) {
  const theme = useComputed(() => store.view.value.theme).value;
  const drawn = QUANTITIES.filter(({ field }) => isTold(past, gpus, field));
  const { text } = useLocale();
  if (drawn.length === 0) return <p class="dated">{text.charts.nothing}</p>;
  return (
    <>
      <div class="plots">
        {drawn.map((quantity) => (
          <Chart key={quantity.field} {...{ quantity, past, gpu, gpus, span, moment, theme }} />
        ))}
      </div>
      <MomentSlider past={past} gpu={gpu} moment={moment} />
      <Bands past={past} gpu={gpu} />
    </>
  );
}

function isTold(past: NodePast, gpus: readonly Gpu[], field: Charted): boolean {
  return gpus.some((one) => figuresOf(valuesOf(past, one, field)) !== null);
}

function hasPast(past: NodePast, gpus: readonly Gpu[]): boolean {
  return QUANTITIES.some(({ field }) => isTold(past, gpus, field));
}

/** What the bands show, in words. */
function Bands({ past, gpu }: Pick<DrawnProps, "past" | "gpu">) {
  const { text, format } = useLocale();
  const bands = throttledBands(past, gpu);
  const xids = xidsOf(past, gpu);
  const shares = figuresOf(valuesOf(past, gpu, THROTTLED));
  if (bands.length + xids.length === 0) return null;
  const last = bands.at(-1);
  return (
    <ul class="bands" data-field="bands">
      {last !== undefined && shares !== null && (
        <li data-band="throttled">
          {text.charts.throttledFor(format.percent(Math.ceil(shares.mean)), format.moment(last[1] * 1_000))}
        </li>
      )}
      {xids.toReversed().map(({ code, at, meaning }) => (
        <li key={`${code} ${at}`} data-band="xid">
          <strong>Xid {code}</strong> {format.moment(at * 1_000)}: {meaning}
        </li>
      ))}
    </ul>
  );
}

/** The pointer's way through time for those who use none. */
function MomentSlider({ past, gpu, moment }: Pick<DrawnProps, "past" | "gpu" | "moment">) {
  const { text, format } = useLocale();
  const last = past.at.length - 1;
  const at = Math.min(moment.value ?? last, last);
  const words = QUANTITIES.map(({ field, show }) => {
    const value = valuesOf(past, gpu, field)[at] ?? null;
    return `${text.charted[field]} ${value === null ? "—" : show(format, value)}`;
  });
  if (valuesOf(past, gpu, THROTTLED)[at]) words.push(text.mark.throttled);
  const time = format.moment((past.at[at] ?? 0) * 1_000);
  return (
    <label class="moment">
      {text.charts.moment}
      <input
        type="range"
        min={0}
        max={last}
        value={at}
        aria-valuetext={[time, ...words].join(", ")}
        onInput={({ currentTarget }) => {
          moment.value = Number(currentTarget.value);
        }}
        onBlur={() => {
          moment.value = null;
        }}
      />
      <output>{time}</output>
    </label>
  );
}

function FiguresTable({ past, gpu }: { past: NodePast; gpu: Gpu }) {
  const { text, format } = useLocale();
  const columns = ["newest", "lowest", "mean", "highest"] as const;
  return (
    <table class="figures">
      <caption>{text.charts.figures(String(gpu.index))}</caption>
      <thead>
        <tr>
          <th scope="col">{text.charts.quantity}</th>
          {columns.map((column) => (
            <th key={column} scope="col">
              {text.charts[column]}
            </th>
          ))}
        </tr>
      </thead>
      <tbody>
        {QUANTITIES.map(({ field, show }) => {
          const figures = figuresOf(valuesOf(past, gpu, field));
          return (
            <tr key={field} data-quantity={field}>
              <th scope="row">{text.charted[field]}</th>
              {columns.map((column) => {
                const value = figures?.[column] ?? null;
                return <td key={column}>{value === null ? <Dash why={text.charts.nothing} /> : show(format, value)}</td>;
              })}
            </tr>
          );
        })}
      </tbody>
    </table>
  );
}
