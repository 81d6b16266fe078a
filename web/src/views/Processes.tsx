import { byMemory, isPrivate, memoryOf } from "../fleet";
import { parseMoment } from "../format";
import { useLocale } from "../locale";
import type { Gpu, Process } from "../types";
import { Dash, Told } from "./parts";

interface Props {
  readonly gpu: Gpu;
  readonly processes: readonly Process[];
  /** How many there are beside these. */
  readonly more: number;
  /** The moment of the report, by the node's clock, as the processes' own. */
  readonly at: number | null;
}

export function Processes({ gpu, processes, more, at }: Props) {
  const { text, format } = useLocale();
  return (
    <ul class="processes" aria-label={text.column.processes}>
      {byMemory(processes).map((process) => (
        <ProcessLine key={process.pid} gpu={gpu} process={process} at={at} />
      ))}
      {more > 0 && <li class="aside">{text.moreProcesses(format.count(more))}</li>}
    </ul>
  );
}

function ProcessLine({ gpu, process, at }: { gpu: Gpu; process: Process; at: number | null }) {
  const { text, format } = useLocale();
  const within = process.job ?? process.container;
  const startedAt = parseMoment(process.started_at);
  const details = [
    process.command,
    process.type === null ? null : text.processType[process.type],
    startedAt === null ? null : text.processStarted(format.moment(startedAt)),
    process.job === null ? null : text.job(process.job),
    process.container === null ? null : text.container(process.container),
  ].filter((detail) => detail !== null);
  return (
    <li data-pid={process.pid} title={details.join("\n")}>
      <span class="number" data-field="memory_used_bytes">
        <Told sum={memoryOf(process)} show={format.bytes} />
      </span>
      <span class="user" data-field="user">
        {process.user ?? (isPrivate(gpu, "user") ? <Dash why={text.reason.private} /> : text.unknownUser)}
      </span>
      <span class="program">
        <span data-field="command">
          {process.command ?? process.name ?? text.unknownName}
          {process.together !== undefined && ` ×${process.together}`}
        </span>
        {within !== null && (
          <span class="within" data-field={process.job === null ? "container" : "job"}>
            {within}
          </span>
        )}
      </span>
      <span class="running" data-field="running">
        {startedAt !== null && at !== null && format.duration(at - startedAt)}
      </span>
      <span class="pid">
        {text.pid} <span data-field="pid">{process.pid}</span>
      </span>
    </li>
  );
}
