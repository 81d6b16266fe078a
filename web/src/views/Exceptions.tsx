import { useMemo } from "preact/hooks";

import { type Exception, exceptionsOf, worstFirst } from "../exceptions";
import { gpuKey } from "../fleet";
import { translateFault, useLocale } from "../locale";
import { useSteady } from "../steady";
import type { Store } from "../store";
import { markOf } from "./GpuRow";
import { NodeState } from "./NodeCard";
import { GPU_SHAPES, Shape } from "./Shape";

const MOST = 60;

export function Exceptions({ store }: { store: Store }) {
  const { text, format } = useLocale();
  const found = useMemo(
    () =>
      store.calm(() =>
        worstFirst(
          store.shown.value.flatMap(({ node, matching, held }) =>
            exceptionsOf(node.value, matching.value ?? [], held.value),
          ),
        ),
      ),
    [store],
  );
  const all = found.value;
  const { items, hold } = useSteady(all, keyOf);
  const more = all.length - MOST;
  return (
    <aside class="exceptions" aria-labelledby="exceptions-title">
      <h2 id="exceptions-title">{text.exceptions}</h2>
      {all.length === 0 && <p class="aside">{text.noExceptions}</p>}
      <ul {...hold}>
        {items.slice(0, MOST).map((one) => (
          <Item key={keyOf(one)} exception={one} store={store} />
        ))}
      </ul>
      {more > 0 && <p class="aside">{text.moreOffers(format.count(more))}</p>}
    </aside>
  );
}

function keyOf({ node, gpu }: Exception): string {
  return `${node.name} ${gpu === null ? "" : gpuKey(gpu)}`;
}

function Item({ exception: { node, gpu, kind }, store }: { exception: Exception; store: Store }) {
  const locale = useLocale();
  const { text, format } = locale;
  const fault = gpu === null ? (node.verdict ?? node.error) : gpu.error;
  return (
    <li data-exception={kind}>
      <button
        type="button"
        class="name"
        onClick={() => {
          store.choose({ open: node.name });
          scrollTo({ top: 0 });
        }}
      >
        {node.alias}
        {gpu !== null && ` GPU ${gpu.index}`}
      </button>{" "}
      {kind === "node" ? (
        <NodeState node={node} />
      ) : (
        <span class={`state ${kind === "fault" ? "is-fault" : "is-warning"}`}>
          <Shape kind={kind === "fault" || kind === "held" ? GPU_SHAPES[kind] : "triangle"} />
          {kind === "fault" || kind === "held" ? text.gpuState[kind] : gpu && markOf(kind, gpu, text)}
          {kind === "hot" && gpu?.temperature_celsius != null && ` ${format.celsius(gpu.temperature_celsius)}`}
        </span>
      )}
      {fault && <span class="aside">{translateFault(fault, locale).message}</span>}
    </li>
  );
}
