import { useComputed } from "@preact/signals";
import { useMemo } from "preact/hooks";

import { type Filters as Wanted, isFiltering, NO_FILTERS } from "../filter";
import { modelOf, total } from "../fleet";
import { useLocale } from "../locale";
import type { Store } from "../store";

const MEMORY_STEPS_GIB = [8, 16, 24, 40, 70];
const COUNTS = [2, 4, 8];

/** What to look for. Everything narrows at once what the page shows. */
export function Filters({ store }: { store: Store }) {
  const { text } = useLocale();
  const wanted = useComputed(() => store.view.value.filters).value;
  const narrow = (changes: Partial<Wanted>): void => store.choose({ filters: { ...wanted, ...changes } });
  return (
    <form class="filters" role="search" aria-label={text.filters} onSubmit={(event) => event.preventDefault()}>
      <input
        type="search"
        id="find"
        placeholder={text.find}
        aria-label={text.find}
        aria-keyshortcuts="/"
        value={wanted.text}
        onInput={(event) => narrow({ text: event.currentTarget.value })}
      />
      <button
        type="button"
        data-filter="free"
        aria-pressed={wanted.freeOnly}
        onClick={() => narrow({ freeOnly: !wanted.freeOnly })}
      >
        {text.freeOnly}
      </button>
      <Numbers
        name="memory"
        label={text.freeMemory}
        steps={MEMORY_STEPS_GIB}
        value={wanted.freeMemoryGib}
        onChoose={(freeMemoryGib) => narrow({ freeMemoryGib })}
        word={text.memoryAtLeast}
      />
      <Numbers
        name="gpus"
        label={text.gpusOnOneNode}
        steps={COUNTS}
        value={wanted.gpuCount}
        onChoose={(gpuCount) => narrow({ gpuCount })}
        word={text.gpusAtLeast}
      />
      <Names store={store} name="model" value={wanted.model} onChoose={(model) => narrow({ model })} />
      <Names store={store} name="user" value={wanted.user} onChoose={(user) => narrow({ user })} />
      <Names store={store} name="tag" value={wanted.tag} onChoose={(tag) => narrow({ tag })} />
      {isFiltering(wanted) && <Result store={store} />}
    </form>
  );
}

/** How much is left, and the way back to everything. */
function Result({ store }: { store: Store }) {
  const { text, format } = useLocale();
  const found = useComputed(() => {
    const nodes = store.shown.value;
    const gpus = nodes.reduce((sum, entry) => sum + (entry.matching.value?.length ?? 0), 0);
    return text.found(format.count(gpus), format.count(nodes.length), format.count(total(store.totals.value.nodes)));
  });
  return (
    <>
      <output data-field="found">{found}</output>
      <button type="button" data-filter="none" onClick={() => store.choose({ filters: NO_FILTERS })}>
        {text.showAll}
      </button>
    </>
  );
}

interface NumbersProps {
  readonly name: string;
  readonly label: string;
  readonly steps: readonly number[];
  readonly value: number | null;
  readonly onChoose: (value: number | null) => void;
  readonly word: (value: number) => string;
}

function Numbers({ name, label, steps, value, onChoose, word }: NumbersProps) {
  const known = value === null || steps.includes(value) ? steps : [...steps, value].sort((a, b) => a - b);
  return (
    <select
      data-filter={name}
      aria-label={label}
      value={value ?? ""}
      onChange={({ currentTarget: { value: chosen } }) => onChoose(chosen === "" ? null : Number(chosen))}
    >
      <option value="">{label}</option>
      {known.map((step) => (
        <option key={step} value={step}>
          {word(step)}
        </option>
      ))}
    </select>
  );
}

type Named = "model" | "user" | "tag";

interface NamesProps {
  readonly store: Store;
  readonly name: Named;
  readonly value: string | null;
  readonly onChoose: (value: string | null) => void;
}

function Names({ store, name, value, onChoose }: NamesProps) {
  const { text } = useLocale();
  // One string, so that reports which bring no new name draw nothing.
  const joined = useMemo(() => store.calm(() => JSON.stringify(namesOf(store, name))), [store, name]);
  const names = JSON.parse(joined.value) as string[];
  // One model or user is that of every GPU; one tag is not.
  if (names.length < (name === "tag" ? 1 : 2) && value === null) return null;
  return (
    <select
      data-filter={name}
      aria-label={text.anyOf[name]}
      value={value ?? ""}
      onChange={({ currentTarget: { value: chosen } }) => onChoose(chosen === "" ? null : chosen)}
    >
      <option value="">{text.anyOf[name]}</option>
      {(value === null || names.includes(value) ? names : [value, ...names]).map((one) => (
        <option key={one} value={one}>
          {one}
        </option>
      ))}
    </select>
  );
}

function namesOf(store: Store, name: Named): string[] {
  const found = new Set<string | null>();
  for (const { node } of store.entries.value) {
    if (name === "tag") {
      for (const tag of node.value.tags ?? []) found.add(tag);
      continue;
    }
    for (const gpu of node.value.report?.gpus ?? []) {
      if (name === "model") found.add(modelOf(gpu));
      else for (const process of gpu.processes ?? []) found.add(process.user);
    }
  }
  return [...found].filter((one) => one !== null).sort((a, b) => a.localeCompare(b));
}
