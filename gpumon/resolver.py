"""From a host's name to its addresses, never on the event loop's time and never for ever.

In this order: an address is its own answer; the hosts file; the DNS server of the configuration; the system's
resolver. dnspython itself knows neither addresses nor the hosts file. A name that ends in ``.local`` is asked by
multicast DNS as well: beside the server where that has port 5353, which is Avahi's and knows this machine's own
name only, else beside the system.

Answers are kept for their time to live, within 5 to 300 s, and that there is none for 5 s. While nobody answers,
the last good ones serve for an hour, and who asks is not kept waiting for them.
"""

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec

from gpumon import multicast
from gpumon.errors import ResolveError, SilenceError
from gpumon.model import Resolution
from gpumon.nameserver import Answer, NameServer
from gpumon.systemnames import HostsFile, SystemResolver, literal
from gpumon.timestamp import rfc3339

log = logging.getLogger(__name__)

HOSTS_FILE = Path("/etc/hosts")
LEAST_TTL_SECONDS = 5.0
MOST_TTL_SECONDS = 300.0
NEGATIVE_SECONDS = 5.0
KEPT_SECONDS = 3600.0
LIFETIME_SECONDS = 3.0
"""What one look-up may take in all."""
PATIENCE_SECONDS = 0.5
"""What it may take where an old answer is at hand."""
RETRY_SECONDS = 10.0
"""How soon a silent server is asked again, where an old answer is at hand."""
PATIENT_EVERY = 4
"""Each so many such times it gets the whole lifetime: one that is slow, not dead, is heard all the same."""
MOST_NAMES = 10_240

MULTICAST: Final = "multicast DNS"
SYSTEM: Final = "the system's resolver"

Ask = Callable[[str], Awaitable[Answer]]


@dataclass(slots=True)
class _Name:
    """What is known of one name. ``resolution`` is its last good answer, ``failure`` why there is none."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    used_tick: float = 0.0
    asked_tick: float = 0.0
    fresh_until: float = 0.0
    kept_until: float = 0.0
    silences: int = 0
    resolution: Resolution | None = None
    failure: ResolveError | None = None


class Resolver:
    """Resolves names; ``server`` (address and port) is asked before the system."""

    def __init__(self, server: tuple[str, int] | None = None, hosts_file: Path = HOSTS_FILE) -> None:
        self.server = NameServer(*server) if server is not None else None
        self._hosts = HostsFile(hosts_file)
        self._system = SystemResolver()
        self._names: OrderedDict[str, _Name] = OrderedDict()

    async def addresses(self, host: str) -> tuple[str, ...]:
        """The addresses of ``host``, at least one.

        Raises:
            ResolveError: nobody knows the name; the text says who was asked and what they said.
            SilenceError: nobody who could know it answers.
        """
        if (address := literal(host)) is not None:
            return (address,)
        name = self._name(host)
        async with name.lock:
            if time.monotonic() >= name.fresh_until:
                await self._refresh(host, name)
            if name.resolution is None:
                assert name.failure is not None
                raise type(name.failure)(str(name.failure))
            return tuple(name.resolution.addresses)

    def doubt(self, host: str) -> None:
        """Whoever was sought is not at the addresses of ``host``, which may have moved: whatever time its answer was
        to hold, the next look-up asks again, if the last one was not just now.
        """
        if (name := self._names.get(_key(host))) is not None:
            name.fresh_until = min(name.fresh_until, name.asked_tick + LEAST_TTL_SECONDS)

    def resolution(self, host: str) -> Resolution | None:
        """How ``host`` became the addresses that it has now; None of an address, or where there are none."""
        name = self._names.get(_key(host))
        return name.resolution if name is not None else None

    def _name(self, host: str) -> _Name:
        """What is known of ``host``. Names that nobody asked for in an hour are forgotten."""
        key, now = _key(host), time.monotonic()
        name = self._names.setdefault(key, _Name())
        name.used_tick = now
        self._names.move_to_end(key)
        while len(self._names) > MOST_NAMES or next(iter(self._names.values())).used_tick < now - KEPT_SECONDS:
            self._names.popitem(last=False)
        return name

    async def _refresh(self, host: str, name: _Name) -> None:
        """Ask for ``host``, and note what was learnt in ``name``."""
        old = name.resolution if time.monotonic() < name.kept_until else None
        patient = old is None or name.silences % PATIENT_EVERY == PATIENT_EVERY - 1
        failures: dict[str, ResolveError] = {}
        name.asked_tick = time.monotonic()
        found = await self._ask(host, LIFETIME_SECONDS if patient else PATIENCE_SECONDS, failures)
        if found is None:
            _note_failure(name, old, _failure(host, failures, old.server if old else None))
            return
        server, answer = found
        now = time.monotonic()
        ttl = min(max(answer.ttl, LEAST_TTL_SECONDS), MOST_TTL_SECONDS)
        name.silences, name.failure = 0, None
        name.fresh_until, name.kept_until = now + ttl, now + KEPT_SECONDS
        name.resolution = Resolution(
            host=host,
            addresses=list(answer.addresses),
            server=server,
            answered_at=rfc3339(time.time()),
            ttl_seconds=ttl,
        )

    async def _ask(self, host: str, seconds: float, failures: dict[str, ResolveError]) -> tuple[str, Answer] | None:
        """Who answered, in words, and what; or None, and why each of those asked did not."""
        if known := self._hosts.addresses(host):
            return "the hosts file", Answer(known, LEAST_TTL_SECONDS)
        if _key(host) == "localhost":
            return "this machine", Answer(("127.0.0.1", "::1"), MOST_TTL_SECONDS)  # RFC 6761, section 6.3
        asked: dict[str, Ask] = {}
        try:
            async with asyncio.timeout(seconds):
                for asked in self._whom_to_ask(host):
                    found = await _first_answer(host, asked, failures)
                    if found is not None:
                        return found
        except TimeoutError:
            for who in asked:
                failures.setdefault(who, SilenceError(f"no answer within {seconds:g} s"))
        return None

    def _whom_to_ask(self, host: str) -> list[dict[str, Ask]]:
        """One after the other; those in one place together."""
        asked: list[dict[str, Ask]] = [{SYSTEM: self._system.ask}]
        if self.server is not None:
            asked.insert(0, {str(self.server): self.server.ask})
        if multicast.is_local(host):
            is_avahi = self.server is not None and self.server.port == multicast.PORT
            asked[0 if is_avahi else -1][MULTICAST] = multicast.ask
        return asked


async def _first_answer(
    host: str, asked: dict[str, Ask], failures: dict[str, ResolveError]
) -> tuple[str, Answer] | None:
    """The first answer of those who are ``asked`` at once; why there is none is noted in ``failures``."""

    async def outcome(ask: Ask) -> Answer | ResolveError:
        try:
            return await ask(host)
        except ResolveError as error:
            return error

    async with asyncio.TaskGroup() as group:
        waiting = {group.create_task(outcome(ask)): who for who, ask in asked.items()}
        while waiting:
            done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                who, result = waiting.pop(task), task.result()
                if isinstance(result, Answer):
                    for other in waiting:
                        other.cancel()
                    return who, result
                failures[who] = result
    return None


def _failure(host: str, failures: dict[str, ResolveError], answered_before: str | None) -> ResolveError:
    """Why there is no address: a silence, where the one who would know is silent, whatever the others say.

    That is who answered before; else the first who was asked, who knows the lab's names, or everyone of the local
    network, where nobody else was asked or answers.
    """
    who = answered_before if answered_before in failures else next(iter(failures))
    if answered_before is None and MULTICAST in failures and (who == SYSTEM or isinstance(failures[who], SilenceError)):
        who = MULTICAST
    reasons = "; ".join(f"{one}: {error}" for one, error in failures.items())
    return type(failures[who])(f"No address for {host} ({reasons})")


def _note_failure(name: _Name, old: Resolution | None, failure: ResolveError) -> None:
    """Without an answer: the ``old`` one serves where nobody answered, or there is none."""
    now = time.monotonic()
    name.failure = failure
    if old is None or not isinstance(failure, SilenceError):
        name.resolution = None
        name.fresh_until = now + NEGATIVE_SECONDS
        return
    if not old.is_kept:
        log.warning("%s; its last addresses are used", failure)
        old = msgspec.structs.replace(old, is_kept=True)
    name.resolution = old
    name.silences += 1
    name.fresh_until = now + RETRY_SECONDS


def _key(host: str) -> str:
    return host.rstrip(".").lower()
