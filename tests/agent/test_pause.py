"""``gpumon pause`` finds agents, and only agents that will not die of it."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from click.testing import CliRunner

from gpumon.agent.pause import answers, is_agent, running_agents
from gpumon.cli import cli
from tests import fakenvml
from tests.running import until_true

CATCHES = "SigCgt:\t0000000000004a02\n"  # SIGUSR1 among them
IGNORES = "SigCgt:\t0000000000004002\n"


def process(proc: Path, pid: int, command: list[str], status: str = CATCHES) -> None:
    folder = proc / str(pid)
    folder.mkdir()
    (folder / "cmdline").write_bytes("\0".join(command).encode() + b"\0")
    (folder / "status").write_text(f"Name:\tx\n{status}")


def test_agents_are_told_from_everything_else(tmp_path: Path) -> None:
    process(tmp_path, 10, ["/opt/venv/bin/python", "/opt/venv/bin/gpumon", "agent", "--hub", "http://hub:8080"])
    process(tmp_path, 11, [sys.executable, "-m", "gpumon", "agent"])
    process(tmp_path, 12, ["gpumon", "-mode=server", "-port=8081"])
    process(tmp_path, 20, ["gpumon", "agent", "--simulate", "8"], IGNORES)  # the signal would end it
    process(tmp_path, 21, ["gpumon", "hub"])
    process(tmp_path, 22, ["grep", "-r", "gpumon agent"])
    process(tmp_path, 23, [""])
    process(tmp_path, os.getpid(), ["gpumon", "agent"])
    (tmp_path / "30").mkdir()
    (tmp_path / "version").write_text("")
    assert running_agents(tmp_path) == [10, 11, 12]
    assert not is_agent(30, tmp_path)
    assert not answers(30, tmp_path)


def test_what_is_no_agent_is_not_signalled() -> None:
    found = CliRunner().invoke(cli, ["pause", "--pid", str(os.getppid())])
    assert found.exit_code != 0
    assert "no agent" in str(found.exception)


async def test_an_agent_pauses_on_the_signal_and_resumes_on_the_next(tmp_path: Path) -> None:
    file, log = tmp_path / "scenario", tmp_path / "calls"
    fakenvml.datacentre(1).write(file)
    command = [sys.executable, "-m", "gpumon", "agent", "--host", "127.0.0.1", "--port", "0"]
    environment = {**os.environ, **fakenvml.environment(file, log=log), "GPUMON_STATE_DIR": str(tmp_path)}
    cwd = Path(__file__).parents[2]
    with subprocess.Popen(command, env=environment, cwd=cwd) as agent:  # noqa: ASYNC220 - starting it is quick
        try:
            await until_true(lambda: answers(agent.pid) and log.exists() and "nvmlEventSetWait_v2" in log.read_text())
            assert agent.pid in running_agents()
            for calls in ("nvmlShutdown", "nvmlInitWithFlags"):
                log.write_text("")
                assert CliRunner().invoke(cli, ["pause", "--pid", str(agent.pid)]).exit_code == 0
                await until_true(lambda calls=calls: calls in log.read_text())  # type: ignore[misc]
            agent.send_signal(signal.SIGTERM)
            assert agent.wait(10) == 0
        finally:
            agent.kill()
