"""The manual page, from the command line as it is: in the macros of man(7)."""

from collections.abc import Iterable, Iterator
from typing import Final

import click

ABOUT: Final = "every NVIDIA GPU of a lab, live"
OF_CLICK: Final = {
    "--help": ("-h, --help", "Show help, of gpumon or of a command, and exit."),
    "--version": ("--version", "Show the version and exit."),
}
"""Options whose words are the library's: here they are ours, whatever its version."""
METAVARS: Final = {
    "integer": "NUMBER",
    "integer range": "NUMBER",
    "float": "NUMBER",
    "float range": "NUMBER",
    "path": "FILE",
}
STATUSES: Final = (
    ("0", "All is well; of find: there are such GPUs. Hub and agent end with it when they are told to."),
    ("1", "Nothing is found, a node is not well, or a hub does not do as asked."),
    ("2", "What was asked for cannot be done as asked: one line for each fault."),
    ("3", "Of nodes, top and find: the hub cannot be reached, or refuses. Of service status: it does not run."),
    ("4", "Of service status: it is not installed."),
    ("70", "Of an agent: it has hung, and is to be started anew."),
    ("130, 143", "Of nodes, top --once and find: it was interrupted."),
    ("141", "Of find: nobody read what it found."),
)
VARIABLES: Final = (
    ("GPUMON_HUB", "The hub of nodes, top, find and agents, and the one that an agent reports to."),
    ("GPUMON_TOKEN", "The hub's token, for who looks at one that shows nothing without, or administers one."),
    ("NO_COLOR, FORCE_COLOR", "No colours; colours also where the output is no terminal."),
)


def manual(context: click.Context) -> str:
    """The page of the program that ``context`` is of."""
    lines = [
        '.TH GPUMON 1 "" "gpumon" "User Commands"',
        ".SH NAME",
        f"gpumon \\- {ABOUT}",
        ".SH SYNOPSIS",
        ".B gpumon",
        "[\\fIOPTIONS\\fR] \\fICOMMAND\\fR [\\fIARGUMENTS\\fR]...",
        ".SH DESCRIPTION",
        *_paragraphs(context.command.help or ""),
        *_options(context),
        *_terms(OF_CLICK.values()),
        ".SH COMMANDS",
    ]
    for inner in _commands(context):
        lines += _command(inner)
    lines += [".SH ENVIRONMENT", "Options name the variables that stand for them; besides:", *_terms(VARIABLES)]
    lines += [".SH EXIT STATUS", *_terms(STATUSES)]
    return "\n".join(lines) + "\n"


def _commands(context: click.Context) -> Iterator[click.Context]:
    """Of each command below, in order of their names: groups by their commands."""
    group = context.command
    if not isinstance(group, click.Group):
        return
    for name in sorted(group.commands):
        inner = click.Context(group.commands[name], info_name=name, parent=context)
        if not inner.command.hidden:
            yield inner


def _command(context: click.Context) -> Iterator[str]:
    arguments = [parameter for parameter in context.command.params if isinstance(parameter, click.Argument)]
    words = " ".join(["[OPTIONS]", *(one.metavar or (one.name or "").upper() for one in arguments)])
    if isinstance(context.command, click.Group):
        words += " COMMAND"
    yield f".SS {_quoted(context.command_path + ' ' + words)}"
    yield from _paragraphs(context.command.help or "")
    yield from _options(context)
    for inner in _commands(context):
        yield from _command(inner)


def _options(context: click.Context) -> Iterator[str]:
    for parameter in context.command.get_params(context):
        if isinstance(parameter, click.Option) and not parameter.hidden and OF_CLICK.keys().isdisjoint(parameter.opts):
            yield ".TP"
            yield f".B {_text(', '.join(parameter.opts) + _value_of(parameter))}"
            yield _text(" ".join(f"{parameter.help or ''} {_notes_of(parameter)}".split()))


def _value_of(option: click.Option) -> str:
    """What stands behind its name."""
    if option.is_flag:
        return ""
    if isinstance(option.type, click.Choice):
        return " " + "|".join(option.type.choices)
    return f" {option.metavar or METAVARS.get(option.type.name, 'TEXT')}"


def _notes_of(option: click.Option) -> str:
    """Its default, where its text does not tell, and the variable that stands for it."""
    variables = [option.envvar] if isinstance(option.envvar, str) else list(option.envvar or ())
    default = f"[default: {option.default}] " if option.show_default else ""
    return default + (f"[{', '.join(variables)}]" if variables else "")


def _paragraphs(text: str) -> Iterator[str]:
    for number, paragraph in enumerate(text.strip().split("\n\n")):
        if number:
            yield ".PP"
        yield _text(" ".join(paragraph.split()))


def _terms(terms: Iterable[tuple[str, str]]) -> Iterator[str]:
    for term, text in terms:
        yield from (".TP", f".B {_text(term)}", _text(text))


def _text(text: str) -> str:
    """Text that stays as it is: no macro, no escape, and a hyphen that can be copied."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{text}" if text.startswith((".", "'")) else text


def _quoted(text: str) -> str:
    """The same as one argument of a macro."""
    return '"' + _text(text).replace('"', "\\(dq") + '"'
