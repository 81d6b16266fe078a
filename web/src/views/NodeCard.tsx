import type { ReadonlySignal } from "@preact/signals";

import { parseMoment } from "../format";
import { useLocale } from "../locale";
import type { Entry } from "../store";
import type { Fault, Node } from "../types";
import { GpuRow } from "./GpuRow";
import { AdviceNote, Age, FaultNote } from "./parts";
import { NODE_SHAPES, Shape } from "./Shape";

interface Props {
  readonly entry: Entry;
  readonly now: ReadonlySignal<number>;
}

/** Less than this is the delay of a message, not the fault of a clock. */
const CLOCK_OFF_SECONDS = 5;

export function NodeCard({ entry, now }: Props) {
  const node = entry.node.value;
  const id = `node-${encodeURIComponent(node.name)}`;
  return (
    <article class="node" data-node={node.name} data-status={node.status} aria-labelledby={id}>
      <NodeHead node={node} now={now} id={id} />
      <Troubles node={node} now={now} />
      <Gpus node={node} />
      {node.report?.advice.map((advice) => (
        <AdviceNote key={advice.code} advice={advice} />
      ))}
    </article>
  );
}

function NodeHead({ node, now, id }: { node: Node; now: ReadonlySignal<number>; id: string }) {
  const { text } = useLocale();
  const address = node.address ?? node.host;
  return (
    <div class="head">
      <span class={`state is-${node.status}`} data-field="status">
        <Shape kind={NODE_SHAPES[node.status]} />
        {text.status[node.status]}
      </span>
      <h2 id={id} data-field="alias">
        {node.alias}
      </h2>
      {address !== null && (
        <strong class="address" data-field="address" title={text.address}>
          {address}
        </strong>
      )}
      {node.name !== node.alias && <span data-field="name">{node.name}</span>}
      {node.report?.simulated === true && (
        <span class="badge is-simulated" data-field="simulated">
          {text.simulated}
        </span>
      )}
      <NodeFacts node={node} now={now} />
    </div>
  );
}

function NodeFacts({ node, now }: { node: Node; now: ReadonlySignal<number> }) {
  const { text, format } = useLocale();
  const report = node.report;
  const off = Math.abs(node.clock_offset_seconds ?? 0);
  return (
    <ul class="facts">
      {off >= CLOCK_OFF_SECONDS && <li class="is-warning">{text.clockOff(format.count(off))}</li>}
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
      {node.source !== null && (
        <li data-field="source" title={text.sourceTitle[node.source]}>
          {text.source[node.source]}
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

/** What is wrong with the node, what is wrong with its report, and of when the numbers below are. */
function Troubles({ node, now }: { node: Node; now: ReadonlySignal<number> }) {
  const { text } = useLocale();
  const report = node.report;
  const hasNumbers = report !== null && report.gpus.length > 0;
  return (
    <>
      {node.error !== null && <FaultNote fault={node.error} />}
      {report !== null && <ReportTrouble status={report.status} error={report.error} known={node.error} />}
      {hasNumbers && node.status === "offline" && node.last_seen_at !== null && (
        <p class="dated">
          <Age at={node.last_seen_at} now={now} sentence={text.lastNumbers} />
        </p>
      )}
      {hasNumbers && node.status === "stale" && (
        <p class="dated">
          <Age at={node.status_since} now={now} sentence={text.staleNumbers} />
        </p>
      )}
      {report === null && node.error === null && <p class="dated">{text.waitingForReport}</p>}
    </>
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

function Gpus({ node }: { node: Node }) {
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
        {report.gpus.map((gpu) => (
          <GpuRow key={gpu.uuid ?? gpu.index} gpu={gpu} status={node.status} reportAt={parseMoment(report.sampled_at)} />
        ))}
      </tbody>
    </table>
  );
}
