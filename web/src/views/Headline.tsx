import { type ReadonlySignal, useComputed } from "@preact/signals";
import type { ComponentChildren } from "preact";

import { type GpuState, total } from "../fleet";
import type { Store } from "../store";
import { useLocale } from "../locale";
import type { LinkState, NodeStatus } from "../types";
import { Told } from "./parts";
import { GPU_SHAPES, type Kind, NODE_SHAPES, Shape } from "./Shape";

const LINK_SHAPES: Readonly<Record<LinkState, Kind>> = {
  connecting: "dots",
  live: "dot",
  polling: "triangle",
  lost: "cross",
};

export function Headline({ store }: { store: Store }) {
  const { text } = useLocale();
  const state = useComputed(() => store.link.value.state).value;
  return (
    <header>
      <h1>gpumon</h1>
      <span class="badge link" title={text.linkTitle} data-field="link">
        <Shape kind={LINK_SHAPES[state]} />
        {text.link[state]}
      </span>
      <DataAge store={store} />
      {store.entries.value.length > 0 && <Totals store={store} />}
    </header>
  );
}

/** How old what stands on the page is, ticking: a frozen page must not look like a calm fleet. */
function DataAge({ store }: { store: Store }) {
  const { text, format } = useLocale();
  const at = store.heardAt.value;
  if (at === null) return null;
  return (
    <time class="age" data-field="data_age" dateTime={new Date(at).toISOString()} title={format.moment(at)}>
      {text.updated(format.ago(at, store.now.value))}
    </time>
  );
}

function Totals({ store }: { store: Store }) {
  const { text, format } = useLocale();
  const gpus = useComputed(() => {
    const counts = store.totals.value.gpus;
    return text.someOf(format.count(counts.free), format.count(total(counts)));
  });
  const nodes = useComputed(() => {
    const counts = store.totals.value.nodes;
    return text.someOf(format.count(counts.online), format.count(total(counts)));
  });
  return (
    <dl class="totals" aria-label={text.summary}>
      <Figure name="free" shape={GPU_SHAPES.free} label={text.gpusFree} value={gpus} />
      {(["busy", "held", "fault", "unknown"] as const).map((state) => (
        <GpuCount key={state} store={store} state={state} />
      ))}
      <Figure name="online" shape={NODE_SHAPES.online} label={text.nodesOnline} value={nodes} />
      {(["stale", "offline", "pending"] as const).map((status) => (
        <NodeCount key={status} store={store} status={status} />
      ))}
      <Figure name="power" label={text.power} value={<Power store={store} />} />
    </dl>
  );
}

function Power({ store }: { store: Store }) {
  const { format } = useLocale();
  const sum = useComputed(() => store.totals.value.powerWatts).value;
  return <Told sum={sum} show={format.kilowatts} />;
}

/** A count that is not drawn while it is zero: what is not there needs no reading. */
function GpuCount({ store, state }: { store: Store; state: GpuState }) {
  const { text, format } = useLocale();
  const count = useComputed(() => store.totals.value.gpus[state]);
  if (count.value === 0 && state !== "busy") return null;
  return (
    <Figure name={state} shape={GPU_SHAPES[state]} label={text.gpuState[state]} value={format.count(count.value)} />
  );
}

function NodeCount({ store, status }: { store: Store; status: NodeStatus }) {
  const { text, format } = useLocale();
  const count = useComputed(() => store.totals.value.nodes[status]);
  if (count.value === 0) return null;
  return (
    <Figure name={status} shape={NODE_SHAPES[status]} label={text.status[status]} value={format.count(count.value)} />
  );
}

interface FigureProps {
  readonly name: string;
  readonly label: string;
  readonly value: ComponentChildren | ReadonlySignal<string>;
  readonly shape?: Kind;
}

function Figure({ name, label, value, shape }: FigureProps) {
  return (
    <div class={`figure is-${name}`} data-total={name}>
      <dt>
        {shape !== undefined && <Shape kind={shape} />}
        {label}
      </dt>
      <dd>{value}</dd>
    </div>
  );
}
