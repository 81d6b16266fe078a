import { expect, test } from "vitest";

import { Agency } from "../src/agents";
import type { Agents } from "../src/types";

class Hub {
  readonly asked: string[] = [];
  readonly told: (Agents | null)[] = [];
  answers: (Response | Error)[] = [];

  readonly agency = new Agency({ setAgents: (agents) => void this.told.push(agents) }, (url, init) => {
    this.asked.push(`${init.method ?? ""} ${url}`);
    const answer = this.answers.shift() ?? new Response(null, { status: 500 });
    return answer instanceof Error ? Promise.reject(answer) : Promise.resolve(answer);
  });
}

const listed = (): Response => new Response('{"push": "token", "joined": [], "waiting": []}');

test("what the hub tells is passed on", async () => {
  const hub = new Hub();
  hub.answers = [listed()];
  await hub.agency.ask();
  expect(hub.told).toEqual([{ joined: [], waiting: [] }]);
});

test.each([new Response(null, { status: 401 }), new Response("<html>"), new Error("no network")])(
  "where the hub tells nothing all stays as it is",
  async (answer) => {
    const hub = new Hub();
    hub.answers = [answer];
    await hub.agency.ask();
    expect(hub.told).toEqual([]);
  },
);

test("after each change the hub is asked how things are, whether it did it or not", async () => {
  const hub = new Hub();
  hub.answers = [new Response("{}"), listed(), new Response(null, { status: 204 }), listed(), new Error("gone"), listed()];
  expect(await hub.agency.admit("A/B")).toBe(true);
  expect(await hub.agency.revoke("C")).toBe(true);
  expect(await hub.agency.revoke("C")).toBe(false);
  expect(hub.asked).toEqual([
    "POST api/agents/A%2FB/admit",
    "GET api/agents",
    "DELETE api/agents/C",
    "GET api/agents",
    "DELETE api/agents/C",
    "GET api/agents",
  ]);
  expect(hub.told.length).toBe(3);
});
