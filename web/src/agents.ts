import type { Agents } from "./types";

const URL_OF_AGENTS = "api/agents";
const TIMEOUT_MS = 10_000;

export interface AgentsSink {
  setAgents(agents: Agents | null): void;
}

type Fetch = (url: string, init: RequestInit) => Promise<Response>;

/** Asks the hub who has joined and who waits, and tells it who may come in. The hub lets nobody do so but who is logged in. */
export class Agency {
  readonly #sink: AgentsSink;
  readonly #fetch: Fetch;

  constructor(sink: AgentsSink, fetch: Fetch = (url, init) => globalThis.fetch(url, init)) {
    this.#sink = sink;
    this.#fetch = fetch;
  }

  /** Where the hub does not say, all stays as it is. */
  async ask(): Promise<void> {
    const answer = await this.#send(URL_OF_AGENTS, { method: "GET", cache: "no-store" });
    if (answer?.ok !== true) return;
    try {
      const told = (await answer.json()) as Partial<Agents>;
      this.#sink.setAgents({ joined: told.joined ?? [], waiting: told.waiting ?? [] });
    } catch {
      // Not a hub's answer.
    }
  }

  /** Let in the one of this code; whether the hub did. */
  admit(code: string): Promise<boolean> {
    return this.#change(`${URL_OF_AGENTS}/${encodeURIComponent(code)}/admit`, "POST");
  }

  /** Show out, or turn away, the one of this code; whether the hub did. */
  revoke(code: string): Promise<boolean> {
    return this.#change(`${URL_OF_AGENTS}/${encodeURIComponent(code)}`, "DELETE");
  }

  async #change(url: string, method: string): Promise<boolean> {
    const answer = await this.#send(url, { method });
    await this.ask();
    return answer?.ok === true;
  }

  async #send(url: string, init: RequestInit): Promise<Response | null> {
    try {
      return await this.#fetch(url, { ...init, signal: AbortSignal.timeout(TIMEOUT_MS) });
    } catch {
      return null;
    }
  }
}
