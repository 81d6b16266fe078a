import { useComputed } from "@preact/signals";

import { isPrivate, modelOf, sumOf } from "../fleet";
import { translateFault, useLocale } from "../locale";
import type { Entry, Store } from "../store";
import type { Gpu } from "../types";
import { causeOf } from "../verdict";
import { NodeBody, NodeState, Tags } from "./NodeCard";
import { Age, Told } from "./parts";
import { Sparkline } from "./Sparkline";
import { Tiles } from "./Tiles";

/** One line a node: for fleets whose cards would fill many screens. A line opens into all that its card has. */
export function NodeTable({ store }: { store: Store }) {
  const { text } = useLocale();
  const { tableColumn } = text;
  return (
    <table class="fleet">
      <thead>
        <tr>
          {Object.entries(tableColumn).map(([field, label]) => (
            <th key={field} scope="col" data-column={field}>
              {label}
            </th>
          ))}
        </tr>
      </thead>
      {store.shown.value.map((entry) => (
        <NodeLines key={entry.name} entry={entry} store={store} />
      ))}
    </table>
  );
}

function NodeLines({ entry, store }: { entry: Entry; store: Store }) {
  const node = entry.node.value;
  const isOpen = useComputed(() => store.view.value.open === entry.name).value;
  const { text } = useLocale();
  const models = modelsOf(entry.matching.value ?? []);
  return (
    <tbody data-node={node.name} data-status={node.status} data-cause={causeOf(node)}>
      <tr>
        <td data-column="state">
          <NodeState node={node} />
        </td>
        <th scope="row" data-column="node">
          <button
            type="button"
            class="name"
            data-row={node.name}
            aria-expanded={isOpen}
            onClick={() => store.choose({ open: isOpen ? null : node.name })}
          >
            {node.alias}
          </button>
          <strong class="address" data-field="address">
            {node.address ?? node.host}
          </strong>
          {node.report?.simulated === true && <span class="aside">{text.simulated}</span>}
          {node.flapping === true && <span class="aside is-warning">{text.flapping}</span>}
          <Tags node={node} />
        </th>
        <td data-column="model" title={models}>
          {models}
        </td>
        <td data-column="gpus">
          <Tiles entry={entry} numbered />
        </td>
        <Counts entry={entry} />
        <td data-column="past">
          <Sparkline past={store.past} name={node.name} gpus={entry.matching.value ?? []} />
        </td>
        <td data-column="users">
          <Said entry={entry} />
        </td>
        <td data-column="age" data-field="last_seen_at">
          {node.last_seen_at !== null && <Age at={node.last_seen_at} now={store.now} sentence={(ago) => ago} />}
        </td>
      </tr>
      {isOpen && (
        <tr class="opened">
          <td colSpan={9}>
            <NodeBody entry={entry} store={store} isOpen />
          </td>
        </tr>
      )}
    </tbody>
  );
}

function Counts({ entry }: { entry: Entry }) {
  const { format } = useLocale();
  const gpus = entry.matching.value ?? [];
  const used = sumOf(gpus.map(({ memory_used_bytes }) => memory_used_bytes));
  const all = sumOf(gpus.map(({ memory_total_bytes }) => memory_total_bytes));
  return (
    <>
      <td data-column="free" class={entry.tally.value.gpus.free > 0 ? "is-free" : ""}>
        {format.count(entry.tally.value.gpus.free)}
      </td>
      <td data-column="memory">
        <Told sum={{ ...used, missing: used.missing + all.missing }} show={(known) => format.memorySum(known, all.known)} />
      </td>
    </>
  );
}

/** Of a node that is well, who uses how many of its GPUs; of another, what is wrong. */
function Said({ entry }: { entry: Entry }) {
  const locale = useLocale();
  const { verdict, error } = entry.node.value;
  const fault = verdict ?? error;
  if (fault) return <SaidOf words={translateFault(fault, locale).message} wrong />;
  const counts = new Map<string, number>();
  for (const gpu of entry.matching.value ?? []) {
    const users = new Set(gpu.processes?.map(({ user }) => user ?? (isPrivate(gpu, "user") ? "—" : locale.text.unknownUser)));
    for (const user of users) counts.set(user, (counts.get(user) ?? 0) + 1);
  }
  return <SaidOf words={[...counts].map(([user, gpus]) => `${user} ×${gpus}`).join(", ")} />;
}

function SaidOf({ words, wrong = false }: { words: string; wrong?: boolean }) {
  return (
    <span class={wrong ? "wrong" : ""} title={words}>
      {words}
    </span>
  );
}

function modelsOf(gpus: readonly Gpu[]): string {
  const counts = new Map<string, number>();
  for (const gpu of gpus) counts.set(modelOf(gpu) ?? "—", (counts.get(modelOf(gpu) ?? "—") ?? 0) + 1);
  return [...counts].map(([model, count]) => `${count} × ${model}`).join(", ");
}
