import { useComputed, useSignal } from "@preact/signals";

import type { Agency } from "../agents";
import { createLocale, LocaleContext, useLocale } from "../locale";
import type { Login } from "../login";
import type { Store } from "../store";
import { Waiting } from "./Agents";
import { Announcer } from "./Announcer";
import { Banner, SimulatedNote } from "./Banner";
import { Fleet } from "./Fleet";
import { Footer } from "./Footer";
import { FreeNow } from "./FreeNow";
import { Headline } from "./Headline";
import { Help } from "./Help";
import { LoginForm } from "./LoginForm";
import { Notices } from "./Notices";
import { Doorway, Toolbar } from "./Toolbar";
import { Users } from "./Users";

export function App({ store, login, agency }: { store: Store; login: Login; agency: Agency }) {
  const locale = useComputed(() => createLocale(store.view.value.language, navigator.languages));
  return (
    <LocaleContext.Provider value={locale.value}>
      <Page store={store} login={login} agency={agency} />
    </LocaleContext.Provider>
  );
}

function Page({ store, login, agency }: { store: Store; login: Login; agency: Agency }) {
  const { text } = useLocale();
  const isEntering = useSignal(false);
  if (!store.access.value.mayLook || isEntering.value) {
    const cancel = (): void => void (isEntering.value = false);
    return (
      <>
        <Doorway store={store} />
        <main id="main" tabIndex={-1}>
          <LoginForm login={login} onCancel={store.access.value.mayLook ? cancel : null} />
        </main>
      </>
    );
  }
  return (
    <>
      <a class="skip" href="#main">
        {text.skip}
      </a>
      <Headline store={store} />
      <Toolbar store={store} />
      <Banner store={store} />
      <Notices store={store} />
      <Waiting store={store} agency={agency} />
      <main id="main" tabIndex={-1}>
        <SimulatedNote store={store} />
        <Shown store={store} />
      </main>
      <Footer store={store} login={login} agency={agency} onEnter={() => void (isEntering.value = true)} />
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
