import { NO_FILTERS } from "../src/filter";
import type { Gpu, Node, Process, Report } from "../src/types";
import type { View } from "../src/view";

export function view(values: Partial<View> = {}): View {
  return { isHelpOpen: false, isKiosk: false, areUsersBlurred: false, tab: "nodes", theme: "system", language: "en", density: null, filters: NO_FILTERS, open: null, ...values };
}

export function process(values: Partial<Process> = {}): Process {
  return {
    pid: 1,
    name: "python",
    user: "alice",
    command: null,
    type: "compute",
    memory_used_bytes: 1,
    utilization_percent: null,
    started_at: null,
    container: null,
    job: null,
    ...values,
  };
}

export function gpu(values: Partial<Gpu> = {}): Gpu {
  return {
    index: 0,
    uuid: "GPU-0",
    name: "NVIDIA H100",
    pci_bus_id: null,
    status: "ok",
    error: null,
    asleep: false,
    utilization_percent: 0,
    memory_utilization_percent: null,
    encoder_utilization_percent: null,
    decoder_utilization_percent: null,
    memory_total_bytes: 80 * 2 ** 30,
    memory_used_bytes: 0,
    memory_free_bytes: null,
    memory_reserved_bytes: null,
    temperature_celsius: null,
    memory_temperature_celsius: null,
    fan_speed_percent: null,
    power_draw_watts: 100,
    power_limit_watts: null,
    energy_joules_total: null,
    sm_clock_megahertz: null,
    memory_clock_megahertz: null,
    performance_state: null,
    throttle_reasons: null,
    ecc_uncorrected_total: null,
    pcie_generation: null,
    pcie_width: null,
    persistence_mode: null,
    compute_mode: null,
    mig_enabled: null,
    mig_devices: null,
    sampled_at: null,
    processes: [],
    unavailable: {},
    suspect: [],
    ...values,
  };
}

export function report(gpus: readonly Gpu[], values: Partial<Report> = {}): Report {
  return {
    schema: 1,
    node: "n",
    hostname: null,
    agent_version: null,
    boot_id: null,
    sequence: null,
    sampled_at: null,
    interval_seconds: null,
    simulated: false,
    driver_version: null,
    cuda_version: null,
    nvml_version: null,
    status: "ok",
    error: null,
    advice: [],
    gpus,
    ...values,
  };
}

export function node(name: string, values: Partial<Node> = {}): Node {
  return {
    name,
    alias: name,
    host: null,
    port: null,
    address: null,
    configured: true,
    status: "online",
    status_since: "2026-11-23T12:00:00.000Z",
    last_seen_at: null,
    source: "push",
    error: null,
    clock_offset_seconds: null,
    report: report([gpu()]),
    ...values,
  };
}
