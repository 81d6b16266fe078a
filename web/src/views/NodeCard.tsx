import { type ReadonlySignal, useComputed } from "@preact/signals";
import type { ComponentChildren } from "preact";

import { foreignProgram, gpuKey } from "../fleet";
import { useLocale } from "../locale";
import type { Entry, Store } from "../store";
import { usedMemory } from "../host";
import type { Fault, Gpu, Host, Node } from "../types";
import { causeOf, reportedAt, reportMoment } from "../verdict";
import { GpuRow } from "./GpuRow";
import { LazyCharts } from "./LazyCharts";
import { AdviceNote, Age, FaultNote } from "./parts";
import { CAUSE_SHAPES, NODE_SHAPES, Shape } from "./Shape";
import { Details, Verdict } from "./Verdict";

interface Props {
  readonly entry: Entry;
  readonly store: Store;
}

/** Less than this is the delay of a message, not the fault of a clock. */
const CLOCK_OFF_SECONDS = 5;

export function NodeCard({ entry, store }: Props) {
  const node = entry.node.value;
  const { now } = store;
  const isOpen = useComputed(() => store.view.value.open === entry.name).value;
  const id = `node-${encodeURIComponent(node.name)}`;
  const more = (
    <MoreButton
      node={node}
      panel={detailsId(node)}
      isOpen={isOpen}
      onToggle={() => store.choose({ open: isOpen ? null : node.name })}
    />
  );
  return (
    <article
      class="node"
      data-node={node.name}
      data-status={node.status}
      data-cause={causeOf(node)}
      aria-labelledby={id}
    >
      <NodeHead node={node} now={now} id={id}>
        {more}
      </NodeHead>
      <NodeBody entry={entry} store={store} isOpen={isOpen} />
    </article>
  );
}

/** All that a card holds below its head. */
export function NodeBody({ entry, store, isOpen }: Props & { readonly isOpen: boolean }) {
  const node = entry.node.value;
  const gpus = entry.matching.value ?? [];
  return (
    <>
      <Troubles node={node} now={store.now} />
      {isOpen && <Details node={node} gpus={gpus} now={store.now} id={detailsId(node)} />}
      <Gpus store={store} node={node} gpus={gpus} held={entry.held.value} />
      {isOpen && gpus.length > 0 && <LazyCharts entry={entry} store={store} />}
      {node.report?.advice?.map((advice) => (
        <AdviceNote key={advice.code} advice={advice} />
      ))}
    </>
  );
}

function detailsId(node: Node): string {
  return `details-${encodeURIComponent(node.name)}`;
}

interface MoreProps {
  readonly node: Node;
  readonly panel: string;
  readonly isOpen: boolean;
  readonly onToggle: () => void;
}

function MoreButton({ node, panel, isOpen, onToggle }: MoreProps) {
  const { text } = useLocale();
  const pieces = node.evidence?.length ?? 0;
  return (
    <button
      type="button"
      class="more"
      data-row={node.name}
      aria-expanded={isOpen}
      aria-controls={isOpen ? panel : undefined}
      aria-label={`${node.alias}: ${pieces > 0 ? text.evidence(pieces) : text.details}`}
      onClick={onToggle}
    >
      {pieces > 0 ? text.evidence(pieces) : text.details}
    </button>
  );
}

interface HeadProps {
  readonly node: Node;
  readonly now: ReadonlySignal<number>;
  readonly id: string;
  readonly children: ComponentChildren;
}

function NodeHead({ node, now, id, children }: HeadProps) {
  const { text } = useLocale();
  const address = node.address ?? node.host;
  return (
    <div class="head">
      <NodeState node={node} />
      <h2 id={id} data-field="alias">
        {node.alias}
      </h2>
      {address !== null && (
        <strong class="address" data-field="address" title={text.address}>
          {address}
        </strong>
      )}
      {node.name !== node.alias && <span data-field="name">{node.name}</span>}
      <Tags node={node} />
      {node.report?.simulated === true && (
        <span class="badge is-simulated" data-field="simulated">
          {text.simulated}
        </span>
      )}
      {node.flapping === true && (
        <span class="badge is-warning" data-field="flapping" title={text.flappingTitle}>
          {text.flapping}
        </span>
      )}
      <NodeFacts node={node} now={now} />
      {children}
    </div>
  );
}

export function Tags({ node }: { node: Node }) {
  return (
    <>
      {node.tags?.map((tag) => (
        <span key={tag} class="tag" data-field="tag">
          {tag}
        </span>
      ))}
    </>
  );
}

/** How the node is, and where its cause is known that as well: four ways of being gone, four signs. */
export function NodeState({ node }: { node: Node }) {
  const { text } = useLocale();
  const cause = causeOf(node);
  return (
    <span class={`state is-${node.status}`} data-field="status">
      <Shape kind={cause === null ? NODE_SHAPES[node.status] : CAUSE_SHAPES[cause]} />
      {text.status[node.status]}
      {cause !== null && <span class="cause">{text.cause[cause]}</span>}
    </span>
  );
}

function NodeFacts({ node, now }: { node: Node; now: ReadonlySignal<number> }) {
  const { text, format } = useLocale();
  const report = node.report;
  const program = foreignProgram(node);
  const off = Math.abs(node.clock_offset_seconds ?? 0);
  const lost = node.reports_lost ?? 0;
  return (
    <ul class="facts">
      {off >= CLOCK_OFF_SECONDS && <li class="is-warning">{text.clockOff(format.count(off))}</li>}
      {lost > 0 && (
        <li class="is-warning" data-field="reports_lost" title={text.reportsLostTitle}>
          {text.reportsLost(format.count(lost))}
        </li>
      )}
      {report !== null && report.driver_version !== null && (
        <li data-field="driver_version">
          {text.driver} {report.driver_version}
        </li>
      )}
      {report !== null && report.cuda_version !== null && (
        <li data-field="cuda_version">
          {text.cuda} {report.cuda_version}
        </li>
      )}
      {report?.host && <HostFacts host={report.host} />}
      {node.source !== null && (
        <li data-field="source" title={program === null ? text.sourceTitle[node.source] : text.viaTitle(program)}>
          {text.source[node.source]}
        </li>
      )}
      {program !== null && (
        <li data-field="kind" title={text.viaTitle(program)}>
          {text.via(program)}
        </li>
      )}
      <li data-field="last_seen_at">
        {node.last_seen_at === null ? (
          text.neverSeen
        ) : (
          <Age at={node.last_seen_at} now={now} sentence={text.updated} />
        )}
      </li>
    </ul>
  );
}

function HostFacts({ host }: { host: Host }) {
  const { text, format } = useLocale();
  const { cpu_utilization_percent: cpu, uptime_seconds: uptime } = host;
  const used = usedMemory(host);
  return (
    <>
      {cpu !== null && (
        <li data-field="host_cpu" title={host.cpu_count === null ? undefined : text.cpus(format.count(host.cpu_count))}>
          {text.cpu} {format.percent(cpu)}
        </li>
      )}
      {used !== null && (
        <li data-field="host_memory" title={format.memory(used, host.memory_total_bytes)}>
          {text.ram} {format.percent((100 * used) / (host.memory_total_bytes || 1))}
        </li>
      )}
      {uptime !== null && <li data-field="uptime">{text.up(format.duration(uptime * 1_000))}</li>}
    </>
  );
}

/** What is wrong with the node, what is wrong with its report, and of when the numbers below are. */
function Troubles({ node, now }: { node: Node; now: ReadonlySignal<number> }) {
  const { text } = useLocale();
  const { report, error, verdict } = node;
  return (
    <>
      {/* A verdict is drawn from all the rest, which stands in its evidence. */}
      {verdict && <Verdict node={node} verdict={verdict} />}
      {!verdict && error !== null && <FaultNote fault={error} />}
      {!verdict && report !== null && <ReportTrouble status={report.status} error={report.error} known={error} />}
      {report !== null && report.gpus.length > 0 && <Dated node={node} now={now} />}
      {report === null && error === null && !verdict && <p class="dated">{text.waitingForReport}</p>}
    </>
  );
}

function Dated({ node, now }: { node: Node; now: ReadonlySignal<number> }) {
  const { text } = useLocale();
  const reported = reportedAt(node);
  const at = reported === null ? null : new Date(reported).toISOString();
  if (node.status === "offline" && (at ?? node.last_seen_at) !== null) {
    return (
      <p class="dated" data-field="dated">
        <Age at={at ?? node.last_seen_at ?? ""} now={now} sentence={text.lastNumbers} />
      </p>
    );
  }
  if (node.status !== "stale") return null;
  return (
    <p class="dated" data-field="dated">
      <Age at={at ?? node.status_since} now={now} sentence={at === null ? text.staleSince : text.staleNumbers} />
    </p>
  );
}

interface ReportTroubleProps {
  readonly status: NonNullable<Node["report"]>["status"];
  readonly error: Fault | null;
  readonly known: Fault | null;
}

function ReportTrouble({ status, error, known }: ReportTroubleProps) {
  const { text } = useLocale();
  if (error !== null) return error.message === known?.message ? null : <FaultNote fault={error} />;
  if (status === "ok") return null;
  return <FaultNote fault={{ code: status, message: text.reportStatus[status] ?? status, hint: null }} />;
}

interface GpusProps {
  readonly store: Store;
  readonly node: Node;
  readonly gpus: readonly Gpu[];
  readonly held: ReadonlySet<string>;
}

function Gpus({ store, node, gpus, held }: GpusProps) {
  const { text } = useLocale();
  const { report } = node;
  if (report === null) return null;
  if (report.gpus.length === 0) {
    return report.error === null && report.status === "ok" ? <p class="dated">{text.noGpus}</p> : null;
  }
  return (
    <table class="gpus" aria-label={text.gpusOf(node.alias)}>
      <thead>
        <tr>
          {Object.entries(text.column).map(([field, label]) => (
            <th key={field} scope="col">
              {label}
            </th>
          ))}
        </tr>
      </thead>
      <tbody>
        {gpus.map((gpu) => (
          <GpuRow
            key={gpuKey(gpu)}
            store={store}
            name={node.name}
            gpu={gpu}
            status={node.status}
            isHeld={held.has(gpuKey(gpu))}
            reportAt={reportMoment(node)}
          />
        ))}
      </tbody>
    </table>
  );
}
