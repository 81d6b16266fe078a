"""The agent put together: reader, beat, link and server in one task group."""

import asyncio
import contextlib
import functools
import logging
import socket
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from gpumon import __version__
from gpumon.agent import pause
from gpumon.agent.backoff import Pace
from gpumon.agent.identity import identity
from gpumon.agent.joining import Joining, TokenSource
from gpumon.agent.link import Link
from gpumon.agent.outbox import Outbox
from gpumon.agent.pipe import Start
from gpumon.agent.reader import NvmlReader
from gpumon.agent.reload import Reload, Settings
from gpumon.agent.sample import Reader
from gpumon.agent.sampler import Sampler
from gpumon.agent.scenario import Scenario
from gpumon.agent.server import application
from gpumon.agent.simulate import SimulatedReader
from gpumon.agent.standing import look_after
from gpumon.agent.watchdog import Watchdog
from gpumon.certificates import Shown
from gpumon.config import AgentSection, DnsSection, TlsSection
from gpumon.listening import url_of
from gpumon.notify import NOBODY, Manager
from gpumon.refusals import Refusals
from gpumon.serve import serve

log = logging.getLogger(__name__)

IDENTITY_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Service:
    """What an agent has that is a program of its own: settings to read again, if they are in a file, a folder for its
    identity, if it is to be kept, what lets it join a hub, a watchdog that may end the process, and perhaps a service
    ``manager``.
    """

    read_again: Callable[[], Settings] | None
    state_folder: Path | None
    tokens: TokenSource = field(default_factory=TokenSource)
    manager: Manager = NOBODY


def node_name(settings: AgentSection, *, simulated: bool) -> str:
    """What the node is called: as configured, else as the machine, and never a simulation as the machine."""
    hostname = socket.gethostname().replace("/", "-") or "unnamed"
    return settings.name or (f"{hostname}-simulated" if simulated else hostname)


async def run(
    settings: AgentSection,
    listener: socket.socket,
    simulate: Scenario | None = None,
    dns: DnsSection | None = None,
    service: Service | None = None,
    pace: Pace | None = None,
    tls: TlsSection | None = None,
    shown: Shown | None = None,
) -> None:
    """Run an agent on ``listener`` until cancelled, by TLS if it has a certificate to be ``shown``; with the GPUs of
    ``simulate`` instead of real ones, if given.

    Without ``service`` it is a guest in somebody else's process: it keeps nothing and takes no signals but that of
    ``gpumon pause``.
    """
    node = node_name(settings, simulated=simulate is not None)
    agent = _Agent(settings, dns or DnsSection(), listener, node, service, pace, tls or TlsSection(), shown)
    if simulate is not None:
        seed = zlib.crc32(node.encode())  # another node has other GPUs, and the same one the same again
        await agent.run(SimulatedReader(simulate, seed))
        return
    async with NvmlReader(start=Start(wake_sleeping_gpus=settings.wake_sleeping_gpus)) as reader:
        with contextlib.suppress(RuntimeError, ValueError):  # where we are not the program's main thread
            asyncio.get_running_loop().add_signal_handler(pause.SIGNAL, reader.toggle)
        await agent.run(reader)


@dataclass(frozen=True, slots=True)
class _Agent:
    settings: AgentSection
    dns: DnsSection
    listener: socket.socket
    node: str
    service: Service | None
    pace: Pace | None
    tls: TlsSection
    shown: Shown | None

    async def run(self, reader: Reader) -> None:
        sampler = Sampler(reader, self.node, self.settings.interval_seconds)
        sampler.tags = self.settings.tags
        label = " (simulated)" if reader.simulated else ""
        log.info("gpumon %s: agent %s%s on %s", __version__, self.node, label, self._url())
        with contextlib.ExitStack() as end:
            watchdog = Watchdog()
            if self.service is not None:
                end.enter_context(watchdog)
            identify = functools.partial(self._identify, end)
            outbox = Outbox()
            port = self.listener.getsockname()[1]
            link = Link(self.settings.hub, sampler, outbox, port, self.dns, identify, watchdog, self.pace, self.tls.ca)

            def deliver(sequence: int, report: bytes) -> None:
                if link.hubs:
                    outbox.put(sequence, report, sampler.interval)

            async with asyncio.TaskGroup() as group:
                if self.service is not None:
                    begun = (self.settings, self.dns, self.tls)
                    manager = self.service.manager
                    reload = Reload(begun, self.service.read_again, sampler, link, manager)
                    group.create_task(reload.run(), name="reload")
                    group.create_task(look_after(manager, sampler, link), name="manager")
                if self.shown is not None:
                    group.create_task(self._keep_certificate(self.shown, sampler), name="certificate")
                refusals = Refusals()
                served = application(sampler, link.state, refusals, self.settings.token)
                context = self.shown.context if self.shown is not None else None
                group.create_task(serve(served, self.listener, refusals=refusals, tls=context), name="server")
                group.create_task(link.run(), name="link")
                group.create_task(sampler.run(deliver), name="sampler")

    def _url(self) -> str:
        return url_of(self.listener, tls=self.shown is not None)

    async def _keep_certificate(self, shown: Shown, sampler: Sampler) -> None:
        def tell() -> None:
            found = (shown.trouble, shown.expiry("The agent's"))
            sampler.standing_advice = [fault for fault in found if fault is not None]

        log.info("the certificate's fingerprint is %s", shown.certificate.fingerprint)
        await shown.watch(tell)

    async def _identify(self, end: contextlib.ExitStack) -> Joining:
        folder = self.service.state_folder if self.service else None
        try:
            async with asyncio.timeout(IDENTITY_SECONDS):
                found = await asyncio.to_thread(identity, folder, self.node)
        except TimeoutError:
            log.warning("%s does not answer: the agent has an identity for this run only", folder)
            found = identity(None, self.node)
        end.callback(found.close)
        return Joining(found, self.service.tokens if self.service else TokenSource())
