"""Real programs and real servers for tests: started on free ports, ended by the test that started them."""

import asyncio
import contextlib
import os
import random
import re
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from subprocess import PIPE, Popen, TimeoutExpired
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import aiohttp

from gpumon.agent import app as agent_app
from gpumon.agent.scenario import Scenario
from gpumon.certificates import Shown, trusting
from gpumon.config import AgentSection, Config
from gpumon.hub import app as hub_app
from gpumon.listening import listen

T = TypeVar("T")
PATIENCE_SECONDS = 40.0


async def until(condition: Callable[[], Awaitable[T]], patience: float = PATIENCE_SECONDS) -> T:
    """Wait for ``condition`` to give something true, and give that."""
    deadline = time.monotonic() + patience
    while not (result := await condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not true within {patience:g} s: {condition}")
        await asyncio.sleep(0.02)
    return result


async def until_true(condition: Callable[[], object], patience: float = PATIENCE_SECONDS) -> None:
    """Wait until ``condition`` holds."""

    async def check() -> object:
        return condition()

    await until(check, patience)


def free_port(address: str = "127.0.0.1", kinds: Sequence[socket.SocketKind] = (socket.SOCK_STREAM,)) -> int:
    """A port on which nobody listens, by any of ``kinds``, for a server that comes and goes.

    It is below those that the kernel gives to whoever connects: while a server is away, one of these could get its
    port, even by connecting to it, and would then be connected to itself.
    """
    while True:
        port = random.randint(20_000, 32_000)
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
            for kind in kinds:
                stack.enter_context(socket.socket(type=kind)).bind((address, port))
            return port


class Site:
    """A server that runs: where it is, and a client to ask it."""

    def __init__(self, port: int, session: aiohttp.ClientSession, shown: Shown | None = None) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}" if shown is None else f"https://127.0.0.1:{port}"
        self.shown = shown
        self.session = session

    async def get(self, path: str) -> Any:
        async with self.session.get(self.url + path) as response:
            return await response.json(content_type=None)

    async def node(self, name: str) -> dict[str, Any]:
        """One node, or an empty object while the hub does not know it."""
        node = await self.get(f"/api/nodes/{name}")
        assert isinstance(node, dict)
        return node if "name" in node else {}

    async def node_when(self, name: str, condition: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
        """One node, as soon as ``condition`` holds of it."""

        async def check() -> dict[str, Any] | None:
            node = await self.node(name)
            return node if node and condition(node) else None

        found = await until(check)
        assert found is not None
        return found


@asynccontextmanager
async def _site(
    main: Callable[[socket.socket], Awaitable[None]], port: int = 0, shown: Shown | None = None
) -> AsyncIterator[Site]:
    listener = listen("127.0.0.1", port, "test")
    port = listener.getsockname()[1]

    async def run() -> None:
        await main(listener)

    tls = True if shown is None else trusting(None, shown.certificate.fingerprint)
    connector = aiohttp.TCPConnector(ssl=tls)
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(30), connector=connector) as session:
        task = asyncio.create_task(run())  # no group: a failing test should show its own error, not a group's
        try:
            yield Site(port, session, shown)
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


def running_hub(config: Config | None = None, port: int = 0, **options: Any) -> Any:
    """A hub, by TLS if it is configured with a certificate; ``options`` are those of :func:`gpumon.hub.app.run`."""
    settings = config or Config()
    shown = Shown(settings.tls) if settings.tls.certificate else None
    return _site(lambda listener: hub_app.run(settings, listener, shown=shown, **options), port, shown)


def running_agent(
    settings: AgentSection | None = None, simulate: int | str | None = 2, port: int = 0, **options: Any
) -> Any:
    """An agent, of simulated GPUs unless told otherwise; ``options`` are those of :func:`gpumon.agent.app.run`."""
    scenario = None if simulate is None else Scenario.parse(str(simulate))
    shown = Shown(options["tls"]) if "tls" in options and options["tls"].certificate else None

    async def main(listener: socket.socket) -> None:
        await agent_app.run(settings or AgentSection(), listener, scenario, shown=shown, **options)

    return _site(main, port, shown)


class Program:
    """``gpumon`` as a process of its own."""

    def __init__(self, *arguments: str, environment: dict[str, str] | None = None, folder: Path | None = None) -> None:
        clean = {key: value for key, value in os.environ.items() if not key.startswith("GPUMON_")}
        here = str(Path(__file__).parent.parent)
        self.process = Popen(
            [sys.executable, "-m", "gpumon", *arguments],
            stdout=PIPE,
            stderr=PIPE,
            text=True,
            cwd=folder,
            env=clean | {"PYTHONPATH": here} | (environment or {}),
        )
        self.said = ""
        self.wrote = ""

    def wait_for(self, pattern: str) -> re.Match[str]:
        """Read standard error until a line matches ``pattern``."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.said += line
            if match := re.search(pattern, line):
                return match
        raise AssertionError(f"ended without saying {pattern!r}:\n{self.said}")

    def port(self, role: str) -> int:
        """The port that the hub or agent says it listens on."""
        return int(self.wait_for(rf"{role}\b.* on https?://\S+:(\d+)")[1])

    def end(self, number: int = signal.SIGTERM, patience: float = 30) -> int:
        """Send a signal and wait for the exit status."""
        self.process.send_signal(number)
        return self.status(patience)

    def status(self, patience: float = 30) -> int:
        """Wait for the exit status, and keep what was said, and written to standard output."""
        self.wrote, errors = self.process.communicate(timeout=patience)
        self.said += errors
        return self.process.returncode


@contextmanager
def program(
    *arguments: str, environment: dict[str, str] | None = None, folder: Path | None = None
) -> Iterator[Program]:
    """Run ``gpumon``, and see to its end."""
    with TemporaryDirectory() as state:
        yield from _program(arguments, {"XDG_STATE_HOME": state} | (environment or {}), folder)


def _program(arguments: Sequence[str], environment: dict[str, str], folder: Path | None) -> Iterator[Program]:
    running = Program(*arguments, environment=environment, folder=folder)
    try:
        yield running
    finally:
        if running.process.poll() is None:
            running.process.terminate()
            try:
                running.process.communicate(timeout=30)
            except TimeoutExpired:
                running.process.kill()
                running.process.communicate(timeout=30)
        for stream in (running.process.stdout, running.process.stderr):
            if stream is not None:
                stream.close()
