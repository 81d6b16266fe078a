import { effect } from "@preact/signals";
import { render } from "preact";

import { createLocale, htmlLanguage, LocaleContext, pickLanguage } from "./locale";
import { Store } from "./store";
import { Stream } from "./stream";
import "./style/base.css";
import "./style/frame.css";
import "./style/nodes.css";
import "./style/verdict.css";
import "./style/widths.css";
import { App } from "./views/App";

const TICK_MS = 1_000;

const locale = createLocale(pickLanguage(location.search, navigator.languages), navigator.languages);
const store = new Store();
const stream = new Stream(store);

document.documentElement.lang = htmlLanguage(locale.language);

effect(() => {
  const { state } = store.link.value;
  document.body.dataset["link"] = state;
  document.title = state === "lost" ? "(!) gpumon" : "gpumon";
});

let ticking: ReturnType<typeof setInterval> | undefined;

function showOrHide(): void {
  clearInterval(ticking);
  if (document.hidden) {
    stream.stop();
    return;
  }
  store.tick();
  ticking = setInterval(() => store.tick(), TICK_MS);
  stream.start();
}

document.addEventListener("visibilitychange", showOrHide);
showOrHide();

const root = document.getElementById("app");
if (root !== null) {
  render(
    <LocaleContext.Provider value={locale}>
      <App store={store} />
    </LocaleContext.Provider>,
    root,
  );
}
