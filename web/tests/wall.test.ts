import { expect, test } from "vitest";

import { nextPlace, type Place } from "../src/wall";

const place = (values: Partial<Place>): Place => ({ top: 0, seen: 1_000, whole: 2_500, tab: "nodes", ...values });

test("a wall shows a long page a screen at a time, to its very end, then the users, then begins again", () => {
  const tops = [0];
  let now = place({});
  while (now.tab === "nodes") {
    now = place(nextPlace(now));
    tops.push(now.top);
  }
  expect(tops).toEqual([0, 850, 1_500, 0]);
  expect(now.tab).toBe("users");
  expect(nextPlace(place({ whole: 900, tab: "users" }))).toEqual({ tab: "nodes", top: 0 });
});
