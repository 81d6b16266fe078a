"""The single file for aarch64, built and run under emulation: its agent reads a driver and reports to a hub here.

    python -m tests.long.aarch64                             15 minutes

It needs root, mmdebstrap, and QEMU as the kernel's interpreter of aarch64 programs (Debian: qemu-user-static with
binfmt-support), kept open (flag F) so that a root without QEMU can run them.
"""

import argparse
import os
import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path

from tests import fakenvml
from tests.long.harness import ROOT, Hub, Run, script, wait_for
from tests.packages.roots import PATH, Root, empty
from tests.running import free_port

INTERPRETER = Path("/proc/sys/fs/binfmt_misc/qemu-aarch64")
PACKAGES = "python3,python3-venv,gcc,libc6-dev,ca-certificates"
SECONDS = 120.0
"""For what is emulated."""


def check() -> None:
    """That such programs run here; ends the script with what is missing."""
    flags = INTERPRETER.read_text().split("flags:")[-1].splitlines()[0] if INTERPRETER.exists() else ""
    if "F" not in flags:
        sys.exit(f"{INTERPRETER} is missing or without flag F: install qemu-user-static and binfmt-support")


def debian(run: Run) -> Path:
    """A Debian for aarch64 that reaches what this machine reaches."""
    folder = run.folder / "debian"
    subprocess.run(
        [
            "mmdebstrap",
            "--quiet",
            "--architectures=arm64",
            "--variant=minbase",
            f"--include={PACKAGES}",
            "bookworm",
            folder,
        ],
        check=True,
    )
    shutil.copy("/etc/resolv.conf", folder / "etc/resolv.conf")
    shutil.rmtree(folder / "etc/ssl/certs")
    shutil.copytree("/etc/ssl/certs", folder / "etc/ssl/certs", ignore_dangling_symlinks=True)
    return folder


def build(run: Run, folder: Path) -> Path:
    """The single file of this tree."""
    run.say("building")
    command: list[str | Path] = [
        sys.executable,
        "-m",
        "hatchling",
        "build",
        "--target",
        "wheel",
        "--directory",
        run.folder,
    ]
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    (wheel,) = run.folder.glob("*.whl")
    shutil.copy(wheel, folder / "root")
    for name in ("packaging", "tests/setup"):
        shutil.copytree(ROOT / name, folder / "root" / name)
    index = {key: value for key, value in os.environ.items() if key.startswith("PIP_")} | {"PATH": PATH}
    root = Root(folder)
    with root.start("/root/packaging/frozen/build", "/root/out", f"/root/{wheel.name}", environment=index) as process:
        said, _ = process.communicate()
    if process.returncode != 0:
        raise RuntimeError(said)
    return folder / "root/out/gpumon"


def driver(debian: Path, machine: Root) -> dict[str, str]:
    """The fake driver, compiled for that processor; the environment in which it finds its scenario."""
    shutil.copy(Path(fakenvml.__file__).with_name("nvml.c"), debian / "root/nvml.c")
    Root(debian).run("gcc", "-shared", "-fPIC", "-O1", "-o", f"/root/{fakenvml.LIBRARY}", "/root/nvml.c", "-lpthread")
    shutil.copy(debian / "root" / fakenvml.LIBRARY, machine.path / "usr/lib")
    fakenvml.datacentre(gpus=2).write(machine.path / "scenario")
    environment = fakenvml.environment(Path("/scenario"))
    del environment["LD_LIBRARY_PATH"]
    return environment


def main(run: Run, options: argparse.Namespace) -> None:
    del options
    check()
    system = debian(run)
    file = build(run, system)
    told = subprocess.run(["readelf", "--file-header", file], capture_output=True, text=True, check=True).stdout
    run.claim("AArch64" in told, "the file is for aarch64")
    machine = empty(run.folder / "machine", file)
    environment = driver(system, machine)
    probe = machine.run("/gpumon", "probe", environment=environment)
    run.claim(" ok " in probe.partition("\n")[0], "probe reads the driver where nothing else is")
    hub = Hub(run)
    hub.start()
    port = free_port()
    arguments = ("--host=127.0.0.1", f"--port={port}", "--name=arm", f"--hub={hub.url}", "--state-dir=/state")
    with machine.start("/gpumon", "agent", *arguments, environment=environment) as agent:
        wait_for(lambda: hub.all_online(1), "the agent", SECONDS)
        (node,) = hub.nodes()
        report = node["report"]
        run.claim((report["status"], len(report["gpus"])) == ("ok", 2), "the hub shows its GPUs", report["status"])
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=SECONDS) as answer:
            run.claim(answer.status == 200, "it says that it is well")
        agent.terminate()
        agent.communicate(timeout=SECONDS)
    run.claim(agent.returncode == 0, "SIGTERM ends it in order", agent.returncode)
    run.claim(not list((machine.path / "tmp").iterdir()), "it leaves nothing in /tmp")


if __name__ == "__main__":
    script(main)
