import { useSignal, useSignalEffect } from "@preact/signals";
import { useState } from "preact/hooks";

import { Herald, type News } from "../herald";
import { type Locale, translateFault, useLocale } from "../locale";
import type { Store } from "../store";

/** The one place that speaks to screen readers by itself, politely: nodes that go or come, the hub's notices. */
export function Announcer({ store }: { store: Store }) {
  const locale = useLocale();
  const [herald] = useState(() => new Herald());
  const said = useSignal("");
  useSignalEffect(() => {
    const now = store.now.value;
    if (store.link.value.state === "lost" || !store.loaded.value) return;
    const entries = store.entries.value;
    const notices = store.notices.value;
    const states = new Map(entries.map(({ name, node }) => [name, node.peek().status]));
    const news = herald.hear(
      states,
      notices.map(({ code }) => code),
      now,
    );
    if (news !== null) said.value = sentences(news, store, locale);
  });
  return (
    <p class="heard-only" role="status">
      {said}
    </p>
  );
}

function sentences(news: News, store: Store, locale: Locale): string {
  const { text, language } = locale;
  const notices = store.notices
    .peek()
    .filter(({ code }) => news.notices.includes(code))
    .map((notice) => translateFault(notice, locale).message);
  const alias = (name: string): string =>
    store.entries.peek().find((entry) => entry.name === name)?.node.peek().alias ?? name;
  const nodes =
    news.nodes === null
      ? [text.heard.many(news.count)]
      : [...news.nodes].map(([name, status]) =>
          status === "online" ? text.heard.up(alias(name)) : text.heard.down(alias(name), text.status[status]),
        );
  return [...notices, ...nodes].join(language === "zh" ? "；" : "; ");
}
