// A large message is not worked off in one piece: a frame that takes long is one in which nobody can scroll.

/** So many items are applied in a frame. Each frame costs, whatever is in it: the fewer the better, as long as each is short. */
export const SLICE = 100;

export interface Surroundings {
  /** Call `work` before the next frame is painted, or soon where none is. */
  readonly beforeFrame: (work: () => void) => void;
  readonly after: (milliseconds: number, work: () => void) => void;
  readonly now: () => number;
}

/** Where no frame is painted, as behind another window, work must not pile up. */
const FRAME_AT_MOST_MS = 250;

export const BROWSER: Surroundings = {
  beforeFrame: (work) => {
    let isDone = false;
    const once = (): void => {
      if (isDone) return;
      isDone = true;
      clearTimeout(timer);
      cancelAnimationFrame(frame);
      work();
    };
    const frame = requestAnimationFrame(once);
    const timer = setTimeout(once, FRAME_AT_MOST_MS);
  },
  after: (milliseconds, work) => void setTimeout(work, milliseconds),
  now: () => performance.now(),
};

/** What waits to be applied, the newest of each name, in the order in which the names came. */
export class Slices<T> {
  readonly #apply: (items: readonly T[], isLast: boolean) => void;
  readonly #merge: (before: T, later: T) => T;
  readonly #around: Surroundings;
  readonly #size: () => number;
  #waiting = new Map<string, T>();
  #isScheduled = false;
  #beganAt = Number.NEGATIVE_INFINITY;
  /** Work that was scheduled in an earlier era is no longer wanted. */
  #era = 0;

  constructor(
    apply: (items: readonly T[], isLast: boolean) => void,
    merge: (before: T, later: T) => T,
    around: Surroundings = BROWSER,
    size: () => number = () => SLICE,
  ) {
    this.#apply = apply;
    this.#merge = merge;
    this.#around = around;
    this.#size = size;
  }

  /** Few items are applied at once, unless others wait already; many a slice a frame, `restMs` after the last began. */
  put(items: ReadonlyMap<string, T>, restMs = 0): void {
    const waitMs = this.#beganAt + restMs - this.#around.now();
    if (!this.#isScheduled && items.size <= this.#size() && waitMs <= 0) {
      this.#beganAt = this.#around.now();
      this.#apply([...items.values()], true);
      return;
    }
    for (const [name, item] of items) {
      const before = this.#waiting.get(name);
      this.#waiting.set(name, before === undefined ? item : this.#merge(before, item));
    }
    if (!this.#isScheduled) this.#schedule(waitMs);
  }

  /** Nothing of what waits for these names is true any longer. */
  drop(names: Iterable<string>): void {
    for (const name of names) this.#waiting.delete(name);
  }

  /** Nothing of what waits is true any longer, and what comes now shall not wait for its turn. */
  clear(): void {
    this.#waiting.clear();
    this.#beganAt = Number.NEGATIVE_INFINITY;
    this.#isScheduled = false;
    this.#era += 1;
  }

  #schedule(waitMs: number): void {
    this.#isScheduled = true;
    const era = this.#era;
    const begin = (): void => {
      if (era !== this.#era) return;
      this.#beganAt = this.#around.now();
      this.#around.beforeFrame(() => this.#work(era));
    };
    if (waitMs > 0) this.#around.after(waitMs, begin);
    else begin();
  }

  #work(era: number): void {
    if (era !== this.#era) return;
    const slice: T[] = [];
    const size = this.#size();
    for (const [name, item] of this.#waiting) {
      if (slice.length >= size) break;
      slice.push(item);
      this.#waiting.delete(name);
    }
    const isLast = this.#waiting.size === 0;
    this.#isScheduled = !isLast;
    this.#apply(slice, isLast);
    if (!isLast) this.#around.beforeFrame(() => this.#work(era));
  }
}
