// What is known of each node of a fleet that is told at a glance, and which nodes are told in full beside it.

import { type Glimpse, type Row, Sketch } from "./overview";
import type { Node } from "./types";

/** Details that are older by more than this than what is told at a glance have lost touch. */
const MOST_BEHIND_MS = 3_000;

interface Known {
  readonly sketch: Sketch;
  readonly row: Row;
}

export class Sketches {
  #known = new Map<string, Known>();
  readonly #details = new Map<string, Node>();

  /** A snapshot of these nodes comes: of others nothing is known any longer. */
  begin(names: Iterable<string>): void {
    const staying = new Set(names);
    this.drop([...this.#known.keys(), ...this.#details.keys()].filter((name) => !staying.has(name)));
  }

  drop(names: Iterable<string>): void {
    for (const name of names) {
      this.#known.delete(name);
      this.#details.delete(name);
    }
  }

  detail(node: Node): void {
    this.#details.set(node.name, node);
  }

  /** The nodes that were told in full, as they are at a glance. */
  endDetails(): readonly Node[] {
    const known = [...this.#details.keys()].map((name) => this.#known.get(name)).filter((one) => one !== undefined);
    this.#details.clear();
    return known.map(({ sketch, row }) => sketch.filled(row));
  }

  /** What `glimpse` shows; null where more is known, or not even a card. */
  nodeOf({ name, card, row }: Glimpse): Node | null {
    const sketch = card === null ? this.#known.get(name)?.sketch : new Sketch(card);
    if (sketch === undefined) return null;
    this.#known.set(name, { sketch, row });
    const detail = this.#details.get(name);
    if (detail !== undefined) {
      if (!isBehind(detail, row)) return null;
      this.#details.delete(name);
    }
    return sketch.filled(row);
  }
}

function isBehind(detail: Node, row: Row): boolean {
  return row.seenAt !== null && row.seenAt - Date.parse(detail.last_seen_at ?? "") > MOST_BEHIND_MS;
}
