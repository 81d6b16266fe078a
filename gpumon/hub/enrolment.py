"""Joining as the hub as a whole shows it: the one command that makes a node join, notices, and what is kept of it."""

import asyncio
import ipaddress
import logging
import socket
from collections.abc import Sequence

from gpumon.config import Push
from gpumon.handshake import JoinToken
from gpumon.hub.core import Hub
from gpumon.hub.door import Door
from gpumon.hub.proxies import Proxies
from gpumon.hub.roster import Roster
from gpumon.limits import is_loopback
from gpumon.model import Fault

log = logging.getLogger(__name__)

TEND_SECONDS = 5.0

_OPEN = Fault(
    code="open_push",
    message='This hub takes reports from whoever can reach it: auth.push is "open".',
    hint='Set auth.push to "token" to let in only agents that have joined.',
)


class Enrolment:
    """Opens :attr:`door` for agents of ``hub`` by its ``roster``, and tells viewers and the log how it stands."""

    def __init__(self, hub: Hub, roster: Roster, push: Push, *, trusts_loopback: bool = True) -> None:
        self._proxies = Proxies(hub.settings.proxies)
        self.door = Door(roster, push, hub.clock, trusts_loopback=trusts_loopback, is_proxy=self._proxies.has)
        self._hub = hub
        self.door.waiting.on_change = self._show_waiting
        roster.on_saved = self._show_saved
        self.configure(push)

    def configure(self, push: Push) -> None:
        """Let in whom ``push`` allows, from now on, and take for proxies whom the hub's settings do."""
        self._proxies.configure(self._hub.settings.proxies)
        self.door.configure(push)
        self._hub.notice("open_push", _OPEN if push == "open" else None)

    def say(self, host: str) -> None:
        """Tell the log, at the start, how agents come to a hub that listens on ``host``."""
        if self.door.push == "open":
            log.warning('auth.push is "open": whoever can reach this hub may report to it, under any name')
        elif not is_loopback(host) and self.door.roster.token_is_new:
            log.info("to let a node join, run on it: %s", join_command(self.door.roster.token, self._hub.url))
        elif not is_loopback(host):
            log.info("agents must join; 'gpumon hub --print-join' on this machine shows how")

    async def run(self) -> None:
        """Forget who does not come any longer, and try again to keep what could not be kept, until cancelled."""
        while True:
            await asyncio.sleep(TEND_SECONDS)
            self.door.waiting.forget_gone()
            await self.door.roster.save()

    def _show_waiting(self, number: int) -> None:
        one = number == 1
        fault = Fault(
            code="agents_waiting",
            message=f"{number} {'agent waits' if one else 'agents wait'} to be admitted.",
            hint="'gpumon agents list' on the hub's machine shows them, 'gpumon agents admit CODE' lets one in.",
        )
        self._hub.notice("agents_waiting", fault if number else None)

    def _show_saved(self, error: OSError | None) -> None:
        if error is None:
            self._hub.notice("not_kept", None)
            return
        fault = Fault(
            code="not_kept",
            message="The hub cannot keep which agents have joined, or were revoked "
            f"({error.strerror or 'its disk does not answer'}): after a restart it does not know.",
            hint="Look at the disk of the folder in hub.state_dir.",
        )
        self._hub.notice("not_kept", fault)


def hub_url(names: Sequence[str], host: str, port: int, *, tls: bool) -> str:
    """Where others find a hub that is called by ``names`` and listens on ``host``, as far as it knows; one that listens
    on its own machine only says so.
    """
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        name = host
    else:
        name = "localhost" if address.is_loopback else socket.gethostname() if address.is_unspecified else host
    name = next(iter(names), name)
    scheme = "https" if tls else "http"
    return f"{scheme}://[{name}]:{port}" if ":" in name else f"{scheme}://{name}:{port}"


def join_command(token: JoinToken, url: str) -> str:
    """What is to be run on a node, to let it join. The token stands in the environment, where others do not see it."""
    return f"GPUMON_JOIN_TOKEN={token.text()} gpumon agent --hub {url}"
