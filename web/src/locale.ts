import { createContext } from "preact";
import { useContext } from "preact/hooks";

import { createFormat, type Format } from "./format";
import { en, type Messages } from "./messages/en";
import { zh } from "./messages/zh";

const CATALOGUES = { en, zh } as const;

export type Language = keyof typeof CATALOGUES;

export interface Locale {
  readonly language: Language;
  readonly text: Messages;
  readonly format: Format;
}

/** `?lang=` when it names a language that we speak, else the first of the reader's that we do, else English. */
export function pickLanguage(search: string, preferred: readonly string[]): Language {
  const asked = new URLSearchParams(search).get("lang");
  for (const tag of [...(asked === null ? [] : [asked]), ...preferred]) {
    const language = tag.toLowerCase().split("-")[0];
    if (language === "en" || language === "zh") return language;
  }
  return "en";
}

/** Numbers and dates keep the reader's region ("en-GB") where it speaks the language of the text. */
export function createLocale(language: Language, preferred: readonly string[]): Locale {
  const text = CATALOGUES[language];
  const region = preferred.find((tag) => tag.toLowerCase().split("-")[0] === language && isLocale(tag));
  return { language, text, format: createFormat(region ?? language, text) };
}

/** Not all that browsers name as the reader's language is one: some pass on "en-US@posix" of the system. */
function isLocale(tag: string): boolean {
  try {
    return Intl.getCanonicalLocales(tag).length > 0;
  } catch {
    return false;
  }
}

/** The value of the html element's `lang`; Chinese glyphs differ by script, so it is told. */
export function htmlLanguage(language: Language): string {
  return language === "zh" ? "zh-Hans" : language;
}

export const LocaleContext = createContext<Locale>(createLocale("en", []));

export function useLocale(): Locale {
  return useContext(LocaleContext);
}
