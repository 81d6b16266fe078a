"""The Debian package on a machine that systemd runs: services are started, upgraded, stopped and purged for real."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import fakenvml
from tests.packages.roots import BUILD_SECONDS
from tests.service import booted
from tests.service.booted import AGENT, FAKE_DRIVER, HUB, SCENARIO, Machine

# In one process: what they build is built once.
pytestmark = [pytest.mark.xdist_group("packages"), pytest.mark.timeout(BUILD_SECONDS)]

PACKAGES = "/opt/packages"
BOOKS = "/var/lib/dpkg"
WRITABLE = """
mkdir -p /run/usr && mount -t tmpfs tmpfs /run/usr && mkdir /run/usr/changes /run/usr/work
mount -t overlay overlay -o lowerdir=/usr,upperdir=/run/usr/changes,workdir=/run/usr/work /usr
rm -f /usr/sbin/policy-rc.d
mkdir -p /var/lib/dpkg/info /var/lib/dpkg/updates && touch /var/lib/dpkg/status
"""


@pytest.fixture
def machine(package: Path, next_package: Path, tmp_path: Path) -> Iterator[Machine]:
    if (why := booted.obstacle()) is not None:
        pytest.skip(f"no machine with systemd: {why}")
    for name, file in (("first.deb", package), ("next.deb", next_package)):
        (tmp_path / name).hardlink_to(file)
    with booted.booted({tmp_path: PACKAGES}) as machine:
        machine.run("sh", "-ec", WRITABLE)
        yield machine


def install(machine: Machine, name: str) -> None:
    """What it depends on is there, but stands in no book of this machine."""
    machine.run("dpkg", "--force-depends", "--install", f"{PACKAGES}/{name}")


def test_its_services_live_as_the_package_does(machine: Machine) -> None:
    before = machine.files()
    machine.write(SCENARIO, fakenvml.datacentre(gpus=2).text())
    install(machine, "first.deb")
    machine.write("/etc/gpumon/agent.json", '{"agent": {"hub": ["http://127.0.0.1:8082"]}}')
    driver = (
        f"GPUMON_AGENT_CONFIG=/etc/gpumon/agent.json\\nLD_LIBRARY_PATH={FAKE_DRIVER}\\nFAKE_NVML_SCENARIO={SCENARIO}"
    )
    machine.run("sh", "-c", f"echo '{driver}' > /etc/gpumon/agent.env")
    machine.write("/etc/gpumon/hub.json", '{"hub": {"port": 8082}}')
    assert [machine.property(unit, "ActiveState") for unit in (AGENT, HUB)] == ["inactive", "inactive"]

    assert "gpumon-hub: not running" in machine.run("gpumon", "service", "status", "hub", status=3)
    machine.run("systemctl", "enable", "--now", HUB)
    machine.until_said("gpumon-hub: well", "gpumon", "service", "status")
    assert "agent" not in machine.run("gpumon", "service", "status")  # the package brings it, and nobody uses it
    refused = machine.run("gpumon", "service", "remove", "hub", status=2)
    assert "gpumon-hub.service: this service came with a package, and goes with that: apt remove gpumon" in refused
    assert machine.property(HUB, "ActiveState") == "active"

    machine.run("systemctl", "enable", "--now", AGENT, HUB)  # which waits until they say that they are ready
    machine.until_said('"online"', "curl", "--silent", "http://127.0.0.1:8082/api/nodes")
    assert len(machine.ask("8081/gpu-info")["gpus"]) == 2
    token = machine.run("cat", "/var/lib/gpumon/hub/join-token").strip()
    join = machine.run("gpumon", "hub", "--print-join", environment={"GPUMON_STATE_DIR": "/var/lib/gpumon/hub"})
    assert token in join
    first = machine.property(AGENT, "MainPID")

    machine.run("systemctl", "stop", HUB)
    install(machine, "next.deb")
    machine.until(AGENT, "ActiveState", "active")
    assert machine.property(AGENT, "MainPID") != first
    assert machine.property(HUB, "ActiveState") == "inactive"  # who stops it, wants it stopped
    assert machine.property(HUB, "UnitFileState") == "enabled"

    machine.run("dpkg", "--purge", "gpumon")
    assert machine.property(AGENT, "ActiveState") == "inactive"
    assert machine.property(AGENT, "LoadState") == "not-found"
    machine.run("rm", SCENARIO)
    left = {name for name in machine.files() - before if not name.startswith((BOOKS, "/var/lib/systemd"))}
    assert left == set()
