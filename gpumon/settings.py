"""Settings as flags, environment and the configuration file give them together, in that order."""

import faulthandler
import os
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import msgspec

from gpumon import config
from gpumon.config import Config, TlsSection
from gpumon.errors import UsageError
from gpumon.notify import NOBODY, Manager

if TYPE_CHECKING:
    from gpumon.certificates import Shown

FLAGS = {
    "interval_seconds": "--interval",
    "hosts": "--allow-host",
    "tags": "--tag",
    "certificate": "--tls-certificate",
    "key": "--tls-key",
    "ca": "--tls-ca",
    "token": "GPUMON_AGENT_TOKEN",
}
"""Options that are not called as their keys are."""

Section = TypeVar("Section", bound=msgspec.Struct)


def read_config(path: Path | None) -> Config:
    """The configuration in the file, or what holds without one. Raises UsageError."""
    return Config() if path is None else config.load(path)


def override(section: Section, **given: object) -> Section:
    """The section of the file, with what flags and environment say instead; None is what they do not say.

    Raises:
        UsageError: one of them is not allowed.
    """
    changes = {key: value for key, value in given.items() if value is not None}
    faults = config.faults(changes, type(section))
    if faults:
        raise UsageError(*(_with_flag(fault) for fault in faults))
    return msgspec.structs.replace(section, **changes)


def state_folder(configured: str | None) -> Path | None:
    """Where state is kept: as configured, else by the XDG Base Directory Specification; None for who has no home."""
    try:
        if configured is not None:
            return Path(configured).expanduser()
        base = Path(os.environ.get("XDG_STATE_HOME", ""))
        return (base if base.is_absolute() else Path.home() / ".local/state") / "gpumon"
    except RuntimeError:
        return None


def service_manager() -> Manager:
    """The service manager that started us, if one did; what it told us is no affair of our children."""
    told = {name: os.environ.pop(name, "") for name in ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")}
    address = told["NOTIFY_SOCKET"]
    microseconds = told["WATCHDOG_USEC"]
    is_ours = told["WATCHDOG_PID"] in ("", str(os.getpid()))
    watchdog = int(microseconds) / 1e6 if microseconds.isdecimal() and int(microseconds) and is_ours else None
    if not address.startswith(("/", "@")):
        return NOBODY
    faulthandler.enable()  # a watchdog ends us by SIGABRT: the log then tells where we hung
    return Manager(address, watchdog)


def _with_flag(fault: str) -> str:
    field, colon, rest = fault.partition(":")
    field = field.partition("[")[0]
    return FLAGS.get(field, f"--{field.replace('_', '-')}") + colon + rest


def tls_section(section: TlsSection, given: dict[str, str | None]) -> TlsSection:
    """The section of the file, with what flags and environment say instead. Raises :class:`UsageError`."""
    section = override(section, **{name.removeprefix("tls_"): value for name, value in given.items()})
    if fault := config.tls_fault(section):
        raise UsageError(fault)
    return section


def shown_certificate(files: TlsSection) -> "Shown | None":
    """The certificate to serve with. Raises :class:`UsageError` where what we would believe cannot be used, either."""
    from gpumon.certificates import Shown, trusting

    if files.ca is not None:
        trusting(files.ca, None)
    return Shown(files) if files.certificate is not None else None
