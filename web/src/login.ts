import type { Access } from "./types";

const URL_OF_LOGIN = "api/login";
const TIMEOUT_MS = 10_000;
const TOKEN = /#token=([^&\s]+)/;

/** Why a login failed, as a word of the page's own. */
export type Failure = "wrong" | "wait" | "unanswered" | "refused";

export interface AccessSink {
  setAccess(access: Access): void;
}

type Fetch = (url: string, init: RequestInit) => Promise<Response>;

/** The token in a text that people have at hand: in the link that the hub prints, or as it is. */
export function tokenOf(text: string): string {
  const linked = TOKEN.exec(text)?.[1];
  return linked === undefined ? text.trim() : decoded(linked);
}

/** Changes the token for a cookie that scripts cannot read, and tells the store what may be seen. */
export class Login {
  readonly #sink: AccessSink;
  readonly #fetch: Fetch;

  constructor(sink: AccessSink, fetch: Fetch = (url, init) => globalThis.fetch(url, init)) {
    this.#sink = sink;
    this.#fetch = fetch;
  }

  /** Ask the hub who it takes us for. Where it does not say, all stays as it is. */
  async ask(): Promise<void> {
    const answer = await this.#send({ method: "GET", cache: "no-store" });
    if (answer?.ok !== true) return;
    try {
      const told = (await answer.json()) as { readonly may_look?: unknown; readonly logged_in?: unknown };
      this.#sink.setAccess({ mayLook: told.may_look !== false, isLoggedIn: told.logged_in === true, isKnown: true });
    } catch {
      // Not a hub's answer.
    }
  }

  /** Null once we are in. */
  async enter(text: string): Promise<Failure | null> {
    const answer = await this.#send({
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ token: tokenOf(text) }),
    });
    if (answer === null) return "unanswered";
    if (answer.status === 401 || answer.status === 400) return "wrong";
    if (answer.status === 429) return "wait";
    if (!answer.ok) return "refused";
    this.#sink.setAccess({ mayLook: true, isLoggedIn: true, isKnown: true });
    return null;
  }

  async leave(): Promise<void> {
    await this.#send({ method: "DELETE" });
    await this.ask();
  }

  async #send(init: RequestInit): Promise<Response | null> {
    try {
      return await this.#fetch(URL_OF_LOGIN, { ...init, signal: AbortSignal.timeout(TIMEOUT_MS) });
    } catch {
      return null;
    }
  }
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
