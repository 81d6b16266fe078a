"""The text of a systemd unit. ``docs/service.md`` says why each line is there.

What a service is told stands in its environment file, so the unit is the same for everybody who has gpumon in the same
place on the same kind of machine.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from gpumon import __version__
from gpumon.service.machine import Machine
from gpumon.service.place import Place

WATCHDOG_SECONDS = 30
RESTARTS_SLOWED_SINCE = 254
LEAST_OPEN_PORT = 1024
RUN_COPY = "config.json"

ABOUT = {
    "agent": "gpumon agent, which reads this machine's GPUs and reports them",
    "hub": "gpumon hub, which shows the GPUs of all machines",
}

ALWAYS = """\
NoNewPrivileges=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
SystemCallErrorNumber=EPERM
UMask=0077
LimitCORE=0
""".splitlines()
"""What every user may ask for as well."""

OF_MACHINE = """\
DynamicUser=yes
KeyringMode=private
PrivateIPC=yes
PrivateMounts=yes
PrivateTmp=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHome=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectSystem=strict
RemoveIPC=yes
""".splitlines()

AGENT_LIMITS = """\
MemoryMax=256M
TasksMax=64
OOMPolicy=continue
""".splitlines()

HUB_LIMITS = """\
MemoryMax=1G
TasksMax=128
LimitNOFILE=65536
""".splitlines()

# The numbers as well as the names: the names are looked up when the service starts, and the driver may come later.
AGENT_DEVICES = """\
DevicePolicy=closed
DeviceAllow=char-195 rw
DeviceAllow=char-nvidia rw
DeviceAllow=char-nvidia-frontend rw
DeviceAllow=char-nvidiactl rw
DeviceAllow=char-nvidia-caps rw
""".splitlines()

HUB_ALONE = """\
PrivateDevices=yes
ProcSubset=pid
ProtectProc=invisible
""".splitlines()

MAKE_NODES = (
    "[ -e /dev/nvidiactl ] || ! command -v nvidia-modprobe >/dev/null || { nvidia-modprobe && nvidia-modprobe -c 255 "
    '$(sed -n "s/^Device Minor:[[:space:]]*/-c /p" /proc/driver/nvidia/gpus/*/information); }'
)
"""Makes the driver's device files where nothing else has: its library would do so by a set-uid program, which a service
without new privileges cannot start. Where the driver is not there, nothing happens.
"""


@dataclass(frozen=True, slots=True)
class Wish:
    """What a unit is made for: the ``program`` to start, the ``port`` if it is known, whether its configuration is
    only root's to read (``has_secret_config``), whether the program is one file that unpacks itself and then runs as
    a child of its own (``unpacks``), and the ``groups`` that may read what it must read.
    """

    program: Sequence[str]
    port: int | None = None
    has_secret_config: bool = False
    unpacks: bool = False
    groups: tuple[str, ...] = ()


def unit(place: Place, wish: Wish, machine: Machine) -> str:
    """The unit of the service at ``place``."""
    return "\n".join(
        [
            f"# Written by: gpumon service install {place.role}{' --user' if place.is_of_user else ''}"
            f" (gpumon {__version__}), which writes it anew.",
            f"# Settings are in {place.environment}; changes of your own go into: systemctl"
            f"{' --user' if place.is_of_user else ''} edit {place.name.removesuffix('.service')}",
            "[Unit]",
            f"Description={ABOUT[place.role]}",
            *_order(place),
            "StartLimitIntervalSec=0",
            "",
            "[Service]",
            *_life(place, wish, machine),
            "",
            *_limits(place),
            "",
            *_walls(place, wish, machine),
            "",
            "[Install]",
            f"WantedBy={'default.target' if place.is_of_user else 'multi-user.target'}",
            "",
        ]
    )


def _order(place: Place) -> list[str]:
    if place.is_of_user:
        return []
    return ["After=network.target" + (" nvidia-persistenced.service" if place.role == "agent" else "")]


def _life(place: Place, wish: Wish, machine: Machine) -> list[str]:
    is_slowed = machine.systemd is not None and machine.systemd >= RESTARTS_SLOWED_SINCE
    copy = _copy(place) if wish.has_secret_config and not place.is_of_user else None
    start = [*wish.program, place.role]
    return [
        "Type=notify",
        f"NotifyAccess={'all' if wish.unpacks else 'main'}",
        f"Environment={quoted(f'GPUMON_STATE_DIR={place.state}', is_command=False)}",
        f"EnvironmentFile=-{escaped(str(place.environment))}",
        *_storage(place, copy),
        *(_before(place, copy)),
        f"ExecStart={' '.join(quoted(word) for word in start)}",
        *([f"ExecReload=+{copy}"] if copy else []),
        "ExecReload=/bin/kill -HUP $MAINPID",
        "Restart=always",
        "RestartSec=2",
        *(["RestartSteps=8", "RestartMaxDelaySec=60"] if is_slowed else []),
        f"WatchdogSec={WATCHDOG_SECONDS}",
        "TimeoutStartSec=90",
        "KillMode=mixed",
        "TimeoutStopSec=10",
        "StandardOutput=null",
        "StandardError=journal",
        "LogRateLimitIntervalSec=30",
        "LogRateLimitBurst=1000",
    ]


def _storage(place: Place, copy: str | None) -> list[str]:
    if place.is_of_user:
        return []
    runtime = [f"RuntimeDirectory=gpumon/{place.role}", "RuntimeDirectoryMode=0700"] if copy else []
    return [f"StateDirectory=gpumon/{place.role}", "StateDirectoryMode=0700", *runtime]


def _copy(place: Place) -> str:
    """Lets the service read a file that is root's alone: it is copied into a folder that is the service's alone."""
    return f"/usr/bin/install -m 0444 {quoted(str(place.config))} {run_copy(place)}"


def run_copy(place: Place) -> str:
    """Where the service finds a configuration that only root can read."""
    return f"/run/gpumon/{place.role}/{RUN_COPY}"


def _before(place: Place, copy: str | None) -> list[str]:
    lines = [f"ExecStartPre=+{copy}"] if copy else []
    if place.role == "agent" and not place.is_of_user:
        lines.append(f"ExecStartPre=-+/bin/sh -c {quoted(MAKE_NODES)}")
    return lines


def _limits(place: Place) -> list[str]:
    shield = [] if place.is_of_user else ["OOMScoreAdjust=-200"]
    return [*(AGENT_LIMITS if place.role == "agent" else HUB_LIMITS), *shield]


def _walls(place: Place, wish: Wish, machine: Machine) -> list[str]:
    if place.is_of_user:
        return list(ALWAYS)
    needs_low_port = wish.port is not None and 0 < wish.port < LEAST_OPEN_PORT
    capabilities = "CAP_NET_BIND_SERVICE" if needs_low_port else ""
    lines = [*OF_MACHINE, f"CapabilityBoundingSet={capabilities}", f"AmbientCapabilities={capabilities}", *ALWAYS]
    groups = set(wish.groups)
    if place.role == "hub":
        # A port below 1024 is opened by a capability of the machine's own users, which those of a namespace lack.
        lines += [*HUB_ALONE, *([] if needs_low_port else ["PrivateUsers=yes"])]
    else:
        lines += [*AGENT_DEVICES, *(f"DeviceAllow={escaped(node)} rw" for node in machine.rare_devices)]
        groups |= {machine.device_group} if machine.device_group else set()
    return [*lines, *([f"SupplementaryGroups={' '.join(sorted(groups))}"] if groups else [])]


def escaped(text: str) -> str:
    """``text`` as a value in which systemd expands nothing (``systemd.unit(5)``, specifiers)."""
    return text.replace("%", "%%")


def quoted(text: str, *, is_command: bool = True) -> str:
    """``text`` as one word, as it is; in a command a dollar sign is one more that expands (``systemd.service(5)``)."""
    text = escaped(text).replace("\\", "\\\\").replace('"', '\\"')
    text = text.replace("$", "$$") if is_command else text
    return f'"{text}"' if not text or any(sign in text for sign in " \t'\";") else text
