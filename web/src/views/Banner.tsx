import { useComputed } from "@preact/signals";

import type { Store } from "../store";
import { useLocale } from "../locale";
import { Shape } from "./Shape";

export function Banner({ store }: { store: Store }) {
  const { text } = useLocale();
  if (store.link.value.state !== "lost") return null;
  // The ticking part is kept from screen readers: they would hear the alert again each second.
  return (
    <div class="banner" role="alert">
      <Shape kind="cross" />
      <p>
        <strong>{text.lost}</strong>{" "}
        <span aria-live="off">
          <Since store={store} />
        </span>{" "}
        {text.retrying}
      </p>
    </div>
  );
}

function Since({ store }: { store: Store }) {
  const { text, format } = useLocale();
  const at = store.link.value.contactAt;
  return <>{at === null ? text.lostNever : text.lostSince(format.clock(at), format.ago(at, store.now.value))}</>;
}

export function SimulatedNote({ store }: { store: Store }) {
  const { text } = useLocale();
  const count = useComputed(() => store.totals.value.simulatedNodes).value;
  if (count === 0) return null;
  return (
    <p class="note" data-simulated={count}>
      <Shape kind="triangle" />
      {text.simulatedNote(count)}
    </p>
  );
}
