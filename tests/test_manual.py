"""The manual page and the completion, by the programs that read them."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest

from gpumon.cli import cli
from gpumon.manual import manual
from tests.running import program

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "gpumon.1"


def page() -> str:
    return manual(cli.make_context("gpumon", []))


def test_the_page_in_the_repository_is_that_of_the_options_there_are() -> None:
    assert PAGE.read_text() == page(), "make man brings it up to date"


def test_the_page_has_every_command_and_option() -> None:
    text = page().replace("\\-", "-")
    for name, command in cli.commands.items():
        assert f'.SS "gpumon {name}' in text
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                assert all(option in text for option in parameter.opts)


def test_the_formatter_finds_nothing_wrong_with_it() -> None:
    if shutil.which("groff") is None:
        pytest.skip("groff is not installed (Debian: apt install groff-base)")
    command = ["groff", "-man", "-Tascii", "-ww", "-z", "-rF0"]
    found = subprocess.run(command, input=page(), capture_output=True, text=True, check=True)
    assert (found.stdout, found.stderr) == ("", "")
    shown = subprocess.run([*command[:-3], "-P-c"], input=page(), capture_output=True, text=True, check=True).stdout
    text = " ".join(re.sub(r".\x08", "", shown).split())  # bold, as typewriters do it; and lines that fill their width
    assert "Find a node with free GPUs" in text
    assert "--memory SIZE" in text


def test_the_program_writes_it() -> None:
    with program("man") as command:
        assert (command.status(), command.wrote) == (0, page())


@pytest.mark.parametrize(
    ("shell", "word"), [("zsh", "#compdef gpumon"), ("fish", "complete --no-files --command gpumon")]
)
def test_each_shell_has_its_completion(shell: str, word: str) -> None:
    with program("completion", shell) as command:
        assert (command.status(), word in command.wrote) == (0, True)


def completed(folder: Path, *words: str) -> list[str]:
    """What bash offers for the last of ``words``."""
    script = f"""
        eval "$(gpumon completion bash)"
        COMP_WORDS=({" ".join(words)} "")
        COMP_CWORD={len(words) - 1}
        _gpumon_completion gpumon
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    return said_by(folder, "bash", "-c", script).split()


def said_by(folder: Path, *shell: str) -> str:
    """What a shell writes that has ``gpumon`` in its ``PATH``."""
    if shutil.which(shell[0]) is None:
        pytest.skip(f"{shell[0]} is not installed (Debian: apt install {shell[0]})")
    (folder / "gpumon").write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -m gpumon "$@"\n')
    (folder / "gpumon").chmod(0o755)
    surroundings = os.environ | {"PATH": f"{folder}:{os.environ['PATH']}", "HOME": str(folder)}
    return subprocess.run(shell, capture_output=True, text=True, check=True, env=surroundings).stdout


def test_bash_completes_commands_and_options(tmp_path: Path) -> None:
    assert completed(tmp_path, "gpumon", "no") == ["nodes"]
    assert completed(tmp_path, "gpumon", "find", "--mo") == ["--model"]
    assert completed(tmp_path, "gpumon", "top", "--sort", "te") == ["temperature"]


ZSH = """
compdef() {}
_describe() { print -l -- "${(@P)3}"; }
compadd() { print -l -- "${(@P)@[-1]}"; }
_path_files() { print -- files; }
eval "$(gpumon completion zsh)"
for typed in "gpumon no" "gpumon top --sort te" "gpumon nodes --token-file x"; do
    words=(${(z)typed}) CURRENT=$#words
    _gpumon_completion
done
"""


def test_zsh_completes_commands_values_and_files(tmp_path: Path) -> None:
    nodes, *rest = said_by(tmp_path, "zsh", "-f", "-c", ZSH).splitlines()
    assert nodes.startswith("nodes:Show the nodes of a hub")
    assert rest == ["temperature", "files"]


FISH = """
gpumon completion fish | source
for typed in "gpumon no" "gpumon find --gp" "gpumon top --sort te" "gpumon nodes --token-file gpum"
    complete --do-complete $typed
end
"""


def test_fish_completes_commands_options_values_and_files(tmp_path: Path) -> None:
    script = f"cd {tmp_path}; {FISH}"
    found = [line.split("\t") for line in said_by(tmp_path, "fish", "--no-config", "-c", script).splitlines()]
    assert [words[0] for words in found] == ["nodes", "--gpus", "temperature", "gpumon"]
    assert found[0][1].startswith("Show the nodes of a hub, a line each")
    assert found[1][1] == "So many, all on one node."
