/** What a code of the hub or an agent means, and what to do. */
export interface FaultText {
  readonly message: string;
  readonly hint?: string;
}

// Codes of verdicts, evidence, notices and faults. A code that is missing here is shown in the hub's English.
// A hint is missing where the same code has several, or where it holds a command to copy: the hub's own then stands.

/** Why a node is not well: gpumon/hub/verdict.py. */
const verdicts: Readonly<Record<string, FaultText>> = {
  mass_silence: { message: "大批节点同时沉默：问题很可能出在中心一侧的网络。", hint: "先检查中心自身的网络：网线、交换机、防火墙。" },
  agent_stopped: { message: "代理已主动停止，并正常告别。" },
  agent_died: { message: "代理未告别就结束了：机器还在，但该端口无人监听。" },
  agent_not_running: { message: "机器还在，但该端口无人监听：那里没有运行代理。" },
  agent_hangs: { message: "有程序监听，但不应答：代理卡住或被挂起。", hint: "查看那里的代理是否被暂停、机器是否过载，然后重启代理。" },
  exporter_not_running: { message: "机器还在，但该端口无人监听：那里没有运行所配置的程序。" },
  exporter_hangs: { message: "有程序监听，但不应答：所配置的程序卡住或被挂起。", hint: "查看它是否被暂停、机器是否过载，然后重启它。" },
  wrong_kind: { message: "应答的不是所配置种类（kind）的程序。" },
  exporter_failed: { message: "那里的 nvidia_gpu_exporter 无法读取 GPU。", hint: "检查那里的 nvidia-smi 是否正常，并查看该程序的日志。" },
  not_an_agent: { message: "应答的不是 gpumon 代理。", hint: "检查配置中的端口是否为代理的端口。" },
  host_unreachable: { message: "机器没有任何响应：已关机、死机，或网络不通。", hint: "检查电源和网络，以及中间是否有防火墙。" },
  link_lost: { message: "与代理的连接未告别就断开：代理被终止、机器停机，或网络中断。", hint: "先确认机器在运行，再查看代理日志。" },
  link_silent: { message: "代理不再发来任何数据，连接也未关闭：机器或网络已断，或代理被挂起。", hint: "先确认机器在运行且可达，再查看代理日志。" },
  never_seen: { message: "中心启动以来从未见过该节点。" },
  push_refused: { message: "中心拒绝了代理的连接。", hint: "代理会自动重试；请按原因修正。" },
  no_report: { message: "代理已连接，但没有按时发来报告。" },
  no_new_reports: { message: "代理有应答，但没有新报告：很可能是 NVIDIA 驱动卡死。", hint: "在那里运行 nvidia-smi，并在 dmesg 中查找 Xid 记录；若都正常，请重启代理。" },
  clock_wrong: { message: "它的时钟与中心相差太大。", hint: "在两台机器上比较 timedatectl：其中一台未同步时间。" },
  name_taken: { message: "另一个代理也自称是它。", hint: "给其中一个代理换个名字。" },
  copied: { message: "另一台机器上有相同的代理标识，常见于克隆磁盘之后。", hint: "在克隆出的机器上删除代理的状态目录，然后重启代理。" },
  forged: { message: "另一个代理自称是它，却无法证明，已被拒绝。" },
  flapping: { message: "最近反复上下线：网络、机器或代理不稳定。", hint: "查看代理日志中每次断开的原因。" },
};

/** What is wrong with the hub as a whole; mass_silence stands above. */
const notices: Readonly<Record<string, FaultText>> = {
  bad_configuration: { message: "新读入的配置文件有错误，仍使用原来的配置。" },
  open_push: { message: "任何能连到中心的程序都可以向它报告（auth.push 为 open）。", hint: "将 auth.push 设为 token，则只接受已加入的代理。" },
  agents_waiting: { message: "有代理在等待批准加入。", hint: "在中心的机器上用 gpumon agents list 查看，用 gpumon agents admit 批准。" },
  not_kept: { message: "哪些代理已加入、哪些已撤销，无法写入磁盘：中心重启后将不再知道。", hint: "检查 hub.state_dir 所在的磁盘。" },
  restart_needed: { message: "配置文件中的监听地址或 TLS 设置已改变：重启中心后才生效。" },
  certificate_expires: { message: "证书将在 14 天内到期，或已过期。", hint: "请在证书文件中更新它：会自动重新读取。" },
  bad_certificate: { message: "证书文件已改变但无法使用，仍使用原来的证书。", hint: "请更正证书文件：中心会自动重新读取。" },
};

/** What one channel shows, where its code means something else than elsewhere, or stands in evidence only. */
const evidence: Readonly<Record<string, FaultText>> = {
  "push.never": { message: "中心启动以来没有代理连接。" },
  "push.open": { message: "与代理的连接正常。" },
  "push.goodbye": { message: "代理告别后关闭了连接。" },
  "push.lost": { message: "与代理的连接断开。" },
  "push.silent": { message: "连接上没有任何动静，中心已将其关闭。" },
  "push.refused": { message: "中心拒绝了代理的连接。" },
  "poll.not_configured": { message: "不在配置中，因此中心不主动查询。" },
  "poll.answered": { message: "查询时有应答。" },
  "name.resolved": { message: "主机名已解析。" },
  "name.kept": { message: "目前无人应答，沿用最后一次有效的地址。" },
};

/** What asking a node, or looking up its name, has met with. */
const polls: Readonly<Record<string, FaultText>> = {
  name_unknown: { message: "主机名无法解析。", hint: "请更正配置或 DNS 中的名称。" },
  name_unanswered: { message: "没有域名服务器应答。" },
  refused: { message: "连接被拒绝：该端口无人监听。" },
  unreachable: { message: "无法到达该机器。" },
  no_answer: { message: "在时限内没有完整的应答。" },
  bad_answer: { message: "应答无法读取。" },
  bad_status: { message: "应答的状态码表示失败。" },
  answer_too_long: { message: "应答过长。" },
  untrusted: { message: "它的证书不可信，或它不使用 TLS。", hint: "请更正它的证书，或配置中的 nodes[].tls、nodes[].fingerprint、tls.ca。" },
  forbidden_address: { message: "它的地址是中心绝不查询的地址。", hint: "请更正配置或 DNS 中的主机。" },
  internal: { message: "gpumon 自身或中心所在机器出了问题。" },
  bad_report: { message: "它的报告不符合约定，连接被中断。" },
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
  no_sample: { message: "代理已有一段时间没有读到任何数据。" },
  long_uptime: { message: "这台机器已连续运行很久：B200 配合开源内核模块 570.133 至 580.105 时，驱动曾在约 66 天 12 小时后卡死。", hint: "请择时重启这台机器，或更新驱动。" },
  processes_left_out: { message: "占用该节点 GPU 的进程太多，一份报告放不下：只列出占用显存最多的，其余仅计数。", hint: "在该节点上运行 gpumon probe 可看到更多。" },
};

export const faults: Readonly<Record<string, FaultText>> = { ...drivers, ...polls, ...verdicts, ...notices, ...evidence };
