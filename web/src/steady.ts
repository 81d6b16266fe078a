import { useRef } from "preact/hooks";

/** Put `items` into the order of `before`; those that are new follow in their own. */
export function inOrderOf<T>(items: readonly T[], keyOf: (item: T) => string, before: readonly string[]): readonly T[] {
  const place = new Map(before.map((key, at) => [key, at]));
  const rank = (item: T): number => place.get(keyOf(item)) ?? before.length;
  return [...items].sort((a, b) => rank(a) - rank(b));
}

interface Steady<T> {
  readonly items: readonly T[];
  /** For the element around them. */
  readonly hold: {
    readonly onPointerEnter: () => void;
    readonly onPointerLeave: () => void;
    readonly onFocusIn: () => void;
    readonly onFocusOut: () => void;
  };
}

/** What is sorted by what changes keeps its order while someone points at it: nothing moves away from a click. */
export function useSteady<T>(sorted: readonly T[], keyOf: (item: T) => string): Steady<T> {
  const state = useRef({ isPointed: false, isFocused: false, order: [] as readonly string[] }).current;
  const items = state.isPointed || state.isFocused ? inOrderOf(sorted, keyOf, state.order) : sorted;
  state.order = items.map(keyOf);
  return {
    items,
    hold: {
      onPointerEnter: () => void (state.isPointed = true),
      onPointerLeave: () => void (state.isPointed = false),
      onFocusIn: () => void (state.isFocused = true),
      onFocusOut: () => void (state.isFocused = false),
    },
  };
}
