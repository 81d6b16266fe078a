import { computed, effect, signal, untracked } from "@preact/signals";
import { render } from "preact";

import { readAddress, writeAddress } from "./address";
import { Agency } from "./agents";
import { fillPast } from "./archive";
import { DetailStream } from "./detail";
import { press } from "./keys";
import { htmlLanguage, pickLanguage } from "./locale";
import { Login, tokenOf } from "./login";
import { recall, remember } from "./memory";
import { Store } from "./store";
import { Stream } from "./stream";
import "./style/base.css";
import "./style/frame.css";
import "./style/fleet.css";
import "./style/nodes.css";
import "./style/verdict.css";
import "./style/past.css";
import "./style/widths.css";
import "./style/wall.css";
import "./style/print.css";
import { App } from "./views/App";
import { nextPlace, WALL_MS } from "./wall";

const TICK_MS = 1_000;

const kept = recall(() => localStorage);
const shared = readAddress(location.search);
const store = new Store({
  theme: kept.theme ?? "system",
  language: pickLanguage(location.search, kept.language, navigator.languages),
  ...shared,
  isHelpOpen: false,
  density: shared.density ?? kept.density ?? null,
});
const login = new Login(store);
const agency = new Agency(store);
const stream = new Stream(store);
fillPast(store.past, () => store.now.peek());
const details = new DetailStream(store);
const isHidden = signal(document.hidden);

effect(() => {
  const { theme, language, isKiosk, areUsersBlurred } = store.view.value;
  document.body.classList.toggle("kiosk", isKiosk);
  document.body.classList.toggle("blurred", areUsersBlurred);
  document.documentElement.lang = htmlLanguage(language);
  document.documentElement.dataset["theme"] = theme;
});

let before = store.view.peek();
effect(() => {
  const view = store.view.value;
  remember(() => localStorage, before, view);
  const search = writeAddress(location.search, view);
  if (search !== location.search) {
    const address = `${location.pathname}${search}${location.hash}`;
    if (view.open === before.open && view.tab === before.tab) history.replaceState(null, "", address);
    else history.pushState(null, "", address);
  }
  before = view;
});
addEventListener("popstate", () => store.choose(readAddress(location.search)));

let firstVersion: string | null = null;

const freeGpus = computed(() => store.totals.value.gpus.free);
effect(() => {
  const { state } = store.link.value;
  document.body.dataset["link"] = state;
  document.title = state === "lost" ? "(!) gpumon" : store.loaded.value && store.access.value.mayLook ? `(${freeGpus.value}) gpumon` : "gpumon";
});

// Nobody stands before a wall to load the page that belongs to a new hub.
effect(() => {
  const version = store.hubVersion.value;
  if (version === null) return;
  if (firstVersion !== null && firstVersion !== version && store.view.peek().isKiosk) location.reload();
  firstVersion ??= version;
});

if (store.view.peek().isKiosk) {
  setInterval(() => {
    const { scrollHeight: whole, clientHeight: seen } = document.documentElement;
    const next = nextPlace({ top: scrollY, seen, whole, tab: store.view.peek().tab });
    store.choose({ tab: next.tab });
    scrollTo({ top: next.top });
  }, WALL_MS);
}

addEventListener("keydown", (event) => {
  if (press(store, event, document)) event.preventDefault();
});

let ticking: ReturnType<typeof setInterval> | undefined;

function showOrHide(): void {
  clearInterval(ticking);
  isHidden.value = document.hidden;
  if (document.hidden) return;
  store.tick();
  ticking = setInterval(() => store.tick(), TICK_MS);
}

const isEntering = signal(location.hash.startsWith("#token="));
const isWatching = computed(() => !isHidden.value && !isEntering.value && store.access.value.mayLook);
const isLoggedIn = computed(() => store.access.value.isLoggedIn);

effect(() => {
  void isLoggedIn.value;
  const isNeeded = store.toldAs.value === "overview" && isWatching.value;
  details.follow(null);
  details.follow(isNeeded ? store.view.value.open : null);
});
effect(() => {
  if (store.isMisfit.value) stream.renew();
});

// Who has logged in, or out, may be told more, or less, from now on.
effect(() => {
  void isLoggedIn.value;
  untracked(() => stream.renew());
});

const WAITING_MS = 15_000;

// The hub tells everybody how many agents wait, and who is logged in which.
const waitingNow = computed(() => store.notices.value.find(({ code }) => code === "agents_waiting")?.message ?? null);
effect(() => {
  if (!isLoggedIn.value || !isWatching.value) return undefined;
  void untracked(() => agency.ask());
  if (waitingNow.value === null) return undefined;
  const asking = setInterval(() => void agency.ask(), WAITING_MS);
  return () => clearInterval(asking);
});

/** The link that the hub prints has the token where no server and no log sees it; here nobody else shall either. */
async function comeIn(): Promise<void> {
  if (isEntering.peek()) {
    const token = tokenOf(location.hash);
    history.replaceState(null, "", `${location.pathname}${location.search}`);
    await login.enter(token);
    isEntering.value = false;
  }
  await login.ask();
}

document.addEventListener("visibilitychange", showOrHide);
showOrHide();
effect(() => untracked(isWatching.value ? () => stream.start() : () => stream.stop()));
void comeIn();

const root = document.getElementById("app");
if (root !== null) render(<App store={store} login={login} agency={agency} />, root);
