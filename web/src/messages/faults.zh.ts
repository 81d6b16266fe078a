/** What a code of the hub or an agent means, and what to do. */
export interface FaultText {
  readonly message: string;
  readonly hint?: string;
  /** What it means where the fault's own words say more: the first that fits counts. */
  readonly cases?: readonly FaultCase[];
}

/** `said` is looked for in the English words; its named groups fill the `{places}` of the message. */
export interface FaultCase {
  readonly said: RegExp;
  readonly message: string;
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

const LOOK_AT_DRIVER = "在 dmesg 中查看 Xid 记录，并检查 nvidia-smi 能否工作。";

/** At what the reader of the GPUs was: gpumon/agent/trouble.py. */
function whileDoing(said: string, told: string): readonly FaultCase[] {
  const gpu = String.raw`GPU (?<gpu>\d+(?: \([^)]*\))?)`;
  const doings: readonly (readonly [string, string])[] = [
    [" while starting", "，当时正在启动驱动。"],
    [" while listing its GPUs", "，当时正在列出 GPU。"],
    [" while being asked for Xids", "，当时正在查询 Xid。"],
    [` while reading ${gpu}`, "，当时正在读取 GPU {gpu}。"],
    [` while looking up the processes on ${gpu}`, "，当时正在查询 GPU {gpu} 上的进程。"],
    ["", "。"],
  ];
  return doings.map(([doing, where]) => ({ said: new RegExp(said + doing), message: told + where }));
}

/** The driver's own return codes, and answers that are none. */
const failures: readonly FaultCase[] = [
  { said: /failed to start \(NVML return code (?<code>\d+)\)/, message: "NVIDIA 驱动无法启动（NVML 返回码 {code}）。" },
  { said: /failed to list its GPUs \(NVML return code (?<code>\d+)\)/, message: "NVIDIA 驱动无法列出 GPU（NVML 返回码 {code}）。" },
  { said: /no access to this GPU \(NVML return code (?<code>\d+)\)/, message: "驱动无法访问这块 GPU（NVML 返回码 {code}）。" },
  { said: /failed to start/, message: "NVIDIA 驱动无法启动，且应答无效。" },
  { said: /failed to list its GPUs/, message: "NVIDIA 驱动无法列出 GPU，且应答无效。" },
  { said: /no access to this GPU/, message: "驱动无法访问这块 GPU，且应答无效。" },
];

/** What an agent says of its GPUs and their driver. `nvml_N` is for every number. */
const drivers: Readonly<Record<string, FaultText>> = {
  no_driver: {
    message: "该节点没有可用的 NVIDIA 驱动。",
    cases: [
      { said: /is not on this machine/, message: "该节点上没有 NVIDIA 驱动库（libnvidia-ml.so.1）。" },
      { said: /installed but not loaded/, message: "NVIDIA 驱动已安装，但没有加载。" },
    ],
  },
  driver_mismatch: {
    message: "NVIDIA 驱动已更新，但内核中仍加载着旧版本。",
    cases: [
      {
        said: /updated to (?<now>[\d.]+), but the old one \((?<before>[\d.]+)\)/,
        message: "NVIDIA 驱动已更新到 {now}，但内核中仍加载着旧版本 {before}。",
      },
      { said: /of Windows/, message: "Windows 的 NVIDIA 驱动与 WSL 中的驱动库不匹配。" },
    ],
  },
  denied: {
    message: "NVIDIA 驱动拒绝访问。",
    cases: [{ said: /may not be opened/, message: "NVIDIA 驱动存在，但无权打开它的设备（/dev/nvidia*）。" }],
  },
  gpus_missing: {
    message: "有 NVIDIA GPU 在 PCI 总线上，但驱动没有列出。",
    cases: [
      {
        said: /bus has (?<expected>\d+) .*lists (?<count>\d+)\. Not listed: (?<absent>[^ ]*(?:, [^ ]+)*)\./,
        message: "PCI 总线上有 {expected} 块应由驱动管理的 NVIDIA GPU，驱动只列出 {count} 块。未列出：{absent}。",
      },
    ],
    hint: "查看 dmesg | grep -i nvrm 对这些地址说了什么。若是有意不用，可在 /sys/bus/pci/devices 中将其 driver_override 设为其他驱动或 none，之后便不再提示。",
  },
  crash: { message: "读取 GPU 的进程异常终止。", hint: LOOK_AT_DRIVER, cases: whileDoing("has died", "读取 GPU 的进程异常终止") },
  protocol: { message: "读取 GPU 的进程应答混乱。", hint: LOOK_AT_DRIVER, cases: whileDoing("talks nonsense", "读取 GPU 的进程应答混乱") },
  nvml_N: { message: "NVIDIA 驱动返回了错误。", cases: failures },
  error: { message: "代理报告 GPU 读取出错，但未说明原因。", cases: failures },
  degraded: { message: "该节点有 GPU 状态异常。" },
  unresponsive: { message: "这块 GPU 没有应答。" },
  persistence_off: {
    message: "持久模式未开启：驱动会为每个程序重新启动 GPU，可能需要数秒。",
    cases: [
      {
        said: /is off on GPU (?<which>\d+(?:, \d+)*):/,
        message: "GPU {which} 未开启持久模式：驱动会为每个程序重新启动 GPU，可能需要数秒。",
      },
      { said: /is off on every GPU:/, message: "所有 GPU 均未开启持久模式：驱动会为每个程序重新启动 GPU，可能需要数秒。" },
    ],
    hint: "用 nvidia-smi -pm 1 或 nvidia-persistenced 服务开启。",
  },
  no_gpus: { message: "NVIDIA 驱动已加载，但没有发现 GPU。", hint: "确认 lspci | grep -i nvidia 能列出显卡，且没有直通给虚拟机。" },
  lost: {
    message: "驱动找不到这块 GPU：很可能已从总线上掉线。",
    cases: [{ said: /no longer listed by the driver/, message: "这块 GPU 曾经存在，现在驱动不再列出。" }],
  },
  reset_required: { message: "这块 GPU 需要重置后才能使用。", hint: "结束其上的进程并运行 nvidia-smi --gpu-reset，或重启机器。" },
  paused: { message: "已暂停读取 GPU，gpumon 目前不占用 NVIDIA 驱动。", hint: "gpumon pause（或 SIGUSR1）可恢复；10 分钟内会自动恢复。" },
  starting: { message: "NVIDIA 驱动尚未应答。", hint: "启动可能需要数秒；开启持久模式（nvidia-smi -pm 1）后则不需要。" },
  wedged: { message: "NVIDIA 驱动卡住了所有访问它的进程，连 SIGKILL 也无法结束它们。", hint: "重启这台机器。" },
  timeout: {
    message: "驱动未在时限内应答。",
    hint: LOOK_AT_DRIVER,
    cases: whileDoing(String.raw`not answered for (?<seconds>\d+) s`, "驱动已有 {seconds} 秒没有应答"),
  },
  no_sample: { message: "代理已有一段时间没有读到任何数据。" },
  long_uptime: {
    message: "这台机器已连续运行很久：B200 配合开源内核模块 570.133 至 580.105 时，驱动曾在约 66 天 12 小时后卡死。",
    cases: [
      {
        said: /up for (?<days>\d+) days/,
        message: "这台机器已连续运行 {days} 天：B200 配合开源内核模块 570.133 至 580.105 时，驱动曾在约 66 天 12 小时后卡死。",
      },
    ],
    hint: "请择时重启这台机器，或更新驱动。",
  },
  processes_left_out: {
    message: "占用该节点 GPU 的进程太多，一份报告放不下：只列出占用显存最多的，其余仅计数。",
    cases: [
      {
        said: /(?<all>\d+) processes hold GPUs .* told are the (?<told>\d+) /,
        message: "有 {all} 个进程占用该节点的 GPU，一份报告放不下：只列出占用显存最多的 {told} 个，其余仅计数。",
      },
    ],
    hint: "在该节点上运行 gpumon probe 可看到更多。",
  },
};

/** Hints of agents, by their own words: one code has several of them. */
export const hints: Readonly<Record<string, string>> = {
  "Install the NVIDIA driver; in a container, use the NVIDIA runtime with the 'utility' capability.":
    "安装 NVIDIA 驱动；在容器中请使用带 utility 能力的 NVIDIA 运行时。",
  "Run 'modprobe nvidia' or reboot, and see what 'dmesg | grep -i nvidia' says.":
    "运行 modprobe nvidia 或重启，并查看 dmesg | grep -i nvidia 的输出。",
  "Reboot this machine, or unload and reload the nvidia kernel modules.": "重启机器，或卸载并重新加载 nvidia 内核模块。",
  "Check the permissions of /dev/nvidia*; in a container, check that it was given the devices.":
    "检查 /dev/nvidia* 的权限；在容器中请检查是否已分配这些设备。",
  "In a container that once worked, restart the container: reloading systemd takes devices away, see the NVIDIA container toolkit; elsewhere, check the permissions of /dev/nvidia*.":
    "如果是原先正常的容器，请重启容器：重新加载 systemd 会收回设备，参见 NVIDIA container toolkit 的说明；否则请检查 /dev/nvidia* 的权限。",
  "Reboot the machine; if it happens again, check power, seating and the Xid lines in 'dmesg'.":
    "重启机器；若再次发生，请检查供电、插槽以及 dmesg 中的 Xid 记录。",
  "See whether 'lspci | grep -i nvidia' still has it, then check the Xid lines in 'dmesg' and reboot.":
    "查看 lspci | grep -i nvidia 是否仍列出它，再查看 dmesg 中的 Xid 记录，然后重启。",
  "See whether nvidia-smi works here; in a container that once worked, restart the container.":
    "检查该节点上的 nvidia-smi 能否工作；如果是原先正常的容器，请重启容器。",
  "See what nvidia-smi and the Xid lines in 'dmesg' say of it.": "查看 nvidia-smi 和 dmesg 中的 Xid 记录对它说了什么。",
  "Under WSL the driver is that of Windows: update it there, install none in WSL, then run 'wsl --shutdown' in Windows and start WSL again.":
    "WSL 使用的是 Windows 的驱动：请在 Windows 中更新驱动，不要在 WSL 中安装，然后在 Windows 中运行 wsl --shutdown 并重新启动 WSL。",
};

export const faults: Readonly<Record<string, FaultText>> = { ...drivers, ...polls, ...verdicts, ...notices, ...evidence };
