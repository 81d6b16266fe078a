"""A service put in place, and taken away again."""

import contextlib
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gpumon import config
from gpumon.config import Config
from gpumon.errors import UsageError
from gpumon.service import environment
from gpumon.service.place import PACKAGED, Place
from gpumon.service.systemd import Systemd
from gpumon.service.told import Told
from gpumon.service.unit import run_copy

HEADING = """\
# Settings of {unit}: one variable a line, as in docs/configuration.md; systemctl restart {unit} takes them over.
# They may be secrets, such as GPUMON_JOIN_TOKEN: this file is its owner's alone.
"""
CONFIG_VARIABLE = {"agent": "GPUMON_AGENT_CONFIG", "hub": "GPUMON_HUB_CONFIG"}
PORT_VARIABLE = {"agent": "GPUMON_AGENT_PORT", "hub": "GPUMON_HUB_PORT"}
MOST_PORT = 65535
MASK = Path("/dev/null")
"""Where a unit leads that is not to be started (``systemctl mask``)."""

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be put in place: the text of the ``unit``, and what the service is ``told``."""

    unit: str
    told: Told = field(default_factory=Told)


def has_secrets(content: Config) -> bool:
    """Whether somebody who reads the configuration learns what lets him in."""
    return content.agent.token is not None or any(node.token is not None for node in content.nodes)


def config_is_secret(place: Place, told: Told) -> bool:
    """Whether the service's configuration is, or is to be, root's alone."""
    if told.content is not None:
        return has_secrets(told.content)
    with contextlib.suppress(OSError):
        return not place.config.stat().st_mode & 0o004
    return False


def effective(place: Place, told: Told) -> tuple[dict[str, str], Config]:
    """Variables and configuration of the service, with what it is told now.

    Raises:
        UsageError: they cannot be read.
    """
    try:
        variables = environment.read(place.environment) | told.variables
    except OSError as error:
        raise UsageError(f"{place.environment}: cannot be read: {error.strerror}") from None
    port = variables.get(name := PORT_VARIABLE[place.role], "0")
    if not port.isdecimal() or int(port) > MOST_PORT:
        raise UsageError(f"{place.environment}: {name}: {port!r} is not allowed; allowed: a port from 0 to {MOST_PORT}")
    return variables, told.content or _content(place, variables)


def _content(place: Place, variables: Mapping[str, str]) -> Config:
    """What stands in the configuration that the service reads.

    Raises:
        UsageError: it cannot be used. That it is gone is no reason to go by what holds without one: it may have said
            who may look.
    """
    variable = CONFIG_VARIABLE[place.role]
    named = variables.get(variable)
    path = Path(named) if named and named != run_copy(place) else place.config
    if path.exists():
        return config.load(path)
    if named:
        raise UsageError(
            f"{path}: is not there, and {place.environment} tells the service to read it ({variable}); put it back, "
            f"give another one by gpumon service install {place.role}{' --user' if place.is_of_user else ''} --config "
            "FILE, or delete that line to do without"
        )
    return Config()


def files_to_read(variables: Mapping[str, str], content: Config) -> list[Path]:
    """Those beside its configuration that a service so told has to read.

    Raises:
        UsageError: one is named from the folder where a program was started, which for a service is the root.
    """
    named = {
        "tls.certificate": variables.get("GPUMON_TLS_CERTIFICATE") or content.tls.certificate,
        "tls.key": variables.get("GPUMON_TLS_KEY") or content.tls.key,
        "tls.ca": variables.get("GPUMON_TLS_CA") or content.tls.ca,
        "agent.join_token_file": content.agent.join_token_file,
    }
    paths = {key: Path(name) for key, name in named.items() if name is not None}
    wrong = [
        f"{key}: {str(path)!r} is not allowed for a service; allowed: a path that begins with /"
        for key, path in paths.items()
        if not path.is_absolute()
    ]
    if wrong:
        raise UsageError(*wrong)
    return [path for key, path in paths.items() if key != "agent.join_token_file" or path.exists()]


def install(place: Place, order: Order, systemd: Systemd, say: Say) -> None:
    """Write what the service needs, then enable and start it; again, it is brought up to date.

    Raises:
        UsageError: a file cannot be written.
        ServiceError: systemd does not take it, or it does not start.
    """
    try:
        for path in _write(place, order):
            say(f"wrote {path}")
    except OSError as error:
        raise UsageError(f"{error.filename or place.settings}: cannot be written: {error.strerror}") from None
    systemd.reload()
    systemd.enable(place.name)
    say(f"{place.name} starts {'when you log in' if place.is_of_user else 'at boot'}")
    systemd.reset_failed(place.name)
    systemd.restart(place.name)


def _write(place: Place, order: Order) -> list[Path]:
    """The files that are other than they were."""
    written = []
    for folder in (place.settings, place.units):
        if not folder.is_dir():
            folder.mkdir(parents=True)
            folder.chmod(0o755)  # whatever the umask says: the service has to get at what lies in there
    if place.unit.is_symlink() and place.unit.resolve() == MASK:
        raise UsageError(
            f"{place.name} is masked, so it cannot be started; systemctl unmask {place.name}, and ask again"
        )
    told = order.told
    variables = dict(told.variables)
    if told.config is not None and told.content is not None:
        data = told.config.read_bytes()
        is_secret = place.is_of_user or has_secrets(told.content)
        if told.config.resolve() != place.config.resolve():
            written += _put(place.config, data, 0o600 if is_secret else 0o644)
    if place.config.exists():
        is_secret = config_is_secret(place, told) and not place.is_of_user
        variables[CONFIG_VARIABLE[place.role]] = run_copy(place) if is_secret else str(place.config)
    if variables or not place.environment.exists():
        is_other = environment.write(place.environment, variables, HEADING.format(unit=place.name))
        written += [place.environment] if is_other else []
    return [*written, *_put(place.unit, order.unit.encode(), 0o644)]


def _put(path: Path, data: bytes, mode: int) -> list[Path]:
    is_new = environment.put(path, data)
    if not path.is_symlink():
        path.chmod(mode)
    return [path] if is_new else []


def remove(place: Place, systemd: Systemd, say: Say, *, keep: bool) -> bool:
    """Stop the service and delete all that belongs to it; with ``keep`` not its settings and its state. Whether there
    was anything.

    Raises:
        UsageError: something cannot be deleted.
        ServiceError: systemd does not stop it.
    """
    was_there = place.unit.exists()
    of_package = [path for folder in PACKAGED if (path := folder / place.name).exists() and not place.is_of_user]
    if of_package and not was_there:
        raise UsageError(
            f"{of_package[0]}: this service came with a package, and goes with that: apt remove gpumon (or what "
            f"manages packages here); systemctl disable --now {place.name} stops it, and it starts no more"
        )
    keep = keep or bool(of_package)
    if was_there:
        systemd.forget(place.name)
        say(f"{place.name} is stopped, and starts no more")
    elif systemd.show(place.name).get("ActiveState") not in (None, "inactive", "failed"):
        systemd.stop(place.name)
        say(f"{place.name} ran, though its unit was deleted; it is stopped")
    units = [place.unit, place.drop_ins, place.wanted]
    mine = units if keep else [*units, place.environment, place.config, *_states(place)]
    gone = _delete(mine)
    if was_there:
        systemd.reload()
        systemd.reset_failed(place.name)
    for path in gone:
        say(f"deleted {path}")
    if of_package:
        say(f"{of_package[0]} is a package's, and stays; so do settings and state")
    if not keep:
        _delete_empty(place.own_folders)
    return bool(gone)


def _states(place: Place) -> list[Path]:
    private = [place.private_state_root / place.role] if place.private_state_root else []
    return [place.state, *private]


def _delete(paths: Sequence[Path]) -> list[Path]:
    gone = []
    for path in paths:
        try:
            if path.is_symlink() or path.is_file():
                path.unlink()
            elif path.is_dir():
                shutil.rmtree(path)
            else:
                continue
        except OSError as error:
            raise UsageError(f"{path}: cannot be deleted: {error.strerror}") from None
        gone.append(path)
    return gone


def _delete_empty(folders: Sequence[Path]) -> None:
    for folder in folders:
        with contextlib.suppress(OSError):  # it is not there, or not empty: somebody else has something in it
            folder.rmdir()
