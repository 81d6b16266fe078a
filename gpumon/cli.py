"""The command line: with :mod:`gpumon.commands`, :mod:`gpumon.viewing`, :mod:`gpumon.admin` and :mod:`gpumon.settings`
the only reader of arguments and environment, and the only one that sets up logging.

Every setting has an environment variable (what is asked for once, such as --print-join, has none); the order is flag,
environment, configuration file, default. The flags of the program that gpumon replaces work as they did:
``-mode=server -port=8081``, ``-mode=aggregator -config=config.json``, and nothing at all (an aggregator, with
``config.json`` if there is one).

Each command imports what it needs: an agent never loads the hub.
"""

import logging
import os
import signal
import sys
from pathlib import Path

import click
import msgspec
from click.core import ParameterSource

from gpumon import __version__, config
from gpumon.admin import agents
from gpumon.commands import check, completion, man, probe, show_join, token_source
from gpumon.config import AgentSection, Config, DnsSection, MetricsSection, TlsSection
from gpumon.errors import UsageError
from gpumon.logs import OneLine, Unrepeated
from gpumon.options import (
    FILE,
    PATH,
    PORT,
    allow_host_option,
    config_option,
    dcgm_option,
    setting,
    simulate_option,
    state_dir_option,
    tls_options,
)
from gpumon.service.commands import service
from gpumon.settings import override, read_config, service_manager, shown_certificate, state_folder, tls_section
from gpumon.viewing import find, nodes, top

LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
CHATTY = ("uvicorn.error", "websockets", "asyncio")


def main() -> None:
    """The program: errors of use end with status 2 and one line a fault, never a traceback."""
    for number in (signal.SIGTERM, signal.SIGINT):  # until the event loop takes them over
        signal.signal(number, lambda *_: os._exit(0))
    try:
        status = cli.main(prog_name="gpumon", standalone_mode=False)
    except UsageError as error:
        _complain(*error.faults)
        sys.exit(2)
    except click.ClickException as error:
        _complain(error.format_message())
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(130)
    sys.exit(status if isinstance(status, int) else 0)


def _complain(*faults: str) -> None:
    for fault in faults:
        click.echo(f"gpumon: {fault}", err=True)


@click.group(invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="gpumon")
@setting(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="info",
    show_default=True,
    variable="GPUMON_LOG_LEVEL",
    help="How much is said on standard error.",
)
@setting(
    "-mode",
    "--mode",
    type=click.Choice(["server", "aggregator"]),
    variable="GPUMON_MODE",
    help="As in the older program: server is the agent, aggregator the hub.",
)
@setting("-port", "--port", type=PORT, variable="GPUMON_PORT", help="With --mode: the port to listen on.")
@setting(
    "-config",
    "--config",
    "config_path",
    type=FILE,
    variable="GPUMON_CONFIG",
    help="With --mode: the configuration file.",
)
@click.pass_context
def cli(context: click.Context, log_level: str, mode: str | None, port: int | None, config_path: Path | None) -> None:
    """What every GPU of a lab is doing now.

    Without a command this is the hub, with config.json of this folder if there is one.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(OneLine(LOG_FORMAT))
    handler.addFilter(Unrepeated())
    logging.basicConfig(level=log_level.upper(), handlers=[handler])
    for name in CHATTY:  # what they say of each message and request may hold secrets: that is told to nobody
        logging.getLogger(name).setLevel(logging.WARNING if log_level == "debug" else logging.CRITICAL)
    if context.invoked_subcommand is None:
        command = agent if mode == "server" else hub
        arguments = [f"--port={port}"] if port is not None else []
        arguments += [f"--config={config_path}"] if config_path is not None else []
        with command.make_context(command.name, arguments, parent=context) as inner:  # which reads the environment
            command.invoke(inner)
        return
    for flag in ("mode", "port", "config_path"):
        if context.get_parameter_source(flag) is ParameterSource.COMMANDLINE:
            raise click.UsageError(
                f"-{flag.removesuffix('_path')} stands alone, without a command; "
                f"the options of gpumon {context.invoked_subcommand} come after it"
            )


for one in (agents, check, completion, find, man, nodes, probe, service, top):
    cli.add_command(one)


@cli.command()
@setting("--host", variable="GPUMON_HUB_HOST", help="Address to listen on.  [default: 0.0.0.0, all]")
@setting(
    "--port",
    type=PORT,
    variable="GPUMON_HUB_PORT",
    help="Port to listen on, 0 for any free one.  [default: 8080]",
)
@config_option("GPUMON_HUB_CONFIG", "config.json, if there is one")
@allow_host_option("GPUMON_HUB_HOSTS", "hub")
@setting(
    "--require-login",
    is_flag=True,
    default=None,
    variable="GPUMON_REQUIRE_LOGIN",
    help="Show nothing to who has not logged in.",
)
@click.option(
    "--new-token", is_flag=True, help="Make a new token to log in with: the old one is worth nothing any more."
)
@state_dir_option("Where the hub keeps its secrets.")
@click.option("--print-join", is_flag=True, help="Only show the command that lets a node join this hub.")
@dcgm_option
@tls_options
def hub(
    host: str | None = None,
    port: int | None = None,
    config_path: Path | None = None,
    hosts: tuple[str, ...] = (),
    require_login: bool | None = None,
    new_token: bool = False,
    dcgm_names: bool | None = None,
    state_dir: str | None = None,
    *,
    print_join: bool = False,
    **tls: str | None,
) -> None:
    """Take reports, poll what does not push, serve the dashboard."""
    from gpumon.hub import app
    from gpumon.hub.auth import renew
    from gpumon.lifecycle import run
    from gpumon.listening import listen

    path = config_path or (config.DEFAULT_FILE if config.DEFAULT_FILE.exists() else None)

    def read() -> Config:
        settings = read_config(path or (config.DEFAULT_FILE if config.DEFAULT_FILE.exists() else None))
        section = override(settings.hub, host=host, port=port, hosts=list(hosts) or None, state_dir=state_dir)
        auth = override(settings.auth, viewers="token" if require_login else None)
        metrics = override(settings.metrics, dcgm_names=dcgm_names)
        files = tls_section(settings.tls, tls)
        return msgspec.structs.replace(settings, hub=section, auth=auth, metrics=metrics, tls=files)

    signal.signal(signal.SIGHUP, lambda *_: None)  # until the event loop takes it over
    settings = read()
    if print_join:
        show_join(settings, state_folder(settings.hub.state_dir))
        return
    shown = shown_certificate(settings.tls)
    listener = listen(settings.hub.host, settings.hub.port, "hub.host, hub.port")
    folder = state_folder(settings.hub.state_dir)
    if new_token:
        if folder is None:
            raise UsageError("--new-token: there is no folder to keep it in; --state-dir names one")
        renew(folder)
    run(app.run(settings, listener, read, folder, shown=shown, manager=service_manager()))


@cli.command()
@setting("--host", variable="GPUMON_AGENT_HOST", help="Address to listen on.  [default: 0.0.0.0, all]")
@setting(
    "--port",
    type=PORT,
    variable="GPUMON_AGENT_PORT",
    help="Port to listen on, 0 for any free one.  [default: 8081]",
)
@allow_host_option("GPUMON_AGENT_HOSTS", "agent")
@setting(
    "--hub",
    "hubs",
    multiple=True,
    metavar="URL",
    variable=["GPUMON_AGENT_HUB", "GPUMON_HUB"],
    help="Hub to report to, such as http://hub:8080. May be repeated: the next is tried when one fails.",
)
@setting("--name", variable="GPUMON_AGENT_NAME", help="What the node is called.  [default: the host name]")
@setting(
    "--tag",
    "tags",
    multiple=True,
    metavar="TAG",
    variable="GPUMON_AGENT_TAGS",
    help="What people look for the node by, such as a room or a project. May be repeated.",
)
@setting(
    "--interval",
    type=click.FloatRange(0.2, 60),
    variable="GPUMON_AGENT_INTERVAL",
    help="Seconds between reports.  [default: 1]",
)
@config_option("GPUMON_AGENT_CONFIG")
@setting(
    "--wake-sleeping-gpus",
    is_flag=True,
    default=None,
    variable="GPUMON_AGENT_WAKE_SLEEPING_GPUS",
    help="Read GPUs also while they sleep to save power, which wakes them.",
)
@simulate_option("GPUMON_AGENT_SIMULATE", "Report simulated GPUs, labelled as such, instead of real ones")
@state_dir_option("Where the agent keeps its identity; a simulation only if told so.")
@setting(
    "--join-token-file",
    type=PATH,
    metavar="FILE",
    variable="GPUMON_JOIN_TOKEN_FILE",
    help="The hub's join token, needed once where the hub is another machine; or itself in GPUMON_JOIN_TOKEN.",
)
@dcgm_option
@tls_options
def agent(
    host: str | None = None,
    port: int | None = None,
    hosts: tuple[str, ...] = (),
    hubs: tuple[str, ...] = (),
    name: str | None = None,
    tags: tuple[str, ...] = (),
    interval: float | None = None,
    config_path: Path | None = None,
    wake_sleeping_gpus: bool | None = None,
    simulate: str | None = None,
    state_dir: str | None = None,
    join_token_file: str | None = None,
    dcgm_names: bool | None = None,
    **tls: str | None,
) -> None:
    """Read this machine's GPUs, serve them, and push them to a hub."""
    from gpumon.agent import app
    from gpumon.agent.binding import check_binding
    from gpumon.agent.scenario import Scenario
    from gpumon.lifecycle import run
    from gpumon.listening import listen

    metrics = MetricsSection()

    def settings() -> tuple[AgentSection, DnsSection, TlsSection]:
        """As the file, flags and environment say now."""
        nonlocal metrics
        file = read_config(config_path)
        metrics = override(file.metrics, dcgm_names=dcgm_names)
        section = override(
            file.agent,
            host=host,
            port=port,
            hosts=list(hosts) or None,
            name=name,
            hub=list(hubs) or None,
            tags=list(tags) or None,
            interval_seconds=interval,
            wake_sleeping_gpus=wake_sleeping_gpus,
            state_dir=state_dir,
            token=os.environ.get("GPUMON_AGENT_TOKEN") or None,
            join_token_file=join_token_file,
        )
        return section, file.dns, tls_section(file.tls, tls)

    signal.signal(signal.SIGHUP, lambda *_: None)  # until the event loop takes it over
    section, dns, files = settings()
    scenario = None if simulate is None else Scenario.parse(simulate)
    if scenario is None:
        check_binding()
    shown = shown_certificate(files)
    listener = listen(section.host, section.port, "agent.host, agent.port")
    is_kept = scenario is None or section.state_dir is not None
    folder = state_folder(section.state_dir) if is_kept else None
    tokens = token_source(section.join_token_file)
    itself = app.Service(settings if config_path else None, folder, tokens, service_manager())
    run(app.run(section, listener, scenario, dns, itself, tls=files, shown=shown, metrics=metrics))


@cli.command()
@setting(
    "--nodes",
    type=click.IntRange(0, 100),
    default=3,
    show_default=True,
    variable="GPUMON_DEMO_NODES",
    help="Simulated nodes.",
)
@setting(
    "--host",
    default="0.0.0.0",
    show_default=True,
    variable="GPUMON_DEMO_HOST",
    help="Address to listen on.",
)
@setting(
    "--port",
    type=PORT,
    default=8080,
    show_default=True,
    variable="GPUMON_DEMO_PORT",
    help="Port to listen on, 0 for any free one.",
)
def demo(nodes: int, host: str, port: int) -> None:
    """Try it: a hub, this machine's own agent and simulated ones, over real sockets."""
    from gpumon import demo
    from gpumon.agent.binding import check_binding
    from gpumon.lifecycle import run
    from gpumon.listening import listen

    check_binding()
    run(demo.run(listen(host, port, "--host, --port"), nodes))


@cli.command()
@click.option("--pid", type=click.IntRange(1), help="Only this agent.  [default: every agent of this machine]")
def pause(pid: int | None) -> None:
    """Let an agent let go of the NVIDIA driver, so that it can be unloaded; again to resume.

    A paused agent goes on reporting that it is paused, and resumes by itself after 10 minutes.
    """
    from gpumon.agent.pause import tell

    for one in tell(pid):
        click.echo(f"agent {one}: told to pause, or to resume if it was paused")
