"""What options of commands are made of: each setting has an environment variable, which its help names, and those that
several commands have are written once.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import click

PORT: Final = click.IntRange(0, 65535)
FILE: Final = click.Path(path_type=Path)
PATH: Final = click.Path(readable=False)
"""The name of a file or folder, which shells complete; whoever reads it says what is wrong with it."""
SIMULATION: Final = "8, h200:4,rtx5090:2 or a100-mig:2,fault=lost:1"

Command = TypeVar("Command", bound=Callable[..., Any])


def setting(
    *names: str,
    variable: str | list[str],
    **attributes: Any,  # noqa: ANN401  (click's own, passed on)
) -> Callable[[Command], Command]:
    """An option that stands in the environment as ``variable`` as well; the rest as of ``click.option``."""
    return click.option(*names, envvar=variable, show_envvar=True, **attributes)


def config_option(variable: str, default: str = "") -> Callable[[Command], Command]:
    """``--config``; ``default`` says in words what holds without."""
    text = f"Configuration file.  [default: {default}]" if default else "Configuration file."
    return setting("--config", "config_path", type=FILE, variable=variable, help=text)


def state_dir_option(text: str) -> Callable[[Command], Command]:
    """``--state-dir``; ``text`` says what is kept there."""
    text += "  [default: gpumon in $XDG_STATE_HOME or ~/.local/state]"
    return setting("--state-dir", type=PATH, metavar="FOLDER", variable="GPUMON_STATE_DIR", help=text)


def allow_host_option(variable: str, what: str) -> Callable[[Command], Command]:
    """``--allow-host``; ``what`` is it that people call so."""
    text = f"A name that people call the {what} by, beside the machine's own; may be repeated."
    return setting("--allow-host", "hosts", multiple=True, metavar="NAME", variable=variable, help=text)


def simulate_option(variable: str, text: str) -> Callable[[Command], Command]:
    """``--simulate``; ``text`` says what it is for."""
    return setting("--simulate", metavar="GPUS", variable=variable, help=f"{text}: {SIMULATION}.")


def json_option(variable: str) -> Callable[[Command], Command]:
    """``--json``."""
    return setting("--json", "as_json", is_flag=True, variable=variable, help="One JSON object.")


def color_option(variable: str) -> Callable[[Command], Command]:
    """``--color``."""
    choice = click.Choice(["auto", "always", "never"])
    text = "Colours; auto: on a terminal, unless NO_COLOR is set, or wherever FORCE_COLOR is."
    return setting("--color", type=choice, default="auto", show_default=True, variable=variable, help=text)


def tls_options(command: Command) -> Command:
    """The options of hub and agent for encryption."""
    options = (
        ("certificate", "Certificate to serve https with, in PEM.  [default: plain http]"),
        ("key", "Its key, in PEM.  [default: in the certificate's file]"),
        ("ca", "Authorities to believe where we connect, in PEM.  [default: those of this machine]"),
    )
    for name, text in reversed(options):
        variable = f"GPUMON_TLS_{name.upper()}"
        command = setting(f"--tls-{name}", type=PATH, metavar="FILE", variable=variable, help=text)(command)
    return command


def dcgm_option(command: Command) -> Command:
    """``--dcgm-names``, of hub and agent."""
    text = "At /metrics, tell under the names of NVIDIA's dcgm-exporter as well."
    return setting("--dcgm-names", is_flag=True, default=None, variable="GPUMON_DCGM_NAMES", help=text)(command)
