"""Wheel and sdist: built twice, held against each other, installed where nothing else is, and tried."""

import contextlib
import hashlib
import json
import os
import re
import select
import signal
import subprocess
import sys
import tarfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from release.steps import ROOT, FaultError, clean_environment, run
from release.versions import version

PAGE = "gpumon/hub/page/"
MADE = re.compile(rf"{PAGE}|PKG-INFO$|\.gitignore$")
"""What an sdist has and the repository has not."""
START_SECONDS = 60.0


def build(folder: Path) -> tuple[Path, Path]:
    """The wheel and the sdist of this tree, in ``folder``.

    Raises:
        FaultError: the wheel of the tree and that of the sdist are not the same, byte for byte, or the sdist holds a
            file that nobody has committed.
    """
    run("uv", "build", "--quiet", "--out-dir", folder / "tree", "--wheel", ROOT)
    run("uv", "build", "--quiet", "--out-dir", folder / "sdist", "--sdist", ROOT)
    sdist = next((folder / "sdist").glob("*.tar.gz"))
    # Without a PATH there is no Node and no npm: the page must have come along.
    uv = run(sys.executable, "-c", "import uv; print(uv.find_uv_bin())").strip()
    empty = folder / "empty"
    empty.mkdir()
    again = ("build", "--quiet", "--python", sys.executable, "--out-dir", folder / "again", "--wheel", sdist)
    run(uv, *again, environment={**os.environ, "PATH": str(empty)})
    wheel, other = (next((folder / name).glob("*.whl")) for name in ("tree", "again"))
    if wheel.name != other.name or _hash(wheel) != _hash(other):
        raise FaultError(f"the wheel of the tree and that of the sdist differ: {_hash(wheel)}, {_hash(other)}")
    if strangers := uncommitted(sdist):
        raise FaultError(f"the sdist holds what is not committed: {', '.join(strangers[:10])}")
    return wheel, sdist


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def uncommitted(sdist: Path) -> list[str]:
    """The files in it that are neither in the repository nor made by the build."""
    tracked = set(run("git", "-c", f"safe.directory={ROOT}", "ls-files", "-z").split("\0"))
    with tarfile.open(sdist) as archive:
        held = [name.partition("/")[2] for name in archive.getnames() if name.count("/")]
    return sorted(name for name in held if name not in tracked and not MADE.match(name) and not _is_folder(name, held))


def _is_folder(name: str, names: list[str]) -> bool:
    return any(other.startswith(f"{name}/") for other in names)


def install_and_try(package: Path, python: Path, folder: Path) -> str:
    """Install ``package`` into an environment of its own, and see whether it works there, without Node."""
    run("uv", "venv", "--quiet", "--no-project", "--python", python, folder)
    inside = folder / "bin" / "python"
    run("uv", "pip", "install", "--quiet", "--python", inside, package)
    environment = clean_environment(PATH=f"{folder / 'bin'}", XDG_STATE_HOME=str(folder / "state"))
    said = run(folder / "bin" / "gpumon", "--version", cwd=folder, environment=environment)
    if version() not in said.split():
        raise FaultError(f"gpumon --version says {said.strip()!r}, this tree is {version()}")
    with demo(folder / "bin" / "gpumon", folder, environment) as url:
        nodes = try_hub(url)
    return f"{package.suffix.lstrip('.')} on {run(inside, '--version').strip()}: {nodes} nodes online"


@contextlib.contextmanager
def demo(gpumon: Path, folder: Path, environment: dict[str, str]) -> Iterator[str]:
    """Run the demo, and give its address. It must end by SIGTERM with status 0."""
    command: list[str | Path] = [gpumon, "demo", "--host", "127.0.0.1", "--port", "0"]
    with subprocess.Popen(command, cwd=folder, env=environment, stderr=subprocess.PIPE) as running:
        try:
            assert running.stderr is not None
            yield _address(running.stderr)
            running.send_signal(signal.SIGTERM)
            _, rest = running.communicate(timeout=10)
        finally:
            running.kill()
    if running.returncode:
        raise FaultError(f"gpumon demo ended with status {running.returncode}:\n{rest.decode(errors='replace')}")


def _address(stream: IO[bytes]) -> str:
    """Where the dashboard is, as the demo says on its standard error."""
    said, deadline = b"", time.monotonic() + START_SECONDS
    while not (match := re.search(rb"dashboard is at http://localhost:(\d+)/", said)):
        ready, _, _ = select.select([stream], [], [], max(0.0, deadline - time.monotonic()))
        part = os.read(stream.fileno(), 65536) if ready else b""
        if not part:
            raise FaultError(f"gpumon demo did not start:\n{said.decode(errors='replace')}")
        said += part
    return f"http://127.0.0.1:{match[1].decode()}"


def try_hub(url: str, nodes: int = 4) -> int:
    """Wait until ``nodes`` are online at the hub, then fetch its page with all that it loads. Gives their number."""
    deadline = time.monotonic() + START_SECONDS
    while (online := _online(url)) < nodes:
        if time.monotonic() > deadline:
            raise FaultError(f"{online} of {nodes} nodes are online after {START_SECONDS:.0f} s")
        time.sleep(0.2)
    page = _fetch(f"{url}/?format=page").decode()
    parts = re.findall(r"""(?:src|href)=["']\./([\w/.-]+)["']""", page)
    if not any(part.endswith(".js") for part in parts):
        raise FaultError(f"{url}/ is no page: {page[:200]}")
    for part in [*parts, "licences.txt"]:
        _fetch(f"{url}/{part}")
    return online


def _online(url: str) -> int:
    return [node["status"] for node in json.loads(_fetch(f"{url}/api/nodes"))].count("online")


def _fetch(url: str) -> bytes:
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return bytes(answer.read())
    except OSError as error:
        raise FaultError(f"{url}: {error}") from None
