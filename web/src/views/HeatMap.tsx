import { useComputed } from "@preact/signals";
import { useMemo } from "preact/hooks";

import { gpuKey, gpuState, modelOf } from "../fleet";
import { useLocale } from "../locale";
import type { Entry, Store } from "../store";
import { causeOf } from "../verdict";
import { Exceptions } from "./Exceptions";
import { NodeCard } from "./NodeCard";
import { NODE_SHAPES, Shape } from "./Shape";
import { Tiles } from "./Tiles";

/** A block a node, a tile a GPU, by model; beside it what is not as it should be. For fleets beyond any table. */
export function HeatMap({ store }: { store: Store }) {
  const { text } = useLocale();
  // One string, so that reports which move no node draw nothing here.
  const found = useMemo(() => store.calm(() => JSON.stringify(groupNames(store.shown.value))), [store]);
  const grouped = found.value;
  const entries = new Map(store.shown.value.map((entry) => [entry.name, entry]));
  return (
    <>
      <Opened store={store} />
      <div class="map">
        <div>
          {(JSON.parse(grouped) as [string, string[]][]).map(([model, names]) => (
            <section key={model} aria-label={model || text.unknownModel}>
              <h2>{model || text.unknownModel}</h2>
              <ul class="blocks">
                {names.map((name) => {
                  const entry = entries.get(name);
                  return entry && <Block key={name} entry={entry} store={store} />;
                })}
              </ul>
            </section>
          ))}
        </div>
        <Exceptions store={store} />
      </div>
    </>
  );
}

/** The node that is open stands above the map, whole: a block has no room for it. */
function Opened({ store }: { store: Store }) {
  const name = useComputed(() => store.view.value.open).value;
  const entry = store.shown.value.find((one) => one.name === name);
  return entry === undefined ? null : <NodeCard key={entry.name} entry={entry} store={store} />;
}

function Block({ entry, store }: { entry: Entry; store: Store }) {
  const node = entry.node.value;
  const isOpen = useComputed(() => store.view.value.open === entry.name).value;
  return (
    <li data-block={node.name} data-status={node.status} data-cause={causeOf(node)}>
      <button
        type="button"
        class="block"
        data-row={node.name}
        aria-expanded={isOpen}
        aria-label={useSummary(entry)}
        onClick={() => {
          store.choose({ open: isOpen ? null : node.name });
          if (!isOpen) scrollTo({ top: 0 });
        }}
      >
        <span class="name">
          {node.status !== "online" && (
            <span class={`is-${node.status}`}>
              <Shape kind={NODE_SHAPES[node.status]} />
            </span>
          )}
          {node.alias}
        </span>
        <Tiles entry={entry} numbered={false} />
      </button>
    </li>
  );
}

/** What the tiles show, in words. */
function useSummary(entry: Entry): string {
  const { text, format } = useLocale();
  const node = entry.node.value;
  const counts = new Map<string, number>();
  for (const gpu of entry.matching.value ?? []) {
    const state = text.gpuState[gpuState(gpu, node.status, entry.held.value.has(gpuKey(gpu)))];
    counts.set(state, (counts.get(state) ?? 0) + 1);
  }
  const states = [...counts].map(([state, count]) => `${format.count(count)} ${state}`);
  return [`${node.alias}: ${text.status[node.status]}`, ...states].join(", ");
}

function groupNames(entries: readonly Entry[]): [string, string[]][] {
  const groups = new Map<string, string[]>();
  for (const { name, node } of entries) {
    const first = node.value.report?.gpus[0];
    const model = first === undefined ? "" : (modelOf(first) ?? "");
    groups.set(model, [...(groups.get(model) ?? []), name]);
  }
  return [...groups];
}
