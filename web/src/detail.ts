import { BROWSER, type Events, type Surroundings } from "./stream";
import type { Message, Node } from "./types";

const RETRY_MS = 3_000;

export interface DetailSink {
  applyDetails(nodes: readonly Node[]): void;
  endDetails(): void;
}

/**
 * A second stream, of the one node that is open while the fleet is told at a glance.
 *
 * Whether the hub is there is for the first stream to find out: this one only comes and goes.
 */
export class DetailStream {
  readonly #sink: DetailSink;
  readonly #openEvents: Surroundings["openEvents"];
  #name: string | null = null;
  #events: Events | null = null;
  #retry: ReturnType<typeof setTimeout> | undefined;

  constructor(sink: DetailSink, openEvents: Surroundings["openEvents"] = BROWSER.openEvents) {
    this.#sink = sink;
    this.#openEvents = openEvents;
  }

  /** Follow the node `name`, or none. */
  follow(name: string | null): void {
    if (name === this.#name) return;
    this.#name = name;
    this.#close();
    this.#open();
  }

  #open(): void {
    if (this.#name === null) return;
    const events = this.#openEvents(`api/events?node=${encodeURIComponent(this.#name)}`);
    this.#events = events;
    for (const type of ["snapshot", "nodes"]) {
      events.addEventListener(type, ({ data }) => {
        if (events === this.#events) this.#sink.applyDetails(nodesOf(data));
      });
    }
    events.addEventListener("error", () => {
      if (events !== this.#events) return;
      this.#close();
      this.#retry = setTimeout(() => this.#open(), RETRY_MS);
    });
  }

  #close(): void {
    clearTimeout(this.#retry);
    if (this.#events === null) return;
    this.#events.close();
    this.#events = null;
    this.#sink.endDetails();
  }
}

function nodesOf(data: unknown): readonly Node[] {
  try {
    const message = JSON.parse(String(data)) as Message;
    return "nodes" in message ? message.nodes : [];
  } catch {
    return [];
  }
}
