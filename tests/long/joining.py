"""Agents of another machine join a hub as people do it: by the token; without one, by an admin; and are shown out.

python -m tests.long.joining                             2 minutes; needs root or user namespaces, and ip
"""

import argparse
import json
import shutil
import subprocess
import sys
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.long.harness import HUB_ADDRESS, Cable, Run, isolate, script, wait_for
from tests.running import free_port

COMES_BACK_SECONDS = 65.0
"""An agent that was refused tries again after 30 to 60 s."""


class Lab:
    """A hub that listens beyond its own machine, and who is asked about it."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._cable = Cable(run)
        self.state = run.folder / "hub"
        port = free_port(HUB_ADDRESS)
        self.url = f"http://{HUB_ADDRESS}:{port}"
        self.log = run.folder / "hub.log"
        self._gpumon("hub", f"--host={HUB_ADDRESS}", f"--port={port}", f"--state-dir={self.state}", output=self.log)
        wait_for(lambda: self.get("/health"), "the hub's answer")

    def agent(self, name: str, token: str | None = None, state: str | None = None) -> Any:
        """An agent at the other end of the cable."""
        return self._gpumon(
            "agent",
            "--port=0",
            "--simulate=1",
            f"--name={name}",
            f"--hub={self.url}",
            f"--state-dir={self._run.folder / (state or name)}",
            prefix=self._cable.over,
            environment={} if token is None else {"GPUMON_JOIN_TOKEN": token},
            output=self._run.folder / f"{state or name}.log",
        )

    def said(self, agent: str) -> str:
        return (self._run.folder / f"{agent}.log").read_text()

    def ask(self, *arguments: str) -> Any:
        """What ``gpumon agents`` tells on the hub's machine."""
        token = (self.state / "viewers.token").read_text().strip()
        command = [sys.executable, "-m", "gpumon", "agents", f"--hub={self.url}", *arguments]
        done = subprocess.run(
            command, capture_output=True, text=True, check=True, env={"GPUMON_TOKEN": token, "PATH": "/usr/bin"}
        )
        return json.loads(done.stdout) if "--json" in arguments else done.stdout

    def get(self, path: str) -> Any:
        with suppress(OSError, ValueError), urllib.request.urlopen(self.url + path, timeout=5) as answer:
            return json.load(answer)
        return None

    def status(self, name: str) -> str | None:
        node = self.get(f"/api/nodes/{name}")
        return None if node is None else str(node["status"])

    def _gpumon(
        self,
        *arguments: str,
        output: Path,
        prefix: list[str] | None = None,
        environment: dict[str, str] | None = None,
    ) -> Any:
        command = [*(prefix or []), sys.executable, "-m", "gpumon", *arguments]
        return self._run.start(*command, environment=environment, output=output)


def main(run: Run, _: argparse.Namespace) -> None:
    lab = Lab(run)
    token = (lab.state / "join-token").read_text().strip()
    run.claim(token in lab.log.read_text(), "the hub's first start prints the line that lets a node join")

    lab.agent("by-token", token)
    lab.agent("waits")
    lab.agent("wrong-token", token[:-4] + ("0000" if token[-4:] != "0000" else "1111"))
    run.within(10, "who has the token comes in", lambda: lab.status("by-token") == "online")
    run.within(10, "two wait", lambda: len(lab.ask("list", "--json")["waiting"]) == 2)
    run.claim([node["name"] for node in lab.get("/api/nodes")] == ["by-token"], "nothing else of them is shown")
    waiting = {one["node"]: one for one in lab.ask("list", "--json")["waiting"]}
    run.claim(waiting["waits"]["code"] in lab.said("waits"), "the list and the agent's own log show the same code")

    lab.ask("admit", waiting["waits"]["code"])
    run.within(COMES_BACK_SECONDS, "who was admitted comes in", lambda: lab.status("waits") == "online")
    run.claim("wrong-token" in {one["node"] for one in lab.ask("list", "--json")["waiting"]}, "the other still waits")

    copy = run.folder / "stolen"
    shutil.copytree(run.folder / "waits", copy)
    stolen = next(copy.glob("agent-*.json"))
    state = json.loads(stolen.read_text())
    stolen.unlink()
    (copy / "agent-by-token.json").write_text(json.dumps(state | {"node": "by-token"}))
    lab.agent("by-token", state="stolen")
    run.within(10, "a secret does not make its thief another node", lambda: "joined as waits" in lab.said("stolen"))

    lab.ask("revoke", "by-token")
    run.within(5, "who is revoked is cut off", lambda: "an admin has revoked it" in lab.said("by-token"))
    run.within(20, "and is not online any longer", lambda: lab.status("by-token") == "offline")


if __name__ == "__main__":
    isolate()
    script(main)
