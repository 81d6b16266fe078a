import { type Events, openEvents, type OpenEvents, otherWay, type Way } from "./channel";
import type { Fault, LinkState, Message, Node } from "./types";
import { FULL_UP_TO } from "./view";

const ALL = `view=overview&full_up_to=${FULL_UP_TO}`;

/** No message for this long: ask whether the hub is there, since EventSource cannot see a silent stall. */
export const QUIET_MS = 3_000;
/** With {@link QUIET_MS} less than 5 s: so soon a hub that hangs is called lost. */
export const HEALTH_TIMEOUT_MS = 1_700;
export const POLL_MS = 5_000;
export const POLL_TIMEOUT_MS = 3_000;
/** No message for this long although the hub is well: the stream itself may be dead, a new one is cheap. */
export const RENEW_MS = 30_000;
const RETRY_FIRST_MS = 1_000;
const RETRY_MOST_MS = 10_000;

const MESSAGE_TYPES = ["snapshot", "nodes", "removed"] as const;

/** What the stream tells to: the store. */
export interface Sink {
  apply(message: Message): void;
  replaceAll(nodes: readonly Node[]): void;
  setNotices(notices: readonly Fault[]): void;
  heard(at: number): void;
  setLink(state: LinkState, contactAt: number | null): void;
  observeRoughTime(sentAt: number): void;
  /** The hub answers, and does not tell who asks like this. */
  refuse(): void;
}

export interface Surroundings {
  readonly openEvents: OpenEvents;
  readonly fetch: (url: string, init: RequestInit) => Promise<Response>;
}

export const BROWSER: Surroundings = {
  openEvents,
  fetch: (url, init) => fetch(url, init),
};

interface Answer {
  readonly body: string;
  readonly date: string | null;
}

type Timer = ReturnType<typeof setTimeout>;

/**
 * Keeps the store told: by server-sent events, else over a WebSocket, else by asking every five seconds, else not at all.
 *
 * The hub is called lost as soon as it neither sends nor answers; until that is settled the link is
 * "connecting" again, so that the page never shows old numbers as live.
 */
export class Stream {
  readonly #sink: Sink;
  readonly #around: Surroundings;
  #running = false;
  #state: LinkState = "connecting";
  #events: Events | null = null;
  #way: Way = "events";
  #delivered = false;
  #failures = 0;
  #contactAt: number | null = null;
  #messageAt = 0;
  #quiet: Timer | undefined;
  #retry: Timer | undefined;
  #pollTimer: Timer | undefined;
  #polling: AbortController | null = null;

  constructor(sink: Sink, around: Surroundings = BROWSER) {
    this.#sink = sink;
    this.#around = around;
  }

  start(): void {
    if (this.#running) return;
    this.#running = true;
    this.#failures = 0;
    this.#setState("connecting");
    this.#open();
  }

  /** Gives the connection back: a browser has six for a hub, and a hidden tab needs none. */
  stop(): void {
    this.#running = false;
    this.#closeEvents();
    clearTimeout(this.#retry);
    this.#retry = undefined;
    this.#stopPolling();
    this.#setState("connecting");
  }

  /** Ask anew, since the fleet is no longer as it was when the hub was asked; until it answers all stays as it is. */
  renew(): void {
    if (this.#running && this.#state === "live") this.#open();
  }

  #open(): void {
    this.#closeEvents();
    this.#retry = undefined;
    this.#delivered = false;
    const events = this.#around.openEvents(ALL, this.#way);
    this.#events = events;
    this.#messageAt = Date.now();
    for (const type of MESSAGE_TYPES) {
      events.addEventListener(type, ({ data }) => this.#receive(events, type, data));
    }
    events.addEventListener("error", () => this.#fail(events));
    this.#watch();
  }

  #receive(events: Events, type: Message["type"], data: unknown): void {
    if (events !== this.#events) return;
    let message: Message;
    try {
      message = JSON.parse(String(data)) as Message;
    } catch {
      this.#fail(events);
      return;
    }
    this.#messageAt = Date.now();
    this.#sink.apply(message);
    this.#heard();
    if (type === "snapshot") {
      this.#delivered = true;
      this.#failures = 0;
      this.#stopPolling();
      this.#setState("live");
    }
    this.#watch();
  }

  #watch(): void {
    clearTimeout(this.#quiet);
    this.#quiet = setTimeout(() => void this.#inquire(), QUIET_MS);
  }

  async #inquire(): Promise<void> {
    const events = this.#events;
    if (events === null) return;
    if (!this.#delivered) {
      this.#fail(events);
      return;
    }
    const askedAt = Date.now();
    const answer = await this.#get("health", HEALTH_TIMEOUT_MS, new AbortController());
    if (events !== this.#events || this.#messageAt > askedAt) return;
    if (answer === null) {
      this.#fail(events);
      this.#setState("lost");
      return;
    }
    this.#heard();
    this.#takeNotices(answer);
    if (Date.now() - this.#messageAt >= RENEW_MS) this.#open();
    else this.#watch();
  }

  #fail(events: Events): void {
    if (events !== this.#events) return;
    this.#closeEvents();
    if (this.#state === "live") this.#setState("connecting");
    // A way that has told something stays the way; of one that has not, the other is tried.
    if (!this.#delivered) this.#way = otherWay(this.#way);
    this.#retry = setTimeout(() => this.#open(), this.#delivered || this.#way === "events" ? this.#pause() : 0);
    if (this.#polling === null) void this.#poll();
  }

  /** Longer each time. A hub that restarts should not meet all its viewers in the same moment. */
  #pause(): number {
    const pause = Math.min(RETRY_FIRST_MS * 2 ** this.#failures, RETRY_MOST_MS);
    this.#failures += 1;
    return pause * (0.5 + Math.random() / 2);
  }

  async #poll(): Promise<void> {
    const asking = new AbortController();
    this.#polling = asking;
    const startedAt = Date.now();
    const [answer, health] = await Promise.all([
      this.#get("api/nodes", POLL_TIMEOUT_MS, asking),
      this.#get("health", POLL_TIMEOUT_MS, asking),
    ]);
    if (this.#polling !== asking) return;
    const nodes = readNodes(answer);
    if (nodes !== null) {
      const cameBack = this.#state === "lost";
      this.#sink.observeRoughTime(Date.parse(answer?.date ?? ""));
      this.#sink.replaceAll(nodes);
      this.#takeNotices(health);
      this.#heard();
      this.#setState("polling");
      if (cameBack) this.#retryNow();
    } else {
      this.#setState("lost");
    }
    this.#pollTimer = setTimeout(() => void this.#poll(), Math.max(0, startedAt + POLL_MS - Date.now()));
  }

  /** The hub answers again: no reason to sit out the rest of a long back-off. */
  #retryNow(): void {
    this.#failures = 0;
    if (this.#retry === undefined) return;
    clearTimeout(this.#retry);
    this.#open();
  }

  /** The answer, or null when there was none in time or it was not a success. */
  async #get(url: string, timeoutMs: number, controller: AbortController): Promise<Answer | null> {
    const timer = setTimeout(() => controller.abort(), timeoutMs);
    try {
      const response = await this.#around.fetch(url, { cache: "no-cache", signal: controller.signal });
      // The body belongs to the time limit: a hub that stalls in mid-answer has not answered.
      const body = await response.text();
      if (response.status === 401) this.#sink.refuse();
      return response.ok ? { body, date: response.headers.get("date") } : null;
    } catch {
      return null;
    } finally {
      clearTimeout(timer);
    }
  }

  #closeEvents(): void {
    clearTimeout(this.#quiet);
    this.#events?.close();
    this.#events = null;
  }

  #stopPolling(): void {
    clearTimeout(this.#pollTimer);
    const asking = this.#polling;
    this.#polling = null;
    asking?.abort();
  }

  #heard(): void {
    this.#contactAt = Date.now();
    this.#sink.heard(this.#contactAt);
  }

  #takeNotices(health: Answer | null): void {
    const notices = (parse(health) as { readonly notices?: unknown } | null)?.notices;
    if (Array.isArray(notices)) this.#sink.setNotices(notices as readonly Fault[]);
  }

  #setState(state: LinkState): void {
    this.#state = state;
    this.#sink.setLink(state, this.#contactAt);
  }
}

function readNodes(answer: Answer | null): readonly Node[] | null {
  const nodes = parse(answer);
  return Array.isArray(nodes) ? (nodes as readonly Node[]) : null;
}

function parse(answer: Answer | null): unknown {
  if (answer === null) return null;
  try {
    return JSON.parse(answer.body);
  } catch {
    return null;
  }
}
