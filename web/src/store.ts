import { batch, computed, type ReadonlySignal, type Signal, signal, untracked } from "@preact/signals";

import { heldAt, idleOf } from "./activity";
import { HubClock } from "./clock";
import { matchingGpus } from "./filter";
import { insertNode, sumTallies, type Tally, tally } from "./fleet";
import { type Glimpse, glimpsesOf, laterOf } from "./overview";
import { Past } from "./past";
import { Sketches } from "./sketches";
import { SLICE, Slices } from "./slices";
import type { Access, Agents, Fault, Gpu, LinkState, Message, Node } from "./types";
import { type Density, densityFor, FULL_UP_TO, type View } from "./view";

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
  /** Since when which of its GPUs have been idle with memory in use, as far as the hub knows. */
  readonly idleSince: ReadonlySignal<ReadonlyMap<string, number>>;
  /** Those that have been so for long. */
  readonly held: ReadonlySignal<ReadonlySet<string>>;
  /** Those of its GPUs that the viewer asks for, or null where the node is not wanted. */
  readonly matching: ReadonlySignal<readonly Gpu[] | null>;
}

interface WritableEntry extends Entry {
  readonly node: Signal<Node>;
  readonly held: Signal<ReadonlySet<string>>;
}

/** One node as a message tells of it. */
type Told = Node | Glimpse;

/** Numbers of a large fleet are drawn once a second, as often as they are reported: each frame costs, whatever is in it. */
const REST_MS = 1_000;

/** To make what stands for a node costs several times as much as to change it. */
export const NEW_A_SLICE = 30;

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
  readonly #access = signal<Access>({ mayLook: true, isLoggedIn: false, isKnown: false });
  readonly #agents = signal<Agents | null>(null);
  readonly #loaded = signal(false);
  readonly #pending = signal<ReadonlySet<string>>(new Set());
  readonly #settled = signal(0);
  readonly #toldAs = signal<"full" | "overview">("full");
  readonly #wereFew = signal(true);
  #order: ReadonlyMap<string, number> = new Map();
  readonly #sketches = new Sketches();
  readonly #slices: Slices<Told>;
  readonly #view: Signal<View>;
  readonly #filters = computed(() => this.#view.value.filters);

  readonly entries: ReadonlySignal<readonly Entry[]> = this.#entries;
  readonly link: ReadonlySignal<Link> = this.#link;
  readonly access: ReadonlySignal<Access> = this.#access;
  /** Who has joined and who waits, as far as that was told; null to who is not logged in. */
  readonly agents: ReadonlySignal<Agents | null> = this.#agents;
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
  /** How many nodes the hub has told of, those included that are still to be drawn. */
  readonly count: ReadonlySignal<number> = computed(() => this.#entries.value.length + this.#pending.value.size);
  readonly density: ReadonlySignal<Density> = computed(
    () => this.#view.value.density ?? densityFor(this.count.value),
  );
  readonly totals: ReadonlySignal<Tally> = this.calm(() =>
    sumTallies(this.#entries.value.map((entry) => entry.tally.value)),
  );
  /** Whether nodes are told in full, or at a glance. */
  readonly toldAs: ReadonlySignal<"full" | "overview"> = this.#toldAs;
  /** Whether the fleet has grown, or shrunk, so that it should be told the other way. */
  readonly isMisfit: ReadonlySignal<boolean> = computed(
    () => this.#loaded.value && this.#wereFew.value !== this.count.value <= FULL_UP_TO,
  );

  constructor(view: View, slices?: ConstructorParameters<typeof Slices>[2]) {
    this.#view = signal(view);
    this.view = this.#view;
    const size = (): number => (this.#pending.peek().size > 0 ? NEW_A_SLICE : SLICE);
    this.#slices = new Slices<Told>((told, isLast) => this.#take(told, isLast), newest, slices, size);
  }

  /** What follows from all nodes: found anew once a message is worked off, not with each of its slices. */
  calm<T>(find: () => T): ReadonlySignal<T> {
    return computed(() => {
      void this.#settled.value;
      void this.#filters.value;
      void this.#entries.value;
      return untracked(find);
    });
  }

  apply(message: Message): void {
    batch(() => {
      if (message.type === "snapshot") this.#clock.forget();
      if (message.sent_at !== undefined) this.observeTime(Date.parse(message.sent_at));
      if (message.type === "removed") {
        this.#remove(new Set(message.names));
      } else {
        const told: ReadonlyMap<string, Told> =
          message.view === "overview" ? glimpsesOf(message) : new Map(message.nodes.map((node) => [node.name, node]));
        if (message.type === "snapshot") {
          this.#begin(message.view ?? "full", message.hub_version, told);
          this.past.askAgain();
        }
        this.#slices.put(told, message.view === "overview" ? REST_MS : 0);
      }
      if (message.notices !== undefined) this.setNotices(message.notices);
      else if (message.type === "snapshot") this.setNotices([]);
    });
  }

  /** The whole fleet at once, in the order of the page. */
  replaceAll(nodes: readonly Node[]): void {
    batch(() => {
      const told = new Map(nodes.map((node) => [node.name, node]));
      this.#begin("full", this.#hubVersion.peek(), told);
      this.#slices.put(told);
    });
  }

  /** Nodes in full, of a fleet that is told at a glance. */
  applyDetails(nodes: readonly Node[]): void {
    if (this.#toldAs.peek() === "full") return;
    const known = this.#byName();
    batch(() => {
      for (const node of nodes) {
        this.#sketches.detail(node);
        const entry = known.get(node.name);
        if (entry !== undefined) this.#place(entry, node);
      }
      this.#settled.value += 1;
    });
  }

  /** Nobody tells details any longer: what is told at a glance is newer. */
  endDetails(): void {
    const known = this.#byName();
    batch(() => {
      for (const node of this.#sketches.endDetails()) {
        const entry = known.get(node.name);
        if (entry !== undefined) this.#place(entry, node);
      }
    });
  }

  /** Most messages repeat the notices of the one before: then nothing is drawn again. */
  setNotices(notices: readonly Fault[]): void {
    if (JSON.stringify(notices) !== JSON.stringify(this.#notices.peek())) this.#notices.value = notices;
  }

  /** What the hub lets this page do. Who may look no longer keeps nothing of what was seen. */
  setAccess(access: Access): void {
    batch(() => {
      if (!access.mayLook) this.replaceAll([]);
      if (!access.isLoggedIn) this.#agents.value = null;
      this.#access.value = access;
    });
  }

  setAgents(agents: Agents | null): void {
    this.#agents.value = this.#access.peek().isLoggedIn ? agents : null;
  }

  /** The hub wants to know who looks. */
  refuse(): void {
    this.setAccess({ mayLook: false, isLoggedIn: false, isKnown: true });
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

  /** A snapshot comes, of these names in this order: what else stands on the page goes, nothing waits any longer. */
  #begin(toldAs: "full" | "overview", version: string | null, told: ReadonlyMap<string, Told>): void {
    this.#slices.clear();
    this.#hubVersion.value = version;
    this.#toldAs.value = toldAs;
    this.#wereFew.value = told.size <= FULL_UP_TO;
    this.#sketches.begin(toldAs === "overview" ? told.keys() : []);
    const known = this.#byName();
    const entries = [...told.keys()].map((name) => known.get(name)).filter((entry) => entry !== undefined);
    const before = this.#entries.peek();
    const same = entries.length === before.length && entries.every((entry, at) => entry === before[at]);
    if (!same) this.#entries.value = entries;
    this.past.keep(new Set(told.keys()));
    this.#pending.value = new Set([...told.keys()].filter((name) => !known.has(name)));
    this.#order = new Map([...told.keys()].map((name, at) => [name, at]));
    this.#loaded.value = true;
  }

  #take(told: readonly Told[], isLast: boolean): void {
    batch(() => {
      const nodes = told.map((one) => ("row" in one ? this.#sketches.nodeOf(one) : one)).filter((one) => one !== null);
      this.#update(nodes);
      if (isLast) this.#settled.value += 1;
    });
  }

  /** The entry that `node` now has; a node that became configured, or ceased to be, gets a new one. */
  #place(entry: WritableEntry | undefined, node: Node): WritableEntry {
    this.past.observe(node, this.#now.peek());
    if (entry !== undefined && entry.configured === node.configured) {
      entry.node.value = node;
      this.#judgeHeld(entry);
      return entry;
    }
    const current = signal(node);
    const held = signal(NOBODY);
    const placed: WritableEntry = {
      name: node.name,
      configured: node.configured,
      node: current,
      idleSince: computed(() => idleOf(current.value)),
      held,
      tally: computed(() => tally(current.value, held.value)),
      matching: computed(() => matchingGpus(current.value, this.#filters.value)),
    };
    this.#judgeHeld(placed);
    return placed;
  }

  #judgeHeld(entry: WritableEntry): void {
    const held = heldAt(entry.idleSince.peek(), this.#now.peek());
    // A new set draws its node again, so an equal one is no news.
    const before = entry.held.peek();
    if (held.size !== before.size || [...held].some((key) => !before.has(key))) entry.held.value = held;
  }

  #update(nodes: readonly Node[]): void {
    const known = this.#byName();
    let entries: readonly WritableEntry[] = this.#entries.peek();
    const arrived = new Set<string>();
    for (const node of nodes) {
      const before = known.get(node.name);
      const entry = this.#place(before, node);
      if (entry === before) continue;
      entries = this.#insert(
        entries.filter((other) => other !== before),
        entry,
        before === undefined,
      );
      known.set(node.name, entry);
      arrived.add(node.name);
    }
    this.#entries.value = entries;
    if (this.#pending.peek().size > 0) this.#pending.value = less(this.#pending.peek(), arrived);
  }

  /** A node of the snapshot stands where that has it, another where its kind stands. */
  #insert(entries: readonly WritableEntry[], entry: WritableEntry, isNew: boolean): readonly WritableEntry[] {
    const rank = isNew && this.#pending.peek().has(entry.name) ? this.#order.get(entry.name) : undefined;
    if (rank === undefined) return insertNode(entries, entry);
    const found = entries.findIndex(({ name }) => (this.#order.get(name) ?? -1) > rank);
    return found < 0 ? [...entries, entry] : entries.toSpliced(found, 0, entry);
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
    this.#slices.drop(names);
    this.#sketches.drop(names);
    this.#pending.value = less(this.#pending.peek(), names);
    this.#entries.value = this.#entries.peek().filter((entry) => !names.has(entry.name));
    this.past.keep(new Set(this.#byName().keys()));
  }
}

function less(names: ReadonlySet<string>, gone: ReadonlySet<string>): ReadonlySet<string> {
  return new Set([...names].filter((name) => !gone.has(name)));
}

function newest(before: Told, later: Told): Told {
  return "row" in before && "row" in later ? laterOf(before, later) : later;
}
