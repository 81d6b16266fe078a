import { type Events, openEvents, type OpenEvents, otherWay, type Way } from "./channel";
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
  readonly #openEvents: OpenEvents;
  #name: string | null = null;
  #events: Events | null = null;
  #way: Way = "events";
  #retry: ReturnType<typeof setTimeout> | undefined;

  constructor(sink: DetailSink, open: OpenEvents = openEvents) {
    this.#sink = sink;
    this.#openEvents = open;
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
    const events = this.#openEvents(`node=${encodeURIComponent(this.#name)}`, this.#way);
    let hasTold = false;
    this.#events = events;
    for (const type of ["snapshot", "nodes"]) {
      events.addEventListener(type, ({ data }) => {
        if (events !== this.#events) return;
        hasTold = true;
        this.#sink.applyDetails(nodesOf(data));
      });
    }
    events.addEventListener("error", () => {
      if (events !== this.#events) return;
      this.#close();
      if (!hasTold) this.#way = otherWay(this.#way);
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
