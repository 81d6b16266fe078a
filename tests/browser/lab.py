"""A small lab: a real hub, and a real agent over the fake driver."""

import contextlib
from pathlib import Path

from tests.fakenvml import Scenario, environment
from tests.running import Program, free_port, program

HOST = "127.0.0.1"


class Lab:
    """A hub and one agent, ``n``, on a fake driver that a test changes."""

    def __init__(self, folder: Path, scenario: Scenario, *extra: str, agent_port: int = 0) -> None:
        self.folder = folder
        self.file = folder / "scenario"
        self.scenario = scenario
        self.agent_port = agent_port
        self.write()
        self.processes = contextlib.ExitStack()
        self.port = free_port()  # where a hub that is started again finds nobody
        self._extra = extra
        self.start_hub()
        self.url = f"http://{HOST}:{self.port}"
        self.agent = self.processes.enter_context(self._agent())
        self.agent.wait_for("connected to gpumon")

    def _agent(self) -> contextlib.AbstractContextManager[Program]:
        arguments = (
            "agent",
            f"--host={HOST}",
            f"--port={self.agent_port}",
            "--name=n",
            "--interval=0.2",
            f"--hub={self.url}",
        )
        return program(*arguments, environment=environment(self.file))

    def write(self) -> None:
        self.scenario.write(self.file)

    def becomes(self, scenario: Scenario) -> None:
        """From now on the driver tells this."""
        self.scenario = scenario
        self.write()

    def start_hub(self) -> None:
        arguments = ("hub", f"--host={HOST}", f"--port={self.port}", *self._extra)
        self.hub = self.processes.enter_context(program(*arguments, folder=self.folder))
        self.hub.port("hub")
