"""A hub and an agent as services of a machine of its own, which systemd runs."""

import json
from collections.abc import Iterator

import pytest

from tests.service.booted import AGENT, HUB, PROGRAM, Machine

pytestmark = [pytest.mark.xdist_group("systemd"), pytest.mark.timeout(400)]

GROUP = "/sys/fs/cgroup/system.slice"


@pytest.fixture(scope="module")
def lab(machine: Machine) -> Iterator[Machine]:
    """With both installed."""
    assert "gpumon-hub: well, running since" in machine.gpumon("service", "install", "hub")
    said = machine.install_agent("--hub=http://127.0.0.1:8080", "--name=node-1", "--tag=room-1", "--tag=room-2")
    assert "gpumon-agent: well, running since" in said
    yield machine
    machine.remove_services()


def within(machine: Machine, unit: str, *command: str) -> str:
    """What a program says that is held to the devices of the service."""
    words = 'echo 0 > "$0/cgroup.procs"; exec "$@"'
    return machine.run("sh", "-c", words, f"{GROUP}/{unit}", *command, status=None)


def as_service(machine: Machine, unit: str, *command: str) -> str:
    """What a program says that sees what the service sees, as the user that it runs as."""
    main = machine.property(unit, "MainPID")
    user = machine.run("stat", "--format=%u", f"/proc/{main}").strip()
    enter = ("nsenter", f"--target={main}", "--mount", f"--setuid={user}", f"--setgid={user}")
    return machine.run(*enter, *command, status=None)


def test_they_are_enabled_and_say_how_they_are(lab: Machine) -> None:
    lab.until_said("2 GPUs; connected to http://127.0.0.1:8080", PROGRAM, "service", "status")
    lab.until_said("1 online", PROGRAM, "service", "status")
    (node,) = lab.ask("8080/api/nodes")
    assert (node["name"], node["status"], node["report"]["tags"]) == ("node-1", "online", ["room-1", "room-2"])
    assert [gpu["status"] for gpu in node["report"]["gpus"]] == ["ok", "ok"]
    for unit in (AGENT, HUB):
        assert lab.run("systemctl", "is-enabled", unit).strip() == "enabled"
        assert unit in lab.run("systemctl", "list-dependencies", "--plain", "multi-user.target")
    found = json.loads(lab.gpumon("service", "status", "--json"))
    assert [(one["role"], one["state"], one["enabled"], one["complaints"]) for one in found] == [
        ("agent", "active", True, []),
        ("hub", "active", True, []),
    ]


@pytest.mark.parametrize("unit", [AGENT, HUB])
def test_they_have_no_rights(lab: Machine, unit: str) -> None:
    main = lab.property(unit, "MainPID")
    status = set(lab.run("cat", f"/proc/{main}/status").splitlines())
    assert {"CapEff:\t0000000000000000", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"} <= status
    assert lab.run("stat", "--format=%u", f"/proc/{main}").strip() != "0"
    assert "Permission denied" in as_service(lab, unit, "cat", f"/etc/gpumon/{unit[7:-8]}.env")
    assert "Read-only file system" in as_service(lab, unit, "touch", "/var/lib/another")


def test_the_agent_sees_whose_processes_there_are_and_the_hub_does_not(lab: Machine) -> None:
    started = (
        "systemd-run --quiet --unit=other --property=User=games sleep 1000; systemctl show --value -p MainPID other"
    )
    other = lab.run("sh", "-c", started).strip()
    try:
        assert as_service(lab, AGENT, "cat", f"/proc/{other}/cmdline").split("\0")[1:2] == ["1000"]
        assert as_service(lab, AGENT, "stat", "--format=%U", f"/proc/{other}").strip() == "games"
        assert "No such file" in as_service(lab, HUB, "cat", f"/proc/{other}/cmdline")
    finally:
        lab.run("systemctl", "stop", "other")


def test_the_agent_may_open_the_drivers_devices_and_nobody_any_other(lab: Machine) -> None:
    lab.run("mknod", "-m", "666", "/dev/nvidia0", "c", "195", "0")
    lab.run("mknod", "-m", "666", "/dev/other", "c", "10", "232")
    try:
        # There is no such device here; but who finds that out was let through to it.
        assert "No such device" in within(lab, AGENT, "cat", "/dev/nvidia0")
        assert "Operation not permitted" in within(lab, HUB, "cat", "/dev/nvidia0")
        for unit in (AGENT, HUB):
            assert "Operation not permitted" in within(lab, unit, "cat", "/dev/other")
    finally:
        lab.run("rm", "/dev/nvidia0", "/dev/other")


def test_neither_says_a_secret_in_its_unit_or_to_the_log(lab: Machine) -> None:
    token = lab.run("cat", "/var/lib/gpumon/hub/viewers.token").strip()
    for unit in (AGENT, HUB):
        assert token not in lab.log(unit) + lab.run("systemctl", "show", unit)


def test_they_are_there_again_after_a_boot_and_are_who_they_were(lab: Machine) -> None:
    identity = "/var/lib/gpumon/agent/agent-node-1.json"
    before = lab.run("cat", identity)
    lab.reboot()
    lab.until_said("1 online", PROGRAM, "service", "status")
    lab.until_said("2 GPUs; connected to", PROGRAM, "service", "status")
    assert lab.run("cat", identity) == before


def test_the_hubs_own_commands_find_its_state(lab: Machine) -> None:
    state = ("--state-dir", "/var/lib/gpumon/hub")
    assert "GPUMON_JOIN_TOKEN=gpumon-join-" in lab.gpumon("hub", *state, "--print-join")
    assert (
        lab.gpumon("agents", *state, "list") == "No agent has joined, and none waits.\n"
    )  # from its own machine none need
