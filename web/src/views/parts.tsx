import type { ReadonlySignal } from "@preact/signals";

import type { Sum } from "../fleet";
import { parseMoment } from "../format";
import { useFault, useLocale } from "../locale";
import type { Fault, Gpu, Reason } from "../types";
import { Shape } from "./Shape";

/** In place of a number that is null: a dash, and why there is no number. */
export function Missing({ gpu, field }: { gpu: Gpu; field: keyof Gpu }) {
  const { text } = useLocale();
  if (gpu.asleep) return <Dash why={text.asleepTitle} />;
  const word: Reason | undefined = gpu.unavailable[field];
  // A newer hub may give a reason that this page has no sentence for: its own word is better than none.
  return <Dash why={word === undefined ? text.reasonUnknown : (text.reason[word] ?? word)} />;
}

export function Dash({ why }: { why: string }) {
  const { text } = useLocale();
  const sentence = text.notAvailable(why);
  return (
    <Explained class="missing" why={sentence}>
      —
    </Explained>
  );
}

/** A sign, and what it means for who points at it, touches it, comes to it by key or hears it. */
function Explained({ class: name, why, children }: { class: string; why: string; children: string }) {
  return (
    <span class={`why ${name}`} role="img" aria-label={why} tabIndex={0}>
      {children}
    </span>
  );
}

/** A sum, and a sign before it where some of what belongs to it do not tell theirs. */
export function Told({ sum, show }: { sum: Sum; show: (known: number) => string }) {
  const { text } = useLocale();
  if (sum.known === null) return <Dash why={text.reasonUnknown} />;
  return (
    <>
      {sum.missing > 0 && <AtLeast />}
      {show(sum.known)}
    </>
  );
}

export function AtLeast() {
  const { text } = useLocale();
  return (
    <>
      <Explained class="doubt" why={text.atLeast}>
        ≥
      </Explained>{" "}
    </>
  );
}

/** Behind a number that seems to be no measurement. */
export function Doubt() {
  const { text } = useLocale();
  return (
    <>
      {" "}
      <Explained class="doubt" why={text.suspect}>
        ?
      </Explained>
    </>
  );
}

/** How much of the whole, for the eye; the number stands beside it. */
export function Bar({ fraction }: { fraction: number }) {
  const width = `${Math.round(Math.min(1, Math.max(0, fraction)) * 1000) / 10}%`;
  return (
    <span class="bar" aria-hidden="true">
      <span style={{ width }} />
    </span>
  );
}

/** A ticking "3 s ago" within a sentence; the moment itself on hover. */
export function Age(props: { at: string; now: ReadonlySignal<number>; sentence: (ago: string) => string }) {
  const { format } = useLocale();
  const at = parseMoment(props.at);
  if (at === null) return null;
  return (
    <time dateTime={props.at} title={format.moment(at)}>
      {props.sentence(format.ago(at, props.now.value))}
    </time>
  );
}

export function FaultNote({ fault }: { fault: Fault }) {
  const { text } = useLocale();
  const { message, hint } = useFault(fault);
  return (
    <p class="fault" data-code={fault.code}>
      <Shape kind="cross" />
      <span title={fault.message}>
        {message}
        {hint !== null && (
          <span class="hint">
            {" "}
            {text.hint} {hint}
          </span>
        )}
      </span>
    </p>
  );
}

/** What is no fault yet: smaller than one, and below the GPUs. */
export function AdviceNote({ advice }: { advice: Fault }) {
  return (
    <p class="advice" data-field="advice" data-code={advice.code}>
      {advice.message}
      {advice.hint !== null && ` ${advice.hint}`}
    </p>
  );
}
