import { expect, test } from "vitest";

import { inOrderOf } from "../src/steady";

test("who is pointed at stays in place, who is new comes last in its own order, who went leaves no gap", () => {
  expect(inOrderOf(["x", "c", "y", "a"], (item) => item, ["a", "b", "c"])).toEqual(["a", "c", "x", "y"]);
});
