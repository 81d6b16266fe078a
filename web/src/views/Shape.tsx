import type { GpuState } from "../fleet";
import type { NodeStatus } from "../types";
import type { Cause } from "../verdict";

export type Kind =
  | "dot"
  | "ring"
  | "square"
  | "half"
  | "triangle"
  | "cross"
  | "dash"
  | "dots"
  | "stop"
  | "bolt"
  | "silent"
  | "hourglass";

export const GPU_SHAPES: Readonly<Record<GpuState, Kind>> = {
  free: "ring",
  busy: "square",
  held: "half",
  fault: "cross",
  unknown: "dash",
};

export const NODE_SHAPES: Readonly<Record<NodeStatus, Kind>> = {
  online: "dot",
  stale: "triangle",
  offline: "cross",
  pending: "dots",
};

export const CAUSE_SHAPES: Readonly<Record<Cause, Kind>> = {
  ended: "stop",
  killed: "cross",
  cut: "bolt",
  silent: "silent",
  hung: "hourglass",
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
    case "half":
      return (
        <>
          <rect x="1.5" y="1.5" width="9" height="9" rx="1" fill="none" stroke="currentColor" stroke-width="1.6" />
          <path d="M1.5 10.5 10.5 1.5V10.5Z" fill="currentColor" />
        </>
      );
    case "stop":
      return <path d="M4 2.2A4.8 4.8 0 1 0 8 2.2M6 .8V5.6" fill="none" stroke="currentColor" stroke-width="1.8" />;
    case "bolt":
      return <path d="M7.6 .3 1.8 6.9H5.3L4.2 11.7 10.2 5H6.5Z" fill="currentColor" />;
    case "silent":
      return <path d="M1 6H2.6M5.2 6H6.8M9.4 6H11" stroke="currentColor" stroke-width="2.6" stroke-linecap="round" />;
    case "hourglass":
      return <path d="M2 1H10L6 6 10 11H2L6 6Z" fill="currentColor" stroke="currentColor" stroke-linejoin="round" />;
    case "dots":
      return (
        <circle cx="6" cy="6" r="4.6" fill="none" stroke="currentColor" stroke-width="2" stroke-dasharray="2 2.2" />
      );
  }
}
