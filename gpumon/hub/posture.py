"""How safe a configuration is, in few lines, worst first: who may do what, who can read along, whose files are whose.

Each line is one sentence, and names the key that changes it.
"""

import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final, Literal

from msgspec import Struct

from gpumon.certificates import Shown
from gpumon.config import Config, Privacy
from gpumon.errors import CertificateError
from gpumon.limits import is_loopback

Grade = Literal["bad", "weak", "good"]
WORST_FIRST: Final[tuple[Grade, ...]] = ("bad", "weak", "good")
OF_OTHERS: Final = 0o077
MOST_NAMED: Final = 3
SEEN: Final[dict[Privacy, str]] = {
    "nothing": "that GPUs are taken, and nothing of processes",
    "names": "names of programs, and not whose they are",
    "users": "who runs which programs",
    "commands": "who runs which programs, and short command lines",
}


class Line(Struct, frozen=True, kw_only=True):
    """One of them. ``key``: what to change in the configuration, or the file to look at."""

    grade: Grade
    key: str
    text: str


def posture(config: Config, file: Path | None, state_folder: Path | None) -> list[Line]:
    """All of them, for a configuration read from ``file`` (None: what holds without one); what it keeps lies in
    ``state_folder``.
    """
    lines = [
        _pushing(config),
        _looking(config),
        _seen(config),
        _certificate(config),
        _names(config),
        _listening(config),
        _files(config, file, state_folder),
        _polling(config),
        _agent(config),
        _commands(),
    ]
    return sorted(lines, key=lambda line: WORST_FIRST.index(line.grade))


def _pushing(config: Config) -> Line:
    if config.auth.push == "open":
        text = "Whoever can reach the hub may report to it, under any name."
        return Line(grade="bad", key="auth.push", text=text)
    return Line(grade="good", key="auth.push", text="Agents of other machines must join before they may report.")


def _looking(config: Config) -> Line:
    if config.auth.viewers == "token":
        return Line(grade="good", key="auth.viewers", text="Nobody sees anything without the hub's token.")
    if _is_here(config.hub.host):
        return Line(grade="good", key="auth.viewers", text="Whoever uses this machine may look, and nobody else.")
    return Line(grade="weak", key="auth.viewers", text="Whoever can reach the hub may look, without a login.")


def _seen(config: Config) -> Line:
    """What those see of processes who have not logged in."""
    key = "auth.privacy"
    if config.auth.viewers == "token":
        return Line(
            grade="good", key=key, text="Who has not logged in sees nothing of processes, nor of anything else."
        )
    seen = SEEN[config.auth.privacy]
    grade: Grade = "weak" if config.auth.privacy in ("users", "commands") else "good"
    return Line(grade=grade, key=key, text=f"Who has not logged in sees {seen}.")


def _names(config: Config) -> Line:
    others = f", {', '.join(config.hub.hosts)}" if config.hub.hosts else ""
    text = f"The hub answers by addresses and its machine's own names{others}, and to pages of no other site."
    return Line(grade="good", key="hub.hosts", text=text)


def _commands() -> Line:
    text = "Of command lines no more than program and script leave a node, and no secret in them."
    return Line(grade="good", key="", text=text)


def _certificate(config: Config) -> Line:
    key = "tls.certificate"
    if config.tls.certificate is None:
        if _is_here(config.hub.host):
            return Line(grade="good", key=key, text="Speaks plain HTTP, and with this machine only.")
        if config.auth.viewers == "token":
            text = "Speaks plain HTTP: whoever is on the way has the token of whoever logs in."
            return Line(grade="bad", key=key, text=text)
        text = "Speaks plain HTTP: whoever is on the way reads along, and can be taken for the hub."
        return Line(grade="weak", key=key, text=text)
    try:
        shown = Shown(config.tls)
    except CertificateError as error:
        return Line(grade="bad", key=key, text=f"Cannot speak TLS: {'; '.join(error.faults)}.")
    if (ends := shown.expiry("The")) is not None:
        return Line(grade="bad", key=key, text=ends.message)
    day = time.strftime("%Y-%m-%d", time.gmtime(shown.certificate.expires_at))
    own = ", and made by itself, so agents pin its fingerprint" if shown.certificate.is_self_made else ""
    return Line(grade="good", key=key, text=f"Speaks TLS; the certificate is good until {day}{own}.")


def _listening(config: Config) -> Line:
    host, port = config.hub.host, config.hub.port
    if _is_here(host):
        return Line(grade="good", key="hub.host", text=f"The hub listens on this machine only ({host} port {port}).")
    where = "every network of this machine" if host in ("0.0.0.0", "::") else host
    return Line(grade="weak", key="hub.host", text=f"The hub listens on {where}, port {port}.")


def _files(config: Config, file: Path | None, state_folder: Path | None) -> Line:
    """Whether only their owner can read the files in which secrets stand."""
    holders = [Path(name).expanduser() for name in (config.tls.key or config.tls.certificate,) if name]
    if file is not None and (config.agent.token or any(node.token for node in config.nodes)):
        holders.append(file)
    if state_folder is not None and state_folder.is_dir():
        holders += sorted(path for path in state_folder.iterdir() if path.is_file() and not path.is_symlink())
    if loose := [path for path in holders if _is_open_to_others(path)]:
        others = f" and {len(loose) - MOST_NAMED} more" if len(loose) > MOST_NAMED else ""
        names = ", ".join(map(str, loose[:MOST_NAMED]))
        text = f"Others can read secrets in {names}{others}: 'chmod 600' closes them."
        return Line(grade="bad", key=str(loose[0]), text=text)
    text = "Only their owner can read the files with secrets." if holders else "No file with a secret is there yet."
    return Line(grade="good", key="hub.state_dir", text=text)


def _is_open_to_others(path: Path) -> bool:
    try:
        return bool(path.stat().st_mode & OF_OTHERS)
    except OSError:
        return False


def _polling(config: Config) -> Line:
    far = [node for node in config.nodes if not _is_here(node.host)]
    told = [node.name for node in far if node.token and not node.tls]
    plain = [node.name for node in far if not node.tls]
    if told:
        text = f"Tokens go to {_some(told)} by plain HTTP: whoever is on the way has them."
        return Line(grade="bad", key="nodes[].tls", text=text)
    if plain:
        text = f"By plain HTTP the hub asks {_some(plain)}: whoever is on the way can answer for them."
        return Line(grade="weak", key="nodes[].tls", text=text)
    text = "Every node of another machine is asked by https." if far else "No node of another machine is asked."
    return Line(grade="good", key="nodes[].tls", text=text)


def _agent(config: Config) -> Line:
    agent = config.agent
    if _is_here(agent.host):
        return Line(grade="good", key="agent.host", text="An agent with this file answers its own machine only.")
    if agent.token and config.tls.certificate:
        text = "An agent with this file answers those only who know its token, by https."
        return Line(grade="good", key="agent.token", text=text)
    if agent.token:
        text = "An agent with this file answers those only who know its token, which is heard by whoever is on the way."
        return Line(grade="weak", key="tls.certificate", text=text)
    text = "An agent with this file tells whoever asks it who uses its GPUs, with short names of commands."
    return Line(grade="weak", key="agent.token", text=text)


def _some(names: Iterable[str]) -> str:
    first, *more = names
    return f"{first} and {len(more)} more" if more else first


def _is_here(host: str) -> bool:
    """Whether ``host`` is this machine and no other can reach it."""
    return host.rstrip(".").lower() == "localhost" or is_loopback(host)
