/** What a code of the hub or an agent means, and what to do. */
export interface FaultText {
  readonly message: string;
  readonly hint?: string;
}

// Codes of verdicts, evidence, notices and faults. A code that is missing here is shown in the hub's English.
// A hint is missing where the same code has several: the hub's own then stands.

/** Why a node is not well. */
const verdicts: Readonly<Record<string, FaultText>> = {
  goodbye: { message: "代理已正常停止。", hint: "如非有意，请在该节点上重新启动代理。" },
  agent_ended: { message: "代理已正常停止。", hint: "如非有意，请在该节点上重新启动代理。" },
  agent_killed: { message: "主机还在，但代理未告别就消失了：很可能被终止或崩溃。", hint: "查看该节点的代理日志和内存不足（OOM）记录，并重新启动代理。" },
  agent_gone: { message: "主机还在，但代理未告别就消失了：很可能被终止或崩溃。", hint: "查看该节点的代理日志和内存不足（OOM）记录，并重新启动代理。" },
  link_lost: { message: "与代理的连接突然断开。", hint: "查看该节点的代理是否仍在运行。" },
  host_silent: { message: "主机没有任何响应：很可能已断电、死机或断网。", hint: "检查机器是否开机，以及网络和防火墙。" },
  silent: { message: "主机没有任何响应：很可能已断电、死机或断网。", hint: "检查机器是否开机，以及网络和防火墙。" },
  driver_hung: { message: "代理正常，但 NVIDIA 驱动不再应答。", hint: "在 dmesg 中查看 Xid 记录，并检查 nvidia-smi 能否工作。" },
  driver_silent: { message: "代理正常，但 NVIDIA 驱动不再应答。", hint: "在 dmesg 中查看 Xid 记录，并检查 nvidia-smi 能否工作。" },
  never_seen: { message: "中心启动以来从未见过该节点。" },
};

/** What the hub has to say of itself and of the fleet as a whole. */
const notices: Readonly<Record<string, FaultText>> = {
  mass_silence: { message: "大量节点同时沉默：问题更可能出在中心或其网络一侧。", hint: "先检查中心所在机器的网络，再检查各节点。" },
  hub_paused: { message: "中心自身曾暂停，期间不判定节点离线。" },
  config_refused: { message: "新的配置文件有错误，仍使用原来的配置。", hint: "用 gpumon check 检查配置文件。" },
};

/** What a poll, a look-up of a name or a link has met with. */
const channels: Readonly<Record<string, FaultText>> = {
  name_unknown: { message: "主机名无法解析。", hint: "请更正配置或 DNS 中的名称。" },
  no_connection: { message: "无法建立连接。" },
  no_answer: { message: "在时限内没有完整的应答。", hint: "检查机器是否开机，以及中间是否有防火墙。" },
  bad_answer: { message: "应答无法读取。" },
  bad_status: { message: "应答的状态码表示失败。" },
  answer_too_long: { message: "应答过长。" },
  bad_report: { message: "它的报告不符合约定，连接被中断。" },
  no_address: { message: "该主机没有地址。" },
};

/** What an agent says of its GPUs and their driver. */
const drivers: Readonly<Record<string, FaultText>> = {
  no_driver: { message: "该节点没有可用的 NVIDIA 驱动。" },
  driver_mismatch: { message: "NVIDIA 驱动已更新，但内核中仍加载着旧版本。", hint: "重启机器，或卸载并重新加载 nvidia 内核模块。" },
  denied: { message: "NVIDIA 驱动拒绝访问。" },
  no_gpus: { message: "NVIDIA 驱动已加载，但没有发现 GPU。", hint: "确认 lspci | grep -i nvidia 能列出显卡，且没有直通给虚拟机。" },
  lost: { message: "驱动找不到这块 GPU：很可能已从总线上掉线。" },
  reset_required: { message: "这块 GPU 需要重置后才能使用。", hint: "结束其上的进程并运行 nvidia-smi --gpu-reset，或重启机器。" },
  paused: { message: "已暂停读取 GPU，gpumon 目前不占用 NVIDIA 驱动。", hint: "gpumon pause（或 SIGUSR1）可恢复；10 分钟内会自动恢复。" },
  starting: { message: "NVIDIA 驱动尚未应答。", hint: "启动可能需要数秒；开启持久模式（nvidia-smi -pm 1）后则不需要。" },
  wedged: { message: "NVIDIA 驱动卡住了所有访问它的进程，连 SIGKILL 也无法结束它们。", hint: "重启这台机器。" },
  timeout: { message: "驱动未在时限内应答。", hint: "在 dmesg 中查看 Xid 记录，并检查 nvidia-smi 能否工作。" },
};

export const faults: Readonly<Record<string, FaultText>> = { ...drivers, ...channels, ...verdicts, ...notices };
