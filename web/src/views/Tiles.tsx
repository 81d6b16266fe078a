import { gpuKey, gpuState, type GpuState, marksOf } from "../fleet";
import { useLocale } from "../locale";
import type { Entry } from "../store";

const LEVELS = 10;

interface Props {
  readonly entry: Entry;
  /** Whether the utilisation stands in each tile as a number. */
  readonly numbered: boolean;
}

/** A tile for each GPU of a node: its state by form and colour, how busy it is by depth. */
export function Tiles({ entry, numbered }: Props) {
  const node = entry.node.value;
  const held = entry.held.value;
  return (
    <span class="tiles" aria-hidden={!numbered}>
      {(entry.matching.value ?? []).map((gpu) => {
        const state = gpuState(gpu, node.status, held.has(gpuKey(gpu)));
        const percent = gpu.utilization_percent;
        const level = Math.min(LEVELS - 1, Math.floor((percent ?? 0) / LEVELS));
        return (
          <span
            key={gpuKey(gpu)}
            class={`tile is-${state}`}
            data-tile={state}
            data-level={state === "busy" ? level : undefined}
            data-mark={marksOf(gpu, node.status)[0]}
          >
            {numbered && <TileText state={state} percent={percent} />}
          </span>
        );
      })}
    </span>
  );
}

function TileText({ state, percent }: { state: GpuState; percent: number | null }) {
  const { text, format } = useLocale();
  const shown = state === "busy" || state === "held" ? (percent === null ? "—" : format.count(percent)) : "";
  return (
    <>
      <span class="heard-only">{text.gpuState[state]} </span>
      {shown}
    </>
  );
}
