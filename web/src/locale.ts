import { createContext } from "preact";
import { useContext } from "preact/hooks";

import { createFormat, type Format } from "./format";
import { en, type Messages } from "./messages/en";
import { type FaultText, faults, hints } from "./messages/faults.zh";
import { zh } from "./messages/zh";
import type { Channel, Fault } from "./types";

const CATALOGUES = { en, zh } as const;

export type Language = keyof typeof CATALOGUES;

export interface Locale {
  readonly language: Language;
  readonly text: Messages;
  readonly format: Format;
  /** Faults by their code. The hub speaks English itself, with the figures of the case. */
  readonly faults: Readonly<Record<string, FaultText>>;
  readonly hints: Readonly<Record<string, string>>;
}

export function isLanguage(tag: string): tag is Language {
  return Object.hasOwn(CATALOGUES, tag);
}

/** That of `?lang=` where we speak it, else the one chosen here before, else the reader's first that we speak. */
export function pickLanguage(search: string, chosen: Language | undefined, preferred: readonly string[]): Language {
  const asked = new URLSearchParams(search).get("lang");
  for (const tag of [asked, chosen, ...preferred]) {
    const language = tag?.toLowerCase().split("-")[0] ?? "";
    if (isLanguage(language)) return language;
  }
  return "en";
}

/** Numbers and dates keep the reader's region ("en-GB") where it speaks the language of the text. */
export function createLocale(language: Language, preferred: readonly string[]): Locale {
  const text = CATALOGUES[language];
  const region = preferred.find((tag) => tag.toLowerCase().split("-")[0] === language && isLocale(tag));
  const format = createFormat(region ?? language, text);
  return { language, text, format, ...(language === "zh" ? { faults, hints } : { faults: {}, hints: {} }) };
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

interface FaultWords {
  readonly message: string;
  readonly hint: string | null;
}

/**
 * A fault in the reader's language: by its code where the catalogue has it, else in its own words.
 *
 * @param channel Whose evidence it is: one code may mean different things on two channels.
 */
export function translateFault(
  { code, message, hint }: Fault,
  { faults, hints }: Locale,
  channel?: Channel,
): FaultWords {
  const ofDriver = code.replace(/^nvml_\d+$/, "nvml_N");
  const key = [`${channel ?? ""}.${code}`, ofDriver].find((one) => Object.hasOwn(faults, one));
  const known = key === undefined ? undefined : faults[key];
  if (known === undefined) return { message, hint };
  // A verdict on a GPU says which one before it says what: that is no translator's to lose.
  const gpu = /^(?:[^:]*; )?(GPU \d+): /.exec(message)?.[1];
  const fitting = known.cases?.find(({ said }) => said.test(message));
  const facts = fitting?.said.exec(message)?.groups ?? {};
  const words = (fitting ?? known).message.replace(/\{(\w+)\}/g, (_, name: string) => facts[name] ?? "");
  const ownHint = hint !== null && Object.hasOwn(hints, hint) ? hints[hint] : hint;
  return {
    message: gpu === undefined ? words : `${gpu}：${words}`,
    hint: known.hint ?? ownHint ?? null,
  };
}

export function useFault(fault: Fault, channel?: Channel): FaultWords {
  return translateFault(fault, useLocale(), channel);
}
