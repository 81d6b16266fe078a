"""The packages on other systems: what is built here is installed there, runs, and leaves nothing.

    python -m tests.long.packages                            Debian 11 to 13: 5 minutes
    python -m tests.long.packages --suites "focal jammy noble" --too-old focal --mirror "deb URL {suite} main universe"
                                                             Ubuntu, from a mirror of it

The roots are made by mmdebstrap of what the network has. It needs root, and the Debian packages mmdebstrap, lintian and
dpkg-dev.
"""

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

from tests import fakenvml
from tests.long.harness import ROOT, Run, script
from tests.packages.roots import Root, empty

LOOKED_AT = ("etc", "usr", "var/lib", "opt", "run")
BOOKS = ("/var/lib/dpkg/", "/var/lib/apt/")


def built(run: Run) -> tuple[Path, Path]:
    """The single file and the Debian package."""
    run.say("building")
    frozen = run.folder / "frozen"
    build: list[str | Path] = [
        sys.executable,
        "-m",
        "hatchling",
        "build",
        "--target",
        "wheel",
        "--directory",
        run.folder,
    ]
    subprocess.run(build, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    (wheel,) = run.folder.glob("*.whl")
    subprocess.run([ROOT / "packaging/frozen/build", frozen, wheel], check=True)
    subprocess.run([ROOT / "packaging/deb/build", frozen, run.folder], check=True)
    return frozen / "gpumon", next(run.folder.glob("*.deb"))


def system(run: Run, suite: str, mirror: str) -> Root:
    """A system of this name with nothing but what every one has. ``mirror``: a line for apt, none for Debian's."""
    folder = run.folder / suite
    source = [mirror.format(suite=suite)] if mirror else []
    command = ["mmdebstrap", "--quiet", "--variant=apt", "--skip=cleanup/apt/lists", suite, str(folder), *source]
    subprocess.run(command, check=True)
    return Root(folder)


def files(root: Root) -> set[str]:
    found = {f"/{file.relative_to(root.path)}" for name in LOOKED_AT for file in (root.path / name).rglob("*")}
    return {name for name in found if not name.startswith(BOOKS)}


def reads_gpus(root: Root, program: str) -> bool:
    """Whether the driver of that system, which is a fake, is read there."""
    environment = fakenvml.environment(Path("/scenario"))
    library = Path(environment.pop("LD_LIBRARY_PATH"), fakenvml.LIBRARY)
    folder = root.path / "usr/lib"
    shutil.copy(library, folder)
    fakenvml.datacentre(gpus=2).write(root.path / "scenario")
    try:
        return '"status":"ok"' in root.run(program, "probe", "--json", environment=environment).replace(" ", "")
    finally:
        (folder / fakenvml.LIBRARY).unlink()


def main(run: Run, options: argparse.Namespace) -> None:
    file, package = built(run)
    found = subprocess.run(
        ["lintian", "--allow-root", "--fail-on=error,warning", package], capture_output=True, text=True, check=False
    )
    run.claim(found.returncode == 0, "lintian finds nothing", found.stdout.strip())
    nothing = empty(run.folder / "nothing", file)
    run.claim(reads_gpus(nothing, "/gpumon"), "the file reads GPUs where nothing else is")
    for suite in options.suites.split():
        root = system(run, suite, options.mirror)
        shutil.copy(file, root.path / "usr/local/bin/gpumon-file")
        run.claim(reads_gpus(root, "/usr/local/bin/gpumon-file"), f"{suite}: the file reads GPUs")
        if suite in options.too_old.split():
            continue
        shutil.copy(package, root.path / "root/gpumon.deb")
        before = files(root)
        root.run("apt-get", "--quiet", "--yes", "install", "/root/gpumon.deb")
        run.claim(reads_gpus(root, "/usr/bin/gpumon"), f"{suite}: the package's program reads GPUs")
        root.run("apt-get", "--quiet", "--yes", "--autoremove", "purge", "gpumon")
        left = files(root) - before
        run.claim(not left, f"{suite}: purged, it leaves nothing", " ".join(sorted(left)) or "nothing")


if __name__ == "__main__":
    script(
        main,
        ("--suites", "bullseye bookworm trixie", "releases of Debian or its kin"),
        ("--mirror", "", "a line for apt, {suite} for the release, where they are not Debian's"),
        ("--too-old", "bullseye", "those of them that are too old for the package"),
    )
