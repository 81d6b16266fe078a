import { useFault, useLocale } from "../locale";
import type { Store } from "../store";
import type { Fault } from "../types";
import { foremostFirst } from "../verdict";
import { Shape } from "./Shape";

/** What the hub says of itself and of all nodes. Who listens is told by the Herald, once for each. */
export function Notices({ store }: { store: Store }) {
  const { text } = useLocale();
  const notices = foremostFirst(store.notices.value);
  if (notices.length === 0) return null;
  return (
    <section class="notices" aria-label={text.notices}>
      {notices.map((notice) => (
        <Notice key={notice.code} notice={notice} />
      ))}
    </section>
  );
}

function Notice({ notice }: { notice: Fault }) {
  const { text } = useLocale();
  const { message, hint } = useFault(notice);
  return (
    <div class="note is-notice" data-notice={notice.code}>
      <Shape kind="triangle" />
      <p title={notice.message}>
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
