"""A lab in which the documentation's commands are tried: a hub, one with a certificate, and a node.

What the documentation calls by made-up names is here what :data:`World.names` says, so that commands run as they are.
"""

import os
import re
import shlex
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.authority import Authority
from tests.docs.blocks import ROOT
from tests.running import free_port, program

NODE = "lab-node"


@dataclass(frozen=True)
class World:
    """Where it all lies, and what stands for what. ``names`` are patterns and what they become in a command."""

    folder: Path
    environment: dict[str, str]
    names: tuple[tuple[str, str], ...]

    def spoken(self, command: str) -> str:
        """``command`` with this world's addresses, ports and tokens in place of the made-up ones."""
        for pattern, here in self.names:
            command = re.sub(pattern, lambda _, here=here: here, command)  # type: ignore[misc]
        return command


@contextmanager
def world(folder: Path) -> Iterator[World]:
    """One of a test's own, in ``folder``."""
    authority = Authority(folder)
    signed = authority.sign("hub")
    authority.file.rename(folder / "lab-ca.pem")
    home = folder / "home"
    home.mkdir()
    (home / ".config/fish/completions").mkdir(parents=True)
    (home / ".curlrc").write_text("fail-with-body\nsilent\nshow-error\n")  # an answer of 404 is no success
    with ExitStack() as stack:
        hub, agent, secure = (free_port() for _ in range(3))
        (folder / "config.json").write_text(
            f'{{"nodes": [{{"name": "{NODE}", "host": "127.0.0.1", "port": {agent}, "alias": "Training"}}]}}'
        )
        state = {"XDG_STATE_HOME": str(folder / "state")}
        hosts = ("--host", "127.0.0.1")
        first = stack.enter_context(program("hub", *hosts, f"--port={hub}", environment=state, folder=folder))
        first.port("hub")
        tls = (f"--tls-certificate={signed.certificate}", f"--tls-key={signed.key}")
        second = stack.enter_context(program("hub", *hosts, f"--port={secure}", *tls, folder=home))
        second.port("hub")
        url = f"http://127.0.0.1:{hub}"
        simulated = ("--simulate=h200:2", f"--name={NODE}", f"--hub={url}")
        node = stack.enter_context(program("agent", *hosts, f"--port={agent}", *simulated, folder=home))
        node.wait_for("connected to gpumon")
        token = (folder / "state" / "gpumon" / "join-token").read_text().strip()
        viewers = (folder / "state" / "gpumon" / "viewers.token").read_text().strip()
        environment = {
            "PATH": f"{_command(folder)}:{os.environ['PATH']}",
            "HOME": str(home),
            "XDG_STATE_HOME": str(folder / "own"),
            "SSL_CERT_FILE": str(folder / "lab-ca.pem"),
            "PYTHONPATH": str(ROOT),
            "LANG": "C.UTF-8",
            # Ports that are not said are free ones; machines have simulated GPUs.
            "GPUMON_HUB_PORT": "0",
            "GPUMON_AGENT_PORT": "0",
            "GPUMON_DEMO_PORT": "0",
            "GPUMON_HUB": url,
            "GPUMON_TOKEN": viewers,
            "GPUMON_AGENT_SIMULATE": "h200:2",
            "GPUMON_PROBE_SIMULATE": "h200:2",
        }
        fingerprint = signed.fingerprint
        yield World(
            folder,
            environment,
            (
                (r"https://(?:the-hub|hub\.lab|hub):8080", f"https://127.0.0.1:{secure}"),
                (r"http://(?:the-hub|hub|hub\.lab|localhost|127\.0\.0\.1):8080|\b(?:the-hub|localhost):8080\b", url),
                (
                    r"http://(?:a-node|gpu-server-1|localhost):8081|\b(?:a-node|gpu-server-1):8081\b",
                    f"http://127.0.0.1:{agent}",
                ),
                (r"sha256=5f1c\.\.\.", f"sha256={fingerprint}"),
                (r"gpumon-join-…", token),
                (r"Bearer TOKEN\b", f"Bearer {viewers}"),
                (r"/api/nodes/NAME\b", f"/api/nodes/{NODE}"),
                (r"(?<=\s)--?port[= ]\d+\b", "--port=0"),
            ),
        )


def _command(folder: Path) -> Path:
    """A folder with ``gpumon`` in it, of this tree and this Python."""
    place = folder / "bin"
    place.mkdir()
    script = place / "gpumon"
    script.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m gpumon "$@"\n')
    script.chmod(0o755)
    return place
