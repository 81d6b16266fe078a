import { afterEach, beforeEach, expect, test, vi } from "vitest";

import { DetailStream } from "../src/detail";
import type { Events, Way } from "../src/channel";
import type { Node } from "../src/types";
import { node } from "./fixtures";

type Listener = (event: { readonly data?: unknown }) => void;

class FakeEvents implements Events {
  readonly listeners = new Map<string, Listener>();
  closed = false;
  constructor(
    readonly query: string,
    readonly way: Way,
  ) {}
  addEventListener(type: string, listener: Listener): void {
    this.listeners.set(type, listener);
  }
  close(): void {
    this.closed = true;
  }
  say(type: string, data: unknown = {}): void {
    this.listeners.get(type)?.({ data: typeof data === "string" ? data : JSON.stringify(data) });
  }
}

let opened: FakeEvents[];
let told: string[];
let ends: number;
let details: DetailStream;

beforeEach(() => {
  vi.useFakeTimers();
  [opened, told, ends] = [[], [], 0];
  const sink = {
    applyDetails: (nodes: readonly Node[]) => void told.push(...nodes.map(({ name }) => name)),
    endDetails: () => void (ends += 1),
  };
  details = new DetailStream(sink, (query, way) => {
    const events = new FakeEvents(query, way);
    opened.push(events);
    return events;
  });
});
afterEach(() => void vi.useRealTimers());

test("one node is followed at a time, by its own name", () => {
  details.follow("a&b");
  details.follow("a&b");
  opened[0]?.say("snapshot", { type: "snapshot", nodes: [node("a&b")] });
  opened[0]?.say("nodes", { type: "nodes", nodes: [node("a&b")] });
  opened[0]?.say("nodes", "nonsense");
  expect(opened.map(({ query }) => query)).toEqual(["node=a%26b"]);
  expect(told).toEqual(["a&b", "a&b"]);
  details.follow("c");
  expect([opened[0]?.closed, opened.length, ends]).toEqual([true, 2, 1]);
  opened[0]?.say("nodes", { type: "nodes", nodes: [node("a&b")] });
  expect(told).toHaveLength(2);
});

test("a way that told nothing is left for the other, one that did is kept", async () => {
  details.follow("a");
  opened[0]?.say("error");
  await vi.advanceTimersByTimeAsync(3_000);
  opened[1]?.say("snapshot", { type: "snapshot", nodes: [node("a")] });
  opened[1]?.say("error");
  await vi.advanceTimersByTimeAsync(3_000);
  expect(opened.map(({ way }) => way)).toEqual(["events", "socket", "socket"]);
});

test("a stream that fails ends the details and is tried again, one that nobody wants is not", async () => {
  details.follow("a");
  opened[0]?.say("error");
  expect([opened[0]?.closed, ends]).toEqual([true, 1]);
  await vi.advanceTimersByTimeAsync(3_000);
  expect(opened).toHaveLength(2);
  opened[1]?.say("error");
  details.follow(null);
  await vi.advanceTimersByTimeAsync(10_000);
  expect(opened).toHaveLength(2);
});
