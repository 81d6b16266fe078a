// Lines for a terminal. Names come from strangers: nothing that a shell would read may get into a line.

import { modelOf } from "./fleet";
import type { Gpu, Node } from "./types";

const HARMLESS = /^[A-Za-z0-9][A-Za-z0-9._:-]{0,252}$/;

/** How to get onto a node, or null where it told no name that is fit for a command line. */
export function sshLine(node: Node): string | null {
  const host = [node.host, node.report?.hostname, node.address].find((name) => name && HARMLESS.test(name));
  return host ? `ssh ${host}` : null;
}

/**
 * The environment that lets a program see these GPUs only.
 *
 * CUDA numbers the fastest GPU first unless told otherwise, the driver by bus: the same on a node of equal boards only.
 */
export function visibleDevices(gpus: readonly Gpu[], node: Node): string {
  const line = `CUDA_VISIBLE_DEVICES=${gpus.map(({ index }) => index).join(",")}`;
  const models = new Set(node.report?.gpus.map(modelOf));
  return models.size > 1 ? `CUDA_DEVICE_ORDER=PCI_BUS_ID ${line}` : line;
}

/** Put `text` into the clipboard; false where the browser refuses. */
export async function copy(text: string): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return copyBySelection(text);
  }
}

/** The clipboard's own interface is closed to pages that come by plain HTTP from another machine. */
function copyBySelection(text: string): boolean {
  const area = document.createElement("textarea");
  const focused = document.activeElement;
  area.value = text;
  area.className = "heard-only";
  document.body.append(area);
  area.select();
  try {
    return document.execCommand("copy");
  } finally {
    area.remove();
    if (focused instanceof HTMLElement) focused.focus();
  }
}
