import { brakesOf, gpuState, gravesOf, isPrivate, type Mark, marksOf, modelOf } from "../fleet";
import { parseMoment } from "../format";
import { useLocale } from "../locale";
import type { Messages } from "../messages/en";
import type { Store } from "../store";
import type { Gpu, MigDevice, NodeStatus } from "../types";
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
  const slices = gpu.mig_devices ?? [];
  return (
    <>
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
            <MarkOf key={mark} mark={mark} gpu={gpu} />
          ))}
          {gravesOf(gpu).map(({ code, meaning }) => (
            <span key={code} class="mark" data-mark="xid" title={meaning}>
              Xid {code}
            </span>
          ))}
        </td>
        <Utilization gpu={gpu} />
        <Memory gpu={gpu} />
        <Temperature gpu={gpu} />
        <Fan gpu={gpu} />
        <Power gpu={gpu} />
        <td data-field="past" data-label={text.column.past}>
          <Sparkline past={store.past} name={name} gpus={[gpu]} />
        </td>
        <td data-field="processes">
          {gpu.error !== null && <FaultNote fault={gpu.error} />}
          <ProcessList gpu={gpu} reportAt={reportAt} />
        </td>
      </tr>
      {slices.length > 0 && (
        <tr class="slices-of" data-slices={gpu.uuid ?? String(gpu.index)}>
          <td colSpan={9}>
            <Slices gpu={gpu} slices={slices} />
          </td>
        </tr>
      )}
    </>
  );
}

/** A mark in a word or two; of a GPU that wants to be repaired what the driver asks for. */
export function markOf(mark: Mark, gpu: Gpu, text: Messages): string {
  return mark === "repair" ? (text.repair[gpu.recovery_action ?? ""] ?? text.mark.repair) : text.mark[mark];
}

/** Why it slows itself down stands beside the word. */
function MarkOf({ mark, gpu }: { mark: Mark; gpu: Gpu }) {
  const { text } = useLocale();
  const why = mark === "throttled" ? brakesOf(gpu).map((brake) => text.brake[brake]) : [];
  return (
    <span class="mark" data-mark={mark} title={mark === "throttled" ? gpu.throttle_reasons?.join("\n") : undefined}>
      {[markOf(mark, gpu, text), ...why].join(" · ")}
    </span>
  );
}

/** The instances of a partitioned GPU: how large each is, how full, and who is in it. */
function Slices({ gpu, slices }: { gpu: Gpu; slices: readonly MigDevice[] }) {
  const { text, format } = useLocale();
  if (slices.every(({ memory_used_bytes: used }) => used === null)) return <Profiles slices={slices} />;
  return (
    <ul class="slices" aria-label={text.slicesOf(String(gpu.index))}>
      {slices.map((slice) => {
        const { memory_used_bytes: used, memory_total_bytes: total, profile, name } = slice;
        const users = [...new Set(slice.processes?.map(({ user }) => user ?? (isPrivate(gpu, "user") ? "—" : text.unknownUser)))];
        return (
          <li key={slice.index} data-slice={slice.index} title={slice.uuid ?? undefined}>
            <span class="index">{slice.index}</span>
            <span class="profile">{profile ?? name ?? text.unknownModel}</span>
            {used !== null && total !== null && total > 0 && <Bar fraction={used / total} />}
            {used !== null && <span class="number">{format.memory(used, total)}</span>}
            {users.length > 0 && <span class="user">{users.join(", ")}</span>}
          </li>
        );
      })}
    </ul>
  );
}

/** At a glance nothing but their sizes is told. */
function Profiles({ slices }: { slices: readonly MigDevice[] }) {
  const { text } = useLocale();
  const counts = new Map<string, number>();
  for (const { profile, name } of slices) {
    const size = profile ?? name ?? text.unknownModel;
    counts.set(size, (counts.get(size) ?? 0) + 1);
  }
  return <span class="aside">{[...counts].map(([size, count]) => `${count} × ${size}`).join(", ")}</span>;
}

function ProcessList({ gpu, reportAt }: { gpu: Gpu; reportAt: number | null }) {
  const { text, format } = useLocale();
  const { processes, processes_truncated: more } = gpu;
  if (processes !== null && processes.length > 0) {
    return <Processes gpu={gpu} processes={processes} more={gpu.processes_truncated ?? 0} at={reportAt} />;
  }
  return (
    <span class="labelled" data-label={text.column.processes}>
      {processes === null || (more && gpu.unavailable["processes"]) ? <Missing gpu={gpu} field="processes" /> : text.noProcess}
      {more ? ` (${format.count(more)})` : ""}
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
        {gpu.mig_enabled === true && <span class="sub">{text.mig(format.count(gpu.mig_devices?.length ?? 0))}</span>}
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
  const { memory_used_bytes: used, memory_total_bytes: total, memory_ledger: ledger } = gpu;
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
      {gpu.memory_kind === "unified" && (
        <span class="sub" data-field="memory_kind" title={text.unifiedTitle}>
          {text.unified}
        </span>
      )}
      {ledger?.cause && (
        <span class="sub is-warning" data-field="unaccounted" title={ledger.cause}>
          {text.unaccounted(format.bytes(ledger.unaccounted_bytes))}
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

function Fan({ gpu }: { gpu: Gpu }) {
  const { text, format } = useLocale();
  const value = gpu.fan_speed_percent;
  return (
    <td data-field="fan_speed_percent" data-label={text.column.fan_speed_percent}>
      {value === null || value === undefined ? (
        <Missing gpu={gpu} field="fan_speed_percent" />
      ) : (
        format.percent(value)
      )}
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
