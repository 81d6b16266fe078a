"""What this machine knows of names by itself: its hosts file, and its resolver."""

import asyncio
import ipaddress
import logging
import socket
import threading
from pathlib import Path

from gpumon.errors import ResolveError, SilenceError
from gpumon.nameserver import Answer, usable

log = logging.getLogger(__name__)

TTL_SECONDS = 30.0
"""The system does not tell for how long an answer holds."""
LATE_SECONDS = 5.0
"""For how long an answer is kept that came when nobody waited for it any more."""
MOST_LOOKUPS = 32


def literal(host: str) -> str | None:
    """The address that ``host`` is, or None where it is a name."""
    try:
        return str(ipaddress.ip_address(host.removeprefix("[").removesuffix("]")))
    except ValueError:
        return None


class HostsFile:
    """A file in the form of ``/etc/hosts``; read again when it has changed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: tuple[int, int, int] | None = None
        self._addresses: dict[str, tuple[str, ...]] = {}

    def addresses(self, host: str) -> tuple[str, ...]:
        """The addresses of ``host``, in the order of the file; none if it does not stand there."""
        try:
            status = self._path.stat()
            seen = (status.st_mtime_ns, status.st_size, status.st_ino)
            if seen != self._seen:
                self._addresses = _read(self._path)
                self._seen = seen
        except OSError:
            return ()
        return self._addresses.get(host.rstrip(".").lower(), ())


def _read(path: Path) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for line in path.read_text(errors="replace").splitlines():
        first, *names = line.partition("#")[0].split() or [""]
        if (address := literal(first)) is not None:
            for name in names:
                before = found.get(name.lower(), ())
                found[name.lower()] = before if address in before else (*before, address)
    return found


class SystemResolver:
    """``getaddrinfo``, each in a thread of its own.

    Not a pool: it can hang for long, and a pool's threads are waited for when the process ends. One name is asked
    once at a time, however often it is wanted: who comes later waits for the same answer.
    """

    def __init__(self) -> None:
        self._places = asyncio.Semaphore(MOST_LOOKUPS)
        self._under_way: dict[str, asyncio.Future[Answer | ResolveError]] = {}

    async def ask(self, host: str) -> Answer:
        """The addresses of ``host``. May take as long as it likes: the caller has the deadline.

        Raises:
            ResolveError: the system knows none.
            SilenceError: those whom it asks do not answer.
        """
        if (future := self._under_way.get(host)) is None:
            await self._places.acquire()  # until the thread ends, which may be long after everyone has given up
            loop = asyncio.get_running_loop()
            try:
                threading.Thread(target=self._look_up, args=(host, loop), daemon=True).start()
            except RuntimeError:  # too many of them, in a service whose tasks are limited
                self._places.release()
                raise SilenceError("this machine allows no further thread to ask it") from None
            future = self._under_way[host] = loop.create_future()
        result = await asyncio.shield(future)
        if isinstance(result, ResolveError):
            raise type(result)(str(result))
        return result

    def _look_up(self, host: str, loop: asyncio.AbstractEventLoop) -> None:
        result = _system_answer(host)
        try:
            loop.call_soon_threadsafe(self._tell, host, result, loop)
        except RuntimeError:
            log.debug("%s: answered after the end of the program", host)

    def _tell(self, host: str, result: Answer | ResolveError, loop: asyncio.AbstractEventLoop) -> None:
        self._places.release()
        self._under_way[host].set_result(result)
        loop.call_later(LATE_SECONDS, self._under_way.pop, host)


def _system_answer(host: str) -> Answer | ResolveError:
    try:
        rows = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        passing = error.errno in (socket.EAI_AGAIN, socket.EAI_FAIL)
        return (SilenceError if passing else ResolveError)(error.strerror or str(error))
    except (OSError, UnicodeError) as error:
        return ResolveError(str(error))
    addresses = usable(str(row[4][0]) for row in rows)
    return Answer(addresses, TTL_SECONDS) if addresses else ResolveError("it gives an address that no host can have")
