import { useComputed, useSignal } from "@preact/signals";

import { isFiltering } from "../filter";
import { htmlLanguage, useLocale } from "../locale";
import type { Store } from "../store";
import { DENSITIES, densityFor, nextOf, TABS, THEMES } from "../view";
import { Filters } from "./Filters";

/** How the page looks, to the viewer's taste. */
export function Toolbar({ store }: { store: Store }) {
  const { text } = useLocale();
  // Where the window is narrow, what is chosen rarely would push away what people came for.
  const isWhole = useSignal(isFiltering(store.view.peek().filters));
  return (
    <div class={isWhole.value ? "toolbar is-whole" : "toolbar"}>
      <button
        type="button"
        class="narrow-only"
        data-choice="whole"
        aria-expanded={isWhole.value}
        onClick={() => {
          isWhole.value = !isWhole.value;
        }}
      >
        {text.moreChoices}
      </button>
      {store.entries.value.length > 0 && <Tabs store={store} />}
      {store.entries.value.length > 0 && <Filters store={store} />}
      {store.entries.value.length > 0 && <DensityChoice store={store} />}
      <ThemeButton store={store} />
      <LanguageButton store={store} />
      <HelpButton store={store} />
    </div>
  );
}

/** What stands above the login. */
export function Doorway({ store }: { store: Store }) {
  return (
    <header class="doorway">
      <h1>gpumon</h1>
      <div class="toolbar">
        <ThemeButton store={store} />
        <LanguageButton store={store} />
      </div>
    </header>
  );
}

function Tabs({ store }: { store: Store }) {
  const { text } = useLocale();
  const chosen = useComputed(() => store.view.value.tab).value;
  return (
    <nav class="tabs" aria-label={text.views}>
      {TABS.map((tab) => (
        <button
          key={tab}
          type="button"
          data-tab={tab}
          aria-current={tab === chosen ? "page" : undefined}
          onClick={() => store.choose({ tab })}
        >
          {text.tab[tab]}
        </button>
      ))}
    </nav>
  );
}

function DensityChoice({ store }: { store: Store }) {
  const { text } = useLocale();
  const chosen = useComputed(() => store.view.value.density).value;
  return (
    <select
      data-choice="density"
      aria-label={text.densityTitle}
      value={chosen ?? ""}
      onChange={({ currentTarget: { value } }) =>
        store.choose({ density: DENSITIES.find((density) => density === value) ?? null })
      }
    >
      <option value="">{text.densityByNumber(text.density[densityFor(store.count.value)])}</option>
      {DENSITIES.map((density) => (
        <option key={density} value={density}>
          {text.density[density]}
        </option>
      ))}
    </select>
  );
}

function ThemeButton({ store }: { store: Store }) {
  const { text } = useLocale();
  const theme = useComputed(() => store.view.value.theme).value;
  return (
    <button type="button" data-choice="theme" onClick={() => store.choose({ theme: nextOf(THEMES, theme) })}>
      {text.theme[theme]}
    </button>
  );
}

function LanguageButton({ store }: { store: Store }) {
  const { text } = useLocale();
  const { lang, name } = text.otherLanguage;
  return (
    <button
      type="button"
      data-choice="language"
      lang={htmlLanguage(lang)}
      onClick={() => store.choose({ language: lang })}
    >
      {name}
    </button>
  );
}

function HelpButton({ store }: { store: Store }) {
  const { text } = useLocale();
  return (
    <button
      type="button"
      data-choice="help"
      aria-label={text.help}
      aria-keyshortcuts="?"
      onClick={() => store.choose({ isHelpOpen: true })}
    >
      ?
    </button>
  );
}
