"""Names that end in ``.local``, asked of everyone on the local network: multicast DNS (RFC 6762).

A question goes out on every interface, over IPv4 and IPv6, from a port of its own: whoever has the name then
answers to that port alone (a legacy query, sections 5.1 and 6.7). An answer counts if it bears the id of the
question, comes from port 5353 and from a machine on the local network (section 11), and is of the name and the
kind that was asked for.
"""

import asyncio
import contextlib
import ipaddress
import secrets
import socket
import struct
from typing import Any, Final

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset

from gpumon.errors import ResolveError, SilenceError
from gpumon.nameserver import Answer, usable

PORT: Final = 5353
GROUPS: Final = {socket.AF_INET: "224.0.0.251", socket.AF_INET6: "ff02::fb"}
WAIT_SECONDS = 1.0
REPEAT_SECONDS = 0.35
"""After which the question is put again: a datagram may be lost."""
MORE_SECONDS = 0.1
"""How long is waited for more addresses once there is one."""
MOST_INTERFACES = 64
MAX_DATAGRAM_BYTES = 9000
CLASS_MASK = 0x7FFF
"""The top bit of a class means something else in multicast DNS (section 10.2)."""


def is_local(host: str) -> bool:
    """Whether multicast DNS is who knows ``host``."""
    return host.rstrip(".").lower().endswith(".local")


async def ask(host: str) -> Answer:
    """The addresses of ``host``, IPv4 first.

    Raises:
        ResolveError: it cannot be a name.
        SilenceError: nobody answers to it within a second.
    """
    question = _Question(host)
    with contextlib.ExitStack() as stack:
        sockets = _open(stack)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(WAIT_SECONDS), asyncio.TaskGroup() as group:
                listeners = [group.create_task(question.listen(one)) for one in sockets]
                await _put(question, sockets)
                for listener in listeners:
                    listener.cancel()
    if not question.heard:
        raise SilenceError("nobody answers to this name")
    return Answer(usable(sorted(question.heard, key=_order)), min(question.heard.values()))


async def _put(question: "_Question", sockets: list[socket.socket]) -> None:
    """Ask until an answer is heard, and let a moment pass for more."""
    _send(question.wire, sockets)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(REPEAT_SECONDS):
            await question.answered.wait()
    if not question.answered.is_set():
        _send(question.wire, sockets)
    await question.answered.wait()
    await asyncio.sleep(MORE_SECONDS)


class _Question:
    """One question, and what was heard: addresses with their time to live in seconds."""

    def __init__(self, host: str) -> None:
        try:  # labels are UTF-8 here (section 16), not Punycode
            self._name = dns.name.Name([*(label.encode() for label in host.rstrip(".").split(".")), b""])
        except (dns.exception.DNSException, UnicodeError) as error:
            raise ResolveError(f"this cannot be a name: {error}") from None
        query = dns.message.QueryMessage(id=secrets.randbelow(2**16))
        for kind in (dns.rdatatype.A, dns.rdatatype.AAAA):
            query.find_rrset(query.question, self._name, dns.rdataclass.IN, kind, create=True, force_unique=True)
        self._id = query.id
        self.wire = query.to_wire()
        self.heard: dict[str, float] = {}
        self.answered = asyncio.Event()

    async def listen(self, listener: socket.socket) -> None:
        """Take what comes until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                data, source = await loop.sock_recvfrom(listener, MAX_DATAGRAM_BYTES)
            except OSError:  # the network went away
                return
            if source[1] == PORT and _is_on_link(source):
                self._take(data, scope=source[3] if len(source) == 4 else 0)

    def _take(self, data: bytes, scope: int) -> None:
        try:
            message = dns.message.from_wire(data)
        except (dns.exception.DNSException, ValueError):
            return
        is_answer = message.flags & dns.flags.QR and message.opcode() == dns.opcode.QUERY
        if message.id != self._id or not is_answer or message.rcode() != dns.rcode.NOERROR:
            return
        for rrset in (*message.answer, *message.additional):
            if rrset.name == self._name and rrset.rdclass & CLASS_MASK == dns.rdataclass.IN:
                self._learn(rrset, scope)

    def _learn(self, rrset: dns.rrset.RRset, scope: int) -> None:
        length = {dns.rdatatype.A: 4, dns.rdatatype.AAAA: 16}.get(rrset.rdtype)
        for row in rrset:
            packed = row.to_wire()
            if packed is None or len(packed) != length:
                continue
            address = ipaddress.ip_address(packed)
            if address.version == 6 and address.is_link_local:
                if not scope:  # such an address means nothing without its interface
                    continue
                address = ipaddress.IPv6Address(f"{address}%{scope}")
            if usable([str(address)]):
                self.heard[str(address)] = float(rrset.ttl)
                self.answered.set()


def _open(stack: contextlib.ExitStack) -> list[socket.socket]:
    """A socket for each family that this machine has."""
    sockets = []
    for family in GROUPS:
        try:
            one = stack.enter_context(socket.socket(family, socket.SOCK_DGRAM))
            one.bind(("", 0))
        except OSError:
            continue
        one.setblocking(False)
        if family == socket.AF_INET:
            one.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 255)
        else:
            one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
        sockets.append(one)
    return sockets


def _send(wire: bytes, sockets: list[socket.socket]) -> None:
    """Put the question on every interface; one that is down, or cannot do it, is left out."""
    for index, _ in socket.if_nameindex()[:MOST_INTERFACES]:
        for one in sockets:
            group = GROUPS[one.family]
            with contextlib.suppress(OSError):
                if one.family == socket.AF_INET:
                    # struct ip_mreqn: no group, no address, only the interface
                    one.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, struct.pack("@8xi", index))
                    one.sendto(wire, (group, PORT))
                else:
                    one.sendto(wire, (group, PORT, 0, index))


def _is_on_link(source: tuple[Any, ...]) -> bool:
    """Whether ``source`` is a machine of the local network: the kernel would reach it without a router."""
    address = ipaddress.ip_address(source[0])
    if address.version == 6:  # the question went out from an address of the link, and so does the answer
        return address.is_link_local or address.is_loopback
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_DONTROUTE, 1)
        try:
            probe.connect(source[:2])
        except OSError:
            return False
    return True


def _order(text: str) -> tuple[int, bool, str]:
    address = ipaddress.ip_address(text)
    return address.version, address.is_link_local, text
