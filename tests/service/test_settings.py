"""What a service is told, where that is kept, and what is refused before anything is written."""

import grp
import os
from collections.abc import Sequence
from pathlib import Path

import click
import pytest

from gpumon.cli import cli
from gpumon.errors import ServiceError, UsageError
from gpumon.service import environment, reach
from gpumon.service.installing import config_is_secret, effective
from gpumon.service.options import told
from gpumon.service.place import of_machine, of_user
from gpumon.service.program import Program, other_program, this_program
from gpumon.service.systemd import Systemd, is_booted
from gpumon.service.told import Told
from tests.running import program


def variables(role: str, *options: str) -> dict[str, str]:
    command = cli.commands[role]
    return told(command, options).variables


def test_every_option_of_agent_and_hub_becomes_its_variable(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("gpumon-join-secret\n")
    found = variables(
        "agent", "--hub=http://a:1", "--hub", "http://b:2", "--name=node 1", "--tag", "x", "--interval=0.5",
        "--wake-sleeping-gpus", f"--join-token-file={token}", "--tls-ca=ca.pem", "--simulate=h200:4,fault=lost:1",
    )  # fmt: skip
    assert found == {
        "GPUMON_AGENT_HUB": "http://a:1 http://b:2",
        "GPUMON_AGENT_NAME": "node 1",
        "GPUMON_AGENT_TAGS": "x",
        "GPUMON_AGENT_INTERVAL": "0.5",
        "GPUMON_AGENT_WAKE_SLEEPING_GPUS": "1",
        "GPUMON_JOIN_TOKEN": "gpumon-join-secret",
        "GPUMON_TLS_CA": str(Path.cwd() / "ca.pem"),
        "GPUMON_AGENT_SIMULATE": "h200:4,fault=lost:1",
    }
    assert variables("hub", "--allow-host=gpus.lab", "--require-login") == {
        "GPUMON_HUB_HOSTS": "gpus.lab",
        "GPUMON_REQUIRE_LOGIN": "1",
    }


@pytest.mark.parametrize(
    ("role", "options", "words"),
    [
        ("agent", ["--hub=ftp://x"], "--hub"),
        ("agent", ["--tag=two words"], "has a space, so it must stand in a configuration file"),
        ("agent", ["--join-token-file=/nowhere"], "--join-token-file: /nowhere: cannot be read"),
        ("hub", ["--new-token"], "--new-token: is asked for once"),
        ("hub", ["--print-join"], "--print-join: is asked for once"),
        ("hub", ["--config=/nowhere.json"], "/nowhere.json: cannot be read"),
    ],
)
def test_what_a_service_cannot_be_told_is_refused(role: str, options: Sequence[str], words: str) -> None:
    with pytest.raises(UsageError) as raised:
        variables(role, *options)
    assert words in str(raised.value)


@pytest.mark.parametrize("options", [["--nonsense"], ["--port=70000"], ["--interval=0"], ["more"]])
def test_what_the_command_itself_does_not_take_is_refused(options: Sequence[str]) -> None:
    with pytest.raises(click.ClickException):
        variables("agent", *options)


def test_a_value_is_read_as_it_was_written_whatever_is_in_it(tmp_path: Path) -> None:
    path = tmp_path / "agent.env"
    values = {"A": 'say "hi"', "B": "back\\slash", "C": "$HOME `id`", "D": "it's", "E": "", "F": "机器 #1", "G": "a=b"}
    environment.write(path, values, "# heading\n")
    assert environment.read(path) == values
    assert path.read_text().startswith("# heading\n")
    assert path.stat().st_mode & 0o777 == 0o600


def test_what_a_person_wrote_stays_and_only_what_changes_is_changed(tmp_path: Path) -> None:
    path = tmp_path / "agent.env"
    path.write_text("# mine\nGPUMON_AGENT_NAME='old name'\n\nOTHER=1\n")
    environment.write(path, {"GPUMON_AGENT_NAME": "new", "GPUMON_AGENT_PORT": "9000"}, "# heading\n")
    assert path.read_text() == '# mine\nGPUMON_AGENT_NAME="new"\n\nOTHER=1\nGPUMON_AGENT_PORT="9000"\n'
    before = path.stat()
    environment.write(path, {"GPUMON_AGENT_NAME": "new"}, "# heading\n")
    assert path.stat().st_ino == before.st_ino


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"A=1\nB='open\n", "line 2: its value does not end: a quote is not closed"),
        (b'A="open\n', "line 1: its value does not end"),
        (b"A=1\\", "line 1: its value does not end"),
        (b"# so \\\nA=1\n", "line 1: a comment that ends with a backslash is not allowed"),
        (b"A=1\nB=\xe9\n", "line 2: is not UTF-8, so systemd reads nothing of this file"),
        (b"A=1\nB=\0\n", "line 2: has a NUL, so systemd reads nothing of this file"),
    ],
)
def test_what_is_read_otherwise_than_it_looks_is_a_fault_and_is_not_changed(
    text: bytes, words: str, tmp_path: Path
) -> None:
    path = tmp_path / "agent.env"
    path.write_bytes(text)
    for attempt in (lambda: environment.read(path), lambda: environment.write(path, {"C": "1"}, "")):
        with pytest.raises(UsageError) as raised:
            attempt()
        assert f"{path}: {words}" in str(raised.value)
    assert path.read_bytes() == text


def test_of_two_lines_of_a_name_the_last_one_counts_and_is_changed(tmp_path: Path) -> None:
    path = tmp_path / "agent.env"
    path.write_text("A=1\nB=2 \\\n3\nA=4\nC=5")
    environment.write(path, {"A": "new", "B": "6", "D": "7"}, "")
    assert path.read_text() == 'A=1\nB="6"\nA="new"\nC=5\nD="7"\n'
    assert environment.read(path) == {"A": "new", "B": "6", "C": "5", "D": "7"}


def test_settings_behind_a_link_are_read_and_never_changed(tmp_path: Path) -> None:
    path, elsewhere = tmp_path / "agent.env", tmp_path / "elsewhere"
    path.symlink_to(elsewhere)
    assert environment.read(path) == {}
    with pytest.raises(
        UsageError, match=r"agent\.env: is a symbolic link to .*elsewhere: what a link leads to is read, and"
    ):
        environment.write(path, {"A": "1"}, "")
    assert not elsewhere.exists()
    elsewhere.write_text("A=1\n")
    assert environment.read(path) == {"A": "1"}
    for text in ("A=1\n", 'A="1"\n', "A=1"):  # however the same is written
        elsewhere.write_text(text)
        assert environment.write(path, {"A": "1"}, "") is False
        with pytest.raises(UsageError, match="symbolic link"):
            environment.write(path, {"A": "2"}, "")
        assert elsewhere.read_text() == text
    path.unlink()
    path.symlink_to(path)
    with pytest.raises(OSError, match="symbolic links"):
        environment.read(path)


def test_a_configuration_that_is_gone_is_no_reason_to_do_without_one(tmp_path: Path) -> None:
    place = of_user("hub", tmp_path, tmp_path)
    place.settings.mkdir()
    other = tmp_path / "other.json"
    other.write_text('{"hub": {"port": 8090}}')
    place.environment.write_text(f"GPUMON_HUB_CONFIG={other}\n")
    assert effective(place, Told())[1].hub.port == 8090
    other.unlink()
    with pytest.raises(UsageError) as raised:
        effective(place, Told())
    assert f"{other}: is not there, and {place.environment} tells the service to read it" in str(raised.value)
    assert "gpumon service install hub --user --config FILE" in str(raised.value)
    place.environment.write_text("GPUMON_HUB_CONFIG=\n")
    assert effective(place, Told())[1].hub.port == 8080


@pytest.mark.parametrize("value", ["two\nlines", "escape\x1b[31m", "nul\0"])
def test_a_value_that_could_become_another_line_is_refused(value: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="allowed: one line without control characters"):
        environment.write(tmp_path / "agent.env", {"A": value}, "")
    assert not (tmp_path / "agent.env").exists()


def test_a_port_that_is_none_is_named_with_its_file(tmp_path: Path) -> None:
    place = of_user("agent", tmp_path, tmp_path)
    place.settings.mkdir()
    place.environment.write_text("GPUMON_AGENT_PORT=http\n")
    with pytest.raises(UsageError, match=r"agent\.env: GPUMON_AGENT_PORT: 'http' is not allowed; allowed: a port"):
        effective(place, Told())


def test_a_configuration_is_roots_alone_where_it_has_a_token(tmp_path: Path) -> None:
    place = of_user("hub", tmp_path, tmp_path)
    plain, secret = tmp_path / "plain.json", tmp_path / "secret.json"
    plain.write_text('{"nodes": [{"name": "a", "host": "b"}]}')
    secret.write_text('{"nodes": [{"name": "a", "host": "b", "token": "12345678"}]}')
    for path, is_secret in ((plain, False), (secret, True)):
        assert config_is_secret(place, told(cli.commands["hub"], [f"--config={path}"])) is is_secret
    place.settings.mkdir()
    assert config_is_secret(place, Told()) is False
    place.config.write_text("{}")
    place.config.chmod(0o600)
    assert config_is_secret(place, Told()) is True


def test_a_program_that_the_service_cannot_read_is_no_program_for_it(tmp_path: Path) -> None:
    root = tmp_path / "root"
    for folder in ("opt/open", "opt/closed", "home/somebody"):
        (root / folder).mkdir(parents=True)
        (root / folder / "gpumon").touch(0o755)
    (root / "opt/closed").chmod(0o700)
    (root / "opt/open/link").symlink_to(root / "home/somebody/gpumon")

    def why(path: str) -> str | None:
        return reach.obstacle(Program(("x",), (root / path,)), "agent", root)

    assert why("opt/open/gpumon") is None
    assert "closed is closed to other users" in (why("opt/closed/gpumon") or "")
    for path in ("home/somebody/gpumon", "opt/open/link"):
        assert "services do not see what lies in" in (why(path) or "")
        assert "--user" in (why(path) or "")


def test_a_key_is_read_by_a_group_or_not_at_all(tmp_path: Path) -> None:
    daemon = grp.getgrnam("daemon")
    root = tmp_path / "root"
    root.mkdir(mode=0o755)
    key = root / "key.pem"
    key.touch(0o644)
    assert reach.group_of(key, root) is None
    key.chmod(0o600)
    with pytest.raises(UsageError, match="closed to all but its owner; let a group read it"):
        reach.group_of(key, root)
    if os.geteuid() == 0:
        os.chown(key, 0, daemon.gr_gid)
        key.chmod(0o640)
        assert reach.group_of(key, root) == "daemon"
    with pytest.raises(UsageError, match="cannot be read"):
        reach.group_of(root / "none", root)


def test_it_is_known_how_we_were_started(tmp_path: Path) -> None:
    script = tmp_path / "gpumon"
    script.touch()
    assert this_program(str(script)).command == (str(script),)
    assert this_program("/lib/gpumon/__main__.py").command[1:] == ("-m", "gpumon")


@pytest.mark.parametrize("path", ["gpumon", "/usr/bin/gpumon\nExecStartPre=+/bin/true"])
def test_a_program_that_a_unit_cannot_name_is_refused(path: str) -> None:
    with pytest.raises(UsageError, match=r"--program: .* is not allowed; allowed: a path that begins with /"):
        other_program(Path(path))


def test_where_there_is_no_systemd_it_is_said_what_to_do_instead(tmp_path: Path) -> None:
    if is_booted():
        pytest.skip("systemd runs this machine")
    for words in (["install", "agent"], ["remove", "hub"], ["status"]):
        with program("service", *words, folder=tmp_path) as one:
            assert one.status() == 2
            assert "systemd does not run this machine" in one.said
    with pytest.raises(ServiceError):
        Systemd(of_user=False).show("gpumon-agent.service")


def test_the_unit_is_shown_and_nothing_is_changed(tmp_path: Path) -> None:
    home = {"HOME": str(tmp_path), "XDG_CONFIG_HOME": "", "XDG_STATE_HOME": ""}
    with program("service", "install", "agent", "--user", "--print", "--hub=http://h:1", environment=home) as one:
        assert one.status() == 0
        assert "ExecStart=" in one.wrote
        assert f"EnvironmentFile=-{tmp_path}/.config/gpumon/agent.env" in one.wrote
        assert one.said == ""
    assert list(tmp_path.iterdir()) == []
    with program("service", "install", "hub", "--print", "--program=/usr/bin/gpumon") as one:
        assert one.status() == 0
        assert "ExecStart=/usr/bin/gpumon hub" in one.wrote
        assert one.said == ""


def test_a_state_folder_of_ones_own_is_refused() -> None:
    with program("service", "install", "hub", "--print", "--program=/bin/true", "--state-dir=/srv/gpumon") as one:
        assert one.status() == 2
        assert f"a service keeps its state in {of_machine('hub').state}" in one.said
