import { useEffect, useState } from "preact/hooks";

import { fetchRefused } from "../archive";
import { useLocale } from "../locale";

/** What the hub has refused since it started, asked once when it is shown. */
export function Refused() {
  const { text, format } = useLocale();
  const [counts, setCounts] = useState<Readonly<Record<string, number>> | null>(null);
  useEffect(() => void fetchRefused().then(setCounts), []);
  if (counts === null) return null;
  const reasons = Object.entries(counts).sort(([, one], [, other]) => other - one);
  const total = reasons.reduce((sum, [, count]) => sum + count, 0);
  const words: Readonly<Record<string, string>> = text.refusedWhat;
  return (
    <div data-field="refused">
      <p>{text.refused(total, format.count(total))}</p>
      <ul>
        {reasons.map(([reason, count]) => (
          <li key={reason} data-reason={reason}>
            {format.count(count)} × {Object.hasOwn(words, reason) ? words[reason] : reason}
          </li>
        ))}
      </ul>
    </div>
  );
}
