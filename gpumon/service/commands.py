"""``gpumon service``: agent and hub as services of the machine, or of a user, under systemd."""

import os
import sys
import time
from pathlib import Path

import click
import msgspec

from gpumon.errors import ServiceError, UsageError
from gpumon.service import reach
from gpumon.service.installing import PORT_VARIABLE, Order, config_is_secret, effective, files_to_read, install, remove
from gpumon.service.machine import this_machine
from gpumon.service.options import told
from gpumon.service.place import ROLES, Place, Role, of_machine, of_user
from gpumon.service.program import Program, other_program, this_program
from gpumon.service.state import Settings, State, look, words
from gpumon.service.systemd import Systemd, is_booted, lingers
from gpumon.service.told import Told
from gpumon.service.unit import Wish, unit
from gpumon.terminal import write

SECRET_VARIABLES = {"agent": ("GPUMON_JOIN_TOKEN", "GPUMON_AGENT_TOKEN"), "hub": ()}
SETTLING_SECONDS = 3.0
NO_SYSTEMD = (
    "systemd does not run this machine, so there is nothing to install a service into; start `gpumon {role}` by what "
    "does (an init script, a container's command, a supervisor), restarted whenever it ends"
)


@click.group()
def service() -> None:
    """Run an agent or a hub as a service: started at boot, and again whenever it ends."""


def _user_option(command: click.decorators.FC) -> click.decorators.FC:
    return click.option("--user", "is_of_user", is_flag=True, help="A service of your own, not of the machine.")(
        command
    )


ROLE = click.Choice(ROLES)


@service.command("install", context_settings={"ignore_unknown_options": True})
@click.argument("role", type=ROLE, metavar="agent|hub")
@_user_option
@click.option("--print", "--dry-run", "only_print", is_flag=True, help="Only show the unit, and change nothing.")
@click.option(
    "--program",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="What the unit starts, for who makes packages.  [default: this gpumon]",
)
@click.argument("options", nargs=-1, type=click.UNPROCESSED, metavar="[THEIR OPTIONS]...")
@click.pass_context
def install_command(
    context: click.Context,
    role: Role,
    options: tuple[str, ...],
    program: Path | None,
    *,
    is_of_user: bool,
    only_print: bool,
) -> int:
    """Install, enable and start it, or bring it up to date.

    The options of `gpumon agent` or `gpumon hub` are taken as well, and kept in the service's settings:
    `gpumon service install agent --hub http://hub:8080`.
    """
    place = _place(role, is_of_user=is_of_user)
    if not only_print:
        _check_may(place)
    asked = told(_command(context, role), options)
    secrets = {name: os.environ[name] for name in SECRET_VARIABLES[role] if os.environ.get(name)}
    asked.variables.update(secrets)
    started = this_program(sys.argv[0]) if program is None else other_program(program)
    obstacle = None if is_of_user else reach.obstacle(started, role)
    if only_print:
        write(_order(place, asked, started).unit)
        if obstacle is not None:
            click.echo(f"gpumon: as it is, this would not start: {obstacle}", err=True)
        return 0
    if obstacle is not None:
        raise UsageError(obstacle)
    systemd = _systemd(place)
    order = _order(place, asked, started)
    try:
        install(place, order, systemd, lambda text: write(f"{text}\n"))
    except ServiceError as error:
        raise click.ClickException(f"{error}; gpumon service status {role} says more") from None
    write(words(_settled(place, systemd)))
    if role == "hub":
        file = f" --config {place.config}" if place.config.exists() else ""
        write(f"How nodes join: gpumon hub --state-dir {place.state}{file} --print-join\n")
    if is_of_user and not lingers():
        write("It ends when you log out, and starts when you log in; all the time: loginctl enable-linger\n")
    return 0


def _settled(place: Place, systemd: Systemd) -> State:
    """How it is when it has had a moment to find its way: until nothing is wrong any more, or the same as before."""
    deadline = time.monotonic() + SETTLING_SECONDS
    before, state = None, look(place, systemd, _settings(place))
    while state.complaints and state.complaints != before and time.monotonic() < deadline:
        time.sleep(SETTLING_SECONDS / 6)
        before, state = state.complaints, look(place, systemd, _settings(place))
    return state


def _settings(place: Place) -> Settings:
    try:
        return effective(place, Told())
    except UsageError as error:
        return error if place.is_of_user or os.geteuid() == 0 else None


@service.command("status")
@click.argument("role", type=ROLE, required=False, metavar="[agent|hub]")
@_user_option
@click.option("--json", "as_json", is_flag=True, envvar="GPUMON_SERVICE_JSON", show_envvar=True, help="One JSON array.")
def status_command(role: Role | None, *, is_of_user: bool, as_json: bool) -> int:
    """Say how it is, and what is wrong with it.

    Without a name, of those that are installed; of a package's, of those that are in use.

    Ends with status 0 if it is well, 1 if it runs and is not, 3 if it does not run, and 4 if it is not installed.
    """
    places = [_place(one, is_of_user=is_of_user) for one in ([role] if role else ROLES)]
    _check_booted(places[0])
    try:
        states = [look(place, _systemd(place), _settings(place)) for place in places]
    except ServiceError as error:
        raise click.ClickException(str(error)) from None
    installed = [state for state in states if state.state is not None]
    shown = (installed if role else [state for state in installed if state.is_meant]) or installed or states
    if as_json:
        write(msgspec.json.encode(shown).decode() + "\n")
    else:
        write("".join(words(state) for state in shown))
    return max(state.exit_status for state in shown)


@service.command("remove")
@click.argument("role", type=ROLE, metavar="agent|hub")
@_user_option
@click.option("--keep", is_flag=True, help="Keep its settings and its state.")
def remove_command(role: Role, *, is_of_user: bool, keep: bool) -> int:
    """Stop it, and delete its unit, settings, state."""
    place = _place(role, is_of_user=is_of_user)
    _check_may(place)
    try:
        found = remove(place, _systemd(place), lambda text: write(f"{text}\n"), keep=keep)
    except ServiceError as error:
        raise click.ClickException(str(error)) from None
    if not found:
        write(f"{place.name} is not installed: there is nothing to remove\n")
    return 0


def _command(context: click.Context, role: Role) -> click.Command:
    root = context.find_root()
    assert isinstance(root.command, click.Group)
    command = root.command.get_command(root, role)
    assert command is not None
    return command


def _place(role: Role, *, is_of_user: bool) -> Place:
    if not is_of_user:
        return of_machine(role)
    try:
        home = Path.home()
    except RuntimeError:
        raise UsageError("--user: this user has no home to keep a service in") from None
    return of_user(role, _xdg("XDG_CONFIG_HOME", home / ".config"), _xdg("XDG_STATE_HOME", home / ".local/state"))


def _xdg(variable: str, otherwise: Path) -> Path:
    given = Path(os.environ.get(variable, ""))
    return given if given.is_absolute() else otherwise


def _systemd(place: Place) -> Systemd:
    """Raises :class:`click.ClickException` where it cannot be spoken to."""
    systemd = Systemd(of_user=place.is_of_user)
    try:
        systemd.check()
    except ServiceError as error:
        hint = "; it is there where you have logged in yourself, not by su or sudo" if place.is_of_user else ""
        raise click.ClickException(f"{error}{hint}") from None
    return systemd


def _check_booted(place: Place) -> None:
    if not is_booted():
        raise UsageError(NO_SYSTEMD.format(role=place.role))


def _check_may(place: Place) -> None:
    _check_booted(place)
    if not place.is_of_user and os.geteuid() != 0:
        raise UsageError(
            "a service of the machine is root's to change: ask with sudo, or with --user for a service of your own"
        )


def _order(place: Place, asked: Told, started: Program) -> Order:
    """The unit that fits this machine, and what it asks for. Raises :class:`UsageError`."""
    if "GPUMON_STATE_DIR" in asked.variables:
        raise UsageError(f"--state-dir: a service keeps its state in {place.state}, and nowhere else")
    variables, content = effective(place, asked)
    files = [] if place.is_of_user else files_to_read(variables, content)
    groups = {group for file in files if (group := reach.group_of(file)) is not None}
    port = variables.get(PORT_VARIABLE[place.role]) or getattr(content, place.role).port
    wish = Wish(
        started.command,
        port=int(port),
        has_secret_config=config_is_secret(place, asked),
        unpacks=started.unpacks,
        groups=tuple(sorted(groups)),
    )
    return Order(unit(place, wish, this_machine()), asked)
