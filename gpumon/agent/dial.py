"""From a hub's host name to a connected socket, with a deadline for each step."""

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from gpumon.errors import ResolveError

if TYPE_CHECKING:
    from gpumon.resolver import Resolver

MAX_ADDRESSES = 16
KEEPALIVE_SECONDS = (15, 5)
KEEPALIVE_PROBES = 3
UNACKNOWLEDGED_MILLISECONDS = 20_000


class Names:
    """Asks ``resolver``, and lets it finish what it has begun when nobody waits any longer: what it finds late, by
    its second choice, serves the next try.
    """

    def __init__(self, resolver: "Resolver", group: asyncio.TaskGroup) -> None:
        self._resolver = resolver
        self._group = group
        self._asked: dict[str, asyncio.Task[Sequence[str] | Exception]] = {}

    async def addresses(self, host: str, patience_seconds: float) -> Sequence[str]:
        """The addresses of ``host``. Raises ResolveError, and TimeoutError after ``patience_seconds``."""
        task = self._asked.get(host)
        if task is None or (task.done() and (task.cancelled() or isinstance(task.result(), Exception))):
            task = self._asked[host] = self._group.create_task(self._ask(host))
        await asyncio.wait({task}, timeout=patience_seconds)
        if not task.done():
            raise TimeoutError
        del self._asked[host]
        if task.cancelled():
            raise ResolveError(f"the look-up of {host} was given up")
        if isinstance(result := task.result(), Exception):
            raise result
        return result

    def doubt(self, host: str) -> None:
        """No hub is at the addresses of ``host``: they are to be asked for again."""
        self._resolver.doubt(host)

    async def _ask(self, host: str) -> Sequence[str] | Exception:
        try:
            return await self._resolver.addresses(host)
        except Exception as error:  # told to who asks next, and never to the group
            return error


async def dial(
    addresses: Sequence[str], port: int, patience_seconds: float, tried: Callable[[], None]
) -> tuple[socket.socket, str]:
    """A socket connected to the first of ``addresses`` that takes it within ``patience_seconds``, and which it is.

    ``tried`` is called before each. Raises OSError, which tells what each address said.
    """
    said = []
    for address in addresses[:MAX_ADDRESSES]:
        tried()
        try:
            return await _connected(address, port, patience_seconds), address
        except TimeoutError:
            said.append(f"{address}: no answer within {patience_seconds:g} s")
        except OSError as error:
            # asyncio's own text for it tells the address once more, and not what is wrong
            said.append(f"{address}: {os.strerror(error.errno) if error.errno else error}")
    raise OSError("; ".join(said) or "its name has no address")


async def _connected(address: str, port: int, patience_seconds: float) -> socket.socket:
    one = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
    with contextlib.ExitStack() as cleanup:
        cleanup.callback(one.close)
        one.setblocking(False)
        one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        one.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNACKNOWLEDGED_MILLISECONDS)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        one.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_SECONDS[0])
        one.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_SECONDS[1])
        one.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, KEEPALIVE_PROBES)
        async with asyncio.timeout(patience_seconds):
            await asyncio.get_running_loop().sock_connect(one, (address, port))
        cleanup.pop_all()
    return one
