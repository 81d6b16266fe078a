import { useEffect, useRef, useState } from "preact/hooks";

import { useLocale } from "../locale";
import type { Failure, Login } from "../login";

/** Asks for the token. What is typed is kept nowhere. */
export function LoginForm({ login, onCancel }: { login: Login; onCancel: (() => void) | null }) {
  const { text } = useLocale();
  const [failure, setFailure] = useState<Failure | null>(null);
  const [isAsking, setAsking] = useState(false);
  const field = useRef<HTMLInputElement>(null);
  useEffect(() => field.current?.focus(), []);

  async function enter(event: Event): Promise<void> {
    event.preventDefault();
    if (isAsking) return;
    setAsking(true);
    const found = await login.enter(field.current?.value ?? "");
    setAsking(false);
    setFailure(found);
    if (found !== null) field.current?.select();
    else onCancel?.();
  }

  return (
    <form class="login" aria-labelledby="login-title" onSubmit={(event) => void enter(event)}>
      <h2 id="login-title">{text.login.title}</h2>
      <p>{onCancel === null ? text.login.closed : text.login.open}</p>
      <label>
        {text.login.token}
        <input
          ref={field}
          type="password"
          name="token"
          autocomplete="current-password"
          spellcheck={false}
          required
          aria-describedby="login-failure"
          aria-invalid={failure === "wrong"}
        />
      </label>
      <p id="login-failure" class="failure" role="alert">
        {failure !== null && text.login.failure[failure]}
      </p>
      <p class="choices">
        <button type="submit" disabled={isAsking}>
          {text.login.enter}
        </button>
        {onCancel !== null && (
          <button type="button" onClick={onCancel}>
            {text.login.cancel}
          </button>
        )}
      </p>
      <p class="hint">{text.login.where}</p>
    </form>
  );
}
