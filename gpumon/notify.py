"""What a service tells its manager: the protocol of ``sd_notify(3)``, datagrams of lines to a socket that it names.

Where there is no manager, nobody is told, and nothing is to be thought of.
"""

import asyncio
import contextlib
import logging
import socket
import time
from collections.abc import Awaitable, Callable, Generator

from gpumon.text import one_line

log = logging.getLogger(__name__)

MOST_SAID = 300
FIRST_PAUSE_SECONDS = 0.5
PERIOD_SECONDS = 10.0
"""How often the manager is told how it goes, at least; in the beginning, when most happens, more often."""

Trouble = Callable[[], Awaitable[str | None]]
Status = Callable[[], str]


class Manager:
    """The service manager behind the socket at ``address`` (``NOTIFY_SOCKET``; one that begins with ``@`` is abstract).

    It ends who has not said for ``watchdog_seconds`` that he is well; None if it does not.
    """

    def __init__(self, address: str | None = None, watchdog_seconds: float | None = None) -> None:
        self._address = address
        self._watchdog = watchdog_seconds
        self._socket: socket.socket | None = None

    def ready(self) -> None:
        """The service does what it is for."""
        self._tell("READY=1")

    def stopping(self) -> None:
        """It is about to end."""
        self._tell("STOPPING=1")

    @contextlib.contextmanager
    def reloading(self) -> Generator[None, None, None]:
        """Its settings are being read again."""
        self._tell(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")
        try:
            yield
        finally:
            self.ready()

    async def look_after(self, trouble: Trouble, status: Status) -> None:
        """Tell it that the service is ready, then, until cancelled, how it goes, and that it is well: as long as
        ``trouble`` finds none. Who hangs does not get here, and so is ended.
        """
        if self._address is None:
            return
        period = PERIOD_SECONDS if self._watchdog is None else min(self._watchdog / 3, PERIOD_SECONDS)
        pause = FIRST_PAUSE_SECONDS
        # Kept, for strangers may take every file there is, and it must be told all the same.
        with contextlib.suppress(OSError):
            self._socket = _datagrams()
        self.ready()
        try:
            while True:
                found = await trouble()
                if found is None:
                    self._tell(f"WATCHDOG=1\nSTATUS={one_line(status(), MOST_SAID)}")
                else:
                    log.error("not well: %s", found)
                    self._tell(f"STATUS={one_line(f'not well: {found}', MOST_SAID)}")
                pause = min(2 * pause, period)
                await asyncio.sleep(pause)
        finally:
            self.stopping()
            if self._socket is not None:
                self._socket.close()
                self._socket = None

    def _tell(self, words: str) -> None:
        if self._address is None:
            return
        address = f"\0{self._address[1:]}" if self._address.startswith("@") else self._address
        try:
            with contextlib.nullcontext(self._socket) if self._socket is not None else _datagrams() as one:
                one.sendto(words.encode(), address)
        except OSError as error:  # a manager that is being restarted, or has more to read than it can
            log.debug("the service manager was not told: %s", error)


def _datagrams() -> socket.socket:
    one = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
    one.setblocking(False)
    return one


NOBODY = Manager()
"""Where nobody manages us."""
