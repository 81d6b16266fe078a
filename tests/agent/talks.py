"""The child that talks to the driver, talked to directly."""

import os
import subprocess
import sys
from pathlib import Path

from gpumon.agent.pipe import EVERY_PASS, Doing, Done, Pass, Read, Ready, Start, from_child, line
from gpumon.model import Gpu
from tests import fakenvml
from tests.fakenvml import Scenario

ROOT = Path(__file__).parents[2]
EVERYTHING = Pass(beats=EVERY_PASS)


class Talk:
    """One child, talked to directly."""

    def __init__(
        self,
        file: Path,
        log: Path | None = None,
        *,
        own_namespace: bool = False,
        start: Start | None = None,
    ) -> None:
        program = (
            "from gpumon.agent import nvml, processlists\n"
            f"processlists.namespace_is_the_machines = lambda: {not own_namespace}\n"
            "nvml.main()\n"
        )
        self.process = subprocess.Popen(
            [sys.executable, "-c", program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
            env={**os.environ, **fakenvml.environment(file, log=log)},
            pass_fds=() if start is None or start.aside is None else (start.aside,),
        )
        assert self.process.stdin is not None
        self.process.stdin.write(line(start or Start(root=str(file.parent / "no machine"))))
        self.process.stdin.flush()
        if start is None or start.aside is None:
            assert self.hear() == Doing(step="init")
        ready = self.hear()
        assert isinstance(ready, Ready)
        self.ready = ready
        self.announced: list[Doing] = []

    def hear(self) -> Ready | Doing | Read | Done:
        assert self.process.stdout is not None
        return from_child.decode(self.process.stdout.readline())

    def one_pass(self, request: Pass | None = None) -> tuple[Done, list[Gpu]]:
        assert self.process.stdin is not None
        self.process.stdin.write(line(request or EVERYTHING))
        self.process.stdin.flush()
        gpus: list[Gpu] = []
        self.announced = []
        while True:
            match self.hear():
                case Doing() as doing:
                    self.announced.append(doing)
                case Read(gpu=gpu):
                    gpus.append(gpu)
                case Done() as done:
                    return done, gpus

    def close(self) -> int:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.stdout.close()
        try:
            return self.process.wait(10)
        finally:
            self.process.kill()


class Driver:
    """A scenario in force, and children under it."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "scenario"
        self.log = folder / "calls"
        self.talks: list[Talk] = []

    def talk(self, scenario: Scenario, *, start: Start | None = None) -> Talk:
        scenario.write(self.file)
        self.talks.append(Talk(self.file, self.log, start=start))
        return self.talks[-1]

    def one(self, scenario: Scenario) -> Gpu:
        done, (gpu,) = self.talk(scenario).one_pass()
        assert done.error is None
        return gpu

    def calls(self) -> list[str]:
        return self.log.read_text(encoding="utf-8").split()
