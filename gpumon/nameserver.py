"""One DNS server, asked on the event loop: over UDP, then over TCP; for IPv4 and IPv6 addresses together.

dnspython reads what comes: an answer with another id, of another question or from another address is not
heard, one that was cut is asked for again over TCP.
"""

import asyncio
import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass

import dns.asyncquery
import dns.asyncresolver
import dns.exception
import dns.message
import dns.nameserver
import dns.resolver

from gpumon.errors import ResolveError, SilenceError

UDP_SECONDS = 1.2
UDP_TRY_SECONDS = 0.6
TCP_SECONDS = 0.6
OTHER_FAMILY_SECONDS = 0.5
"""How long one family is waited for once the other is known."""
MOST_ADDRESSES = 16


@dataclass(frozen=True, slots=True)
class Answer:
    """Addresses, and for how many seconds they hold."""

    addresses: tuple[str, ...]
    ttl: float


def usable(addresses: Iterable[str]) -> tuple[str, ...]:
    """Those of ``addresses`` that a host can have, each once, as they came; at most 16.

    Filters of advertisements answer ``0.0.0.0``, which would be this machine itself.
    """
    found = dict.fromkeys(addresses)
    parsed = ((text, ipaddress.ip_address(text)) for text in found)
    hosts = [text for text, address in parsed if not address.is_unspecified and not address.is_multicast]
    return tuple(hosts[:MOST_ADDRESSES])


class NameServer:
    """The DNS server at ``address`` and ``port``."""

    def __init__(self, address: str, port: int) -> None:
        self.address = address
        self.port = port
        self._dns = dns.asyncresolver.Resolver(configure=False)
        self._dns.nameservers = [dns.nameserver.Do53Nameserver(address, port)]
        self._dns.timeout = UDP_TRY_SECONDS

    def __str__(self) -> str:
        return f"{self.address} port {self.port}"

    async def ask(self, host: str) -> Answer:
        """The addresses of ``host``, IPv4 first.

        Raises:
            ResolveError: the server knows none.
            SilenceError: it does not answer, or not usefully.
        """
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._ask_record(host, record)) for record in ("A", "AAAA")]
            done, late = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            known = any(isinstance(task.result(), Answer) for task in done)
            if late:
                await asyncio.wait(late, timeout=OTHER_FAMILY_SECONDS if known else None)
            for task in tasks:
                task.cancel()
        results = [task.result() for task in tasks if not task.cancelled()]
        answers = [result for result in results if isinstance(result, Answer)]
        if not answers:
            failures = [result for result in results if isinstance(result, ResolveError)]
            raise next((one for one in failures if not isinstance(one, SilenceError)), failures[0])
        addresses = usable(address for answer in answers for address in answer.addresses)
        if not addresses:
            raise ResolveError("it gives an address that no host can have")
        return Answer(addresses, min(answer.ttl for answer in answers))

    async def answers(self) -> bool:
        """Whether it answers a question at all, whatever it says."""
        question = dns.message.make_query("localhost.", "A")
        try:
            await dns.asyncquery.udp_with_fallback(question, self.address, UDP_SECONDS, self.port, ignore_errors=True)
        except (dns.exception.DNSException, OSError, EOFError):
            return False
        return True

    async def _ask_record(self, host: str, record: str) -> Answer | ResolveError:
        """An answer, or why there is none. Over TCP where UDP gets none."""
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
        except (dns.exception.DNSException, OSError, EOFError, UnicodeError) as error:
            return SilenceError(f"{type(error).__name__}: {error}")
        return Answer(tuple(sorted(row.to_text() for row in found)), float(found.chaining_result.minimum_ttl))
