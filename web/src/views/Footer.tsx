import { useLocale } from "../locale";
import type { Store } from "../store";
import { Legend } from "./Help";

export function Footer({ store }: { store: Store }) {
  const { text } = useLocale();
  const version = store.hubVersion.value;
  return (
    <footer>
      <details>
        <summary>{text.legend}</summary>
        <Legend />
      </details>
      <p>
        {version !== null && <span data-field="hub_version">{text.hubVersion(version)}</span>}
      </p>
    </footer>
  );
}
