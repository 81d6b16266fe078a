// Asks the hub for what it remembers, and tells the store.

import { effect } from "@preact/signals";

import { type Column, type FleetPast, type Past, SPARK_METRICS, SPARK_SECONDS } from "./past";

/** What comes into view together is asked for together. */
const TOGETHER_MS = 150;
/** A stream that begins anew begins so for every viewer: they should not all ask in the same moment. */
const SPREAD_MS = 600;
const TIMEOUT_MS = 8_000;
/** So that an answer takes the hub milliseconds, and the question fits into an address. */
const MOST_NODES = 24;
const AGAIN_MS = 10_000;

type Get = (url: string, init: RequestInit) => Promise<Response>;

/** Keeps `past` filled for as long as something is wanted; ends when the function that it returns is called. */
export function fillPast(past: Past, now: () => number, get: Get = (url, init) => fetch(url, init)): () => void {
  let timer: ReturnType<typeof setTimeout> | undefined;
  let isAsking = false;
  let isFirst = true;

  async function ask(): Promise<void> {
    timer = undefined;
    const names = [...past.wanted.peek()].slice(0, MOST_NODES);
    if (names.length === 0) return;
    isAsking = true;
    const answer = await fetchJson<FleetPast>(fleetUrl(names, now()), get);
    isAsking = false;
    if (answer !== null) {
      past.fill(answer);
      past.settle(names);
    }
    if (past.wanted.peek().size > 0) later(answer === null ? AGAIN_MS : 0);
  }

  function later(delay: number): void {
    if (timer === undefined && !isAsking) timer = setTimeout(() => void ask(), delay);
  }

  const end = effect(() => {
    if (past.wanted.value.size === 0) return;
    later(TOGETHER_MS + (isFirst ? 0 : Math.random() * SPREAD_MS));
    isFirst = false;
  });
  return () => {
    end();
    clearTimeout(timer);
  };
}

function fleetUrl(names: readonly string[], now: number): string {
  const asked = new URLSearchParams(names.map((name) => ["node", name]));
  asked.set("metric", SPARK_METRICS.join(","));
  asked.set("from", String(Math.floor(now / 1_000) - SPARK_SECONDS));
  return `api/history?${asked}`;
}

/** The hub's answer to `/api/nodes/{name}/history`. */
export interface NodePast {
  readonly step_seconds: number;
  readonly at: readonly number[];
  readonly series: readonly Column[];
  /** Errors that drivers reported in that time; a hub that is older tells none. */
  readonly xids?: readonly XidAt[];
}

/** An Xid of one GPU, at a moment in seconds of the hub's time. */
export interface XidAt {
  readonly gpu: string;
  readonly code: number;
  readonly gravity: "info" | "warning" | "critical";
  readonly meaning: string;
  readonly at: number;
}

/** What one node did in the `seconds` before `now` (milliseconds), in at most `points` spans; null if nobody answers. */
export function fetchNodePast(
  name: string,
  metrics: readonly string[],
  seconds: number,
  points: number,
  now: number,
): Promise<NodePast | null> {
  const asked = new URLSearchParams({
    metric: metrics.join(","),
    from: String(Math.floor(now / 1_000) - seconds),
    points: String(points),
  });
  return fetchJson<NodePast>(`api/nodes/${encodeURIComponent(name)}/history?${asked}`, (url, init) => fetch(url, init));
}

/** What the hub has refused since it started, counted by reason; null if nobody answers. */
export async function fetchRefused(): Promise<Readonly<Record<string, number>> | null> {
  const health = await fetchJson<{ readonly refused?: Readonly<Record<string, number>> }>("health?verbose", (url, init) =>
    fetch(url, init),
  );
  return health?.refused ?? null;
}

async function fetchJson<T>(url: string, get: Get): Promise<T | null> {
  try {
    const response = await get(url, { signal: AbortSignal.timeout(TIMEOUT_MS) });
    return response.ok ? ((await response.json()) as T) : null;
  } catch {
    return null;
  }
}
