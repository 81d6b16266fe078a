import type { GpuState } from "../fleet";
import type { NodeStatus } from "../types";

export type Kind = "dot" | "ring" | "square" | "triangle" | "cross" | "dash" | "dots";

export const GPU_SHAPES: Readonly<Record<GpuState, Kind>> = {
  free: "ring",
  busy: "square",
  fault: "cross",
  unknown: "dash",
};

export const NODE_SHAPES: Readonly<Record<NodeStatus, Kind>> = {
  online: "dot",
  stale: "triangle",
  offline: "cross",
  pending: "dots",
};

/** A state's sign for eyes that do not tell its colour; the word stands beside it. */
export function Shape({ kind }: { kind: Kind }) {
  return (
    <svg class="shape" viewBox="0 0 12 12" width="12" height="12" aria-hidden="true" focusable="false">
      {drawing(kind)}
    </svg>
  );
}

function drawing(kind: Kind) {
  switch (kind) {
    case "dot":
      return <circle cx="6" cy="6" r="5" fill="currentColor" />;
    case "ring":
      return <circle cx="6" cy="6" r="4.2" fill="none" stroke="currentColor" stroke-width="2" />;
    case "square":
      return <rect x="1" y="1" width="10" height="10" rx="1.5" fill="currentColor" />;
    case "triangle":
      return <path d="M6 1 11.5 11 .5 11Z" fill="currentColor" />;
    case "cross":
      return <path d="M2 2 10 10M10 2 2 10" stroke="currentColor" stroke-width="2.4" stroke-linecap="round" />;
    case "dash":
      return <path d="M1.5 6H10.5" stroke="currentColor" stroke-width="2.4" stroke-linecap="round" />;
    case "dots":
      return (
        <circle cx="6" cy="6" r="4.6" fill="none" stroke="currentColor" stroke-width="2" stroke-dasharray="2 2.2" />
      );
  }
}
