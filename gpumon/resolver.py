"""From a host's name to its addresses, never on the event loop's time and never for ever.

In this order: an address is its own answer; the hosts file; the DNS server of the configuration (over UDP,
then TCP; A and AAAA together); the system's resolver. dnspython itself knows neither addresses nor the
hosts file. Answers are kept for their time to live, within 5 to 300 s; while nobody answers, the last good
ones for an hour.
"""

import asyncio
import ipaddress
import logging
import socket
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path

import dns.asyncresolver
import dns.exception
import dns.nameserver
import dns.resolver

from gpumon.errors import ResolveError

log = logging.getLogger(__name__)

HOSTS_FILE = Path("/etc/hosts")
LEAST_TTL_SECONDS = 5.0
MOST_TTL_SECONDS = 300.0
SYSTEM_TTL_SECONDS = 30.0
KEPT_SECONDS = 3600.0
UDP_SECONDS = 2.0
TCP_SECONDS = 1.5
SYSTEM_SECONDS = 5.0
MOST_SYSTEM_LOOKUPS = 32


class SilenceError(ResolveError):
    """Nobody answers: what was known before may still be true."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Addresses, and for how many seconds they hold."""

    addresses: tuple[str, ...]
    ttl: float


@dataclass(frozen=True, slots=True)
class _Kept:
    addresses: tuple[str, ...]
    fresh_until: float
    kept_until: float


class Resolver:
    """Resolves names; ``server`` (address and port) is asked before the system."""

    def __init__(self, server: tuple[str, int] | None = None, hosts_file: Path = HOSTS_FILE) -> None:
        self._hosts_file = hosts_file
        self._server = server
        self._kept: dict[str, _Kept] = {}
        self._locks: dict[str, asyncio.Lock] = {}
        self._system_lookups = asyncio.Semaphore(MOST_SYSTEM_LOOKUPS)
        self._dns: dns.asyncresolver.Resolver | None = None
        if server is not None:
            self._dns = dns.asyncresolver.Resolver(configure=False)
            self._dns.nameservers = [dns.nameserver.Do53Nameserver(*server)]

    async def addresses(self, host: str) -> tuple[str, ...]:
        """The addresses of ``host``, at least one.

        Raises:
            ResolveError: nobody knows the name; the text says who was asked and what they said.
        """
        if (literal := _literal(host)) is not None:
            return (literal,)
        async with self._locks.setdefault(host, asyncio.Lock()):
            kept = self._kept.get(host)
            if kept is not None and time.monotonic() < kept.fresh_until:
                return kept.addresses
            try:
                answer = await self._ask(host)
            except SilenceError as silence:
                now = time.monotonic()
                if kept is None or now >= kept.kept_until:
                    raise
                log.warning("%s; its last addresses are used", silence)
                self._kept[host] = replace(kept, fresh_until=now + MOST_TTL_SECONDS / 10)
                return kept.addresses
            now = time.monotonic()
            ttl = min(max(answer.ttl, LEAST_TTL_SECONDS), MOST_TTL_SECONDS)
            self._kept[host] = _Kept(answer.addresses, now + ttl, now + KEPT_SECONDS)
            return answer.addresses

    async def _ask(self, host: str) -> Answer:
        if known := _in_hosts_file(self._hosts_file, host):
            return Answer(known, LEAST_TTL_SECONDS)
        if host.rstrip(".").lower() == "localhost":
            return Answer(("127.0.0.1", "::1"), MOST_TTL_SECONDS)  # RFC 6761, section 6.3
        asked: list[tuple[str, Callable[[str], Awaitable[Answer]]]] = [("the system's resolver", self._ask_system)]
        if self._server is not None:
            asked.insert(0, (f"DNS server {self._server[0]} port {self._server[1]}", self._ask_server))
        failures: dict[str, ResolveError] = {}
        for who, ask in asked:
            try:
                return await ask(host)
            except ResolveError as error:
                failures[who] = error
        # The first asked is the one who knows the lab's names: what the system says to them counts for nothing.
        kind = type(next(iter(failures.values())))
        reasons = "; ".join(f"{who}: {error}" for who, error in failures.items())
        raise kind(f"No address for {host} ({reasons})")

    async def _ask_server(self, host: str) -> Answer:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._ask_record(host, record)) for record in ("A", "AAAA")]
        results = [task.result() for task in tasks]
        answers = [result for result in results if isinstance(result, Answer)]
        if not answers:
            failures = [result for result in results if isinstance(result, ResolveError)]
            raise next((one for one in failures if not isinstance(one, SilenceError)), failures[0])
        addresses = tuple(address for answer in answers for address in answer.addresses)
        return Answer(addresses, min(answer.ttl for answer in answers))

    async def _ask_record(self, host: str, record: str) -> Answer | ResolveError:
        """An answer, or why there is none. Over TCP where UDP gets none."""
        assert self._dns is not None
        try:
            try:
                found = await self._dns.resolve(host, record, lifetime=UDP_SECONDS, search=False)
            except dns.resolver.LifetimeTimeout:
                found = await self._dns.resolve(host, record, lifetime=TCP_SECONDS, search=False, tcp=True)
        except dns.resolver.NXDOMAIN:
            return ResolveError("it knows no such name")
        except dns.resolver.NoAnswer:
            return ResolveError("it knows no address of this name")
        except dns.resolver.LifetimeTimeout:
            return SilenceError("it does not answer")
        except dns.resolver.NoNameservers:
            return SilenceError("it refuses or fails to answer")
        except (dns.exception.DNSException, OSError, UnicodeError) as error:
            return SilenceError(f"{type(error).__name__}: {error}")
        return Answer(tuple(sorted(row.to_text() for row in found)), float(found.rrset.ttl if found.rrset else 0))

    async def _ask_system(self, host: str) -> Answer:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Answer] = loop.create_future()
        try:
            async with asyncio.timeout(SYSTEM_SECONDS):
                # Held until the thread ends, which may be long after we have given up.
                await self._system_lookups.acquire()
                # Not a pool: getaddrinfo can hang, and a pool's threads are waited for when the process ends.
                arguments = (host, loop, future, self._system_lookups.release)
                threading.Thread(target=_look_up, args=arguments, daemon=True).start()
                return await future
        except TimeoutError:
            raise SilenceError("it does not answer") from None


def _look_up(
    host: str, loop: asyncio.AbstractEventLoop, future: "asyncio.Future[Answer]", release: Callable[[], None]
) -> None:
    """Ask the system (in a thread of its own) and tell ``future``; then ``release`` the place."""

    def tell(answer: Answer | ResolveError) -> None:
        release()
        if future.done():
            return
        if isinstance(answer, Answer):
            future.set_result(answer)
        else:
            future.set_exception(answer)

    result: Answer | ResolveError
    try:
        rows = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        result = Answer(tuple(dict.fromkeys(str(row[4][0]) for row in rows)), SYSTEM_TTL_SECONDS)
    except socket.gaierror as error:
        passing = error.errno in (socket.EAI_AGAIN, socket.EAI_FAIL)
        result = (SilenceError if passing else ResolveError)(error.strerror or str(error))
    except (OSError, UnicodeError) as error:
        result = ResolveError(str(error))
    try:
        loop.call_soon_threadsafe(tell, result)
    except RuntimeError:
        log.debug("%s: answered after the end of the program", host)


def _literal(host: str) -> str | None:
    try:
        return str(ipaddress.ip_address(host.removeprefix("[").removesuffix("]")))
    except ValueError:
        return None


def _in_hosts_file(path: Path, host: str) -> tuple[str, ...]:
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError:
        return ()
    wanted = host.rstrip(".").lower()
    rows = [line.partition("#")[0].split() for line in lines]
    found = (row[0] for row in rows if wanted in (name.lower() for name in row[1:]))
    return tuple(dict.fromkeys(address for row in found if (address := _literal(row))))
