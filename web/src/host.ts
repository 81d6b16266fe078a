// The machine around the GPUs.

import type { Host } from "./types";

/** Bytes of its memory that cannot be had; null where it does not tell. */
export function usedMemory({ memory_total_bytes: total, memory_available_bytes: available }: Host): number | null {
  return total === null || available === null ? null : total - available;
}
