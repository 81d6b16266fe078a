import { gpuState, marksOf, modelOf } from "../fleet";
import { parseMoment } from "../format";
import { useLocale } from "../locale";
import type { Store } from "../store";
import type { Gpu, NodeStatus } from "../types";
import { Bar, Doubt, FaultNote, Missing } from "./parts";
import { Processes } from "./Processes";
import { GPU_SHAPES, Shape } from "./Shape";
import { Sparkline } from "./Sparkline";

interface Props {
  readonly store: Store;
  readonly name: string;
  readonly gpu: Gpu;
  readonly status: NodeStatus;
  readonly isHeld: boolean;
  /** When the report was made, by the node's clock. */
  readonly reportAt: number | null;
}

/** A GPU that is this much older than its report did not answer for it. */
const OLD_MS = 2_500;

export function GpuRow({ store, name, gpu, status, isHeld, reportAt }: Props) {
  const { text } = useLocale();
  const state = gpuState(gpu, status, isHeld);
  return (
    <tr data-gpu={gpu.uuid ?? String(gpu.index)} data-state={state}>
      <th scope="row" data-field="name">
        <GpuName gpu={gpu} reportAt={reportAt} />
      </th>
      <td data-field="status">
        <span class={`state is-${state}`}>
          <Shape kind={GPU_SHAPES[state]} />
          {gpu.asleep && state === "free" ? <span title={text.asleepTitle}>{text.asleep}</span> : text.gpuState[state]}
        </span>
        {marksOf(gpu, status).map((mark) => (
          <span key={mark} class="mark" data-mark={mark}>
            {text.mark[mark]}
          </span>
        ))}
      </td>
      <Utilization gpu={gpu} />
      <Memory gpu={gpu} />
      <Temperature gpu={gpu} />
      <Power gpu={gpu} />
      <td data-field="past" data-label={text.column.past}>
        <Sparkline past={store.past} name={name} gpus={[gpu]} />
      </td>
      <td data-field="processes">
        {gpu.error !== null && <FaultNote fault={gpu.error} />}
        <ProcessList gpu={gpu} reportAt={reportAt} />
      </td>
    </tr>
  );
}

function ProcessList({ gpu, reportAt }: { gpu: Gpu; reportAt: number | null }) {
  const { text } = useLocale();
  const { processes } = gpu;
  if (processes !== null && processes.length > 0) return <Processes processes={processes} at={reportAt} />;
  return (
    <span class="labelled" data-label={text.column.processes}>
      {processes === null ? <Missing gpu={gpu} field="processes" /> : text.noProcess}
    </span>
  );
}

function GpuName({ gpu, reportAt }: { gpu: Gpu; reportAt: number | null }) {
  const { text, format } = useLocale();
  const identity = [gpu.name, gpu.uuid, gpu.pci_bus_id].filter((part) => part !== null).join("\n");
  const sampledAt = parseMoment(gpu.sampled_at);
  // Both moments are of the node's clock, so its error cancels out.
  const old = sampledAt !== null && reportAt !== null && reportAt - sampledAt > OLD_MS;
  return (
    <span class="gpu">
      <span class="index">{gpu.index}</span>
      <span class="model" title={identity}>
        {gpu.name === null ? <Missing gpu={gpu} field="name" /> : modelOf(gpu)}
        {gpu.mig_enabled === true && <span class="sub">{text.mig(gpu.mig_devices?.length ?? 0)}</span>}
        {old && <span class="sub">{text.gpuAge(format.ago(sampledAt, reportAt))}</span>}
      </span>
    </span>
  );
}

function Utilization({ gpu }: { gpu: Gpu }) {
  const { text, format } = useLocale();
  const value = gpu.utilization_percent;
  return (
    <td data-field="utilization_percent" data-label={text.column.utilization_percent}>
      {value === null ? (
        <Missing gpu={gpu} field="utilization_percent" />
      ) : (
        <span class="gauge">
          <Bar fraction={value / 100} />
          <span class="number">
            {format.percent(value)}
            {gpu.suspect?.includes("utilization_percent") && <Doubt />}
          </span>
        </span>
      )}
    </td>
  );
}

function Memory({ gpu }: { gpu: Gpu }) {
  const { text, format } = useLocale();
  const { memory_used_bytes: used, memory_total_bytes: total } = gpu;
  return (
    <td data-field="memory_used_bytes" data-label={text.column.memory_used_bytes}>
      {used === null ? (
        <Missing gpu={gpu} field="memory_used_bytes" />
      ) : (
        <span class="gauge">
          {total !== null && total > 0 && <Bar fraction={used / total} />}
          <span class="number">{format.memory(used, total)}</span>
        </span>
      )}
    </td>
  );
}

function Temperature({ gpu }: { gpu: Gpu }) {
  const { text, format } = useLocale();
  const value = gpu.temperature_celsius;
  return (
    <td data-field="temperature_celsius" data-label={text.column.temperature_celsius}>
      {value === null ? <Missing gpu={gpu} field="temperature_celsius" /> : format.celsius(value)}
    </td>
  );
}

function Power({ gpu }: { gpu: Gpu }) {
  const { text, format } = useLocale();
  const value = gpu.power_draw_watts;
  return (
    <td data-field="power_draw_watts" data-label={text.column.power_draw_watts}>
      {value === null ? (
        <Missing gpu={gpu} field="power_draw_watts" />
      ) : (
        format.power(value, gpu.power_limit_watts)
      )}
    </td>
  );
}
