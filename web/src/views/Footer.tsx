import { useComputed } from "@preact/signals";

import { useLocale } from "../locale";
import type { Store } from "../store";
import { Legend } from "./Help";

export function Footer({ store }: { store: Store }) {
  const { text } = useLocale();
  const areUsersBlurred = useComputed(() => store.view.value.areUsersBlurred).value;
  const version = store.hubVersion.value;
  return (
    <footer>
      <details>
        <summary>{text.legend}</summary>
        <Legend />
      </details>
      <p>
        <button
          type="button"
          data-choice="blur"
          aria-pressed={areUsersBlurred}
          onClick={() => store.choose({ areUsersBlurred: !areUsersBlurred })}
        >
          {text.blurUsers}
        </button>
        {version !== null && <span data-field="hub_version">{text.hubVersion(version)}</span>}
      </p>
    </footer>
  );
}
