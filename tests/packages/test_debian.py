"""The Debian package on a copy of this machine: installed, upgraded, removed, purged."""

import json
import platform
import re
import signal
import urllib.request
from pathlib import Path
from urllib.error import HTTPError

import pytest

from tests import fakenvml
from tests.packages.roots import BUILD_SECONDS, Twin, stdout_of
from tests.running import until

# In one process: what they build is built once.
pytestmark = [pytest.mark.xdist_group("packages"), pytest.mark.timeout(BUILD_SECONDS)]

UNITS = ("gpumon-agent.service", "gpumon-hub.service")
CONFFILES = {"/etc/gpumon/agent.env", "/etc/gpumon/agent.json", "/etc/gpumon/hub.env", "/etc/gpumon/hub.json"}
ENABLED = "/etc/systemd/system/multi-user.target.wants"
OLDEST_LIBC = (2, 35)
"""That of Ubuntu 22.04; Debian 12 has 2.36."""


@pytest.fixture
def machine(tmp_path: Path) -> Twin:
    return Twin(tmp_path)


def install(machine: Twin, package: Path) -> None:
    """As ``apt install ./gpumon.deb`` does where nobody answers questions."""
    machine.run("dpkg", "--install", str(package))


def answer(url: str) -> bytes:
    """What is told there; nothing as long as an agent makes its first sample."""
    try:
        with urllib.request.urlopen(url, timeout=20) as response:
            return bytes(response.read())
    except HTTPError as error:
        error.close()
        if error.code != 503:
            raise
        return b""


def enable(machine: Twin, unit: str) -> None:
    machine.run("systemctl", "enable", unit)
    assert machine.file(f"{ENABLED}/{unit}").is_symlink()


def test_it_says_what_it_is_and_what_it_needs(package: Path) -> None:
    def field(name: str) -> str:
        return stdout_of("dpkg-deb", "--field", package, name).strip()

    assert field("Package") == "gpumon"
    assert field("Architecture") == stdout_of("dpkg", "--print-architecture").strip()
    needed = dict(re.findall(r"([\w.+-]+)(?: \(>= ([^)]+)\))?", field("Depends")))
    assert "libssl3" in needed  # which security updates of the distribution reach
    assert not [name for name in needed if "python" in name]
    if tuple(map(int, platform.libc_ver()[1].split("."))) <= (2, 36):
        assert tuple(map(int, needed["libc6"].split("."))) <= OLDEST_LIBC
    listed = stdout_of("dpkg-deb", "--info", package, "conffiles").split()
    assert set(listed) == CONFFILES


def test_installed_it_works_and_is_switched_off(package: Path, machine: Twin) -> None:
    install(machine, package)
    assert machine.run("/usr/bin/gpumon", "--version").startswith("gpumon")
    assert not [unit for unit in UNITS if machine.file(f"{ENABLED}/{unit}").is_symlink()]
    assert machine.file("/etc/gpumon/agent.env").stat().st_mode & 0o077 == 0
    for unit in UNITS:
        assert "\nExecStart=/usr/bin/gpumon " in machine.file(f"/usr/lib/systemd/system/{unit}").read_text()
        machine.run("systemd-analyze", "verify", f"/usr/lib/systemd/system/{unit}")
    said = machine.run("/usr/bin/gpumon", "check", "--config", "/etc/gpumon/hub.json", "--json")
    assert json.loads(said)["nodes"] == []


@pytest.mark.parametrize(
    ("command", "file"),
    [
        ("man", "/usr/share/man/man1/gpumon.1.gz"),
        ("completion", "/usr/share/bash-completion/completions/gpumon"),
        ("completion", "/usr/share/zsh/vendor-completions/_gpumon"),
        ("completion", "/usr/share/fish/vendor_completions.d/gpumon.fish"),
    ],
)
def test_what_the_program_tells_of_itself_is_put_where_it_is_looked_for(
    package: Path, frozen: Path, command: str, file: str
) -> None:
    has = re.search(rf"^  {command}\b", stdout_of(frozen / "folder/gpumon", "--help"), re.MULTILINE) is not None
    assert (f".{file}\n" in stdout_of("dpkg-deb", "--contents", package)) == has


@pytest.mark.parametrize(("role", "path"), [("hub", "/api/nodes"), ("agent", "/gpu-info")])
async def test_it_runs_with_the_settings_that_it_brings(package: Path, machine: Twin, role: str, path: str) -> None:
    """Started as by the unit: with the variables of ``/etc/gpumon``, but on another port."""
    install(machine, package)
    driver = fakenvml.environment(Path("/etc/gpumon/scenario"))
    fakenvml.datacentre(gpus=2).write(machine.file("/etc/gpumon/scenario"))
    lines = machine.file(f"/etc/gpumon/{role}.env").read_text().splitlines()
    settings = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    environment = driver | settings | {"GPUMON_STATE_DIR": f"/var/lib/gpumon/{role}"}
    with machine.start("/usr/bin/gpumon", role, "--port=0", environment=environment) as process:
        assert process.stdout is not None
        try:
            port = next(match[1] for line in process.stdout if (match := re.search(r" on http://\S+:(\d+)", line)))

            async def told() -> bytes:
                said = answer(f"http://127.0.0.1:{port}{path}")
                is_late = role == "agent" and (not said or json.loads(said)["status"] != "ok")  # on a busy machine
                return b"" if is_late else said

            body = json.loads(await until(told))
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=60)
    assert process.returncode == 0
    if role == "hub":
        assert body == []
    else:
        assert (body["status"], len(body["gpus"])) == ("ok", 2)


def test_an_upgrade_keeps_what_was_changed_and_what_was_switched_on(
    package: Path, next_package: Path, machine: Twin
) -> None:
    install(machine, package)
    enable(machine, UNITS[0])
    edited = machine.file("/etc/gpumon/agent.json")
    edited.write_text('{"agent": {"hub": ["http://hub.lab:8080"]}}')
    token = machine.file("/etc/gpumon/agent.env")
    token.write_text(f"{token.read_text()}GPUMON_JOIN_TOKEN=secret\n")
    install(machine, next_package)
    assert "hub.lab" in edited.read_text()
    assert "secret" in token.read_text()
    assert token.stat().st_mode & 0o077 == 0
    assert "8082" in machine.file("/etc/gpumon/hub.json").read_text()  # which nobody had changed
    assert machine.file(f"{ENABLED}/{UNITS[0]}").is_symlink()
    assert not machine.file(f"{ENABLED}/{UNITS[1]}").is_symlink()


def test_removed_it_keeps_settings_and_state_and_comes_back_to_them(package: Path, machine: Twin) -> None:
    install(machine, package)
    enable(machine, UNITS[1])
    edited = machine.file("/etc/gpumon/hub.json")
    edited.write_text('{"hub": {"port": 18080}}')
    state = machine.file("/var/lib/private/gpumon/hub/hub.json")
    state.parent.mkdir(parents=True)
    state.write_text("{}")
    machine.run("dpkg", "--remove", "gpumon")
    assert "18080" in edited.read_text()
    assert state.exists()
    assert not [name for name in machine.leavings() if name.startswith("/usr/")]
    install(machine, package)
    assert "18080" in edited.read_text()
    assert machine.file(f"{ENABLED}/{UNITS[1]}").is_symlink()
    assert "version" in machine.run("/usr/bin/gpumon", "--version")


def test_purged_it_leaves_nothing(package: Path, next_package: Path, machine: Twin) -> None:
    install(machine, package)
    enable(machine, UNITS[0])
    for name in ("/var/lib/private/gpumon/agent/agent-node.json", "/run/gpumon/agent/config.json"):
        file = machine.file(name)
        file.parent.mkdir(parents=True)
        file.write_text("{}")
    machine.file("/var/lib/gpumon").symlink_to("private/gpumon")
    install(machine, next_package)
    assert machine.leavings()
    machine.run("dpkg", "--purge", "gpumon")
    assert machine.leavings() == set()


def test_purged_it_leaves_what_others_have_put_into_its_folder(package: Path, machine: Twin) -> None:
    install(machine, package)
    certificate = machine.file("/etc/gpumon/hub.pem")
    certificate.write_text("of the lab")
    machine.run("dpkg", "--purge", "gpumon")
    assert machine.leavings() == {"/etc/gpumon", "/etc/gpumon/hub.pem"}
