"""The keys of the configuration file: what each may be, what it is without, and which option overrules it."""

import json
from collections.abc import Iterator
from types import NoneType, UnionType
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

import click
import msgspec
from msgspec import Meta, Struct

from gpumon import config
from gpumon.cli import cli
from reference.pages import table

FILE: Final[type[Struct]] = config._File
HEAD: Final = ("key", "default", "allowed", "option, environment", "meaning")
OLDER: Final = {"aggregator": "hub"}
"""Sections that are others under an older name."""
NAMED_OTHERWISE: Final = {
    ("hub", "require_login"): "auth.viewers",
    ("agent", "hubs"): "agent.hub",
}
TOLD_DEFAULTS: Final = {"nodes[].port": "of the kind", "nodes[].path": "of the kind"}
"""Defaults that the value in the code only stands for."""
SIMPLE: Final = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    list: "a list",
    dict: "an object",
}
"""What is allowed where the code says no more."""
SECRETS: Final = {"agent.token": "`GPUMON_AGENT_TOKEN`"}
"""What may come from the environment and has no option, for arguments are seen by everyone."""


def reference(kept: dict[tuple[str, str], str]) -> str:
    """The table of all keys; ``kept`` has their meanings, by ("", key)."""
    words = {key: meaning for (_, key), meaning in kept.items()}
    options = options_by_key()
    return table(
        HEAD,
        (
            [f"`{key}`", default, allowed, options.get(key, ""), words.get(key, "")]
            for key, default, allowed in keys(FILE)
        ),
    )


def keys(section: type[Struct], path: str = "") -> Iterator[tuple[str, str, str]]:
    """Each key with its default and what is allowed, in the order of the code."""
    for field in msgspec.structs.fields(section):
        key = f"{path}{field.name}"
        inner, is_list = struct_in(field.type)
        if key in OLDER:
            yield key, "", f"as `{OLDER[key]}`"
        elif inner is None:
            yield key, TOLD_DEFAULTS.get(key) or default_of(field), allowed(field.type)
        elif is_list:
            yield key, "`[]`", allowed(field.type)
            yield from keys(inner, f"{key}[].")
        else:
            yield from keys(inner, f"{key}.")


def struct_in(kind: Any) -> tuple[type[Struct] | None, bool]:  # noqa: ANN401  (a type form has no type)
    """The section or the entry that a key of this type holds, and whether it is a list of them."""
    kind = bare(kind)
    if get_origin(kind) is list:
        inner = bare(get_args(kind)[0])
        return (inner, True) if isinstance(inner, type) and issubclass(inner, Struct) else (None, True)
    return (kind, False) if isinstance(kind, type) and issubclass(kind, Struct) else (None, False)


def bare(kind: Any) -> Any:  # noqa: ANN401  (the same)
    """A type without its bounds, and without null."""
    while (origin := get_origin(kind)) in (Annotated, Union, UnionType):
        args = get_args(kind)
        kind = args[0] if origin is Annotated else next(arg for arg in args if arg is not NoneType)
    return kind


def allowed(kind: Any) -> str:  # noqa: ANN401  (the same)
    """What is allowed, in the words that an error has for it."""
    if get_origin(kind) in (Union, UnionType):
        inner = next(arg for arg in get_args(kind) if arg is not NoneType)
        return f"{allowed(inner)}; or null"
    if get_origin(kind) is Annotated:
        described = [meta.description for meta in get_args(kind)[1:] if isinstance(meta, Meta) and meta.description]
        if described:
            return described[-1]
    kind = bare(kind)
    if get_origin(kind) is Literal:
        *first, last = (f'"{one}"' for one in get_args(kind))
        return f"{', '.join(first)} or {last}" if first else last
    return SIMPLE.get(get_origin(kind) or kind, str(kind))


def default_of(field: msgspec.structs.FieldInfo) -> str:
    """As JSON writes it."""
    if field.required:
        return "must be given"
    default = field.default_factory() if field.default is msgspec.NODEFAULT else field.default
    return f"`{json.dumps(default).removesuffix('.0')}`"


def options_by_key() -> dict[str, str]:
    """The option and the variables of each key that has them."""
    found: dict[str, list[str]] = {key: [name] for key, name in SECRETS.items()}
    known = {key for key, _, _ in keys(FILE)}
    for name in ("hub", "agent"):
        for parameter in cli.commands[name].params:
            assert parameter.name is not None
            key = NAMED_OTHERWISE.get((name, parameter.name)) or _key(name, parameter.name, known)
            if key is not None and isinstance(parameter, click.Option):
                found.setdefault(key, []).extend(f"`{one}`" for one in [parameter.opts[0], *variables(parameter)])
    return {key: ", ".join(dict.fromkeys(names)) for key, names in found.items()}


def _key(command: str, name: str, known: set[str]) -> str | None:
    likely = [f"{command}.{name}", f"{command}.{name}_seconds", name.replace("_", ".", 1)]
    # Of a section for both: a key of that name which no other section has.
    elsewhere = [key for key in known if key.rpartition(".")[2] == name and not key.startswith("nodes")]
    likely += elsewhere if len(elsewhere) == 1 else []
    return next((key for key in likely if key in known), None)


def variables(parameter: click.Parameter) -> list[str]:
    """The environment variables of an option."""
    names = parameter.envvar or []
    return [names] if isinstance(names, str) else list(names)
