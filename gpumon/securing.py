"""Taking connections that speak TLS: each counts for its address from when it is taken, not only once it has shaken
hands.

asyncio's own servers tell nobody of a connection before its handshake is done, so that those who begin one and say no
more would count nowhere.
"""

import asyncio
import logging
import socket
import ssl
from asyncio.sslproto import SSLProtocol
from collections.abc import Callable
from functools import partial

from gpumon.limits import Visits, origin

log = logging.getLogger(__name__)

HANDSHAKE_SECONDS = 10.0
GOODBYE_SECONDS = 20.0
"""How long a peer may take for what is left of an answer, and for its own goodbye."""
MAX_HANDSHAKES = 512
"""At once, of all addresses: of more, the one that has taken longest gives way, for who means well is quick."""
READ_BYTES = 32 * 1024
"""What a connection keeps ready for what comes, the room of two records: asyncio's own choice of 256 KiB would be most
of what an agent costs a hub.
"""
PAUSE_SECONDS = 1.0
"""Until the next try where the machine has no more files."""


class Securing:
    """Shakes hands by ``tls`` with who comes to ``listener``, as far as ``visits`` have room; then ``protocol`` serves
    them.
    """

    def __init__(
        self,
        listener: socket.socket,
        tls: ssl.SSLContext,
        visits: Visits,
        protocol: Callable[[], asyncio.Protocol],
    ) -> None:
        listener.setblocking(False)
        SSLProtocol.max_size = READ_BYTES
        self._listener = listener
        self._tls = tls
        self._visits = visits
        self._protocol = protocol
        self._shaking: dict[asyncio.Task[None], None] = {}

    async def run(self) -> None:
        """Take connections until cancelled; then what has not shaken hands is ended, and nothing listens any more."""
        with self._listener:
            async with asyncio.TaskGroup() as group:
                while True:
                    await self._take_one(group)

    async def _take_one(self, group: asyncio.TaskGroup) -> None:
        try:
            connection, peer = await asyncio.get_running_loop().sock_accept(self._listener)
        except ConnectionAbortedError:  # gone before it was taken
            return
        except OSError as error:
            log.error("no connection can be taken: %s", error.strerror or error)
            await asyncio.sleep(PAUSE_SECONDS)
            return
        self._take(connection, peer, group)
        await asyncio.sleep(0)  # it begins before the next one is taken, and others have their turn

    def _take(self, connection: socket.socket, peer: object, group: asyncio.TaskGroup) -> None:
        if not self._visits.greet(peer):
            connection.close()
            words = f"allowed: {self._visits.most_connections()} connections from one address"
            self._visits.refused("too_many_connections", origin(peer), words)
            return
        if len(self._shaking) >= MAX_HANDSHAKES:
            longest = next(iter(self._shaking))
            del self._shaking[longest]
            longest.cancel()
            self._visits.traffic.refused.beat()
        task = group.create_task(self._shake_hands(connection, peer))
        self._shaking[task] = None
        task.add_done_callback(partial(self._ended, peer))

    async def _shake_hands(self, connection: socket.socket, peer: object) -> None:
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                self._protocol,
                connection,
                ssl=self._tls,
                ssl_handshake_timeout=HANDSHAKE_SECONDS,
                ssl_shutdown_timeout=GOODBYE_SECONDS,
            )
        except ConnectionAbortedError as error:
            _let_go(error)
            words = f"a TLS handshake that was not complete within {HANDSHAKE_SECONDS:g} s"
            self._visits.refused("silent_connection", origin(peer), words)
        except OSError as error:  # what does not speak TLS, or trusts us not
            _let_go(error)
            if isinstance(error, ssl.SSLError):  # not where the peer went by itself
                self._visits.traffic.refused.beat()
            log.debug("a TLS handshake failed: %s", error)
        except Exception:
            log.exception("a TLS handshake failed by a fault of gpumon's own")

    def _ended(self, peer: object, task: asyncio.Task[None]) -> None:
        self._shaking.pop(task, None)
        self._visits.greeted(peer)


def _let_go(error: BaseException | None) -> None:
    """Part ``error`` from the frames that it came through: they hold it as well, and a quarter of a megabyte, and
    Python looks for such circles only when thousands more have ended so.
    """
    while error is not None:
        error.__traceback__ = None
        error = error.__context__
