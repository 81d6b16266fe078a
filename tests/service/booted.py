"""A machine of its own that runs systemd, for as long as a test needs it.

systemd-nspawn boots it: the programs are those of this machine, read-only; ``/etc`` is a copy that is thrown away, and
``/var`` is empty. Its units are started, restrained and ended as on any machine, devices included.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from subprocess import PIPE, STDOUT, Popen
from tempfile import TemporaryDirectory
from typing import Any

import pytest

import gpumon
from tests import fakenvml

PATIENCE_SECONDS = 40.0
AGENT, HUB = "gpumon-agent.service", "gpumon-hub.service"
SCENARIO = "/opt/gpumon/scenario"
PROGRAM = "/opt/gpumon/bin/gpumon"
HALT = signal.SIGRTMIN + 14
"""Lets systemd power off its machine at once (``systemd(1)``, signals)."""
FAKE_DRIVER = "/opt/driver"

BOOT = r"""
set -e
work=$1; groups=$2; shift 2
for group in $groups; do echo $$ > "$group/cgroup.procs"; done
mount -t tmpfs -o mode=0755 tmpfs "$work"
mkdir -p "$work/root" "$work/etc.upper" "$work/etc.work"
cd "$work/root"
mkdir usr etc var opt root home srv
for link in bin sbin lib lib32 lib64 libx32; do
    if [ -L "/$link" ]; then ln -s "$(readlink "/$link")" "$link"; fi
done
mount --bind /usr usr
mount -o remount,bind,ro usr
mount -t overlay overlay -o "lowerdir=/etc,upperdir=$work/etc.upper,workdir=$work/etc.work" etc
rm -rf etc/systemd/system/*.wants etc/systemd/system/*.requires etc/systemd/system/gpumon-* etc/gpumon
: > etc/machine-id
mkdir -p opt/gpumon/bin
cp "$work.start" opt/gpumon/bin/gpumon
chmod 0755 opt opt/gpumon opt/gpumon/bin opt/gpumon/bin/gpumon
status=133  # what systemd-nspawn ends with when the machine is to be started anew
while [ "$status" = 133 ]; do
    status=0
    "$@" || status=$?
done
"""

START = """\
#!{python}
import sys
sys.path[:0] = ["/opt/gpumon/lib", "/opt/gpumon/libraries"]
from gpumon.cli import main
main()
"""


def obstacle() -> str | None:
    """Why no machine can be booted here, or None."""
    if os.geteuid() != 0:
        return "only root can boot a machine of its own"
    for name in ("systemd-nspawn", "unshare", "nsenter", "dbus-daemon"):
        if shutil.which(name) is None:
            return f"{name} is not installed"
    if not Path("/bin").is_symlink():
        return "this system's /bin is not in /usr"
    if _python() is None:
        return "this Python lies where no service can read it, and /usr/bin/python3 is another version"
    tried = subprocess.run(
        ["unshare", "--mount", "--pid", "--fork", "mount", "-t", "tmpfs", "tmpfs", "/mnt"],
        capture_output=True,
        text=True,
        check=False,
    )
    if tried.returncode != 0:
        return f"nothing can be mounted here: {tried.stderr.strip()}"
    try:
        with _control_group():
            pass
    except OSError as error:
        return f"no control group can be made here: {error}"
    return None


def _python() -> str | None:
    """One that is this version, in /usr."""
    if Path(sys.base_prefix).is_relative_to("/usr"):
        return str(Path(sys.executable).resolve())
    told = subprocess.run(
        ["/usr/bin/python3", "-c", "import sys; print(sys.version_info[:2])"],
        capture_output=True,
        text=True,
        check=False,
    ).stdout
    return "/usr/bin/python3" if told.strip() == str(sys.version_info[:2]) else None


@contextmanager
def _control_group() -> Iterator[list[Path]]:
    """A group of its own in each hierarchy that a systemd manages: two machines must not share one."""
    base = Path("/sys/fs/cgroup")
    roots = [base] if (base / "cgroup.procs").exists() else [base / "unified", base / "systemd"]
    groups = [root / f"gpumon-test-{os.getpid()}" for root in roots if root.exists()]
    for group in groups:
        group.mkdir()
    try:
        yield groups
    finally:
        for group in groups:
            for folder, _, _ in os.walk(group, topdown=False):
                _remove(Path(folder))


def _remove(group: Path) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while group.exists() and time.monotonic() < deadline:  # the last of its processes may be ending still
        with contextlib.suppress(OSError):
            group.rmdir()
            return
        time.sleep(0.02)


class Machine:
    """It runs; what is run on it is run by root."""

    def __init__(self, container: "Popen[bytes]", log: Path) -> None:
        self._container = container
        self._log = log
        self._init = 0
        self._await()

    def _await(self) -> None:
        """Until all of it is there, and another one than before."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        before = self._init
        while time.monotonic() < deadline and self._container.poll() is None:
            for init in (one for container in _children(self._container.pid) for one in _children(container)):
                self._init = init
                said = self.run("systemctl", "is-system-running", status=None).strip()
                if init != before and said in ("running", "degraded"):
                    return
            time.sleep(0.05)
        if self._init == 0 and self._container.poll() is not None:  # nothing of ours was ever reached
            ended = self._log.read_text(errors="replace").strip().splitlines() or ["it says nothing"]
            pytest.skip(f"no machine with systemd: systemd-nspawn does not boot one here: {ended[-1]}")
        raise AssertionError(f"no machine came up:\n{self._log.read_text(errors='replace')}")

    def reboot(self) -> None:
        """Start it anew, as a machine is whose button is pressed."""
        self.run("systemctl", "reboot", status=None)
        self._await()

    def run(self, *command: str, status: int | None = 0, environment: dict[str, str] | None = None) -> str:
        """What a program says, on both streams. It has to end with ``status``, if that is given."""
        variables = [f"{name}={value}" for name, value in (environment or {}).items()]
        done = subprocess.run(
            ["nsenter", f"--target={self._init}", "--all", "--wdns=/", "/usr/bin/env", *variables, *command],
            stdout=PIPE,
            stderr=STDOUT,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )
        assert status is None or done.returncode == status, f"{command}: status {done.returncode}\n{done.stdout}"
        return done.stdout

    def gpumon(self, *arguments: str, status: int | None = 0) -> str:
        return self.run(PROGRAM, *arguments, status=status)

    def install_agent(self, *options: str) -> str:
        """An agent over the fake driver, with two GPUs."""
        self.write(SCENARIO, fakenvml.datacentre(gpus=2).text())
        driver = f"LD_LIBRARY_PATH={FAKE_DRIVER}\nFAKE_NVML_SCENARIO={SCENARIO}\n"
        self.write("/etc/gpumon/agent.env", driver, "0600")
        return self.gpumon("service", "install", "agent", *options)

    def remove_services(self) -> None:
        """Whatever of ours is there; what was written for a test goes as well."""
        for role in ("agent", "hub"):
            if self.run("find", "/etc/systemd/system", "/etc/gpumon", "-name", f"*{role}.*", status=None).strip():
                self.gpumon("service", "remove", role)
        self.run("rm", "-f", SCENARIO)

    def ask(self, path: str) -> Any:
        """What is served at ``PORT/PATH``, read as JSON."""
        return json.loads(self.run("curl", "--silent", "--show-error", f"http://127.0.0.1:{path}"))

    def property(self, unit: str, name: str) -> str:
        return self.run("systemctl", "show", "--value", "--property", name, unit).strip()

    def until(self, unit: str, name: str, value: str) -> None:
        """Wait until a property is so."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while (found := self.property(unit, name)) != value:
            assert time.monotonic() < deadline, f"{unit}: {name} is {found}\n{self.log(unit)}"
            time.sleep(0.1)

    def until_said(self, words: str, *command: str) -> str:
        """Wait until a program says this, however it ends."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while words not in (said := self.run(*command, status=None)):
            assert time.monotonic() < deadline, said
            time.sleep(0.1)
        return said

    def log(self, unit: str) -> str:
        return self.run("journalctl", "--unit", unit, "--output=cat", "--no-pager")

    def write(self, path: str, text: str, mode: str = "0644") -> None:
        """A file, with the folder that it is in."""
        words = 'mkdir -p "${1%/*}" && printf %s "$2" > "$1" && chmod "$3" "$1"'
        self.run("sh", "-c", words, "write", path, text, mode)

    def files(self) -> set[str]:
        """Everything in the folders where a service could leave something."""
        folders = ("/etc", "/var/lib", "/var/cache", "/opt", "/home", "/root", "/srv", "/run/systemd/system")
        of_ours = self.run("find", "/run", "-path", "*/gpumon", status=None)  # where others come and go meanwhile
        own = ("-path", "/opt/gpumon/lib*", "-prune", "-o", "-print")  # where this machine's code is shown
        found = self.run("find", *folders, *own).splitlines()
        return {*found, *(one for one in of_ours.splitlines() if one[0] == "/")}


@contextmanager
def booted(shown: Mapping[Path, str] | None = None) -> Iterator[Machine]:
    """Boot one, and see to its end. It sees the folders ``shown``, each where it is told."""
    fakenvml.build()
    with TemporaryDirectory(prefix="gpumon-machine-") as folder, _control_group() as groups:
        work = Path(folder) / "machine"
        work.mkdir()
        python = _python()
        Path(f"{work}.start").write_text(START.format(python=python))
        binds = {
            str(Path(gpumon.__file__).parent): "/opt/gpumon/lib/gpumon",
            sysconfig.get_path("purelib"): "/opt/gpumon/libraries",
            str(fakenvml.build()): FAKE_DRIVER,
            **{str(folder): target for folder, target in (shown or {}).items()},
        }
        command = [
            "unshare", "--mount", "--propagation=private", "/bin/sh", "-c", BOOT,
            "boot", str(work), " ".join(map(str, groups)),
            "systemd-nspawn", "--quiet", f"--directory={work}/root", "--boot", "--register=no", "--keep-unit",
            f"--machine=gpumon-{os.getpid()}", "--console=read-only", "--link-journal=no", "--private-network",
            "--system-call-filter=bpf",  # with it systemd holds services to the devices that they may open
            *(f"--bind-ro={source}:{target}" for source, target in binds.items()),
        ]  # fmt: skip
        log = Path(folder) / "log"
        with log.open("wb") as out:
            container = Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=STDOUT,
                env={**os.environ, "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"},
                start_new_session=True,
            )
        try:
            yield Machine(container, log)
        finally:
            for init in (one for child in _children(container.pid) for one in _children(child)):
                os.kill(init, HALT)
            try:
                container.wait(timeout=PATIENCE_SECONDS)
            except subprocess.TimeoutExpired:
                os.killpg(container.pid, signal.SIGKILL)
                container.wait()


def _children(process: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{process}/task/{process}/children").read_text().split()]
    except OSError:  # it ended
        return []
