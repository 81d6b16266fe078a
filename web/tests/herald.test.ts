import { expect, test } from "vitest";

import { Herald } from "../src/herald";
import type { NodeStatus } from "../src/types";

function states(...pairs: [string, NodeStatus][]): Map<string, NodeStatus> {
  return new Map(pairs);
}

test("how things are at first is no news", () => {
  expect(new Herald().hear(states(["a", "offline"]), [], 0)).toBeNull();
});

test("a node that goes and one that comes back are told, stale ones are not", () => {
  const herald = new Herald();
  herald.hear(states(["a", "online"], ["b", "offline"], ["c", "online"]), [], 0);
  const news = herald.hear(states(["a", "offline"], ["b", "online"], ["c", "stale"]), [], 10);
  expect([...(news?.nodes ?? [])]).toEqual([
    ["a", "offline"],
    ["b", "online"],
  ]);
  expect(herald.hear(states(["a", "offline"], ["b", "online"], ["c", "stale"]), [], 90_000)).toBeNull();
});

test("a node that comes back by way of being stale is told once, when it is back", () => {
  const herald = new Herald();
  herald.hear(states(["a", "offline"]), [], 0);
  expect(herald.hear(states(["a", "stale"]), [], 10_000)).toBeNull();
  expect(herald.hear(states(["a", "online"]), [], 20_000)?.nodes?.get("a")).toBe("online");
  expect(herald.hear(states(["a", "stale"]), [], 30_000)).toBeNull();
  expect(herald.hear(states(["a", "online"]), [], 40_000)).toBeNull();
});

test("what comes within five seconds of the last announcement waits, and is told in its newest state", () => {
  const herald = new Herald();
  herald.hear(states(["a", "online"], ["b", "online"]), [], 0);
  herald.hear(states(["a", "offline"], ["b", "online"]), [], 1_000);
  expect(herald.hear(states(["a", "online"], ["b", "offline"]), [], 5_900)).toBeNull();
  const news = herald.hear(states(["a", "offline"], ["b", "offline"]), [], 6_100);
  expect([...(news?.nodes ?? [])]).toEqual([["b", "offline"]]);
});

test("more than three nodes at once are a number", () => {
  const herald = new Herald();
  const names = ["a", "b", "c", "d"];
  herald.hear(new Map(names.map((name) => [name, "online"])), [], 0);
  const news = herald.hear(new Map(names.map((name) => [name, "offline"])), [], 1);
  expect(news?.nodes).toBeNull();
  expect(news?.count).toBe(4);
});

test("a notice is told once for as long as it stands", () => {
  const herald = new Herald();
  expect(herald.hear(states(), ["mass_silence"], 0)?.notices).toEqual(["mass_silence"]);
  expect(herald.hear(states(), ["mass_silence"], 60_000)).toBeNull();
  expect(herald.hear(states(), [], 120_000)).toBeNull();
  expect(herald.hear(states(), ["mass_silence"], 180_000)?.notices).toEqual(["mass_silence"]);
});
