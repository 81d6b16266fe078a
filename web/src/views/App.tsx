import { useComputed } from "@preact/signals";

import { createLocale, LocaleContext, useLocale } from "../locale";
import type { Store } from "../store";
import { Announcer } from "./Announcer";
import { Banner, SimulatedNote } from "./Banner";
import { Fleet } from "./Fleet";
import { Footer } from "./Footer";
import { FreeNow } from "./FreeNow";
import { Headline } from "./Headline";
import { Help } from "./Help";
import { Notices } from "./Notices";
import { Toolbar } from "./Toolbar";
import { Users } from "./Users";

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
      <a class="skip" href="#main">
        {text.skip}
      </a>
      <Headline store={store} />
      <Toolbar store={store} />
      <Banner store={store} />
      <Notices store={store} />
      <main id="main" tabIndex={-1}>
        <SimulatedNote store={store} />
        <Shown store={store} />
      </main>
      <Footer store={store} />
      <Help store={store} />
      <Announcer store={store} />
    </>
  );
}

function Shown({ store }: { store: Store }) {
  const tab = useComputed(() => store.view.value.tab).value;
  if (tab === "users") return <Users store={store} />;
  return (
    <>
      <FreeNow store={store} />
      <Fleet store={store} />
    </>
  );
}
