"""Records what other programs tell of GPUs: ``.venv/bin/python -m tests.hub.recorded.record``.

The real programs, from the package index and in an environment of their own, meet the fake driver library; what they
write goes into the files beside this one, whole and unchanged:

- ``gpustat.json``, ``gpustat-lost.json``: ``gpustat --json``
- ``nvitop.txt``, ``nvitop-mig.txt``: ``/metrics`` of ``nvitop-exporter``

- ``nvidia_gpu_exporter-1.txt``: ``/metrics`` of nvidia_gpu_exporter, version 1, over a stand-in for nvidia-smi
  (``nvidia_smi.py``). It is not in the package index; ``NVIDIA_GPU_EXPORTER`` names the program, without which the file
  is left as it is. What is here was recorded with that program's own package ``exporter`` (commit 9a0edb2), compiled
  with Debian 13's Go 1.24 and client_golang behind a main function of a few lines, and less its list of fields for the
  case that nvidia-smi does not work.

``nvidia_gpu_exporter.txt``, ``dcgm.txt`` and ``dcgm-mig.txt`` are **not recorded**, but written by hand: version 2 of
the one needs libraries for Go that are not to be had, the other DCGM and a GPU. They say so in their first line. Names,
units and labels of the first were compared with the pages that the tests of nvidia_gpu_exporter 2 expect, made of what
nvidia-smi wrote for an H100 with MIG and for a GeForce under Windows. The others are, to the byte, what the template of
dcgm-exporter 4 (``render_metrics.go``) makes of these labels and values.
"""

import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.fakenvml import GIB, MigDevice, Process, Scenario, consumer, datacentre, environment

HERE = Path(__file__).parent
PROGRAMS = ("gpustat==1.1.1", "nvitop-exporter==1.7.2", "nvitop==1.7.2")
EXPORTER = os.environ.get("NVIDIA_GPU_EXPORTER")
STAND_IN = f"{sys.executable} -m tests.hub.recorded.nvidia_smi"
PORT = 18_123
SECONDS = 30
SECRET = "s3cr3t-0123456789abcdef"
"""What a careless user puts on a command line; no viewer may ever see it."""


def lab(pid: int) -> Scenario:
    """A board of a datacentre with a process on it, and one of a desktop."""
    scenario = datacentre(1)
    scenario.gpus[0].processes = [Process(pid, 2 * GIB)]
    desktop = consumer(1).gpus[0]
    desktop.processes = []
    scenario.gpus.append(desktop)
    return scenario


def lost() -> Scenario:
    """Of two boards the second has fallen off the bus."""
    scenario = datacentre(2)
    scenario.gpus[0].processes = []
    scenario.gpus[1].does["nvmlDeviceGetUUID"] = scenario.gpus[1].does["nvmlDeviceGetName"] = 15
    return scenario


def partitioned(pid: int) -> Scenario:
    """A board in two slices, a process in the first."""
    scenario = datacentre(1)
    board = scenario.gpus[0]
    board.mig_mode, board.processes, board.utilization, board.memory_utilization = 1, [], None, None
    board.mig_devices = [
        MigDevice(
            uuid=f"MIG-8c1f0000-0000-5000-8000-{place:012d}",
            name="NVIDIA H100 80GB HBM3 MIG 1g.10gb",
            gpu_instance=7 + place,
            compute_instance=0,
            slices=1,
        )
        for place in range(2)
    ]
    board.mig_devices[0].processes = [Process(pid, GIB)]
    return scenario


@contextmanager
def training(folder: Path) -> Iterator[int]:
    """A process as users start it; its number."""
    script = folder / "train.sh"
    script.write_text("while :; do sleep 1; done\n")
    process = subprocess.Popen(["/bin/sh", str(script), "--api-key", SECRET, "--data", "/home/alice/private"])
    try:
        yield process.pid
    finally:
        process.kill()
        process.wait()


def page(command: list[str], variables: dict[str, str], is_whole: Callable[[str], bool]) -> str:
    """What an exporter serves, once it has read all GPUs."""
    process = subprocess.Popen(command, env=variables, stderr=subprocess.PIPE, text=True)
    try:
        end = time.monotonic() + SECONDS
        while time.monotonic() < end and process.poll() is None:
            time.sleep(0.5)
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{PORT}/metrics", timeout=5) as answer:
                    text: str = answer.read().decode()
            except OSError:
                continue
            if is_whole(text):
                return text
    finally:
        process.terminate()
        _, said = process.communicate()
    raise SystemExit(f"{command[0]} gave no whole page: {said}")


def nvitop(program: Path, variables: dict[str, str]) -> str:
    command = [str(program), "--port", str(PORT), "--hostname", "node7"]
    of_link, of_slice = "gpu_nvlink_rx_throughput_MiBps{", 'index="0:1"'
    return page(command, variables, lambda text: (of_link in text and 'index="1"' in text) or of_slice in text)


def nvidia_gpu_exporter(program: str) -> str:
    """Less what the exporter tells of itself: Go, its process, its own requests."""
    command = [program, f"--web.listen-address=127.0.0.1:{PORT}", f"--nvidia-smi-command={STAND_IN}"]
    text = page(command, dict(os.environ), lambda text: "nvidia_smi_gpu_info{" in text)
    lines = (
        line for line in text.splitlines(keepends=True) if " nvidia_smi_" in line or line.startswith("nvidia_smi_")
    )
    return "".join(lines)


def main() -> None:
    with tempfile.TemporaryDirectory() as name, training(Path(name)) as pid:
        folder = Path(name)
        subprocess.run([sys.executable, "-m", "venv", str(folder / "v")], check=True)
        programs = folder / "v" / "bin"
        subprocess.run([str(programs / "pip"), "install", "--quiet", *PROGRAMS], check=True)
        scenario = folder / "scenario"
        variables = {**os.environ, **environment(scenario)}

        for file, made in {"gpustat.json": lab(pid), "gpustat-lost.json": lost()}.items():
            made.write(scenario)
            told = subprocess.run([str(programs / "gpustat"), "--json"], env=variables, capture_output=True, check=True)
            (HERE / file).write_bytes(told.stdout)
        for file, made in {"nvitop.txt": lab(pid), "nvitop-mig.txt": partitioned(pid)}.items():
            made.write(scenario)
            (HERE / file).write_text(nvitop(programs / "nvitop-exporter", variables))
        if EXPORTER is not None:
            (HERE / "nvidia_gpu_exporter-1.txt").write_text(nvidia_gpu_exporter(EXPORTER))


if __name__ == "__main__":
    main()
