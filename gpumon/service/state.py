"""How a service is, in words: what systemd says of it, what it says itself, and what to do."""

import re
import signal
from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct

from gpumon.config import Config
from gpumon.errors import UsageError
from gpumon.service.health import Complaint, Health, ask
from gpumon.service.place import PACKAGED, Place, Role
from gpumon.service.systemd import Systemd
from gpumon.text import one_line

MOST_SAID = 300
MEANINGS = {
    "watchdog": "was ended by the watchdog, since it had not said for long that it is well",
    "oom-kill": "was ended since it used more memory than a service of it may",
    "timeout": "was ended since it took too long to start or to stop",
    "resources": "could not be started, since the system lacked something for it",
    "protocol": "ended without having said that it is ready",
    "start-limit-hit": "was started too often in a short time",
}
STATUSES = {
    "203": "its program cannot be started: it was moved or deleted",
    "216": "a group that it is to be in does not exist",
    "217": "its user cannot be made",
    "218": "this system does not let it drop its privileges",
    "226": "this system does not let it have a view of the files of its own",
    "228": "this system does not know a filter of system calls",
}
"""Exit statuses that are systemd's own, from before the program began (``systemd.exec(5)``)."""
HUB_VARIABLES = ("GPUMON_AGENT_HUB", "GPUMON_HUB")
NO_FAULTS = ("agents_waiting", "open_push")
"""Notices of a hub that is well."""
_RESULT = re.compile(r"gpumon-\w+\.service: Failed with result '([\w-]+)'")
_STATUS = re.compile(r"gpumon-\w+\.service: Main process exited, code=\w+, status=(\d+)/")
_OWN_WORDS = re.compile(r"(?:^gpumon: |^[\d-]+ [\d:,]+ (?:ERROR|CRITICAL) [\w.]+: )(.*)")


class State(Struct, frozen=True, kw_only=True):
    """A service as it is. ``state`` is systemd's word (``active``, ``activating``, ``failed``, ``inactive``), null if
    it is not installed; ``of_package``: its unit came with a package; ``since`` when it became active, if it is;
    ``said`` its own line on how it goes. ``complaints`` are what is wrong with it, worst first.
    """

    role: Role
    unit: str
    state: str | None
    enabled: bool
    of_package: bool
    since: str | None
    restarts: int
    said: str | None
    complaints: list[Complaint]

    @property
    def is_meant(self) -> bool:
        """Whether somebody wants it: a package brings both, and most machines are one of them."""
        is_in_use = self.enabled or self.state not in (None, "inactive")
        return is_in_use or (self.state is not None and not self.of_package)

    @property
    def exit_status(self) -> int:
        """0 if it is well, 1 if it runs and is not, 3 if it does not run and 4 if it is not there (LSB)."""
        if self.state is None:
            return 4
        if self.state != "active":
            return 3
        return 1 if self.complaints else 0


Settings = tuple[Mapping[str, str], Config] | UsageError | None
"""Of a service; or what is wrong with them; None where we may not read them."""


def look(place: Place, systemd: Systemd, settings: Settings) -> State:
    """How it is now. With its ``settings``, it is asked as well. Raises :class:`gpumon.errors.ServiceError`."""
    found = systemd.show(place.name)
    is_there = found.get("LoadState") not in ("not-found", None)
    state = found.get("ActiveState") if is_there else None
    if state is None:
        complaints = [Complaint("It is not installed.", f"gpumon service install {_named(place)}")]
    elif state == "active":
        complaints = _unwell(place, found, settings)
    elif found.get("LoadState") == "masked":
        complaints = [
            Complaint("It is masked, so it cannot be started.", f"systemctl{_whose(place)} unmask {place.name}")
        ]
    else:
        complaints = [_down(place, found, systemd.last_lines(place.name))]
    if state is not None and isinstance(settings, UsageError):
        complaints += [
            Complaint(f"Its settings are wrong: {one_line(fault, 2 * MOST_SAID)}") for fault in settings.faults
        ]
    if found.get("NeedDaemonReload") == "yes":
        next_step = f"systemctl{_whose(place)} daemon-reload && systemctl{_whose(place)} restart {place.name}"
        complaints.append(Complaint("Its unit was changed, and systemd has not read it yet.", next_step))
    enabled = found.get("UnitFileState") in ("enabled", "enabled-runtime")
    if state is not None and not enabled and found.get("LoadState") != "masked":
        complaints.append(Complaint("It does not start at boot.", f"systemctl{_whose(place)} enable {place.name}"))
    return State(
        role=place.role,
        unit=place.name,
        state=state,
        enabled=enabled,
        of_package=Path(found.get("FragmentPath", "")).parent in PACKAGED,
        since=(found.get("ActiveEnterTimestamp") or None) if state == "active" else None,
        restarts=int(found.get("NRestarts") or 0),
        said=one_line(found.get("StatusText", ""), MOST_SAID) or None,
        complaints=complaints,
    )


def _unwell(place: Place, found: Mapping[str, str], settings: Settings) -> list[Complaint]:
    if settings is None or isinstance(settings, UsageError):
        said = found.get("StatusText", "")
        return [Complaint(one_line(said, MOST_SAID))] if said.startswith("not well") else []
    variables, content = settings
    section = content.agent if place.role == "agent" else content.hub
    known = f"GPUMON_{place.role.upper()}"
    token = variables.get("GPUMON_AGENT_TOKEN") or content.agent.token
    health = ask(
        variables.get(f"{known}_HOST") or section.host,
        int(variables.get(f"{known}_PORT") or section.port),
        token if place.role == "agent" else None,
        tls=bool(variables.get("GPUMON_TLS_CERTIFICATE") or content.tls.certificate),
    )
    if isinstance(health, Complaint):
        return [health]
    names_hub = any(variables.get(name) for name in HUB_VARIABLES) or bool(content.agent.hub)
    notices = [notice.as_complaint() for notice in health.notices if notice.code not in NO_FAULTS]
    return [*_ill(health), *notices, *(_unlinked(health) if place.role == "agent" and names_hub else [])]


def _ill(health: Health) -> list[Complaint]:
    if health.status == "ok" and health.error is None:
        return []
    return [health.error or Complaint(f"Its health is {health.status}.")]


def _unlinked(health: Health) -> list[Complaint]:
    if health.link is not None and health.link.hub is not None:
        return []
    why = f": {health.link.last_error}" if health.link is not None and health.link.last_error else " yet"
    return [Complaint(f"It is not connected to a hub{why}.")]


def _down(place: Place, found: Mapping[str, str], lines: list[str]) -> Complaint:
    log = f"journalctl{_whose(place)} -u {place.name}"
    if found.get("ActiveState") == "inactive" and found.get("Result") == "success":
        return Complaint("It is stopped.", f"systemctl{_whose(place)} start {place.name}")
    if found.get("SubState") not in ("auto-restart", "failed", "dead") and not _last(_RESULT, lines):
        return Complaint("It is starting.", log)
    why = _why(found, lines)
    again = ", and is started again and again" if found.get("ActiveState") == "activating" else ""
    last = _last(_OWN_WORDS, lines)
    said = f"; it said: {one_line(last, MOST_SAID)}" if last else ""
    return Complaint(f"It {why}{again}{said}.", log)


def _why(found: Mapping[str, str], lines: list[str]) -> str:
    result: str | None = found.get("Result", "success")
    status = found.get("ExecMainStatus", "")
    if result == "success":  # of the one that is being started now, as is its status
        result, status = _last(_RESULT, lines), _last(_STATUS, lines) or status
    if result == "exit-code":
        return f"ended at its start, since {STATUSES[status]}" if status in STATUSES else f"ended with status {status}"
    if result in ("signal", "core-dump"):
        return f"was ended by {_signal(status)}"
    return MEANINGS.get(result or "", f"ended ({one_line(result or 'nobody knows why', MOST_SAID)})")


def _last(what: re.Pattern[str], lines: list[str]) -> str | None:
    return next((match[1] for line in reversed(lines) if (match := what.match(line))), None)


def _signal(number: str) -> str:
    try:
        return signal.Signals(int(number)).name
    except ValueError:
        return f"signal {number}"


def _named(place: Place) -> str:
    return f"{place.role}{' --user' if place.is_of_user else ''}"


def _whose(place: Place) -> str:
    return " --user" if place.is_of_user else ""


def words(state: State) -> str:
    """It as lines for a person."""
    name = state.unit.removesuffix(".service")
    if state.state is None:
        head = f"{name}: not installed"
    elif state.state == "active":
        again = f", started again {state.restarts} times" if state.restarts else ""
        head = f"{name}: {'not well' if state.complaints else 'well'}, running since {state.since}{again}"
    else:
        head = f"{name}: not running"
    lines = [head]
    if state.said and state.state == "active" and not state.complaints:
        lines.append(f"  {state.said}")
    lines += [f"  {complaint.message}" for complaint in state.complaints if state.state is not None]
    hints = [complaint.hint for complaint in state.complaints if complaint.hint]
    lines += [f"  Next: {hint}" for hint in hints]
    return "".join(f"{line}\n" for line in lines)
