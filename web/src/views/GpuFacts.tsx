import type { ReadonlySignal } from "@preact/signals";
import type { ComponentChildren } from "preact";

import type { Format } from "../format";
import { useLocale } from "../locale";
import type { Messages } from "../messages/en";
import type { Gpu, Xid } from "../types";
import { Age } from "./parts";

type Name = keyof Messages["gpuFact"];

/** What is known of one GPU beside what its row and its charts show. */
export function GpuFacts({ gpu, now }: { gpu: Gpu; now: ReadonlySignal<number> }) {
  const { text, format } = useLocale();
  const facts = factsOf(gpu, text, format).filter(([, value]) => value != null);
  const xids = gpu.xids?.filter(({ meaning }) => meaning !== undefined) ?? [];
  return (
    <dl class="detail" aria-label={text.charts.chosen(String(gpu.index))} data-field="gpu_facts">
      {facts.map(([name, value]) => (
        <Fact key={name} name={name}>
          {value}
        </Fact>
      ))}
      {xids.length > 0 && (
        <Fact name="xids">
          {xids.map((xid) => (
            <XidLine key={xid.code} xid={xid} now={now} />
          ))}
        </Fact>
      )}
    </dl>
  );
}

function Fact({ name, children }: { name: Name; children: ComponentChildren }) {
  const { text } = useLocale();
  return (
    <>
      <dt>{text.gpuFact[name]}</dt>
      <dd data-fact={name}>{children}</dd>
    </>
  );
}

function XidLine({ xid: { code, meaning, gravity, count, last_at }, now }: { xid: Xid; now: ReadonlySignal<number> }) {
  return (
    <p class={gravity === "info" ? "aside" : undefined}>
      <strong>Xid {code}</strong> {count !== undefined && count > 1 && `×${count} `}
      {last_at !== undefined && <Age at={last_at} now={now} sentence={(ago) => `${ago}: `} />}
      {meaning}
    </p>
  );
}

function factsOf(gpu: Gpu, text: Messages, format: Format): readonly (readonly [Name, string | null])[] {
  const { memory_ledger: ledger, recovery_action: action, ecc_uncorrected_total: wrong } = gpu;
  const clock = (now: number | null, most?: number | null): string | null =>
    now == null ? null : `${format.count(now)}${most == null ? "" : ` / ${format.count(most)}`} MHz`;
  const reserved = gpu.memory_reserved_bytes;
  return [
    ["uuid", gpu.uuid],
    ["pci_bus_id", gpu.pci_bus_id],
    ["sm_clock", clock(gpu.sm_clock_megahertz, gpu.sm_clock_max_megahertz)],
    ["memory_clock", clock(gpu.memory_clock_megahertz)],
    ["performance_state", gpu.performance_state],
    ["throttle_reasons", gpu.throttle_reasons?.map((word) => text.throttleReason[word] ?? word).join(", ") || null],
    ["pcie", gpu.pcie_generation == null ? null : `${gpu.pcie_generation}.0 ×${gpu.pcie_width ?? "?"}`],
    ["held", ledger ? format.bytes(ledger.processes_bytes) : null],
    ["unaccounted", ledger ? [format.bytes(ledger.unaccounted_bytes), ledger.cause].filter(Boolean).join(": ") : null],
    ["reserved", reserved == null ? null : format.bytes(reserved)],
    ["ecc", wrong == null ? null : text.eccErrors(format.count(wrong), format.count(gpu.ecc_corrected_total ?? 0))],
    ["recovery_action", action == null || action === "none" ? null : action.replaceAll("_", " ")],
    ["compute_mode", gpu.compute_mode],
  ];
}
