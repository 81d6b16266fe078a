"""Every command with its options, from the command line itself."""

import re
from collections.abc import Iterator

import click

from gpumon.cli import cli
from reference.configuration import variables
from reference.pages import plain, table

HEAD = ("option", "environment", "default", "meaning")
DEFAULT = re.compile(r"\s*\[default: (?P<default>.*)\]$")
"""As our help writes it where the default is none of click's."""


def reference() -> str:
    """A section for each command, subcommands included."""
    return "\n\n".join(_section(name, command) for name, command in commands(cli, "gpumon"))


def commands(command: click.Command, name: str) -> Iterator[tuple[str, click.Command]]:
    """The command and those below it, each by its whole name, in the order of the alphabet."""
    yield name, command
    if isinstance(command, click.Group):
        for inner in sorted(command.commands):
            yield from commands(command.commands[inner], f"{name} {inner}")


def _section(name: str, command: click.Command) -> str:
    options = [one for one in command.params if isinstance(one, click.Option) and not one.hidden]
    parts = [f"## {name}", f"`{' '.join(_usage(name, command))}`", _paragraphs(command.help)]
    rows = [_row(one) for one in options if "--version" not in one.opts]
    if rows:
        parts.append(table(HEAD, rows))
    return "\n\n".join(parts)


def _usage(name: str, command: click.Command) -> Iterator[str]:
    yield name
    if any(isinstance(one, click.Option) for one in command.params):
        yield "[OPTION ...]"
    for one in command.params:
        if isinstance(one, click.Argument):
            kind = one.type
            word = "|".join(kind.choices) if isinstance(kind, click.Choice) else (one.metavar or one.name or "").upper()
            word = word.removeprefix("[").removesuffix("...").removesuffix("]") + (" ..." if one.nargs != 1 else "")
            yield word if one.required else f"[{word}]"
    if isinstance(command, click.Group):
        yield "[COMMAND]" if command.invoke_without_command else "COMMAND"


def _paragraphs(help: str | None) -> str:
    paragraphs = [plain(part) for part in re.split(r"\n\s*\n", (help or "").replace("\b", "").partition("\f")[0])]
    return "\n\n".join(part for part in paragraphs if part)


def _row(option: click.Option) -> list[str]:
    text = option.help or ""
    match = DEFAULT.search(text)
    default = match["default"] if match else ""
    if option.show_default and option.default is not None and not match:
        default = f"`{option.default}`"
    names = ", ".join(f"`{one}`" for one in sorted(option.opts, key=len, reverse=True))
    value = "" if option.is_flag else f" {_value(option)}"
    return [
        f"{names}{value}",
        ", ".join(f"`{one}`" for one in variables(option)),
        default,
        DEFAULT.sub("", text),
    ]


def _value(option: click.Option) -> str:
    kind = option.type
    if isinstance(kind, click.Choice):
        return "\\|".join(f"`{one}`" for one in kind.choices)
    if isinstance(kind, click.IntRange | click.FloatRange):
        least, most = kind.min, kind.max
        return f"{least:g} to {most:g}" if least is not None and most is not None else f"{least:g} or more"
    return option.metavar or {"path": "FILE", "text": "TEXT", "integer": "NUMBER"}.get(kind.name, kind.name.upper())
