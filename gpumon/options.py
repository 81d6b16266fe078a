"""Options that override a section of the configuration: what they are called, and what is wrong with them."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click
import msgspec

from gpumon import config
from gpumon.config import AgentSection, HubSection, TlsSection
from gpumon.errors import UsageError

if TYPE_CHECKING:
    from gpumon.certificates import Shown

FLAGS = {
    "interval_seconds": "--interval",
    "state_dir": "--state-dir",
    "tags": "--tag",
    "hosts": "--allow-host",
    "join_token_file": "--join-token-file",
    "certificate": "--tls-certificate",
    "key": "--tls-key",
    "ca": "--tls-ca",
    "token": "GPUMON_AGENT_TOKEN",
}

Section = TypeVar("Section", bound=msgspec.Struct)


def override(section: Section, **given: object) -> Section:
    """The section of the file, with what flags and environment say instead.

    Raises:
        UsageError: one of them is not allowed.
    """
    changes = {key: value for key, value in given.items() if value is not None}
    faults = config.faults(changes, type(section))
    if faults:
        raise UsageError(*(_with_flag(fault) for fault in faults))
    return msgspec.structs.replace(section, **changes)


def _with_flag(fault: str) -> str:
    field, colon, rest = fault.partition(":")
    name = field.partition("[")[0]
    return FLAGS.get(name, f"--{name}") + colon + rest


def tls_options(command: Callable[..., None]) -> Callable[..., None]:
    """The options of hub and agent for encryption."""
    options = (
        ("certificate", "Certificate to serve https with, in PEM.  [default: plain http]"),
        ("key", "Its key, in PEM.  [default: in the certificate's file]"),
        ("ca", "Authorities to believe where we connect, in PEM.  [default: those of this machine]"),
    )
    for name, text in reversed(options):
        variable = f"GPUMON_TLS_{name.upper()}"
        option = click.option(f"--tls-{name}", metavar="FILE", envvar=variable, show_envvar=True, help=text)
        command = option(command)
    return command


def tls_section(section: TlsSection, given: dict[str, str | None]) -> TlsSection:
    """The section of the file, with what :func:`tls_options` say instead. Raises :class:`UsageError`."""
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


def state_folder(section: AgentSection | HubSection) -> Path | None:
    """Where state is kept: as configured, else by the XDG Base Directory Specification; None for who has no home."""
    try:
        if section.state_dir is not None:
            return Path(section.state_dir).expanduser()
        base = Path(os.environ.get("XDG_STATE_HOME", ""))
        return (base if base.is_absolute() else Path.home() / ".local/state") / "gpumon"
    except RuntimeError:
        return None
