"""What becomes of a service: killed, hung, told something new, removed; on a machine of its own that systemd runs."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from gpumon.service import environment
from tests import fakenvml
from tests.authority import Authority
from tests.service.booted import AGENT, HUB, PROGRAM, SCENARIO, Machine

WILD = r"""
V_PLAIN=word
  V_INDENTED = spaces around···
V_EMPTY=
V_SINGLE='it is $HOME \ "so" '
V_DOUBLE="say \"hi\" \$HOME \`id\` \\ \n \x"
V_PIECES='a'"b"  'c' d "e"
V_QUOTE_LATER=it's "fine"
V_BARE_ESCAPES=a\ b\\c\"d\ne\··
V_LEADING_ESCAPE=\'x
V_GOES_ON=one \
  two\
three···
V_GOES_ON_QUOTED="one \
two"
V_LINES="one
two"
V_LINES_SINGLE='one \
two'
V_NO_COMMENT=a # b ; c
V_HASH=#all
V_EQUALS=a=b==c
V_TWICE=1
V_TWICE=2
V_TAB="a→b"
V_UMLAUT="机器 ü"
# V_COMMENT=1
; V_COMMENT_TOO=1
  # "open
export V_EXPORTED=1
V-NAME=1
1V_NAME=1
V_CONTROL=␛[31m
no variable
=nothing
V_SPACE INSIDE=1
V_TRAILING_ESCAPED=a\ \··
V_QUOTED_THEN_BLANK='x'··
W_QUOTE_AFTER_BLANK=  "x"y
W_LAST=end""".translate({ord("·"): " ", ord("→"): "\t", ord("␛"): "\x1b"})
"""What a person may write, and nobody should."""

pytestmark = [pytest.mark.xdist_group("systemd-life"), pytest.mark.timeout(150)]


@pytest.fixture(autouse=True)
def _nothing_is_left(machine: Machine) -> Iterator[None]:
    """Each test begins and ends on a machine that has no service; what is removed leaves nothing."""
    before = machine.files()
    yield
    machine.remove_services()
    left = machine.files() - before
    assert {one for one in left if not Path(one).exists()} == set()  # it shows what is on this machine, as that changes


def test_an_agent_that_is_killed_is_started_again_and_one_that_hangs_is_killed(machine: Machine) -> None:
    machine.write(f"/etc/systemd/system/{AGENT}.d/impatient.conf", "[Service]\nWatchdogSec=5\nRestartSec=0\n")
    machine.install_agent()
    machine.run("kill", "-KILL", machine.property(AGENT, "MainPID"))
    machine.until(AGENT, "NRestarts", "1")
    machine.until(AGENT, "ActiveState", "active")
    machine.run("kill", "-STOP", machine.property(AGENT, "MainPID"))
    machine.until(AGENT, "NRestarts", "2")
    machine.until(AGENT, "ActiveState", "active")
    assert "Failed with result 'watchdog'" in machine.log(AGENT)
    assert "started again 2 times" in machine.gpumon("service", "status", "agent", status=None)


@pytest.mark.parametrize("function", ["nvmlInitWithFlags", "nvmlDeviceGetTemperature"])
def test_a_driver_that_hangs_is_told_and_no_reason_to_start_again(machine: Machine, function: str) -> None:
    machine.write(f"/etc/systemd/system/{AGENT}.d/impatient.conf", "[Service]\nWatchdogSec=5\n")
    machine.install_agent()
    machine.until_said("2 GPUs", PROGRAM, "service", "status", "agent")
    scenario = fakenvml.datacentre(gpus=2)
    scenario.does[function] = "hang"
    machine.write(SCENARIO, scenario.text())
    machine.run("systemctl", "restart", AGENT)
    machine.until_said("not well, running since", PROGRAM, "service", "status", "agent")
    before = fed = machine.property(AGENT, "WatchdogTimestampMonotonic")
    while fed in (before, "0"):  # until it says that it is well, with a driver that is not; 0 between end and start
        fed = machine.property(AGENT, "WatchdogTimestampMonotonic")
    assert machine.property(AGENT, "NRestarts") == "0"


def test_what_a_person_wrote_into_the_settings_is_read_as_systemd_reads_it(machine: Machine, tmp_path: Path) -> None:
    machine.write("/opt/wild.env", WILD)
    wild = tmp_path / "wild.env"
    wild.write_text(WILD)
    units = ("--quiet", "--pipe", "--wait", "--property=EnvironmentFile=-/opt/wild.env")
    said = machine.run("systemd-run", *units, "/usr/bin/env", "--null")
    pairs = (line.partition("=") for line in said.split("\0"))
    told = {name: value for name, _, value in pairs if name.startswith(("V_", "W_"))}
    try:
        assert environment.read(wild) == told
        assert len(told) > 20
    finally:
        machine.run("rm", "/opt/wild.env")


@pytest.mark.parametrize("token", [None, "12345678"], ids=["open", "secret"])
def test_a_configuration_that_somebody_deleted_is_missed_in_words(machine: Machine, token: str | None) -> None:
    nodes = [{"name": "a", "host": "127.0.0.1"} | ({"token": token} if token else {})]
    text = json.dumps({"nodes": nodes, "hub": {"port": 8090}})
    machine.write("/opt/hub.json", text)
    try:
        machine.gpumon("service", "install", "hub", "--config=/opt/hub.json")
        machine.run("rm", "/etc/gpumon/hub.json")
        missed = "/etc/gpumon/hub.json: is not there, and /etc/gpumon/hub.env tells the service to read it"
        machine.until_said(missed, PROGRAM, "service", "status", "hub")  # while it runs
        machine.run("systemctl", "restart", HUB, status=None)
        said = machine.until_said("not running", PROGRAM, "service", "status", "hub")
        assert missed in said
        assert missed in machine.gpumon("service", "install", "hub", status=2)
        machine.gpumon("service", "install", "hub", "--config=/opt/hub.json")
        assert machine.ask("8090/api/nodes")[0]["name"] == "a"
    finally:
        machine.run("rm", "/opt/hub.json")


def test_a_unit_that_is_masked_and_settings_behind_a_link_are_not_written_over(machine: Machine) -> None:
    machine.run("systemctl", "mask", HUB)
    assert f"{HUB} is masked" in machine.gpumon("service", "install", "hub", status=2)
    assert "It is masked, so it cannot be started." in machine.gpumon("service", "status", "hub", status=3)
    machine.run("systemctl", "unmask", HUB)
    machine.write("/opt/mine.env", "GPUMON_HUB_PORT=8091\n", "0600")
    machine.run("sh", "-c", "mkdir -p /etc/gpumon && ln -s /opt/mine.env /etc/gpumon/hub.env")
    try:
        assert "hub: well" in machine.gpumon("service", "install", "hub")
        assert machine.ask("8091/api/nodes") == []
        refused = machine.gpumon("service", "install", "hub", "--port=8092", status=2)
        assert "/etc/gpumon/hub.env: is a symbolic link to /opt/mine.env" in refused
        machine.gpumon("service", "remove", "hub")
        assert machine.run("cat", "/opt/mine.env") == "GPUMON_HUB_PORT=8091\n"
    finally:
        machine.run("rm", "/opt/mine.env")


def test_a_service_whose_unit_somebody_deleted_is_stopped_all_the_same(machine: Machine) -> None:
    machine.gpumon("service", "install", "hub")
    machine.run("rm", f"/etc/systemd/system/{HUB}")
    assert "it is stopped" in machine.gpumon("service", "remove", "hub")
    assert machine.property(HUB, "ActiveState") == "inactive"


def test_a_service_that_does_not_come_up_says_why(machine: Machine) -> None:
    machine.run("systemd-run", "--quiet", "--unit=first", "python3", "-m", "http.server", "8080")
    try:
        machine.until_said("200", "curl", "--silent", "--head", "http://127.0.0.1:8080/")
        said = machine.gpumon("service", "install", "hub", status=1)
        assert "gpumon service status hub says more" in said
        said = machine.gpumon("service", "status", "hub", status=3)
        assert "gpumon-hub: not running" in said
        assert "ended with status 2, and is started again and again; it said: hub.host, hub.port" in said
        assert "another program listens there already" in said
    finally:
        machine.run("systemctl", "stop", "first")
    machine.until(HUB, "ActiveState", "active")  # it never gives up


def test_a_configuration_with_secrets_stays_roots_and_is_read_again_on_request(machine: Machine) -> None:
    node = {"name": "a", "host": "127.0.0.1", "port": 1, "token": "secret-secret"}
    machine.write("/srv/lab.json", json.dumps({"nodes": [node]}), "0600")
    try:
        machine.gpumon("service", "install", "hub", "--config=/srv/lab.json", "--allow-host=gpus.lab", status=0)
        assert machine.run("stat", "--format=%a %U", "/etc/gpumon/hub.json", "/etc/gpumon/hub.env").split("\n")[:2] == [
            "600 root",
            "600 root",
        ]
        assert [one["name"] for one in machine.ask("8080/api/nodes")] == ["a"]
        machine.write("/etc/gpumon/hub.json", json.dumps({"nodes": [node, node | {"name": "b"}]}), "0600")
        machine.run("systemctl", "reload", HUB)
        machine.until_said('"name":"b"', "curl", "--silent", "http://127.0.0.1:8080/api/nodes")
        machine.run("curl", "--silent", "--fail", "--header", "Host: gpus.lab", "http://127.0.0.1:8080/api/nodes")
        unit = machine.run("systemctl", "show", HUB) + machine.run("systemctl", "cat", HUB)
        assert "secret-secret" not in unit
    finally:
        machine.run("rm", "/srv/lab.json")


def test_a_port_below_1024_and_a_key_that_only_a_group_reads_are_no_reason_for_root(
    machine: Machine, tmp_path: Path
) -> None:
    signed = Authority(tmp_path).sign("hub")
    machine.write("/srv/tls/hub.pem", signed.certificate.read_text())
    machine.write("/srv/tls/hub.key", signed.key.read_text(), "0600")
    options = ("--port=443", "--tls-certificate=/srv/tls/hub.pem", "--tls-key=/srv/tls/hub.key")
    try:
        said = machine.gpumon("service", "install", "hub", *options, status=2)
        assert "/srv/tls/hub.key is closed to all but its owner; let a group read it" in said
        machine.run("sh", "-c", "chgrp daemon /srv/tls/hub.key; chmod 0640 /srv/tls/hub.key")
        assert "gpumon-hub: well" in machine.gpumon("service", "install", "hub", *options)
        machine.run("curl", "--silent", "--fail", "--insecure", "https://127.0.0.1/health")
        main = machine.property(HUB, "MainPID")
        status = machine.run("cat", f"/proc/{main}/status")
        assert "CapEff:\t0000000000000400" in status  # CAP_NET_BIND_SERVICE alone
        assert "wrote" not in machine.gpumon("service", "install", "hub")
    finally:
        machine.run("rm", "-r", "/srv/tls")


def test_device_files_that_nothing_else_has_made_are_asked_for(machine: Machine) -> None:
    machine.run("mount", "-t", "tmpfs", "tmpfs", "/usr/local/sbin")
    try:
        makes = "#!/bin/sh\n[ $# = 0 ] || mknod -m 666 /dev/nvidiactl c 195 $2\n"
        machine.write("/usr/local/sbin/nvidia-modprobe", makes, "0755")
        machine.install_agent()
        assert machine.run("stat", "--format=%F %t,%T", "/dev/nvidiactl") == "character special file c3,ff\n"
    finally:
        machine.run("umount", "/usr/local/sbin")
        machine.run("rm", "-f", "/dev/nvidiactl")


def test_installed_again_it_keeps_what_it_was_told_and_takes_what_is_new(machine: Machine) -> None:
    said = machine.install_agent("--name=node-1", "--port=9000")
    assert "wrote /etc/systemd/system/gpumon-agent.service" in said
    assert "wrote" not in machine.gpumon("service", "install", "agent")
    name = """it's "2" $HOME `id` 50% #a"""
    said = machine.gpumon("service", "install", "agent", f"--name={name}")
    assert "wrote /etc/gpumon/agent.env" in said
    assert "wrote /etc/systemd" not in said
    assert machine.ask("9000/health")["node"] == name


def test_removed_with_keep_its_settings_and_its_identity_stay(machine: Machine) -> None:
    machine.install_agent("--hub=http://127.0.0.1:1", "--name=node-1")
    state = "/var/lib/gpumon/agent/agent-node-1.json"
    machine.until_said("id", "cat", state)
    before = machine.run("cat", state)
    said = machine.gpumon("service", "remove", "agent", "--keep")
    assert "deleted /etc/gpumon" not in said
    assert machine.property(AGENT, "LoadState") == "not-found"
    assert machine.run("cat", state) == before
    assert "node-1" in machine.run("cat", "/etc/gpumon/agent.env")


def test_a_user_has_services_of_his_own(machine: Machine) -> None:
    machine.run("useradd", "--create-home", "--uid=4321", "somebody")
    machine.run("systemctl", "start", "user@4321.service")
    user = ["setpriv", "--reuid=4321", "--regid=4321", "--clear-groups", "env"]
    user += ["HOME=/home/somebody", "XDG_RUNTIME_DIR=/run/user/4321", PROGRAM, "service"]
    try:
        said = machine.run(*user, "install", "hub", "--user", "--port=8090")
        assert "gpumon-hub: well, running since" in said
        assert "loginctl enable-linger" in said
        assert machine.ask("8090/health")["status"] == "ok"
        assert machine.run("stat", "--format=%U", "/home/somebody/.config/gpumon/hub.env").strip() == "somebody"
        said = machine.run(*user, "install", "agent", status=2)
        assert "with --user for a service of your own" in said
        machine.run(*user, "remove", "hub", "--user")
        assert "gpumon" not in machine.run("find", "/home/somebody")
    finally:
        machine.run("systemctl", "stop", "user@4321.service")
        machine.run("userdel", "--remove", "somebody", status=None)
        machine.run(
            "rm", "-f", *(f"/etc/{name}-" for name in ("passwd", "shadow", "group", "gshadow", "subuid", "subgid"))
        )
