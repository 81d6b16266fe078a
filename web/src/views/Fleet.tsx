import { useComputed } from "@preact/signals";

import { useLocale } from "../locale";
import type { Store } from "../store";
import { Empty } from "./Empty";
import { HeatMap } from "./HeatMap";
import { NodeCard } from "./NodeCard";
import { NodeTable } from "./NodeTable";

/** Drawn again only when nodes come or go: what changes on a node is that node's affair. */
export function Fleet({ store }: { store: Store }) {
  const { text } = useLocale();
  const isEmpty = useComputed(() => store.entries.value.length === 0).value;
  const density = store.density.value;
  const shown = store.shown.value;
  if (!store.loaded.value) return <p class="loading">{text.loading}</p>;
  if (isEmpty) return <Empty />;
  if (shown.length === 0) return <p class="loading">{text.nothingFound}</p>;
  if (density === "map") return <HeatMap store={store} />;
  if (density === "table") return <NodeTable store={store} />;
  return (
    <>
      {shown.map((entry) => (
        <NodeCard key={entry.name} entry={entry} store={store} />
      ))}
    </>
  );
}
