import type { ReadonlySignal } from "@preact/signals";

import { foreignProgram, gpuState } from "../fleet";
import { usedMemory } from "../host";
import { useFault, useLocale } from "../locale";
import type { Messages } from "../messages/en";
import { sshLine, visibleDevices } from "../shell";
import type { Evidence, Fault, Gpu, Host, Node, Resolution } from "../types";
import { causeOf } from "../verdict";
import { CopyButton } from "./Copy";
import { Age } from "./parts";
import { CAUSE_SHAPES, NODE_SHAPES, Shape } from "./Shape";

/** The most likely cause, and what to do: first of all on a node that is not well. */
export function Verdict({ node, verdict }: { node: Node; verdict: Fault }) {
  const { text } = useLocale();
  const { message, hint } = useFault(verdict);
  const cause = causeOf(node);
  const ofStatus = node.status === "online" ? "triangle" : NODE_SHAPES[node.status];
  return (
    <div class="verdict" data-field="verdict" data-code={verdict.code}>
      <Shape kind={cause === null ? ofStatus : CAUSE_SHAPES[cause]} />
      <p title={verdict.message}>
        <strong>{message}</strong>
        {hint !== null && (
          <span class="hint">
            {" "}
            {text.hint} {hint}
          </span>
        )}
      </p>
    </div>
  );
}

interface DetailsProps {
  readonly node: Node;
  /** Those of its GPUs that are shown. */
  readonly gpus: readonly Gpu[];
  readonly now: ReadonlySignal<number>;
  readonly id: string;
}

/** What is known beside the numbers: the evidence, and how the node is reached. */
export function Details({ node, gpus, now, id }: DetailsProps) {
  const { text } = useLocale();
  const evidence = node.evidence ?? [];
  return (
    <div class="details" id={id}>
      {evidence.length > 0 && (
        <ul class="evidence" aria-label={text.evidenceTitle} data-field="evidence">
          {evidence.map((piece) => (
            <Piece key={`${piece.channel} ${piece.code}`} piece={piece} now={now} />
          ))}
        </ul>
      )}
      <Facts node={node} now={now} />
      <Lines node={node} gpus={gpus} />
    </div>
  );
}

/** For a terminal: how to get there, and the free ones of the GPUs that are shown. */
function Lines({ node, gpus }: { node: Node; gpus: readonly Gpu[] }) {
  const ssh = sshLine(node);
  const free = gpus.filter((gpu) => gpuState(gpu, node.status) === "free");
  return (
    <p class="lines">
      {ssh !== null && <CopyButton line={ssh}>{ssh}</CopyButton>}
      {free.length > 0 && <CopyButton line={visibleDevices(free, node)}>{visibleDevices(free, node)}</CopyButton>}
    </p>
  );
}

function Piece({ piece, now }: { piece: Evidence; now: ReadonlySignal<number> }) {
  const { text } = useLocale();
  const { message } = useFault({ code: piece.code, message: piece.message, hint: null }, piece.channel);
  return (
    <li data-channel={piece.channel} data-code={piece.code}>
      <span class="channel">{text.channel[piece.channel] ?? piece.channel}</span>
      <span title={piece.message}>{message}</span>
      <Age at={piece.at} now={now} sentence={(ago) => ago} />
    </li>
  );
}

function Facts({ node, now }: { node: Node; now: ReadonlySignal<number> }) {
  const { text, format } = useLocale();
  const { report } = node;
  const late = node.reports_late ?? 0;
  const lost = node.reports_lost ?? 0;
  const program = foreignProgram(node);
  const asked = program !== null ? text.viaTitle(program) : node.source && text.sourceTitle[node.source];
  return (
    <dl class="detail">
      <dt>{text.detail.since}</dt>
      <dd>
        {text.status[node.status]} · <Age at={node.status_since} now={now} sentence={(ago) => ago} />
      </dd>
      {/* A line of the table has no room for these. */}
      <Fact name="name" value={node.name === node.alias ? null : node.name} />
      <Fact name="tags" value={node.tags?.join(", ") || null} />
      <Fact name="driver" value={report?.driver_version ?? null} />
      <Fact name="cuda" value={report?.cuda_version ?? null} />
      <Fact name="source" value={asked} />
      {node.resolution && (
        <>
          <dt>{text.detail.resolution}</dt>
          <Resolved resolution={node.resolution} now={now} />
        </>
      )}
      {report?.host && <HostDetails host={report.host} />}
      <Fact name="agent" value={report?.agent_version ?? null} />
      <Fact name="hostname" value={report?.hostname ?? null} />
      <Fact name="agent_id" value={node.agent_id ?? null} />
      <Fact name="late" value={late === 0 ? null : text.reportsOfRun(format.count(late))} />
      <Fact name="lost" value={lost === 0 ? null : text.reportsOfRun(format.count(lost))} />
    </dl>
  );
}

function HostDetails({ host }: { host: Host }) {
  const { text, format } = useLocale();
  const { cpu_count: cpus, cpu_utilization_percent: cpu, load_average_1m: load, uptime_seconds: uptime } = host;
  const disk = host.disk_free_bytes;
  const processor = [
    cpus !== null && text.cpus(format.count(cpus)),
    cpu !== null && format.percent(cpu),
    load !== null && text.load(format.tenths(load)),
  ].filter((part) => part !== false);
  const pair = (used: number | null, total: number | null): string | null =>
    used === null || !total ? null : format.memory(used, total);
  return (
    <>
      <Fact name="processor" value={processor.join(", ") || null} />
      <Fact name="memory" value={pair(usedMemory(host), host.memory_total_bytes)} />
      <Fact name="swap" value={pair(host.swap_used_bytes, host.swap_total_bytes)} />
      <Fact name="disk" value={disk === null ? null : text.diskFree(format.memory(disk, host.disk_total_bytes))} />
      <Fact name="uptime" value={uptime === null ? null : format.duration(uptime * 1_000)} />
    </>
  );
}

type FactName = Exclude<keyof Messages["detail"], "since" | "resolution">;

function Fact({ name, value }: { name: FactName; value: string | null }) {
  const { text } = useLocale();
  if (value === null) return null;
  return (
    <>
      <dt>{text.detail[name]}</dt>
      <dd data-detail={name}>{value}</dd>
    </>
  );
}

function Resolved({ resolution, now }: { resolution: Resolution; now: ReadonlySignal<number> }) {
  const { text, format } = useLocale();
  const { host, addresses, server, answered_at, ttl_seconds, is_kept } = resolution;
  return (
    <dd data-detail="resolution">
      {text.resolved(host, addresses.join(", "))}
      <span class="aside">
        {text.answeredBy(server)} · <Age at={answered_at} now={now} sentence={(ago) => ago} /> ·{" "}
        {text.holdsFor(format.duration(ttl_seconds * 1_000))}
      </span>
      {is_kept && <span class="aside is-warning">{text.resolutionKept}</span>}
    </dd>
  );
}
