"""``gpumon demo``: a hub, this machine's own agent and simulated agents, over real sockets, in one process."""

import asyncio
import logging
import socket

from gpumon.agent import app as agent
from gpumon.agent.scenario import Scenario
from gpumon.config import AgentSection, AuthSection, Config
from gpumon.hub import app as hub
from gpumon.listening import listen, url_of

log = logging.getLogger(__name__)

MACHINES = ("h200:8", "rtx5090:2,fault=throttled:0", "a100-mig:2,a100:2", "gb10")
"""What the simulated nodes have, one after the other and then from the start."""

LOOPBACK = "127.0.0.1"


async def run(listener: socket.socket, nodes: int) -> None:
    """Run a hub on ``listener`` with this machine's agent and ``nodes`` simulated ones, until cancelled."""
    host, port = listener.getsockname()[:2]
    url = f"http://{LOOPBACK}:{port}" if host in ("0.0.0.0", "::") else url_of(listener)
    # Its agents reach a hub on one address only by that, which is not loopback: they could not come without a token.
    config = Config(auth=AuthSection(push="token" if url.startswith(f"http://{LOOPBACK}:") else "open"))
    async with asyncio.TaskGroup() as group:
        group.create_task(hub.run(config, listener), name="hub")
        own = AgentSection(host=LOOPBACK, hub=[url])
        group.create_task(agent.run(own, listen(LOOPBACK, 0, "demo agent")), name="agent")
        for number in range(nodes):
            settings = AgentSection(host=LOOPBACK, hub=[url], name=f"simulated-{number + 1}")
            machine = Scenario.parse(MACHINES[number % len(MACHINES)])
            simulated = agent.run(settings, listen(LOOPBACK, 0, "demo agent"), machine)
            group.create_task(simulated, name=settings.name)
        log.info("the dashboard is at %s/ (Ctrl-C ends it)", url.replace(LOOPBACK, "localhost"))
