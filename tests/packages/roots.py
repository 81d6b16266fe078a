"""Other machines, as far as a program can tell: a root of its own, in which it finds what the test has put there.

They need root. Their mounts are those of one process each, and end with it; the network is the machine's.
"""

import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from subprocess import DEVNULL, PIPE, STDOUT, Popen, run

import pytest

PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
BUILD_SECONDS = 900
BOOKS = ("/var/lib/dpkg/", "/var/log/", "/var/cache/man/")
"""What the first test of a package may take, which builds it, on a machine that is busy with other tests."""

ENVIRONMENT = {"PATH": PATH, "HOME": "/root", "LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"}


def need_root() -> None:
    """Leave the test out where it may not mount; continuous integration may."""
    if os.geteuid() != 0:
        assert "CI" not in os.environ, "the packages' tests need root"
        pytest.skip("needs root, to give the package a root of its own")


def need_dpkg() -> None:
    """Leave the test out on other systems than Debian and its kin."""
    if shutil.which("dpkg") is None:
        assert "CI" not in os.environ, "the packages' tests need Debian"
        pytest.skip("needs dpkg")


class Root:
    """A folder that is the whole world to what runs in it. ``mounts`` are commands that make it so."""

    def __init__(self, folder: Path, mounts: str = "") -> None:
        need_root()
        self.path = folder
        self._mounts = f"{mounts}\nmount -t proc proc {folder}/proc\nmount --rbind /dev {folder}/dev"

    def start(self, *command: str, environment: dict[str, str] | None = None) -> Popen[str]:
        """Start a program; its id is that of the process that is told of signals."""
        script = f'set -e\n{self._mounts}\nexec chroot {self.path} "$@"'
        return Popen(
            ["unshare", "--mount", "sh", "-c", script, "sh", *command],
            env=ENVIRONMENT | (environment or {}),
            stdin=DEVNULL,
            stdout=PIPE,
            stderr=STDOUT,
            text=True,
        )

    def run(self, *command: str, environment: dict[str, str] | None = None) -> str:
        """Run a program to its end, which must be a good one; what it said."""
        with self.start(*command, environment=environment) as process:
            said, _ = process.communicate(timeout=300)
        assert process.returncode == 0, f"{command}: status {process.returncode}\n{said}"
        return said


def empty(folder: Path, program: Path) -> Root:
    """A machine with one program and nothing else: no C library, no Python, no shell."""
    for name in ("proc", "dev", "tmp", "usr/lib"):
        (folder / name).mkdir(parents=True)
    shutil.copy(program, folder / "gpumon")
    return Root(folder)


class Twin(Root):
    """This machine once more: what changes there lies in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        need_root()
        for name in ("changes", "work", "root"):
            (folder / name).mkdir(parents=True)
        self.changes = folder / "changes"
        layers = f"lowerdir=/,upperdir={self.changes},workdir={folder / 'work'}"
        super().__init__(folder / "root", f"mount -t overlay overlay -o {layers} {folder / 'root'}")

    def file(self, path: str) -> Path:
        """What has become of ``path`` there: only for what was made or changed."""
        return self.changes / path.lstrip("/")

    def leavings(self) -> set[str]:
        """What is there and not on this machine, or not as it is here, but for the books of dpkg and of man."""
        return {name for name in self._changed() if not name.startswith(BOOKS)}

    def _changed(self) -> Iterator[str]:
        for path in self.changes.rglob("*"):
            name = f"/{path.relative_to(self.changes)}"
            mode = path.lstat().st_mode
            is_here = os.path.lexists(name)
            if stat.S_ISCHR(mode):  # it was taken away
                if is_here:
                    yield f"{name} (gone)"
            elif not (is_here and path.is_dir()):
                yield name


def stdout_of(*command: str | Path) -> str:
    """What a program of this machine says."""
    done = run(command, stdout=PIPE, stderr=STDOUT, text=True, check=False)
    assert done.returncode == 0, f"{command}: status {done.returncode}\n{done.stdout}"
    return done.stdout
