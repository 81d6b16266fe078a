import { batch, computed, type ReadonlySignal, type Signal, signal } from "@preact/signals";

import { HubClock } from "./clock";
import { matchingGpus } from "./filter";
import { heldAt, IdleWatch } from "./idle";
import { insertNode, sumTallies, type Tally, tally } from "./fleet";
import { Past } from "./past";
import type { Fault, Gpu, LinkState, Message, Node } from "./types";
import { type Density, densityFor, type View } from "./view";

/**
 * The link to the hub; `contactAt` is the hub's last sign of life before this state, in
 * milliseconds of the hub's time.
 */
export interface Link {
  readonly state: LinkState;
  readonly contactAt: number | null;
}

/** One node: the object stays the same while the node stands on the page, only its signals change. */
export interface Entry {
  readonly name: string;
  readonly configured: boolean;
  readonly node: ReadonlySignal<Node>;
  readonly tally: ReadonlySignal<Tally>;
  /** Since when which of its GPUs have been idle with memory in use, as far as this page has watched. */
  readonly idleSince: ReadonlySignal<ReadonlyMap<string, number>>;
  /** Those that have been so for long. */
  readonly held: ReadonlySignal<ReadonlySet<string>>;
  /** Those of its GPUs that the viewer asks for, or null where the node is not wanted. */
  readonly matching: ReadonlySignal<readonly Gpu[] | null>;
}

interface WritableEntry extends Entry {
  readonly node: Signal<Node>;
  readonly idleSince: Signal<ReadonlyMap<string, number>>;
  readonly held: Signal<ReadonlySet<string>>;
  readonly watch: IdleWatch;
}

const NOBODY: ReadonlySet<string> = new Set();

/** All that the page knows. Nothing else writes; views read the signals. */
export class Store {
  readonly #clock = new HubClock();
  readonly #entries = signal<readonly WritableEntry[]>([]);
  readonly #link = signal<Link>({ state: "connecting", contactAt: null });
  readonly #now = signal(Date.now());
  readonly #hubVersion = signal<string | null>(null);
  readonly #heardAt = signal<number | null>(null);
  readonly #notices = signal<readonly Fault[]>([]);
  readonly #loaded = signal(false);
  readonly #view: Signal<View>;
  readonly #filters = computed(() => this.#view.value.filters);

  readonly entries: ReadonlySignal<readonly Entry[]> = this.#entries;
  readonly link: ReadonlySignal<Link> = this.#link;
  /** The hub's time, in milliseconds; moves when {@link tick} is called. */
  readonly now: ReadonlySignal<number> = this.#now;
  readonly hubVersion: ReadonlySignal<string | null> = this.#hubVersion;
  /** When the hub last gave a sign of life, in its own time: so old is what stands on the page. */
  readonly heardAt: ReadonlySignal<number | null> = this.#heardAt;
  /** What the hub has to say of itself and of the fleet as a whole. */
  readonly notices: ReadonlySignal<readonly Fault[]> = this.#notices;
  /** Whether the hub has told its nodes at least once: before that, an empty page is no empty fleet. */
  readonly loaded: ReadonlySignal<boolean> = this.#loaded;
  /** What GPUs did in the last quarter of an hour. */
  readonly past = new Past();
  /** What the viewer has chosen to see. */
  readonly view: ReadonlySignal<View>;
  /** The nodes that the viewer asks for; the same list for as long as it holds the same ones. */
  readonly shown: ReadonlySignal<readonly Entry[]> = this.#sameWhileEqual(() =>
    this.#entries.value.filter((entry) => entry.matching.value !== null),
  );
  readonly density: ReadonlySignal<Density> = computed(
    () => this.#view.value.density ?? densityFor(this.#entries.value.length),
  );
  readonly totals: ReadonlySignal<Tally> = computed(() =>
    sumTallies(this.#entries.value.map((entry) => entry.tally.value)),
  );

  constructor(view: View) {
    this.#view = signal(view);
    this.view = this.#view;
  }

  apply(message: Message): void {
    batch(() => {
      switch (message.type) {
        case "snapshot":
          this.#clock.forget();
          this.observeTime(Date.parse(message.sent_at));
          this.#hubVersion.value = message.hub_version;
          this.replaceAll(message.nodes);
          this.past.askAgain();
          if (message.notices === undefined) this.setNotices([]);
          break;
        case "nodes":
          this.observeTime(Date.parse(message.sent_at));
          this.#update(message.nodes);
          break;
        case "removed":
          if (message.sent_at !== undefined) this.observeTime(Date.parse(message.sent_at));
          this.#remove(new Set(message.names));
          break;
      }
      if (message.notices !== undefined) this.setNotices(message.notices);
    });
  }

  /** The whole fleet at once, in the order of the page. */
  replaceAll(nodes: readonly Node[]): void {
    batch(() => {
      const known = this.#byName();
      const entries = nodes.map((node) => this.#place(known.get(node.name), node));
      const before = this.#entries.peek();
      const same = entries.length === before.length && entries.every((entry, at) => entry === before[at]);
      if (!same) this.#entries.value = entries;
      this.#loaded.value = true;
      if (!same) this.past.keep(new Set(this.#byName().keys()));
    });
  }

  /** Most messages repeat the notices of the one before: then nothing is drawn again. */
  setNotices(notices: readonly Fault[]): void {
    if (JSON.stringify(notices) !== JSON.stringify(this.#notices.peek())) this.#notices.value = notices;
  }

  /** The hub gave a sign of life at the browser's moment `at`. */
  heard(at: number): void {
    this.#heardAt.value = this.#clock.hubTime(at);
  }

  setLink(state: LinkState, contactAt: number | null): void {
    if (this.#link.peek().state === state) return;
    this.#link.value = { state, contactAt: contactAt === null ? null : this.#clock.hubTime(contactAt) };
  }

  /** The hub said that it is `sentAt` (milliseconds) now. */
  observeTime(sentAt: number): void {
    this.#clock.observe(sentAt, Date.now());
    this.tick();
  }

  /** A coarse statement of the hub's time, used only while there is no better one. */
  observeRoughTime(sentAt: number): void {
    if (!this.#clock.known) this.observeTime(sentAt);
  }

  choose(changes: Partial<View>): void {
    this.#view.value = { ...this.#view.peek(), ...changes };
  }

  tick(): void {
    this.#now.value = this.#clock.hubTime(Date.now());
    this.past.tick(this.#now.peek());
  }

  #byName(): Map<string, WritableEntry> {
    return new Map(this.#entries.peek().map((entry) => [entry.name, entry]));
  }

  /** The entry that `node` now has; a node that became configured, or ceased to be, gets a new one. */
  #place(entry: WritableEntry | undefined, node: Node): WritableEntry {
    if (entry !== undefined && entry.configured === node.configured) {
      entry.node.value = node;
      this.#watchIdle(entry);
      return entry;
    }
    const current = signal(node);
    const held = signal(NOBODY);
    const placed: WritableEntry = {
      name: node.name,
      configured: node.configured,
      node: current,
      watch: new IdleWatch(),
      idleSince: signal(new Map()),
      held,
      tally: computed(() => tally(current.value, held.value)),
      matching: computed(() => matchingGpus(current.value, this.#filters.value)),
    };
    this.#watchIdle(placed);
    return placed;
  }

  #watchIdle(entry: WritableEntry): void {
    const now = this.#now.peek();
    this.past.observe(entry.node.peek(), now);
    entry.idleSince.value = entry.watch.observe(entry.node.peek(), now);
    const held = heldAt(entry.idleSince.peek(), now);
    // A new set draws its node again, so an equal one is no news.
    const before = entry.held.peek();
    if (held.size !== before.size || [...held].some((key) => !before.has(key))) entry.held.value = held;
  }

  #update(nodes: readonly Node[]): void {
    const known = this.#byName();
    let entries: readonly WritableEntry[] = this.#entries.peek();
    for (const node of nodes) {
      const before = known.get(node.name);
      const entry = this.#place(before, node);
      if (entry === before) continue;
      entries = insertNode(
        entries.filter((other) => other !== before),
        entry,
      );
      known.set(node.name, entry);
    }
    this.#entries.value = entries;
  }

  #sameWhileEqual(list: () => readonly Entry[]): ReadonlySignal<readonly Entry[]> {
    let before: readonly Entry[] = [];
    return computed(() => {
      const now = list();
      if (now.length !== before.length || now.some((entry, at) => entry !== before[at])) before = now;
      return before;
    });
  }

  #remove(names: ReadonlySet<string>): void {
    this.#entries.value = this.#entries.peek().filter((entry) => !names.has(entry.name));
    this.past.keep(new Set(this.#byName().keys()));
  }
}
