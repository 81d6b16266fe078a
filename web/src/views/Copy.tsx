import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";

import { useLocale } from "../locale";
import { copy } from "../shell";

const SHOWN_MS = 1_500;

interface Props {
  readonly line: string;
  readonly children: string;
}

/** Copies a line for a terminal, and says so; where the browser refuses it shows the line instead. */
export function CopyButton({ line, children }: Props) {
  const { text } = useLocale();
  const outcome = useSignal<"copied" | "refused" | null>(null);
  useEffect(() => {
    if (outcome.value !== "copied") return;
    const timer = setTimeout(() => {
      outcome.value = null;
    }, SHOWN_MS);
    return () => clearTimeout(timer);
  }, [outcome.value]);
  if (outcome.value === "refused") return <code class="line">{line}</code>;
  return (
    <button
      type="button"
      class="copy"
      title={line}
      aria-label={`${text.copy}: ${line}`}
      onClick={async () => {
        outcome.value = (await copy(line)) ? "copied" : "refused";
      }}
    >
      {outcome.value === "copied" ? text.copied : children}
    </button>
  );
}
