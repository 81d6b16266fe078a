"""How each command of the documentation is tried: the first rule counts whose pattern begins the command.

A command without a rule fails its test. A new page most likely needs no new rule: what ends by itself is run to its
end, and only what stays, what may end otherwise than with 0, and what cannot be run here has to be named.
"""

import re
from dataclasses import dataclass
from typing import Final

ALREADY = r"(?:[A-Z_]+=\S+ )*"
"""Variables that are set for one command."""
SECONDS: Final = 90.0


@dataclass(frozen=True)
class Ends:
    """It ends by itself, with one of these statuses, and its output has ``says``."""

    pattern: str
    says: str = ""
    statuses: tuple[int, ...] = (0,)


@dataclass(frozen=True)
class Stays:
    """It goes on until it is ended, which must leave status 0; before that one of its streams says ``says``."""

    pattern: str
    says: str


@dataclass(frozen=True)
class Elsewhere:
    """It cannot be run here. ``because`` says why; a test that does what it does is named as ``tests/...``."""

    pattern: str
    because: str


Rule = Ends | Stays | Elsewhere

RULES: Final[tuple[Rule, ...]] = (
    # ---- gpumon: what stays ----
    Ends(rf"{ALREADY}gpumon hub --print-join", r"gpumon agent --hub"),
    Stays(rf"{ALREADY}gpumon hub\b", r"hub on https?://"),
    Stays(rf"{ALREADY}gpumon agent\b.* --hub https?://", r"connected to gpumon"),
    Stays(rf"{ALREADY}gpumon agent\b", r"agent \S+ \(simulated\) on https?://"),
    Stays(rf"{ALREADY}gpumon demo\b", r"dashboard is at"),
    Stays(rf"{ALREADY}gpumon -mode=server", r"agent \S+ \(simulated\) on http://"),
    Stays(rf"{ALREADY}gpumon -mode=aggregator|{ALREADY}gpumon$", r"hub on http://"),
    Stays(rf"{ALREADY}gpumon probe .*--watch", r"H200"),
    # ---- gpumon: what needs more than a lab on loopback ----
    Elsewhere(r"gpumon agents (?:admit|revoke)\b", "there must be somebody who waits: tests/hub/test_agents.py"),
    Elsewhere(
        rf"(?:sudo )?{ALREADY}gpumon service\b(?!.*--print)",
        "systemd is not everywhere, and the tests of services look for it",
    ),
    Elsewhere(r"gpumon pause", "it tells every agent of this machine: tests/agent/test_pause.py"),
    Elsewhere(r"gpumon top(?!.*--once)", "it wants a terminal: tests/client/test_top.py"),
    Elsewhere(r"(?:found=\$\()?gpumon find\b.*--wait", "it waits for a GPU to become free: tests/client/test_find.py"),
    Elsewhere(
        r"found=\$\(gpumon find .* && python train\.py|read -r ", "it goes on with what was found on another machine"
    ),
    Elsewhere(r'eval "\$\(gpumon completion zsh', "it is for another shell"),
    Ends(r"gpumon find\b", statuses=(0, 1)),
    Ends(r"gpumon (?:man|completion)\b"),
    Ends(rf"{ALREADY}gpumon\b"),
    # ---- asking by other means ----
    Stays(r"curl\b.* -N |curl -N ", r"event: snapshot"),
    Ends(r"curl\b"),
    # ---- what sets up and builds ----
    Elsewhere(r"make\b", "a target of the Makefile, which test_every_target_that_is_told_of_is_there looks for"),
    Elsewhere(r"(?:sudo )?apt(?:-get)? |sudo |dpkg ", "it changes the machine"),
    Elsewhere(
        r"(?:\S*/)?pip install|pipx |python3? -m venv|\.venv/bin/|uv ",
        "release/packages.py installs into environments of its own",
    ),
    Elsewhere(r"git (?:clone|tag|push)", "it wants a repository elsewhere"),
    Elsewhere(r"docker |podman |kubectl |helm ", "it wants a container engine or a cluster"),
    Elsewhere(r"mmdebstrap |chroot |cp -r packaging ", "it builds for another processor, in a root of its own"),
    Elsewhere(r"/opt/gpumon/", "it is what was installed by the line before"),
    Elsewhere(r"(?:for |while |ssh |scp |pdsh |parallel-ssh |ansible)", "it wants other machines"),
    Elsewhere(r"systemctl |journalctl |loginctl |systemd-analyze ", "systemd is not everywhere"),
    Elsewhere(
        r"(?:timedatectl|nvidia-smi|dmesg|lspci|modprobe|getent|resolvectl|avahi-browse|ss|nc|ping)\b",
        "it asks the machine",
    ),
    Elsewhere(r"promtool |prometheus |grafana", "tests of the metrics run it where they have it"),
    Elsewhere(
        r"\.venv/bin/python -m (?:benchmarks|tests)|python -m (?:benchmarks|release|reference|tests)",
        "it takes long, or is a test itself",
    ),
    Ends(r"openssl |chmod |mkdir |cp |cat |ls |cd |echo |export |printf |eval "),
)


def rule_for(command: str) -> Rule:
    """The rule of a command. Raises AssertionError where there is none."""
    for rule in RULES:
        if re.match(rule.pattern, command):
            return rule
    raise AssertionError(f"no rule in tests/docs/how.py says how this is tried: {command}")
