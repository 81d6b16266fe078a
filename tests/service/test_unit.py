"""The units themselves: how exposed systemd holds them to be, and whether it understands them."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from gpumon.service.machine import Machine, this_machine
from gpumon.service.place import Place, Role, of_machine, of_user
from gpumon.service.unit import Wish, quoted, unit

TRUE = Wish(("/usr/bin/true",), port=8080)
MOST_EXPOSED = {"agent": 2.0, "hub": 1.5}

with_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")


def written(folder: Path, place: Place, text: str) -> Path:
    path = folder / place.name
    path.write_text(text)
    return path


def analyze(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["systemd-analyze", *arguments], capture_output=True, text=True, check=False)


def lines(role: Role, wish: Wish = TRUE, machine: Machine | None = None) -> list[str]:
    return unit(of_machine(role), wish, machine or Machine(252)).splitlines()


@with_systemd
@pytest.mark.parametrize("role", ["agent", "hub"])
@pytest.mark.parametrize(
    ("wish", "machine"),
    [
        (TRUE, Machine(252)),
        (Wish(("/usr/bin/true",), has_secret_config=True, groups=("daemon",)), Machine(257, "video", ("/dev/null",))),
    ],
    ids=["plain", "with all"],
)
def test_a_service_of_the_machine_is_hardly_exposed(role: Role, wish: Wish, machine: Machine, tmp_path: Path) -> None:
    place = of_machine(role)
    path = written(tmp_path, place, unit(place, wish, machine))
    said = analyze("security", "--offline=true", "--no-pager", path).stdout
    score = re.search(r"Overall exposure level for \S+: ([\d.]+)", said)
    assert score, said
    assert float(score[1]) <= MOST_EXPOSED[role], said


@with_systemd
@pytest.mark.parametrize("role", ["agent", "hub"])
@pytest.mark.parametrize("is_of_user", [False, True])
def test_systemd_understands_every_line(role: Role, is_of_user: bool, tmp_path: Path) -> None:
    place = of_user(role, tmp_path / "with space", tmp_path / "100%") if is_of_user else of_machine(role)
    wish = Wish(("/usr/bin/true",), has_secret_config=True, groups=("daemon",))
    done = analyze("verify", "--man=no", written(tmp_path, place, unit(place, wish, Machine(252, "video"))))
    assert (done.returncode, done.stderr) == (0, "")


def test_the_driver_may_come_later_and_under_its_older_name() -> None:
    allowed = {line.split()[0] for line in lines("agent") if line.startswith("DeviceAllow=")}
    assert {"DeviceAllow=char-195", "DeviceAllow=char-nvidia", "DeviceAllow=char-nvidia-frontend"} <= allowed
    assert {"DeviceAllow=char-nvidiactl", "DeviceAllow=char-nvidia-caps"} <= allowed
    assert not any(line.startswith("DeviceAllow=") for line in lines("hub"))


@pytest.mark.parametrize("role", ["agent", "hub"])
def test_it_waits_for_no_network_and_never_gives_up(role: Role) -> None:
    text = lines(role)
    assert not any("network-online" in line or line.startswith(("Wants=", "Requires=", "BindsTo=")) for line in text)
    assert {"Restart=always", "StartLimitIntervalSec=0", "Type=notify", "WatchdogSec=30"} <= set(text)
    assert ("RestartMaxDelaySec=60" in text) is False
    assert "RestartMaxDelaySec=60" in lines(role, machine=Machine(254))


def test_a_low_port_costs_one_capability_and_no_more() -> None:
    assert "AmbientCapabilities=" in lines("hub")
    assert "PrivateUsers=yes" in lines("hub")
    low = lines("hub", Wish(("/usr/bin/true",), port=443))
    assert "AmbientCapabilities=CAP_NET_BIND_SERVICE" in low
    assert "CapabilityBoundingSet=CAP_NET_BIND_SERVICE" in low
    assert "PrivateUsers=yes" not in low


def test_devices_of_a_group_and_of_rare_machines_are_let_in(tmp_path: Path) -> None:
    (tmp_path / "dev").mkdir()
    for name in ("dxg", "nvmap", "nvhost-gpu", "null"):
        (tmp_path / "dev" / name).touch()
    machine = this_machine(tmp_path)
    assert machine.rare_devices == ("/dev/dxg", "/dev/nvhost-gpu", "/dev/nvmap")
    assert machine.device_group is None
    text = lines("agent", machine=Machine(252, "video", machine.rare_devices))
    assert {"SupplementaryGroups=video", "DeviceAllow=/dev/dxg rw", "DeviceAllow=/dev/nvmap rw"} <= set(text)


def test_a_program_that_unpacks_itself_may_speak_as_a_child() -> None:
    assert "NotifyAccess=main" in lines("agent")
    assert "NotifyAccess=all" in lines("agent", Wish(("/usr/bin/true",), unpacks=True))


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("/opt/gpumon/bin/gpumon", "/opt/gpumon/bin/gpumon"),
        ("/opt/my lab/gpumon", '"/opt/my lab/gpumon"'),
        ("/opt/100%/$HOME", "/opt/100%%/$$HOME"),
        ('a"b\\c', '"a\\"b\\\\c"'),
        ("", '""'),
    ],
)
def test_a_word_of_a_command_means_itself(text: str, word: str) -> None:
    assert quoted(text) == word
