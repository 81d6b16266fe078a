import { describe, expect, test } from "vitest";

import { readAddress, writeAddress } from "../src/address";
import { type Filters, NO_FILTERS } from "../src/filter";
import { recall, remember } from "../src/memory";
import { densityFor } from "../src/view";
import { view } from "./fixtures";

describe("the address", () => {
  test("carries the view and gives it back", () => {
    const filters: Filters = {
      text: "a b&机",
      freeOnly: true,
      freeMemoryGib: 40,
      model: "H100 80GB+",
      user: "alice",
      tag: "room 204",
      gpuCount: 4,
    };
    const shown = view({ tab: "users", open: "gpu 01&x=机", density: "map", filters, areUsersBlurred: true });
    expect(readAddress(writeAddress("", shown))).toEqual({
      tab: "users",
      open: shown.open,
      density: "map",
      filters,
      isKiosk: false,
      areUsersBlurred: true,
    });
  });
  test("of an untouched page is bare, and keeps what is not ours", () => {
    expect(writeAddress("?node=a", view())).toBe("");
    expect(writeAddress("?kiosk=1&node=a", view())).toBe("?kiosk=1");
  });
  test("makes a page one for the wall", () => {
    expect(readAddress("?kiosk=1").isKiosk).toBe(true);
    expect(readAddress("?kiosk=0").isKiosk).toBe(false);
  });
  test("names a language only where one was asked for, and then the one that is shown", () => {
    expect(writeAddress("", view({ language: "zh" }))).toBe("");
    expect(writeAddress("?lang=en", view({ language: "zh" }))).toBe("?lang=zh");
  });
});

class Shelf implements Storage {
  readonly kept = new Map<string, string>();
  get length(): number {
    return this.kept.size;
  }
  clear(): void {
    this.kept.clear();
  }
  getItem(name: string): string | null {
    return this.kept.get(name) ?? null;
  }
  key(): string | null {
    return null;
  }
  removeItem(name: string): void {
    this.kept.delete(name);
  }
  setItem(name: string, value: string): void {
    this.kept.set(name, value);
  }
}

test("numbers in an address that are none ask for nothing", () => {
  expect(readAddress("?memory=lots&gpus=-3").filters).toEqual(NO_FILTERS);
});

describe("the viewer's taste", () => {
  test("is remembered as far as it was chosen", () => {
    const shelf = new Shelf();
    remember(() => shelf, view({ language: "zh" }), view({ language: "zh", theme: "dark" }));
    expect(recall(() => shelf)).toEqual({ theme: "dark" });
  });
  test("that nobody knows any more is forgotten", () => {
    const shelf = new Shelf();
    shelf.setItem("gpumon.theme", "sepia");
    shelf.setItem("gpumon.language", "constructor");
    expect(recall(() => shelf)).toEqual({});
  });
  test("is not asked of a browser that keeps nothing", () => {
    const refuse = (): Storage => {
      throw new Error("denied");
    };
    remember(refuse, view(), view({ theme: "dark" }));
    expect(recall(refuse)).toEqual({});
  });
});

test("a fleet chooses its density by its size", () => {
  expect([1, 12, 13, 100, 101, 500].map(densityFor)).toEqual(["cards", "cards", "table", "table", "map", "map"]);
});
