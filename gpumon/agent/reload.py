"""SIGHUP: the agent's settings are read again, and what can change while it runs does."""

import asyncio
import logging
from collections.abc import Callable

from msgspec import structs

from gpumon.agent.link import Link
from gpumon.agent.sampler import Sampler
from gpumon.config import AgentSection, DnsSection, TlsSection
from gpumon.disk import Disk
from gpumon.errors import UsageError
from gpumon.hosts import Hosts
from gpumon.lifecycle import on_reload
from gpumon.notify import NOBODY, Manager

log = logging.getLogger(__name__)

Settings = tuple[AgentSection, DnsSection, TlsSection]
READ_SECONDS = 10.0
AT_ONCE = frozenset({"hosts", "hub", "interval_seconds", "tags"})


class Reload:
    """Reads settings by ``read_again`` at each SIGHUP, and passes on what changed. Without it there is no file to
    read, and the signal ends nothing all the same.
    """

    def __init__(
        self,
        begun: Settings,
        read_again: Callable[[], Settings] | None,
        sampler: Sampler,
        link: Link,
        hosts: Hosts,
        manager: Manager = NOBODY,
    ) -> None:
        self._settings, self._dns, self._tls = begun
        self._read_again = read_again
        self._sampler = sampler
        self._link = link
        self._manager = manager
        self._hosts = hosts
        self._asked = asyncio.Event()
        self._disk = Disk("settings")

    async def run(self) -> None:
        """Obey signals until cancelled."""
        on_reload(self._asked.set)
        while True:
            await self._asked.wait()
            self._asked.clear()
            with self._manager.reloading():
                await self._reload()

    async def _reload(self) -> None:
        if self._read_again is None:
            log.info("reload: there is no file to read again, for the agent was started without --config")
            return
        try:
            settings, dns, tls = await self._disk.ask(self._read_again, READ_SECONDS)
        except TimeoutError:
            log.error(
                "reload: the file could not be read within %g s: its disk hangs; nothing was changed", READ_SECONDS
            )
            return
        except UsageError as error:
            for fault in error.faults:
                log.error("reload: %s", fault)
            log.error("reload: nothing was changed")
            return
        except Exception:
            log.exception("reload: failed by a fault of gpumon's own; nothing was changed")
            return
        if tls != self._tls:
            log.warning("reload: tls: what the file says now counts when the agent is started anew")
        self._take(settings, dns)

    def _take(self, settings: AgentSection, dns: DnsSection) -> None:
        before, after = structs.asdict(self._settings), structs.asdict(settings)
        changed = [key for key in before if before[key] != after[key]]
        for key in changed:
            if key not in AT_ONCE:
                log.warning("reload: agent.%s: what the file says now counts when the agent is started anew", key)
        if settings.interval_seconds != self._settings.interval_seconds:
            self._sampler.pace(settings.interval_seconds)
        self._sampler.tags = settings.tags
        self._hosts.configure(settings.hosts)
        if settings.hub != self._settings.hub or dns != self._dns:
            self._link.reconfigure(settings.hub, dns)
        taken = [f"agent.{key}" for key in changed if key in AT_ONCE] + (["dns"] if dns != self._dns else [])
        log.info("reload: taken over: %s", ", ".join(taken) or "nothing, for nothing changed")
        self._settings = structs.replace(self._settings, **{key: getattr(settings, key) for key in AT_ONCE})
        self._dns = dns
