"""Another configuration for a hub that runs: read whole, judged whole, then put in place in one step."""

import asyncio
import logging
from collections.abc import Callable, Sequence

from gpumon.config import Config
from gpumon.disk import Disk
from gpumon.errors import UsageError
from gpumon.hub.core import Hub
from gpumon.model import Fault
from gpumon.notify import NOBODY, Manager

log = logging.getLogger(__name__)

MAX_SAID = 1024
READ_SECONDS = 10.0
SILENCE = f"it could not be read within {READ_SECONDS:g} s: its disk hangs"


class Reload:
    """Reads the configuration again when asked to; ``apply`` puts a good one in place.

    A bad one changes nothing: it is logged, every fault of it, and told to viewers until a good one is read.
    """

    def __init__(
        self,
        hub: Hub,
        config: Config,
        read: Callable[[], Config],
        apply: Callable[[Config, Config], None],
        manager: Manager = NOBODY,
    ) -> None:
        self._hub = hub
        self._config = config
        self._listens_on = _listening(config)
        self._state_dir = config.hub.state_dir
        self._read = read
        self._apply = apply
        self._manager = manager
        self._asked = asyncio.Event()
        self._disk = Disk("configuration")

    def ask(self) -> None:
        """Ask for the configuration to be read again, soon."""
        self._asked.set()

    async def run(self) -> None:
        """Do what was asked for, until cancelled. Asked again while it reads, it reads again."""
        while True:
            await self._asked.wait()
            self._asked.clear()
            with self._manager.reloading():
                await self._reload()

    async def _reload(self) -> None:
        try:
            config = await self._disk.ask(self._read, READ_SECONDS)
        except (UsageError, OSError) as error:
            faults = error.faults if isinstance(error, UsageError) else [str(error) or SILENCE]  # of TimeoutError
            for fault in faults:
                log.error("the configuration stays as it was: %s", fault)
            self._hub.notice("bad_configuration", _notice(faults))
            return
        except Exception as error:
            log.exception("the configuration stays as it was: reading it failed by a fault of gpumon's own")
            self._hub.notice("bad_configuration", _notice([f"a fault of gpumon's own ({type(error).__name__})"]))
            return
        self._apply(self._config, config)
        self._config = config
        self._hub.notice("bad_configuration", None)
        moved = _listening(config) != self._listens_on
        self._hub.notice("restart_needed", _restart_needed(config) if moved else None)
        log.info("the configuration was read again: %d nodes", len(config.nodes))
        if config.hub.state_dir != self._state_dir:
            log.warning("hub.state_dir takes effect when the hub is restarted")
        if moved:
            log.warning("hub.host, hub.port and whether it has tls.certificate take effect when the hub is restarted")


def _listening(config: Config) -> tuple[str, int, bool]:
    """What only a restart changes."""
    return config.hub.host, config.hub.port, config.tls.certificate is not None


def _notice(faults: Sequence[str]) -> Fault:
    first, *more = faults
    others = f" ({len(more)} more faults are in the log)" if more else ""
    return Fault(
        code="bad_configuration",
        message=f"The configuration was read again and is wrong, so the one before stays: {first}{others}"[:MAX_SAID],
        hint="Mend the file and send SIGHUP again.",
    )


def _restart_needed(config: Config) -> Fault:
    return Fault(
        code="restart_needed",
        message=f"The configuration names {config.hub.host} port {config.hub.port} to listen on, by "
        f"{'https' if config.tls.certificate else 'http'}; this hub listens otherwise until it is restarted.",
        hint="Restart the hub; everything else of the configuration is in place.",
    )
