import { useComputed } from "@preact/signals";

import { htmlLanguage, useLocale } from "../locale";
import type { Store } from "../store";
import { nextOf, THEMES } from "../view";
import { Filters } from "./Filters";

/** How the page looks, to the viewer's taste. */
export function Toolbar({ store }: { store: Store }) {
  return (
    <div class="toolbar">
      {store.entries.value.length > 0 && <Filters store={store} />}
      <ThemeButton store={store} />
      <LanguageButton store={store} />
    </div>
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
    <button type="button" data-choice="language" lang={htmlLanguage(lang)} onClick={() => store.choose({ language: lang })}>
      {name}
    </button>
  );
}
