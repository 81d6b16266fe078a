"""The commands that show something and end: ``check``, ``probe``, ``completion``, ``man``. :mod:`gpumon.cli` is where
they hang.

Each command imports what it needs.
"""

import logging
import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from gpumon import config
from gpumon.config import Config
from gpumon.errors import UsageError
from gpumon.options import color_option, config_option, json_option, setting, simulate_option
from gpumon.settings import read_config, shown_certificate, state_folder

if TYPE_CHECKING:
    from gpumon.agent.joining import TokenSource

TOKEN_VARIABLE = "GPUMON_JOIN_TOKEN"  # noqa: S105  (the name of a variable)
PIPE_COLUMNS = 160
"""The width of what is not written to a terminal."""


@click.command()
@config_option("GPUMON_CHECK_CONFIG", "config.json")
@json_option("GPUMON_CHECK_JSON")
@color_option("GPUMON_CHECK_COLOR")
@click.pass_context
def check(context: click.Context, *, config_path: Path | None, as_json: bool, color: str) -> int:
    """Say what is wrong with a configuration and how safe it is, then resolve and try each of its nodes.

    Without config.json in this folder, of what holds without one.

    Ends with status 0 if every node is well, with 1 if one is not, and with 2 if the file cannot be used.
    """
    from gpumon.hub import check
    from gpumon.lifecycle import run
    from gpumon.terminal import write

    path = config_path or (config.DEFAULT_FILE if config.DEFAULT_FILE.exists() else None)
    settings = read_config(path)
    quiet(context)
    columns = shutil.get_terminal_size((PIPE_COLUMNS, 24)).columns
    folder = state_folder(settings.hub.state_dir)
    looks = {"color": colors(color), "as_json": as_json}
    return run(check.run(path, settings, write, columns, **looks, state_folder=folder))


@click.command()
@json_option("GPUMON_PROBE_JSON")
@setting(
    "--watch",
    is_flag=True,
    variable="GPUMON_PROBE_WATCH",
    help="Again and again, until Ctrl-C; with --json one object a line.",
)
@setting(
    "--interval",
    type=click.FloatRange(0.2, 60),
    default=1.0,
    show_default=True,
    variable="GPUMON_PROBE_INTERVAL",
    help="Seconds between samples, with --watch.",
)
@simulate_option("GPUMON_PROBE_SIMULATE", "Simulated GPUs, labelled as such, instead of real ones")
@color_option("GPUMON_PROBE_COLOR")
@click.pass_context
def probe(
    context: click.Context, *, as_json: bool, watch: bool, interval: float, simulate: str | None, color: str
) -> int:
    """Show the GPUs of this machine now, and why what is not known of them is not known.

    Ends with status 0 if a GPU could be read, with 1 if none could.
    """
    from gpumon.agent import probe
    from gpumon.agent.binding import check_binding
    from gpumon.agent.scenario import Scenario
    from gpumon.lifecycle import run
    from gpumon.terminal import write

    scenario = None if simulate is None else Scenario.parse(simulate)
    if scenario is None:
        check_binding()
    quiet(context)
    screen = probe.Screen(write, shutil.get_terminal_size, colors(color), sys.stdout.isatty())
    return run(probe.run(screen, scenario, interval if watch else None, as_json=as_json))


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Write what makes SHELL complete commands and options of gpumon.

    For bash, in ~/.bashrc: eval "$(gpumon completion bash)"; for zsh the same, behind compinit; for fish: gpumon
    completion fish > ~/.config/fish/completions/gpumon.fish
    """
    from click.shell_completion import get_completion_class

    found = get_completion_class(shell)
    assert found is not None
    source = found(context.find_root().command, {}, "gpumon", "_GPUMON_COMPLETE").source()
    # Of what stands behind a name, which may hold commas as well, fish was shown the part before the first one.
    click.echo(source.replace('string split "," $completion', 'string split --max 1 "," $completion'))


@click.command()
@click.pass_context
def man(context: click.Context) -> None:
    """Write the manual page, for man: gpumon man | man -l -"""
    from gpumon.manual import manual

    click.echo(manual(context.find_root()), nl=False)


def show_join(settings: Config, folder: Path | None) -> None:
    """Write the command that lets a node join the hub of this configuration, whether that runs or not.

    Raises:
        UsageError: what it is made of cannot be read.
    """
    from gpumon.certificates import pinned
    from gpumon.hub.enrolment import hub_url, join_command
    from gpumon.hub.roster import join_token
    from gpumon.statefile import UnusableError

    if folder is None:
        raise UsageError("--state-dir: missing; it must be given to a user without a home")
    try:
        token = join_token(folder)
    except OSError as error:
        raise UsageError(f"--state-dir: {folder}: cannot be used: {error.strerror or error}") from None
    except UnusableError as error:
        raise UsageError(f"--state-dir: {error}") from None
    url = hub_url(settings.hub.hosts, settings.hub.host, settings.hub.port, tls=settings.tls.certificate is not None)
    shown = shown_certificate(settings.tls)
    click.echo(join_command(token, url if shown is None else pinned(url, shown.certificate)))


def token_source(file: str | None) -> "TokenSource":
    """Where an agent's join token is: in the environment, which others cannot read, or in ``file``.

    Raises:
        UsageError: what stands in the environment is none.
    """
    from gpumon.agent.joining import TokenSource
    from gpumon.errors import JoinError
    from gpumon.handshake import JoinToken

    given = os.environ.get(TOKEN_VARIABLE, "")
    try:
        token = JoinToken.parse(given) if given else None
    except JoinError as error:
        raise UsageError(f"{TOKEN_VARIABLE}: {error}") from None
    return TokenSource(token, Path(file).expanduser() if file else None)


def quiet(context: click.Context) -> None:
    """What the log would tell, the command tells, unless someone asked for the log."""
    if context.find_root().get_parameter_source("log_level") is ParameterSource.DEFAULT:
        logging.getLogger().setLevel(logging.ERROR)


def colors(wish: str) -> bool:
    """Whether to colour standard output: as wished, else as the variables that people set once for all say."""
    if wish != "auto":
        return wish == "always"
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR", "0") not in ("", "0"):
        return True
    return sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
