import { beforeEach, expect, test } from "vitest";

import { SLICE, Slices } from "../src/slices";

/** A browser whose frames come when the test says so. */
class Browser {
  time = 0;
  frames: (() => void)[] = [];
  timers: { at: number; work: () => void }[] = [];
  readonly beforeFrame = (work: () => void): void => void this.frames.push(work);
  readonly after = (milliseconds: number, work: () => void): void =>
    void this.timers.push({ at: this.time + milliseconds, work });
  readonly now = (): number => this.time;

  frame(): void {
    for (const work of this.frames.splice(0)) work();
  }
  pass(milliseconds: number): void {
    this.time += milliseconds;
    const due = this.timers.filter(({ at }) => at <= this.time);
    this.timers = this.timers.filter(({ at }) => at > this.time);
    for (const { work } of due) work();
  }
}

let browser: Browser;
let applied: [number[], boolean][];
let slices: Slices<number>;

beforeEach(() => {
  browser = new Browser();
  applied = [];
  slices = new Slices<number>((items, isLast) => applied.push([[...items], isLast]), (before, later) => before + later, browser);
});

function many(count: number, value = 1): Map<string, number> {
  return new Map(Array.from({ length: count }, (_, at) => [`n${at}`, value]));
}

test("a little is applied at once", () => {
  slices.put(new Map([["a", 1]]));
  slices.put(new Map([["a", 2]]));
  expect(applied).toEqual([
    [[1], true],
    [[2], true],
  ]);
});

test("much is applied a slice a frame, and the last says so", () => {
  slices.put(many(SLICE * 2 + 1));
  expect(applied).toEqual([]);
  for (let frame = 0; frame < 4; frame += 1) browser.frame();
  expect(applied.map(([items, isLast]) => [items.length, isLast])).toEqual([
    [SLICE, false],
    [SLICE, false],
    [1, true],
  ]);
});

test("of what waits the newest of each name is applied, with what must not be lost of the older", () => {
  slices.put(many(SLICE + 1));
  slices.put(new Map([["n0", 10]]));
  browser.frame();
  browser.frame();
  expect(applied.flatMap(([items]) => items).filter((item) => item !== 1)).toEqual([11]);
});

test("what may rest waits its time since the last began, and comes together", () => {
  slices.put(new Map([["a", 1]]), 500);
  browser.pass(100);
  slices.put(new Map([["a", 2]]), 500);
  slices.put(new Map([["b", 3]]), 500);
  browser.pass(399);
  browser.frame();
  expect(applied).toHaveLength(1);
  browser.pass(1);
  browser.frame();
  expect(applied[1]).toEqual([[2, 3], true]);
});

test("what is dropped is not applied, and what was cleared does not hold up what follows", () => {
  slices.put(many(SLICE + 1));
  slices.drop(["n0", "n1"]);
  browser.frame();
  expect(applied.flatMap(([items]) => items)).toHaveLength(SLICE - 1);
  slices.put(many(SLICE + 1), 500);
  slices.clear();
  slices.put(new Map([["x", 7]]), 500);
  expect(applied.at(-1)).toEqual([[7], true]);
  browser.pass(1_000);
  browser.frame();
  expect(applied.at(-1)).toEqual([[7], true]);
});
