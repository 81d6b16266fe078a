import type { ComponentType } from "preact";
import { useEffect, useState } from "preact/hooks";

import { useLocale } from "../locale";
import type { Entry, Store } from "../store";

export interface ChartsProps {
  readonly entry: Entry;
  readonly store: Store;
}

type Loaded = ComponentType<ChartsProps> | "broken" | null;

/** The charts of a node, fetched when they are first looked at: the page itself is there sooner without them. */
export function LazyCharts(props: ChartsProps) {
  const { text } = useLocale();
  const [loaded, setLoaded] = useState<Loaded>(null);
  useEffect(() => {
    let isThere = true;
    import("./Charts").then(
      ({ Charts }) => isThere && setLoaded(() => Charts),
      () => isThere && setLoaded("broken"),
    );
    return () => {
      isThere = false;
    };
  }, []);
  const Charts = loaded;
  if (Charts === "broken") return <p class="dated">{text.charts.broken}</p>;
  return Charts === null ? <p class="dated">{text.charts.loading}</p> : <Charts {...props} />;
}
