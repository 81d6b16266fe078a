import type { GpuState } from "../fleet";
import type { Channel, LinkState, NodeStatus, ProcessType, Reason, ReportStatus, Source } from "../types";
import type { Cause } from "../verdict";
import type { Theme } from "../view";

const status: Record<NodeStatus, string> = {
  online: "online",
  stale: "stale",
  offline: "offline",
  pending: "pending",
};
const gpuState: Record<GpuState, string> = {
  free: "free",
  busy: "busy",
  fault: "fault",
  unknown: "unknown",
};
const link: Record<LinkState, string> = {
  connecting: "connecting",
  live: "live",
  polling: "polling every 5 s",
  lost: "hub lost",
};
const cause: Record<Cause, string> = {
  ended: "stopped on purpose",
  killed: "agent died",
  cut: "link broke",
  silent: "host silent",
  hung: "driver hangs",
};
const channel: Record<Channel, string> = {
  push: "push",
  poll: "poll",
  name: "name",
  driver: "driver",
  clock: "clock",
  claim: "identity",
};
const source: Record<Source, string> = { push: "push", poll: "poll" };
const processType: Record<ProcessType, string> = {
  compute: "compute",
  graphics: "graphics",
  "compute+graphics": "compute and graphics",
};
const reason: Record<Reason, string> = {
  unsupported: "this GPU or driver does not tell it",
  denied: "the agent lacks the permission to read it",
  no_data: "the driver has no sample yet",
  lost: "the GPU has fallen off the bus",
  reset_required: "the GPU needs a reset",
  driver: "the driver is not working",
  timeout: "the driver did not answer in time",
  error: "reading it failed",
};
const reportStatus: Record<ReportStatus, string> = {
  ok: "The agent is well.",
  degraded: "Some GPUs of this node could not be read.",
  no_driver: "No NVIDIA driver is loaded on this node.",
  driver_mismatch: "The driver's library and kernel module differ in version.",
  no_gpus: "The driver sees no GPU on this node.",
  error: "The agent could not read the GPUs.",
};

export const en = {
  nodes: "Nodes",
  power: "Power",
  summary: "Summary",
  status,
  cause,
  channel,
  gpuState,
  link,
  linkTitle: "How this page gets its numbers",
  source,
  sourceTitle: {
    push: "The agent pushes its reports to the hub.",
    poll: "The hub asks the agent for its reports.",
  } satisfies Record<Source, string>,
  processType,
  reason,
  reasonUnknown: "no reason was given",
  notAvailable: (why: string) => `not available: ${why}`,
  reportStatus,
  gpusFree: "GPUs free",
  nodesOnline: "nodes online",
  someOf: (some: string, all: string) => `${some} of ${all}`,
  loading: "Waiting for the hub…",
  lost: "The connection to the hub is lost.",
  lostSince: (time: string, ago: string) => `Since ${time} (${ago}). The numbers below are from that time.`,
  lostNever: "It has not answered yet.",
  retrying: "Trying again on its own.",
  simulated: "simulated",
  simulatedNote: (nodes: number) =>
    nodes === 1
      ? "One node is simulated: its numbers are invented."
      : `${nodes} nodes are simulated: their numbers are invented.`,
  updated: (ago: string) => `updated ${ago}`,
  justNow: "just now",
  neverSeen: "never seen",
  lastNumbers: (ago: string) => `Last numbers, from ${ago}.`,
  staleNumbers: (ago: string) => `The node still speaks, but its numbers are from ${ago}.`,
  staleSince: (ago: string) => `The node still speaks, but sends no new numbers; noticed ${ago}.`,
  flapping: "flapping",
  flappingTitle: "It has come and gone again and again in the last minutes.",
  reportsLost: (reports: string) => `${reports} reports lost`,
  reportsLostTitle: "Its agent had no room to keep them while the hub could not be reached.",
  details: "Details",
  evidence: (pieces: number) => (pieces === 1 ? "Why? 1 sign" : `Why? ${pieces} signs`),
  evidenceTitle: "What each channel shows, and since when",
  notices: "Notices of the hub",
  detail: {
    since: "In this state",
    agent: "Agent",
    hostname: "Host name",
    agent_id: "Agent identity",
    late: "Came late",
    lost: "Lost",
    resolution: "Name look-up",
  },
  reportsOfRun: (reports: string) => `${reports} reports of the agent's present run`,
  resolved: (host: string, addresses: string) => `${host} is ${addresses}`,
  answeredBy: (server: string) => `answered by ${server}`,
  holdsFor: (time: string) => `holds for ${time}`,
  resolutionKept: "Nobody answers now; these are the last good addresses.",
  heard: {
    down: (node: string, state: string) => `${node}: ${state}`,
    up: (node: string) => `${node} is online again`,
    many: (nodes: number) => `${nodes} nodes have changed their state`,
  },
  waitingForReport: "No report yet.",
  noGpus: "No GPU was reported.",
  driver: "Driver",
  cuda: "CUDA",
  clockOff: (seconds: string) => `clock off by ${seconds} s`,
  address: "IP address",
  hint: "What to do:",
  gpusOf: (node: string) => `GPUs of ${node}`,
  column: {
    gpu: "GPU",
    state: "State",
    utilization_percent: "Utilisation",
    memory_used_bytes: "Memory",
    temperature_celsius: "Temp.",
    power_draw_watts: "Power",
    processes: "Processes",
  },
  gpuAge: (ago: string) => `sampled ${ago}`,
  mig: (slices: number) => (slices === 1 ? "MIG, 1 slice" : `MIG, ${slices} slices`),
  noProcess: "none",
  pid: "PID",
  unknownUser: "unknown",
  unknownName: "unknown program",
  processStarted: (time: string) => `started ${time}`,
  job: (id: string) => `job ${id}`,
  container: (id: string) => `container ${id}`,
  emptyTitle: "No node yet",
  emptyText: "Run this on each machine with GPUs; it appears here within seconds:",
  emptyLoopback:
    "This page was opened by an address that only this machine knows. On other machines, put its name or IP address in the place of it.",
  legend: "What the words mean",
  legendText: {
    free: "Free: no process computes on it, and the memory in use is below 500 MiB or 2 % of the card, whichever is more.",
    busy: "Busy: a process computes on it, or more memory than that is in use.",
    fault: "Fault: the GPU is lost, does not answer, or reports an error.",
    unknown: "Unknown: it cannot be told, or the node is not online. Unknown never counts as free.",
    stale: "Stale: the node answers, but its numbers are old. Offline: no sign of life. Pending: not seen since the hub started.",
  },
  hubVersion: (version: string) => `gpumon hub ${version}`,
  otherLanguage: { lang: "zh" as "en" | "zh", name: "中文" },
  theme: { system: "Theme: as the system", light: "Theme: light", dark: "Theme: dark" } satisfies Record<Theme, string>,
  unit: { day: "d", hour: "h", minute: "min", second: "s" },
};

/** One catalogue a language, all with these keys. */
export type Messages = typeof en;
