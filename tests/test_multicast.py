"""Multicast DNS with a machine of our own that answers, rightly and wrongly, on this machine's networks."""

import asyncio
import contextlib
import secrets
import socket
import struct
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rrset
import pytest

from gpumon import multicast
from gpumon.errors import ResolveError, SilenceError
from gpumon.resolver import Resolver

GROUP = "224.0.0.251"
Reply = Callable[[dns.message.Message, str], list[bytes]]


def answer(query: dns.message.Message, name: str, *rows: str, ttl: int = 10) -> dns.message.Message:
    response = dns.message.make_response(query)
    response.flags |= dns.flags.AA
    for row in rows or ("10.4.0.1",):
        kind = "AAAA" if ":" in row else "A"
        response.answer.append(dns.rrset.from_text(name, ttl, "IN", kind, row))
    return response


def well(query: dns.message.Message, name: str) -> list[bytes]:
    return [answer(query, name, "10.4.0.1", "fd00::4").to_wire()]


class Responder:
    """Whoever has the name ``gpumon-....local``; answers as ``reply`` says."""

    def __init__(self, listener: socket.socket) -> None:
        self.name = f"gpumon-{secrets.token_hex(6)}.local"
        self.reply: Reply = well
        self.from_another_port = False
        self.asked = 0
        self._listener = listener

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
            other.setblocking(False)
            while True:
                data, source = await loop.sock_recvfrom(self._listener, 9000)
                with contextlib.suppress(dns.exception.DNSException):
                    query = dns.message.from_wire(data)
                    names = {question.name.to_text(omit_final_dot=True).lower() for question in query.question}
                    # A question that wants recursion is not multicast DNS: Avahi does not answer it for others.
                    if query.flags & (dns.flags.QR | dns.flags.RD) or self.name not in names:
                        continue
                    self.asked += 1
                    for reply in self.reply(query, f"{self.name}."):
                        (other if self.from_another_port else self._listener).sendto(reply, source)


@pytest.fixture
async def responder() -> AsyncIterator[Responder]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.setblocking(False)
        try:
            listener.bind(("", multicast.PORT))
            loopback = struct.pack("@4s4xi", socket.inet_aton(GROUP), socket.if_nametoindex("lo"))
            listener.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, loopback)
        except OSError as error:
            pytest.skip(f"this machine takes no part in multicast DNS: {error}")
        responder = Responder(listener)
        task = asyncio.create_task(responder.run())
        yield responder
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def test_a_machine_of_the_local_network_answers_for_itself(responder: Responder) -> None:
    found = await multicast.ask(responder.name.upper())
    assert (found.addresses, found.ttl) == (("10.4.0.1", "fd00::4"), 10)


async def test_a_name_in_other_letters_than_latin_is_asked_as_it_is_written(responder: Responder) -> None:
    label = f"рабочая-{secrets.token_hex(4)}"
    responder.name = dns.name.Name([label.encode(), b"local", b""]).to_text(omit_final_dot=True)
    assert (await multicast.ask(f"{label}.local")).addresses == ("10.4.0.1", "fd00::4")


def _wrong_id(query: dns.message.Message, name: str) -> list[bytes]:
    response = answer(query, name)
    response.id ^= 1
    return [response.to_wire()]


def _other_name(query: dns.message.Message, name: str) -> list[bytes]:
    return [answer(query, "other-" + name).to_wire()]


def _question_again(query: dns.message.Message, _: str) -> list[bytes]:
    return [query.to_wire()]


def _refusal(query: dns.message.Message, name: str) -> list[bytes]:
    response = answer(query, name)
    response.set_rcode(dns.rcode.NXDOMAIN)
    return [response.to_wire()]


def _nonsense(query: dns.message.Message, name: str) -> list[bytes]:
    whole = answer(query, name).to_wire()
    return [b"", b"\xff" * 500, whole[:-3], whole[:12] + b"\xc0\x0c" * 20]


def _no_host(query: dns.message.Message, name: str) -> list[bytes]:
    return [answer(query, name, "0.0.0.0", "224.0.0.1", "fe80::1").to_wire()]


WRONG = [_wrong_id, _other_name, _question_again, _refusal, _nonsense, _no_host]


@pytest.mark.parametrize("reply", WRONG)
async def test_what_is_no_answer_to_the_question_is_not_heard(responder: Responder, reply: Reply) -> None:
    responder.reply = reply
    with pytest.raises(SilenceError):
        await multicast.ask(responder.name)
    assert responder.asked > 1  # a datagram may be lost, so that it is asked again


@pytest.mark.parametrize("reply", WRONG)
async def test_what_is_wrong_does_not_keep_the_right_answer_away(responder: Responder, reply: Reply) -> None:
    responder.reply = lambda query, name: [*reply(query, name), *well(query, name)]
    assert "10.4.0.1" in (await multicast.ask(responder.name)).addresses


async def test_an_answer_from_another_port_is_not_heard(responder: Responder) -> None:
    responder.from_another_port = True
    with pytest.raises(SilenceError):
        await multicast.ask(responder.name)


async def test_the_bit_that_asks_others_to_forget_is_no_part_of_the_class(responder: Responder) -> None:
    def flush(query: dns.message.Message, name: str) -> list[bytes]:
        wire = answer(query, name).to_wire()
        head, tail = wire[: len(query.to_wire())], wire[len(query.to_wire()) :]
        return [head + tail.replace(b"\x00\x01\x00\x01", b"\x00\x01\x80\x01", 1)]

    responder.reply = flush
    assert (await multicast.ask(responder.name)).addresses == ("10.4.0.1",)


async def test_a_server_on_port_5353_that_knows_only_its_own_name_delays_nothing(
    responder: Responder, tmp_path: Path
) -> None:
    names = Resolver(("127.0.0.1", multicast.PORT), tmp_path / "hosts")
    assert await names.addresses(responder.name) == ("10.4.0.1", "fd00::4")
    found = names.resolution(responder.name)
    assert found is not None
    assert (found.server, found.ttl_seconds) == ("multicast DNS", 10)


async def test_without_a_server_everyone_is_asked_beside_the_system(responder: Responder, tmp_path: Path) -> None:
    assert await Resolver(None, tmp_path / "hosts").addresses(responder.name) == ("10.4.0.1", "fd00::4")


async def test_only_local_names_are_asked_of_everyone(responder: Responder, tmp_path: Path) -> None:
    responder.name = "gpumon-test.invalid"
    with pytest.raises(ResolveError):
        await Resolver(None, tmp_path / "hosts").addresses(responder.name)
    assert responder.asked == 0


@pytest.mark.parametrize("host", ["..local", "a..local", "x" * 64 + ".local", ("x" * 60 + ".") * 5 + "local"])
async def test_what_cannot_be_a_name_is_not_asked(host: str) -> None:
    with pytest.raises(ResolveError, match="cannot be a name"):
        await multicast.ask(host)
