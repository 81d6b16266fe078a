import { useComputed } from "@preact/signals";

import { createLocale, LocaleContext, useLocale } from "../locale";
import type { Store } from "../store";
import { Announcer } from "./Announcer";
import { Banner, SimulatedNote } from "./Banner";
import { Fleet } from "./Fleet";
import { Footer } from "./Footer";
import { FreeNow } from "./FreeNow";
import { Headline } from "./Headline";
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
