import { useLocale } from "../locale";
import type { Store } from "../store";

export function Footer({ store }: { store: Store }) {
  const { text } = useLocale();
  const version = store.hubVersion.value;
  return (
    <footer>
      <details>
        <summary>{text.legend}</summary>
        <ul>
          {Object.entries(text.legendText).map(([key, sentence]) => (
            <li key={key}>{sentence}</li>
          ))}
        </ul>
      </details>
      <p>
        {version !== null && <span data-field="hub_version">{text.hubVersion(version)}</span>}
      </p>
    </footer>
  );
}
