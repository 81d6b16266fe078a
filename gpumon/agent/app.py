"""The agent put together: reader, beat, link and server in one task group."""

import asyncio
import contextlib
import logging
import socket
import zlib

from gpumon import __version__
from gpumon.agent import pause
from gpumon.agent.link import Link
from gpumon.agent.outbox import Outbox
from gpumon.agent.pipe import Start
from gpumon.agent.reader import NvmlReader
from gpumon.agent.sample import Reader
from gpumon.agent.sampler import Sampler
from gpumon.agent.scenario import Scenario
from gpumon.agent.server import application
from gpumon.agent.simulate import SimulatedReader
from gpumon.config import AgentSection
from gpumon.serve import serve, url_of

log = logging.getLogger(__name__)


def node_name(settings: AgentSection, *, simulated: bool) -> str:
    """What the node is called: as configured, else as the machine, and never a simulation as the machine."""
    hostname = socket.gethostname().replace("/", "-") or "unnamed"
    return settings.name or (f"{hostname}-simulated" if simulated else hostname)


async def run(settings: AgentSection, listener: socket.socket, simulate: Scenario | None = None) -> None:
    """Run an agent on ``listener`` until cancelled; with the GPUs of ``simulate`` instead of real ones, if given."""
    node = node_name(settings, simulated=simulate is not None)
    if simulate is not None:
        seed = zlib.crc32(node.encode())  # another node has other GPUs, and the same one the same again
        await _run(settings, listener, SimulatedReader(simulate, seed), node)
        return
    async with NvmlReader(start=Start(wake_sleeping_gpus=settings.wake_sleeping_gpus)) as reader:
        with contextlib.suppress(RuntimeError, ValueError):  # where we are not the program's main thread
            asyncio.get_running_loop().add_signal_handler(pause.SIGNAL, reader.toggle)
        await _run(settings, listener, reader, node)


async def _run(settings: AgentSection, listener: socket.socket, reader: Reader, node: str) -> None:
    sampler = Sampler(reader, node, settings.interval_seconds)
    label = " (simulated)" if reader.simulated else ""
    log.info("gpumon %s: agent %s%s on %s", __version__, node, label, url_of(listener))
    async with asyncio.TaskGroup() as group:
        group.create_task(serve(application(sampler), listener), name="server")
        if settings.hub:
            outbox = Outbox()
            group.create_task(Link(settings.hub, sampler, outbox, listener.getsockname()[1]).run(), name="link")
            group.create_task(sampler.run(outbox.put), name="sampler")
        else:
            group.create_task(sampler.run(_keep_nothing), name="sampler")


def _keep_nothing(sequence: int, report: bytes) -> None:
    """No hub is configured: the newest report is served, the others are forgotten."""
    del sequence, report
