import { expect, test } from "vitest";

import { Login, tokenOf } from "../src/login";
import type { Access } from "../src/types";

class Hub {
  readonly asked: RequestInit[] = [];
  readonly told: Access[] = [];
  answer: Response | Error = new Response(null, { status: 204 });

  readonly login = new Login({ setAccess: (access) => void this.told.push(access) }, (_, init) => {
    this.asked.push(init);
    return this.answer instanceof Error ? Promise.reject(this.answer) : Promise.resolve(this.answer);
  });
}

test.each([
  ["abc", "abc"],
  ["  abc\n", "abc"],
  ["http://hub:8080/#token=abc", "abc"],
  ["http://hub:8080/?lang=zh#token=a%2Db ", "a-b"],
  ["#token=abc", "abc"],
  ["#token=%", "%"],
  ["", ""],
])("what people have at hand, %j, has the token in it", (text, token) => {
  expect(tokenOf(text)).toBe(token);
});

test.each([
  [204, null],
  [400, "wrong"],
  [401, "wrong"],
  [403, "refused"],
  [429, "wait"],
  [500, "refused"],
])("a login answered with %i", async (status, failure) => {
  const hub = new Hub();
  hub.answer = new Response(null, { status });
  expect(await hub.login.enter("link#token=abc")).toBe(failure);
  expect(hub.asked[0]?.body).toBe('{"token":"abc"}');
  expect(hub.told).toEqual(failure === null ? [{ mayLook: true, isLoggedIn: true, isKnown: true }] : []);
});

test("a hub that does not answer changes nothing", async () => {
  const hub = new Hub();
  hub.answer = new Error("away");
  expect(await hub.login.enter("abc")).toBe("unanswered");
  await hub.login.ask();
  expect(hub.told).toEqual([]);
});

test("who leaves is told what may still be seen", async () => {
  const hub = new Hub();
  hub.answer = new Response('{"viewers":"token","may_look":false,"logged_in":false}');
  await hub.login.leave();
  expect(hub.asked.map(({ method }) => method)).toEqual(["DELETE", "GET"]);
  expect(hub.told).toEqual([{ mayLook: false, isLoggedIn: false, isKnown: true }]);
});

test("an older hub knows of no login", async () => {
  const hub = new Hub();
  for (const answer of [new Response("{}", { status: 404 }), new Response("<html>")]) {
    hub.answer = answer;
    await hub.login.ask();
  }
  expect(hub.told).toEqual([]);
});
