import { useComputed } from "@preact/signals";
import { useState } from "preact/hooks";

import type { Agency } from "../agents";
import { useLocale } from "../locale";
import type { Login } from "../login";
import type { Store } from "../store";
import { Joined } from "./Agents";
import { Legend } from "./Help";
import { Refused } from "./Refused";

interface Props {
  store: Store;
  login: Login;
  agency: Agency;
  onEnter: () => void;
}

export function Footer({ store, login, agency, onEnter }: Props) {
  const { text } = useLocale();
  const areUsersBlurred = useComputed(() => store.view.value.areUsersBlurred).value;
  const access = store.access.value;
  const version = store.hubVersion.value;
  const [isOpen, setOpen] = useState(false);
  return (
    <footer>
      <details onToggle={(event) => setOpen(event.currentTarget.open)}>
        <summary>{text.legend}</summary>
        <Legend />
        {isOpen && <Refused />}
      </details>
      <Joined store={store} agency={agency} />
      <p>
        <button
          type="button"
          data-choice="blur"
          aria-pressed={areUsersBlurred}
          onClick={() => store.choose({ areUsersBlurred: !areUsersBlurred })}
        >
          {text.blurUsers}
        </button>
        {access.isKnown && (
          <button type="button" data-choice="login" onClick={() => (access.isLoggedIn ? void login.leave() : onEnter())}>
            {access.isLoggedIn ? text.login.leave : text.login.enter}
          </button>
        )}
        {version !== null && <span data-field="hub_version">{text.hubVersion(version)}</span>}
      </p>
    </footer>
  );
}
