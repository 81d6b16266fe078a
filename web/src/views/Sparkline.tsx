import { useComputed, useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";

import { useLocale } from "../locale";
import { BUCKETS, drawPath, meanOf, meanSpark, type Past } from "../past";
import type { Gpu } from "../types";

const HEIGHT = 20;

interface Props {
  readonly past: Past;
  /** The node's. */
  readonly name: string;
  /** Several are drawn as their mean. */
  readonly gpus: readonly Gpu[];
}

/** The last 15 minutes: utilisation as an area, memory as a line. Drawn anew with each bucket, not each report. */
export function Sparkline({ past, name, gpus }: Props) {
  const { text, format } = useLocale();
  const place = useRef<SVGSVGElement>(null);
  const isSeen = useSignal(false);
  useEffect(() => {
    const svg = place.current;
    if (svg === null) return undefined;
    return whenSeen(svg, () => {
      past.want(name);
      isSeen.value = true;
    });
  }, [past, name]);
  const drawn = useComputed(() => {
    // Read so that this is drawn again when they move.
    void past.bucket.value;
    void past.filled.value;
    if (!isSeen.value) return null;
    const { utilization, memory } = meanSpark(gpus.map((gpu) => past.spark(name, gpu)));
    return { area: drawPath(utilization, HEIGHT, true), line: drawPath(memory, HEIGHT, false), utilization, memory };
  }).value;
  const percent = (fraction: number): string => format.percent(100 * fraction);
  const used = meanOf(drawn?.utilization ?? []);
  const held = meanOf(drawn?.memory ?? []);
  const words = [
    used !== null && text.sparkline(percent(used), percent(Math.max(...(drawn?.utilization ?? []).map((one) => one ?? 0)))),
    held !== null && text.sparklineMemory(percent(held)),
  ].filter((one) => one !== false);
  return (
    <svg ref={place} class="spark" role="img" viewBox={`0 0 ${BUCKETS} ${HEIGHT}`} preserveAspectRatio="none">
      <title>{words.join(", ") || text.sparklineEmpty}</title>
      <path class="ground" d={`M0 ${HEIGHT}H${BUCKETS}`} />
      <path class="area" d={drawn?.area ?? ""} />
      <path class="line" d={drawn?.line ?? ""} />
    </svg>
  );
}

const waiting = new Map<Element, () => void>();
let watcher: IntersectionObserver | undefined;

/** Call `seen` once, when `element` comes into view; the function that is returned forgets it. */
function whenSeen(element: Element, seen: () => void): () => void {
  watcher ??= new IntersectionObserver((changes) => {
    for (const { target, isIntersecting } of changes) {
      if (!isIntersecting) continue;
      const then = waiting.get(target);
      forget(target);
      then?.();
    }
  });
  waiting.set(element, seen);
  watcher.observe(element);
  return () => forget(element);
}

function forget(element: Element): void {
  waiting.delete(element);
  watcher?.unobserve(element);
}
