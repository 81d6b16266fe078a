"""Where the hub never asks, however it is told to: by number, by name, by a name that changes, by a redirect."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import dns.message
import dns.rrset
import pytest

from gpumon import resolver
from gpumon.config import Config, DnsSection, HubSection, NodeEntry
from gpumon.errors import PollError
from gpumon.hub.destinations import refusal
from gpumon.hub.fetch import fetching
from gpumon.resolver import Resolver
from tests.dnsmasq import dnsmasq, needs_dnsmasq
from tests.hub.strangers import answer, stranger
from tests.running import running_hub

GOOD = json.dumps({"node": "x", "gpus": []}).encode()
NEVER = [
    *("169.254.169.254", "169.254.0.1", "169.254.255.255", "100.100.100.200", "168.63.129.16", "192.0.0.192"),
    *("0.0.0.0", "0.0.0.1", "224.0.0.1", "239.255.255.250", "255.255.255.255", "240.0.0.1"),
    *("::", "fe80::1", "fe80::1%lo", "febf::1", "ff02::1", "fd00:ec2::254", "fd20:ce::254", "fd00:42::42"),
    *("::ffff:169.254.169.254", "::ffff:a9fe:a9fe", "::169.254.169.254", "::ffff:0.0.0.0", "::ffff:224.0.0.1"),
    *("64:ff9b::169.254.169.254", "64:ff9b:1::a9fe:a9fe", "2002:a9fe:a9fe::1", "2001:0:a9fe:a9fe::1"),
    *("2001:0:102:304:0:0:5601:5601", "::ffff:100.100.100.200", "not an address", ""),
]
WELL = ["127.0.0.1", "127.8.8.8", "::1", "10.0.0.1", "172.16.0.1", "192.168.1.101", "100.64.0.1", "8.8.8.8"]
WELL += ["fd00::1", "2001:db8::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::10.0.0.1", "2002:0a00:0001::1"]


@pytest.mark.parametrize("address", NEVER)
def test_there_the_hub_never_asks(address: str) -> None:
    assert refusal(address)


@pytest.mark.parametrize("address", WELL)
def test_where_nodes_are_the_hub_asks(address: str) -> None:
    assert refusal(address) is None


class Trap:
    """Counts who comes; on every address of this machine."""

    def __init__(self) -> None:
        self.visits = 0

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.visits += 1
        await answer(GOOD)(reader, writer)


@asynccontextmanager
async def trap() -> AsyncIterator[tuple[Trap, int]]:
    one = Trap()
    server = await asyncio.start_server(one, "0.0.0.0", 0)
    async with server:
        yield one, server.sockets[0].getsockname()[1]


@pytest.mark.parametrize(
    "host",
    [
        *("169.254.169.254", "2852039166", "0xa9fea9fe", "0251.0376.0251.0376", "169.254.43518", "0xA9.254.0251.254"),
        *("::ffff:169.254.169.254", "::ffff:a9fe:a9fe", "fe80::1%lo", "fd00:ec2::254", "0.0.0.0", "0", "0x0", "000.0"),
        *("::ffff:0.0.0.0", "::", "255.255.255.255", "metadata.lab", "zero.lab", "mapped.lab"),
    ],
)
async def test_however_it_is_spelled_nobody_is_asked(host: str, tmp_path: Path) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_text("169.254.169.254 metadata.lab\n0.0.0.0 zero.lab\n::ffff:169.254.169.254 mapped.lab\n")
    async with trap() as (one, port), fetching(Resolver(None, hosts)) as fetcher:
        assert (await fetcher.report(NodeEntry(name="n", host="127.0.0.1", port=port))).address == "127.0.0.1"
        with pytest.raises(PollError) as caught:
            await fetcher.report(NodeEntry(name="n", host=host, port=port))
        # A system's resolver that knows such spellings gives an address, which is refused; others know no such name.
        assert caught.value.code in ("forbidden_address", "name_unknown")
        assert one.visits == 1


@pytest.mark.parametrize("host", ["2852039166", "0xa9fea9fe", "0251.0376.0251.0376"])
async def test_a_spelling_that_the_system_reads_as_an_address_is_seen_through(host: str) -> None:
    async with fetching(Resolver()) as fetcher:
        with pytest.raises(PollError) as caught:
            await fetcher.report(NodeEntry(name="n", host=host))
        assert caught.value.code == "forbidden_address"
        assert "169.254.169.254, which is where a cloud tells its machines" in caught.value.message


async def test_of_the_addresses_of_a_name_only_those_are_asked_that_may_be(tmp_path: Path) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_text("169.254.169.254 n.lab\n127.0.0.1 n.lab\n")
    async with trap() as (_, port), fetching(Resolver(None, hosts)) as fetcher:
        assert (await fetcher.report(NodeEntry(name="n", host="n.lab", port=port))).address == "127.0.0.1"


class TurningNames(asyncio.DatagramProtocol):
    """A DNS server that answers each question otherwise than the one before, and lets nobody keep it."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = list(addresses)
        self.asked = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        query = dns.message.from_wire(data)
        reply = dns.message.make_response(query)
        question = query.question[0]
        if question.rdtype.name == "A":
            address = self.addresses[min(self.asked, len(self.addresses) - 1)]
            self.asked += 1
            reply.answer.append(dns.rrset.from_text(question.name, 0, "IN", "A", address))
        self.transport.sendto(reply.to_wire(), addr)


async def test_what_was_looked_at_is_what_is_connected_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolver, "LEAST_TTL_SECONDS", 0.0)
    loop = asyncio.get_running_loop()
    names = TurningNames("127.0.0.1", "169.254.169.254", "127.0.0.1", "0.0.0.0")
    transport, _ = await loop.create_datagram_endpoint(lambda: names, ("127.0.0.1", 0))
    server = ("127.0.0.1", transport.get_extra_info("sockname")[1])
    async with trap() as (one, port), fetching(Resolver(server, tmp_path / "hosts")) as fetcher:
        entry = NodeEntry(name="n", host="turning.lab", port=port)
        assert (await fetcher.report(entry)).address == "127.0.0.1"
        assert (names.asked, one.visits) == (1, 1)  # one question a poll
        with pytest.raises(PollError) as caught:
            await fetcher.report(entry, prefer="127.0.0.1")
        assert (caught.value.code, names.asked, one.visits) == ("forbidden_address", 2, 1)
        assert (await fetcher.report(entry)).address == "127.0.0.1"
        with pytest.raises(PollError):
            await fetcher.report(entry)
        assert one.visits == 2
    transport.close()


@needs_dnsmasq
async def test_a_name_that_turns_to_a_clouds_secrets_is_no_longer_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resolver, "LEAST_TTL_SECONDS", 0.1)
    async with stranger(answer(GOOD)) as port:
        with dnsmasq(tmp_path, {"node.lab": "127.0.0.1"}, ttl=0) as server:
            config = Config(
                nodes=[NodeEntry(name="n", host="node.lab", port=port)],
                dns=DnsSection(enabled=True, server=f"127.0.0.1:{server.port}"),
                hub=HubSection(poll_interval_seconds=0.2),
            )
            async with running_hub(config) as hub:
                await hub.node_when("n", lambda node: node["status"] == "online")
                server.know({"node.lab": "169.254.169.254"})
                node = await hub.node_when("n", lambda node: node["error"])
                assert node["error"]["code"] == "forbidden_address"
                assert node["error"]["message"].startswith("node.lab is at 169.254.169.254, which is ")
                server.know({"node.lab": "127.0.0.1"})
                await hub.node_when("n", lambda node: node["error"] is None)


async def test_a_redirect_leads_nowhere_and_takes_no_token_along() -> None:
    async with trap() as (one, port):
        for status in ("301 Moved", "302 Found", "303 See", "307 Temporary", "308 Permanent"):
            redirect = answer(b"", status, f"Location: http://127.0.0.1:{port}/gpu-info\r\n")
            async with stranger(redirect) as first, fetching(Resolver()) as fetcher:
                with pytest.raises(PollError) as caught:
                    await fetcher.report(NodeEntry(name="n", host="127.0.0.1", port=first, token="a-long-secret"))
                assert (caught.value.code, caught.value.answered) == ("bad_status", True)
        assert one.visits == 0


async def test_each_node_gets_its_own_token_and_nothing_else_goes_with_a_request() -> None:
    heads: list[bytes] = []

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            heads.append(await reader.readuntil(b"\r\n\r\n"))
            cookie = b"Set-Cookie: a=b; Path=/\r\n"
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n%b\r\n%b" % (len(GOOD), cookie, GOOD))

    async with stranger(listen) as port, fetching(Resolver()) as fetcher:
        for token in ("a-long-secret", None, "another-secret"):
            await fetcher.report(NodeEntry(name="n", host="127.0.0.1", port=port, token=token))
    said = [sorted(line for line in head.decode().split("\r\n") if line.startswith("Auth")) for head in heads]
    assert said == [["Authorization: Bearer a-long-secret"], [], ["Authorization: Bearer another-secret"]]
    for head in heads:
        assert head.startswith(b"GET /gpu-info HTTP/1.1\r\n")
        assert b"Cookie" not in head


@pytest.mark.parametrize("size", [50 * 2**20, 2**20 + 1])
async def test_an_answer_that_says_it_is_too_long_is_not_read(size: int) -> None:
    sent = 0

    async def long(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await reader.readuntil(b"\r\n\r\n")
        writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n".encode())
        while sent < size:
            writer.write(b" " * min(65536, size - sent))
            await writer.drain()
            sent += 65536

    async with stranger(long) as port, fetching(Resolver()) as fetcher:
        with pytest.raises(PollError) as caught:
            await fetcher.report(NodeEntry(name="n", host="127.0.0.1", port=port))
    assert caught.value.code == "answer_too_long"
    assert sent < 16 * 2**20  # no more than the buffers of the connection
