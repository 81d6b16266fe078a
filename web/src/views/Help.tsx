import { useComputed } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";

import { KEYS } from "../keys";
import { useLocale } from "../locale";
import type { Store } from "../store";

/** The keys, and what the words mean. */
export function Help({ store }: { store: Store }) {
  const { text } = useLocale();
  const isOpen = useComputed(() => store.view.value.isHelpOpen).value;
  const dialog = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    if (isOpen) dialog.current?.showModal();
  }, [isOpen]);
  if (!isOpen) return null;
  const close = (): void => store.choose({ isHelpOpen: false });
  return (
    <dialog ref={dialog} class="help" aria-labelledby="help-title" onClose={close}>
      <h2 id="help-title">{text.help}</h2>
      <dl>
        {KEYS.map((key) => (
          <div key={key}>
            <dt>
              {key.split(" ").map((one) => (
                <kbd key={one}>{one}</kbd>
              ))}
            </dt>
            <dd>{text.keys[key]}</dd>
          </div>
        ))}
      </dl>
      <h2>{text.legend}</h2>
      <Legend />
      <form method="dialog">
        <button>{text.close}</button>
      </form>
    </dialog>
  );
}

export function Legend() {
  const { text } = useLocale();
  return (
    <ul>
      {Object.entries(text.legendText).map(([key, sentence]) => (
        <li key={key}>{sentence}</li>
      ))}
    </ul>
  );
}
