// The two ways in which a hub tells: Server-Sent Events, or the same messages over a WebSocket where proxies or filters
// let no events through.

export const WAYS = ["events", "socket"] as const;
export type Way = (typeof WAYS)[number];

/** The part of EventSource that is used, so that a test, or a WebSocket, can stand in for it. */
export interface Events {
  addEventListener(type: string, listener: (event: { readonly data?: unknown }) => void): void;
  close(): void;
}

/** What a hub tells at `api/events` with this `query`, in one way or the other. */
export type OpenEvents = (query: string, way: Way) => Events;

export const openEvents: OpenEvents = (query, way) =>
  way === "events" ? (new EventSource(`api/events?${query}`) as unknown as Events) : new SocketEvents(query);

export function otherWay(way: Way): Way {
  return way === "events" ? "socket" : "events";
}

/** Each message begins with its type. */
const TYPE = /^\{"type":"(\w+)"/;

/** A WebSocket that behaves like an EventSource: its end is an error, whoever ended it. */
class SocketEvents implements Events {
  readonly #socket: WebSocket;
  readonly #listeners = new Map<string, (event: { readonly data?: unknown }) => void>();

  constructor(query: string) {
    const url = new URL(`api/stream?${query}`, location.href);
    url.protocol = url.protocol.replace("http", "ws");
    this.#socket = new WebSocket(url);
    this.#socket.addEventListener("message", ({ data }) => {
      const type = TYPE.exec(String(data))?.[1] ?? "error";
      this.#listeners.get(type)?.({ data });
    });
    this.#socket.addEventListener("close", () => this.#listeners.get("error")?.({}));
  }

  addEventListener(type: string, listener: (event: { readonly data?: unknown }) => void): void {
    this.#listeners.set(type, listener);
  }

  close(): void {
    this.#listeners.clear();
    this.#socket.close();
  }
}
