"""Every command of the documentation works as it stands there: it is run, or a rule says why it cannot be."""

import json
import os
import re
import shlex
import signal
import subprocess
import threading
from collections.abc import Iterator
from typing import IO

import click
import pytest

from gpumon import config
from gpumon.cli import cli
from tests.docs.blocks import ROOT, Command, blocks, commands, inline_commands
from tests.docs.how import SECONDS, Elsewhere, Ends, Stays, rule_for
from tests.docs.world import World, world

EVERY = commands()
ONCE = list({command.text: command for command in EVERY}.values())
RUN = [command for command in ONCE if not isinstance(rule_for(command.text), Elsewhere)]

pytestmark = pytest.mark.timeout(2 * SECONDS)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world(tmp_path_factory.mktemp("lab")) as one:
        yield one


@pytest.mark.parametrize("command", RUN, ids=str)
def test_it_works_as_it_stands_there(command: Command, lab: World) -> None:
    rule = rule_for(command.text)
    with subprocess.Popen(
        ["bash", "-euo", "pipefail", "-c", lab.spoken(command.text)],
        cwd=lab.folder,
        # Each is another node, or one that joined before would be in its way.
        env=lab.environment | {"GPUMON_AGENT_NAME": f"node-{RUN.index(command)}"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    ) as running:
        assert running.stdout is not None
        overdue = threading.Timer(SECONDS, os.killpg, (running.pid, signal.SIGKILL))
        overdue.start()
        try:
            said = _until(running.stdout, rule.says) if isinstance(rule, Stays) else ""
            if isinstance(rule, Stays):
                os.killpg(running.pid, signal.SIGTERM)
            said += running.stdout.read().decode(errors="replace")
            status = running.wait()
        finally:
            overdue.cancel()
    assert "Traceback" not in said
    assert isinstance(rule, Ends | Stays)
    assert re.search(rule.says, said), said
    statuses = rule.statuses if isinstance(rule, Ends) else (0, -signal.SIGTERM)  # what is no gpumon dies of it
    assert status in statuses, said


def _until(stream: IO[bytes], pattern: str) -> str:
    said = ""
    while not re.search(pattern, said):
        part = os.read(stream.fileno(), 65536)
        assert part, f"it ended, and did not say {pattern!r}:\n{said}"
        said += part.decode(errors="replace")
    return said


@pytest.mark.parametrize("command", [*ONCE, *inline_commands()], ids=str)
def test_gpumon_knows_every_option_that_it_is_called_with(command: Command) -> None:
    for call in _calls(command.text):
        _parse(cli, "gpumon", call)


def _calls(text: str) -> Iterator[list[str]]:
    """The arguments of each call of gpumon in a command; what stands for something (NAME, ...) is none, and what may be
    left out ([--user]) counts as well.
    """
    text = re.sub(r"[\[\]]", "", text)
    for match in re.finditer(r"(?:^|[\s;&|(=\"'])gpumon((?: [^|;&)<>\n]+)?)", text.replace("\\\n", " ")):
        words = shlex.split(match[1].replace("…", "").partition(" #")[0].replace("'", " ").replace('"', " "))
        yield [word for word in words if word not in ("...", "\\")]


def _parse(command: click.Command, name: str, arguments: list[str]) -> None:
    """Find each subcommand and option of ``arguments``; values are not looked at, for they may be made up."""
    context = click.Context(command, info_name=name, resilient_parsing=True)
    known = _options(command) | {"--help", "-h"}
    if command.context_settings.get("ignore_unknown_options"):  # it passes on those of another command
        known |= {option for word in arguments if word in cli.commands for option in _options(cli.commands[word])}
    for place, word in enumerate(arguments):
        if word.startswith("-") and word != "-":
            assert word.partition("=")[0] in known, f"{name} has no option {word}"
        elif isinstance(command, click.Group) and (inner := command.get_command(context, word)) is not None:
            _parse(inner, f"{name} {word}", arguments[place + 1 :])
            return


def _options(command: click.Command) -> set[str]:
    return {option for one in command.params for option in (*one.opts, *one.secondary_opts)}


def test_there_are_commands_and_most_are_run() -> None:
    assert len(RUN) > 15
    assert len(RUN) > len([command for command in ONCE if not command.text.startswith("make ")]) / 2


@pytest.mark.parametrize("rule", [rule_for(command.text) for command in ONCE], ids=lambda rule: rule.pattern)
def test_what_is_tried_elsewhere_is(rule: Ends | Stays | Elsewhere) -> None:
    named = re.findall(r"\btests/[\w/.]+", rule.because) if isinstance(rule, Elsewhere) else []
    assert [one for one in named if not (ROOT / one).exists()] == []


def test_every_target_that_is_told_of_is_there() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    told = {
        word
        for page in sorted({*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")})
        for word in re.findall(r"(?:`|^)make ([a-z-]+)", page.read_text(encoding="utf-8"), re.MULTILINE)
    }
    assert {"run", "test"} <= told
    assert told <= targets


def test_what_is_called_json_is_and_configurations_are_right() -> None:
    """What looks like a configuration is one, and all that is called JSON is."""
    read = 0
    for block in blocks():
        if block.language == "json":
            value = json.loads(block.text)
            if isinstance(value, dict) and set(value) <= {"nodes", "hub", "aggregator", "auth", "dns", "agent", "tls"}:
                config.parse(block.text.encode())
                read += 1
    assert read


def test_the_chinese_readme_has_the_same_commands() -> None:
    english, chinese = (commands([ROOT / name]) for name in ("README.md", "README.zh.md"))
    assert [command.text for command in chinese] == [command.text for command in english]
    assert [block.text for block in blocks([ROOT / "README.zh.md"]) if block.language == "json"]


@pytest.mark.parametrize("name", ["README.md", "README.zh.md"])
def test_a_readme_begins_with_the_one_command_that_runs_and_the_one_that_tests(name: str) -> None:
    assert [command.text for command in commands([ROOT / name])][:2] == ["make run", "make test"]


def test_continuous_integration_calls_what_the_readme_says() -> None:
    script = ROOT / ".ci" / "run"
    if not script.exists():
        pytest.skip("an sdist has no continuous integration")
    assert "make test" in script.read_text(encoding="utf-8")
