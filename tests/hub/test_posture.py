"""``gpumon check`` says how safe a configuration is: each line true, worst first, none missing."""

import json
from pathlib import Path
from typing import Any

import pytest

from gpumon.config import Config, parse
from gpumon.hub.posture import WORST_FIRST, Line, posture
from tests.authority import Signed, self_made
from tests.running import program

TOKEN = "a-long-secret"


@pytest.fixture
def own(tmp_path: Path) -> Signed:
    one = self_made(tmp_path)
    one.key.chmod(0o600)
    return one


def lines(file: Path, words: dict[str, Any], state: Path | None = None) -> dict[str, Line]:
    """The lines for a configuration, by the key that each names."""
    file.write_text(json.dumps(words))
    found = posture(parse(file.read_bytes()), file, state)
    grades = [WORST_FIRST.index(line.grade) for line in found]
    assert grades == sorted(grades)
    return {line.key: line for line in found}


def node(**more: Any) -> dict[str, Any]:
    return {"nodes": [{"name": "n", "host": "10.0.0.1"} | more]}


@pytest.mark.parametrize(
    ("words", "key", "grade", "says"),
    [
        ({}, "auth.push", "good", "must join before"),
        ({"auth": {"push": "open"}}, "auth.push", "bad", "Whoever can reach the hub may report"),
        ({}, "auth.viewers", "weak", "Whoever can reach the hub may look"),
        ({"hub": {"host": "127.0.0.1"}}, "auth.viewers", "good", "Whoever uses this machine"),
        ({"auth": {"viewers": "token"}}, "auth.viewers", "good", "Nobody sees anything without"),
        ({}, "auth.privacy", "weak", "who runs which programs, and short command lines"),
        ({"auth": {"privacy": "users"}}, "auth.privacy", "weak", "sees who runs which programs."),
        ({"auth": {"privacy": "names"}}, "auth.privacy", "good", "not whose they are"),
        ({"auth": {"privacy": "nothing"}}, "auth.privacy", "good", "nothing of processes"),
        ({"auth": {"viewers": "token"}}, "auth.privacy", "good", "or of anything else"),
        ({"auth": {"viewers": "token"}}, "tls.certificate", "bad", "has the token of whoever logs in"),
        ({}, "hub.hosts", "good", "its machine's own names, and to pages of no other site"),
        ({"hub": {"hosts": ["gpus.lab", "g"]}}, "hub.hosts", "good", "own names, gpus.lab, g, and"),
        ({}, "", "good", "no more than program and script leave a node"),
        ({}, "tls.certificate", "weak", "plain HTTP: whoever is on the way"),
        ({"hub": {"host": "127.0.0.1"}}, "tls.certificate", "good", "with this machine only"),
        ({"tls": {"certificate": "nothing"}}, "tls.certificate", "bad", "Cannot speak TLS: tls.certificate: nothing"),
        ({}, "hub.host", "weak", "listens on every network"),
        ({"hub": {"host": "10.0.0.9", "port": 8}}, "hub.host", "weak", "listens on 10.0.0.9, port 8"),
        ({"hub": {"host": "::1"}}, "hub.host", "good", "this machine only"),
        ({"aggregator": {"host": "localhost"}}, "hub.host", "good", "this machine only"),
        ({}, "nodes[].tls", "good", "No node of another machine"),
        (node(), "nodes[].tls", "weak", "By plain HTTP the hub asks n:"),
        (node(token=TOKEN), "nodes[].tls", "bad", "Tokens go to n by plain HTTP"),
        (node(token=TOKEN, host="localhost"), "nodes[].tls", "good", "No node of another machine"),
        (node(token=TOKEN, tls=True), "nodes[].tls", "good", "is asked by https"),
        ({}, "agent.token", "weak", "tells whoever asks it"),
        ({"agent": {"host": "127.0.0.1"}}, "agent.host", "good", "its own machine only"),
        ({"agent": {"token": TOKEN}, "hub": {"host": "::1"}}, "tls.certificate", "weak", "is heard by whoever"),
    ],
)
def test_each_line_says_what_is_so_and_what_to_change(
    tmp_path: Path, words: dict[str, Any], key: str, grade: str, says: str
) -> None:
    file = tmp_path / "config.json"
    file.write_text(json.dumps(words))
    found = [line for line in posture(parse(file.read_bytes()), file, None) if line.key == key and says in line.text]
    assert [line.grade for line in found] == [grade]
    assert all(TOKEN not in line.text for line in found)
    assert len(posture(parse(file.read_bytes()), file, None)) == 10


def test_a_certificate_is_looked_into(tmp_path: Path, own: Signed) -> None:
    words = {"tls": {"certificate": str(own.certificate), "key": str(own.key)}}
    file = tmp_path / "config.json"
    line = lines(file, words)["tls.certificate"]
    assert line.grade == "good"
    assert "made by itself" in line.text
    soon = self_made(tmp_path, "soon", ends=3)
    line = lines(file, {"tls": {"certificate": str(soon.certificate), "key": str(soon.key)}})["tls.certificate"]
    assert (line.grade, line.text.startswith("The certificate expires on ")) == ("bad", True)
    words |= {"agent": {"token": TOKEN}}
    assert lines(file, words)["agent.token"].grade == "good"


def test_files_with_secrets_that_others_can_read_are_named(tmp_path: Path, own: Signed) -> None:
    state, file = tmp_path / "state", tmp_path / "config.json"
    state.mkdir()
    words = {"tls": {"certificate": str(own.certificate), "key": str(own.key)}, "agent": {"token": TOKEN}}
    file.write_text(json.dumps(words))
    file.chmod(0o600)
    assert lines(file, words, state)["hub.state_dir"].grade == "good"
    for one in (own.key, file, state / "a-token"):
        one.touch()
        one.chmod(0o640)
        line = lines(file, words, state)[str(one)]
        assert (line.grade, str(one) in line.text) == ("bad", True)
        one.chmod(0o600)
    assert lines(file, {}, state)["hub.state_dir"].text.startswith("Only their owner")
    assert posture(Config(), file, None)


def test_it_stands_in_what_the_command_writes(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"agent": {"token": TOKEN}, "nodes": []}))
    (tmp_path / "config.json").chmod(0o644)
    home = {"HOME": str(tmp_path), "XDG_STATE_HOME": ""}
    with program("check", folder=tmp_path, environment=home) as check:
        assert check.status() == 0
        told = check.wrote.partition("How safe it is, worst first:\n")[2].splitlines()
        told = told[: told.index("")] if "" in told else told
        assert told[0].startswith("  bad   Others can read secrets in config.json: 'chmod 600' closes them.")
    with program("check", "--json", folder=tmp_path, environment=home) as check:
        assert check.status() == 0
        found = json.loads(check.wrote)["posture"]
        assert found[0]["grade"] == "bad"
        starts = [line.split()[0] for line in told if not line.startswith(" " * 8)]
        assert starts == [line["grade"] for line in found]
        assert TOKEN not in check.wrote
