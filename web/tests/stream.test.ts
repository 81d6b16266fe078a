import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";

import type { Events, Way } from "../src/channel";
import { type Sink, Stream } from "../src/stream";
import type { Fault, LinkState, Message } from "../src/types";
import { node } from "./fixtures";

type Listener = (event: { readonly data?: unknown }) => void;

class FakeEvents implements Events {
  readonly listeners = new Map<string, Listener>();
  closed = false;
  constructor(readonly way: Way) {}
  addEventListener(type: string, listener: Listener): void {
    this.listeners.set(type, listener);
  }
  close(): void {
    this.closed = true;
  }
  say(type: string, data: unknown = { type, nodes: [] }): void {
    this.listeners.get(type)?.({ data: typeof data === "string" ? data : JSON.stringify(data) });
  }
}

/** A hub, a browser and a store in one: answers by URL, null for a hub that hangs, an Error for none. */
class World implements Sink {
  readonly answers: Record<string, string | null | Error | Response> = {
    health: "{}",
    "api/nodes": JSON.stringify([node("polled")]),
  };
  readonly asked: string[] = [];
  readonly opened: FakeEvents[] = [];
  readonly messages: Message[] = [];
  readonly states: LinkState[] = [];
  readonly notices: string[][] = [];
  polls = 0;
  heardAt: number | null = null;
  contactAt: number | null = null;

  readonly stream = new Stream(this, {
    openEvents: (_, way) => {
      const events = new FakeEvents(way);
      this.opened.push(events);
      return events;
    },
    fetch: (url, init) => this.fetch(url, init),
  });

  get state(): LinkState | undefined {
    return this.states.at(-1);
  }
  get events(): FakeEvents {
    const last = this.opened.at(-1);
    if (last === undefined) throw new Error("nothing was opened");
    return last;
  }
  fetch(url: string, init: RequestInit): Promise<Response> {
    this.asked.push(url);
    const answer = this.answers[url];
    if (answer instanceof Error) return Promise.reject(answer);
    if (answer instanceof Response) return Promise.resolve(answer.clone());
    if (typeof answer === "string") return Promise.resolve(new Response(answer));
    return new Promise((_, reject) => init.signal?.addEventListener("abort", () => reject(new Error("aborted"))));
  }
  apply(message: Message): void {
    this.messages.push(message);
  }
  replaceAll(): void {
    this.polls += 1;
  }
  setLink(state: LinkState, contactAt: number | null): void {
    if (state !== this.state) this.states.push(state);
    this.contactAt = contactAt;
  }
  observeRoughTime(): void {}
  setNotices(notices: readonly Fault[]): void {
    this.notices.push(notices.map(({ code }) => code));
  }
  refusals = 0;
  refuse(): void {
    this.refusals += 1;
  }
  heard(at: number): void {
    this.heardAt = at;
  }

  /** The hub is gone: connections fail, and so do questions. */
  die(): void {
    this.answers["health"] = this.answers["api/nodes"] = new Error("refused");
    this.events.say("error");
  }
  revive(): void {
    this.answers["health"] = "{}";
    this.answers["api/nodes"] = "[]";
  }
}

const pass = (milliseconds: number): Promise<unknown> => vi.advanceTimersByTimeAsync(milliseconds);

let world: World;

beforeEach(() => {
  vi.useFakeTimers();
  world = new World();
  world.stream.start();
});
afterEach(() => {
  world.stream.stop();
  vi.useRealTimers();
});

test("is live from the first snapshot on", () => {
  expect(world.state).toBe("connecting");
  world.events.say("nodes");
  expect(world.state).toBe("connecting");
  world.events.say("snapshot");
  expect(world.state).toBe("live");
  expect(world.messages).toHaveLength(2);
});

test("hears no event type that it does not know", () => {
  expect([...world.events.listeners.keys()].sort()).toEqual(["error", "nodes", "removed", "snapshot"]);
});

describe("a hub that falls silent", () => {
  test("is asked for its health every three seconds, and is fine while it answers", async () => {
    world.events.say("snapshot");
    await pass(9_100);
    expect(world.asked).toEqual(["health", "health", "health"]);
    expect(world.state).toBe("live");
  });
  test("is lost within five seconds when it does not answer", async () => {
    world.events.say("snapshot");
    world.answers["health"] = world.answers["api/nodes"] = null;
    await pass(4_600);
    expect(world.state).toBe("live");
    await pass(300);
    expect(world.state).toBe("lost");
  });
  test("tells its notices with its health", async () => {
    world.events.say("snapshot");
    world.answers["health"] = JSON.stringify({ notices: [{ code: "mass_silence", message: "m", hint: null }] });
    await pass(3_100);
    expect(world.notices).toEqual([["mass_silence"]]);
  });
  test("counts as heard whenever it answers", async () => {
    world.events.say("snapshot");
    await pass(3_100);
    expect(Date.now() - (world.heardAt ?? 0)).toBeLessThan(200);
  });
  test("gets a new stream after half a minute, should only the stream be dead", async () => {
    world.events.say("snapshot");
    const first = world.events;
    await pass(31_000);
    expect(world.opened).toHaveLength(2);
    expect(first.closed).toBe(true);
    expect(world.state).toBe("live");
  });
  test("is not lost when a message comes while its health is still asked for", async () => {
    world.events.say("snapshot");
    world.answers["health"] = null;
    await pass(4_000);
    world.events.say("nodes");
    await pass(2_000);
    expect(world.state).toBe("live");
  });
});

test("asks anew when it is told to, stays live meanwhile, and hears the new stream alone", () => {
  world.events.say("snapshot");
  const first = world.events;
  world.stream.renew();
  expect([world.opened.length, first.closed, world.state]).toEqual([2, true, "live"]);
  first.say("nodes");
  world.events.say("snapshot");
  expect(world.messages).toHaveLength(2);
});

describe("a hub that is gone", () => {
  test("is lost at once, and dated by its last sign of life", async () => {
    world.events.say("snapshot");
    const at = Date.now();
    await pass(1_000);
    world.die();
    expect(world.state).toBe("connecting");
    await pass(0);
    expect(world.state).toBe("lost");
    expect(world.contactAt).toBe(at);
  });
  test("is asked every five seconds, never more, and the stream is tried beside it", async () => {
    world.events.say("snapshot");
    world.die();
    for (let second = 0; second < 20; second += 1) {
      await pass(1_000);
      if (!world.events.closed) world.events.say("error");
    }
    expect(world.asked.filter((url) => url === "api/nodes")).toHaveLength(5);
    expect(world.opened.length).toBeGreaterThanOrEqual(4);
    expect(world.opened.length).toBeLessThanOrEqual(10);
    expect(world.states).toEqual(["connecting", "live", "connecting", "lost"]);
  });
  test("is live again with its first snapshot, and no longer polled", async () => {
    world.events.say("snapshot");
    world.die();
    await pass(4_000);
    world.revive();
    await pass(1_500);
    expect(world.state).toBe("polling");
    expect(world.events.closed).toBe(false);
    world.events.say("snapshot");
    expect(world.state).toBe("live");
    const asked = world.asked.length;
    await pass(2_900);
    expect(world.asked).toHaveLength(asked);
  });
});

describe("a stream that does not work", () => {
  test("is replaced by polling when the connection is refused", async () => {
    world.events.say("error");
    await pass(0);
    expect(world.state).toBe("polling");
    expect(world.polls).toBe(1);
    await pass(5_000);
    expect(world.polls).toBe(2);
  });
  test("is replaced by polling when it opens but says nothing, as behind a buffering proxy", async () => {
    await pass(4_000);
    expect(world.state).toBe("polling");
  });
  test("is replaced by polling when what it says is not JSON", async () => {
    world.events.say("snapshot");
    world.events.say("nodes", "<html>");
    await pass(0);
    expect(world.state).toBe("polling");
  });
  test("counts as lost when the poll's answer is no list of nodes", async () => {
    world.answers["api/nodes"] = "<html>";
    world.events.say("error");
    await pass(0);
    expect(world.state).toBe("lost");
  });
});

describe("a way that tells nothing", () => {
  test("is given up for the other at once, which is then as live, and polled no longer", async () => {
    world.events.say("error");
    await pass(0);
    expect(world.opened.map(({ way }) => way)).toEqual(["events", "socket"]);
    world.events.say("snapshot");
    expect(world.state).toBe("live");
    const polls = world.polls;
    await pass(20_000);
    expect(world.polls).toBe(polls);
  });
  test("has its turn again after the other has failed as well, and a pause", async () => {
    world.events.say("error");
    await pass(0);
    world.events.say("error");
    await pass(400);
    expect(world.opened).toHaveLength(2);
    await pass(700);
    expect(world.opened.map(({ way }) => way)).toEqual(["events", "socket", "events"]);
  });
  test("does not come back when the other breaks that has told something", async () => {
    world.events.say("error");
    await pass(0);
    world.events.say("snapshot");
    world.events.say("error");
    await pass(1_100);
    expect(world.opened.map(({ way }) => way)).toEqual(["events", "socket", "socket"]);
  });
});

test("a hidden page holds no connection and asks nothing", async () => {
  world.events.say("snapshot");
  world.stream.stop();
  expect(world.events.closed).toBe(true);
  await pass(60_000);
  expect(world.asked).toEqual([]);
  expect(world.opened).toHaveLength(1);
  world.stream.start();
  world.events.say("snapshot");
  expect(world.states).toEqual(["connecting", "live", "connecting", "live"]);
});

test("a message of a connection that was given up is not heard", () => {
  const old = world.events;
  world.stream.stop();
  old.say("snapshot");
  expect(world.messages).toEqual([]);
});

test("a hub that wants to know who looks says so to the store, and to nobody else", async () => {
  vi.useFakeTimers();
  const world = new World();
  world.answers["api/nodes"] = new Response('{"status":401}', { status: 401 });
  world.stream.start();
  world.events.say("error");
  await vi.advanceTimersByTimeAsync(0);
  expect(world.refusals).toBe(1);
  world.stream.stop();
  vi.useRealTimers();
});
