import { useComputed } from "@preact/signals";

import { createLocale, LocaleContext, useLocale } from "../locale";
import type { Store } from "../store";
import { Announcer } from "./Announcer";
import { Banner, SimulatedNote } from "./Banner";
import { Empty } from "./Empty";
import { Footer } from "./Footer";
import { FreeNow } from "./FreeNow";
import { Headline } from "./Headline";
import { NodeCard } from "./NodeCard";
import { Notices } from "./Notices";
import { Toolbar } from "./Toolbar";

export function App({ store }: { store: Store }) {
  const locale = useComputed(() => createLocale(store.view.value.language, navigator.languages));
  return (
    <LocaleContext.Provider value={locale.value}>
      <Page store={store} />
    </LocaleContext.Provider>
  );
}

function Page({ store }: { store: Store }) {
  const { text } = useLocale();
  return (
    <>
      <Headline store={store} />
      <Toolbar store={store} />
      <Banner store={store} />
      <Notices store={store} />
      <main aria-label={text.nodes}>
        <SimulatedNote store={store} />
        <FreeNow store={store} />
        <Fleet store={store} />
      </main>
      <Footer store={store} />
      <Announcer store={store} />
    </>
  );
}

/** Drawn again only when nodes come or go: what changes on a node is that node's affair. */
function Fleet({ store }: { store: Store }) {
  const { text } = useLocale();
  const shown = store.shown.value;
  if (!store.loaded.value) return <p class="loading">{text.loading}</p>;
  if (store.entries.value.length === 0) return <Empty />;
  if (shown.length === 0) return <p class="loading">{text.nothingFound}</p>;
  return (
    <>
      {shown.map((entry) => (
        <NodeCard key={entry.name} entry={entry} store={store} />
      ))}
    </>
  );
}
