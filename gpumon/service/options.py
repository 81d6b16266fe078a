"""What a service is told: the options of ``gpumon agent`` and ``gpumon hub``, as variables for its environment file.

Whatever these commands understand, a service does, too: their own parsers read the options, and each option has its
variable.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from gpumon import config
from gpumon.config import AgentSection, HubSection
from gpumon.errors import UsageError
from gpumon.service.told import Told
from gpumon.settings import override

GIVEN = (ParameterSource.COMMANDLINE, ParameterSource.ENVIRONMENT)
SECTION_KEYS = {"hubs": "hub", "interval": "interval_seconds"}
"""Options whose key in the configuration is another."""
READ_BY_SERVICE = ("tls_certificate", "tls_key", "tls_ca")


def told(command: click.Command, options: Sequence[str]) -> Told:
    """What ``options`` of ``command`` (and its variables in our own environment) tell a service.

    Raises:
        UsageError: a value is not allowed.
        click.UsageError: an option is not.
    """
    context = command.make_context(command.name, list(options))
    found = Told()
    values: dict[str, Any] = {}
    for parameter in command.params:
        name = parameter.name or ""
        if context.get_parameter_source(name) not in GIVEN:
            continue
        if parameter.envvar is None:
            raise UsageError(f"{parameter.opts[0]}: is asked for once, and is nothing for a service")
        value = values[name] = context.params[name]
        variable = parameter.envvar if isinstance(parameter.envvar, str) else parameter.envvar[0]
        if name == "config_path":
            found.config, found.content = Path(value), config.load(Path(value))
        elif name == "join_token_file":
            found.variables["GPUMON_JOIN_TOKEN"] = _token(Path(value).expanduser())
        else:
            found.variables[variable] = _text(name, parameter, value)
    _check(command.name or "", values)
    return found


def _text(name: str, parameter: click.Parameter, value: Any) -> str:  # noqa: ANN401  (whatever the option is)
    if isinstance(value, tuple):
        for one in value:
            if any(sign.isspace() for sign in one):
                raise UsageError(f"{parameter.opts[-1]}: {one!r} has a space, so it must stand in a configuration file")
        return " ".join(value)
    if isinstance(value, bool):
        return "1" if value else "0"
    if name in READ_BY_SERVICE:
        return str(Path(value).expanduser().absolute())
    return f"{value:g}" if isinstance(value, float) else str(value)


def _check(role: str, values: dict[str, Any]) -> None:
    section: AgentSection | HubSection = AgentSection() if role == "agent" else HubSection()
    lists = {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}
    known = {SECTION_KEYS.get(name, name): value for name, value in lists.items()}
    override(section, **{key: value for key, value in known.items() if key in section.__struct_fields__})


def _token(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--join-token-file: {path}: cannot be read: {error}") from None
