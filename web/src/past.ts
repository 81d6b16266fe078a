// The last quarter of an hour of each GPU: what the hub remembers, then what this page is told, in the hub's buckets.

import { signal, type ReadonlySignal } from "@preact/signals";

import type { Gpu, Node } from "./types";

export const SPARK_SECONDS = 900;
export const BUCKET_SECONDS = 10;
export const BUCKETS = SPARK_SECONDS / BUCKET_SECONDS;

/** Fields of the catalogue; the memory is shown as a part of what the GPU has. */
export const SPARK_METRICS = ["utilization_percent", "memory_used_bytes"] as const;
type SparkMetric = (typeof SPARK_METRICS)[number];

/** One line of a sparkline, oldest first, 0 to 1; null where nothing is known. */
export type Line = readonly (number | null)[];

export interface Spark {
  readonly utilization: Line;
  readonly memory: Line;
}

/** The hub's answer to `/api/history`. */
export interface FleetPast {
  readonly step_seconds: number;
  readonly at: readonly number[];
  readonly nodes: Readonly<Record<string, readonly Column[]>>;
}

export interface Column {
  readonly gpu: string;
  readonly metric: string;
  readonly values: readonly (number | null)[];
}

/** What names a GPU over time: the hub's own rule. */
export function historyKey(gpu: Gpu): string {
  return gpu.uuid || gpu.pci_bus_id || `#${gpu.index}`;
}

/** One metric of one GPU: the hub's means, and beside them those of what came by the stream. */
class Track {
  readonly #buckets = new Map<number, number>();
  #filling = Number.NEGATIVE_INFINITY;
  #sum = 0;
  #count = 0;

  add(bucket: number, value: number | null): void {
    if (bucket !== this.#filling) {
      this.#filling = bucket;
      this.#sum = this.#count = 0;
      for (const old of this.#buckets.keys()) if (old <= bucket - BUCKETS) this.#buckets.delete(old);
    }
    if (value === null) return;
    this.#sum += value;
    this.#count += 1;
    this.#buckets.set(bucket, this.#sum / this.#count);
  }

  /** What the hub remembers goes before what this page saw, which may have looked away for a part of it. */
  fill(bucket: number, value: number | null): void {
    if (value !== null && bucket !== this.#filling) this.#buckets.set(bucket, value);
  }

  until(last: number, scale: number | null): Line {
    return Array.from({ length: BUCKETS }, (_, at) => {
      const value = this.#buckets.get(last - BUCKETS + 1 + at);
      return value === undefined || scale === null ? null : Math.min(1, Math.max(0, value / scale));
    });
  }
}

type GpuTracks = Readonly<Record<SparkMetric, Track>>;

/** The past of the nodes that somebody looks at; of others nothing is kept. */
export class Past {
  readonly #nodes = new Map<string, Map<string, GpuTracks>>();
  readonly #wanted = signal<ReadonlySet<string>>(new Set());
  readonly #bucket = signal(0);
  readonly #filled = signal(0);

  /** The nodes whose past the hub has still to be asked for. */
  readonly wanted: ReadonlySignal<ReadonlySet<string>> = this.#wanted;
  /** The newest bucket that is full, so that nothing is drawn more often than something is complete. */
  readonly bucket: ReadonlySignal<number> = this.#bucket;
  /** Counts the hub's answers. */
  readonly filled: ReadonlySignal<number> = this.#filled;

  /** `name` has come into view. */
  want(name: string): void {
    if (this.#nodes.has(name)) return;
    this.#nodes.set(name, new Map());
    this.#wanted.value = new Set([...this.#wanted.peek(), name]);
  }

  /** The stream has begun anew: what happened before is the hub's to tell. */
  askAgain(): void {
    if (this.#nodes.size > 0) this.#wanted.value = new Set(this.#nodes.keys());
  }

  /** Those that were asked for and answered, or cannot be. */
  settle(names: Iterable<string>): void {
    const left = new Set(this.#wanted.peek());
    for (const name of names) left.delete(name);
    this.#wanted.value = left;
  }

  /** It is `now`, in milliseconds of the hub's time. */
  tick(now: number): void {
    this.#bucket.value = bucketAt(now) - 1;
  }

  observe(node: Node, now: number): void {
    const tracks = this.#nodes.get(node.name);
    if (tracks === undefined || node.status !== "online") return;
    for (const gpu of node.report?.gpus ?? []) {
      if (gpu.status !== "ok") continue;
      const track = tracksOf(tracks, historyKey(gpu));
      for (const metric of SPARK_METRICS) track[metric].add(bucketAt(now), gpu[metric]);
    }
  }

  fill({ at, step_seconds, nodes }: FleetPast): void {
    if (step_seconds !== BUCKET_SECONDS) return;
    for (const [name, columns] of Object.entries(nodes)) {
      const tracks = this.#nodes.get(name);
      if (tracks === undefined) continue;
      for (const { gpu, metric, values } of columns) {
        const known = SPARK_METRICS.find((one) => one === metric);
        if (known === undefined) continue;
        const track = tracksOf(tracks, gpu)[known];
        at.forEach((second, index) => track.fill(second / BUCKET_SECONDS, values[index] ?? null));
      }
    }
    this.#filled.value += 1;
  }

  /** There are nodes of these `names` and no others. */
  keep(names: ReadonlySet<string>): void {
    const gone = [...this.#nodes.keys()].filter((name) => !names.has(name));
    if (gone.length === 0) return;
    for (const name of gone) this.#nodes.delete(name);
    this.settle(gone);
  }

  /** One GPU up to the newest full bucket. */
  spark(name: string, gpu: Gpu): Spark {
    const track = this.#nodes.get(name)?.get(historyKey(gpu)) ?? NO_TRACKS;
    const last = this.#bucket.peek();
    return {
      utilization: track.utilization_percent.until(last, 100),
      memory: track.memory_used_bytes.until(last, gpu.memory_total_bytes || null),
    };
  }
}

const NO_TRACKS: GpuTracks = { utilization_percent: new Track(), memory_used_bytes: new Track() };

function tracksOf(tracks: Map<string, GpuTracks>, key: string): GpuTracks {
  let found = tracks.get(key);
  if (found === undefined) {
    found = { utilization_percent: new Track(), memory_used_bytes: new Track() };
    tracks.set(key, found);
  }
  return found;
}

function bucketAt(milliseconds: number): number {
  return Math.floor(milliseconds / 1_000 / BUCKET_SECONDS);
}

/** All GPUs of a node as one: the mean of what is known at each moment. */
export function meanSpark(sparks: readonly Spark[]): Spark {
  const mean = (lines: readonly Line[]): Line =>
    Array.from({ length: BUCKETS }, (_, at) => meanOf(lines.map((line) => line[at] ?? null)));
  return { utilization: mean(sparks.map((one) => one.utilization)), memory: mean(sparks.map((one) => one.memory)) };
}

export function meanOf(values: Line): number | null {
  const known = values.filter((value) => value !== null);
  return known.length === 0 ? null : known.reduce((sum, value) => sum + value, 0) / known.length;
}

/** The pieces of a line between its gaps, each as the indices of its first and last value. */
export function pieces(line: Line): readonly (readonly [number, number])[] {
  const found: [number, number][] = [];
  line.forEach((value, at) => {
    const last = found.at(-1);
    if (value === null) return;
    if (last !== undefined && last[1] === at - 1) last[1] = at;
    else found.push([at, at]);
  });
  return found;
}

/** A line as the `d` of an SVG path in a box of BUCKETS by `height`; as an area if it goes down to the ground. */
export function drawPath(line: Line, height: number, asArea: boolean): string {
  const y = (at: number): string => (height - (line[at] ?? 0) * height).toFixed(1);
  return pieces(line)
    .map(([first, last]) => {
      const tops = Array.from({ length: last - first + 1 }, (_, step) => `${first + step} ${y(first + step)}`);
      // What lasted one bucket only would be a line without length.
      const line = [...tops, `${last + 1} ${y(last)}`].join("L");
      return asArea ? `M${first} ${height}L${line}L${last + 1} ${height}Z` : `M${line}`;
    })
    .join("");
}
