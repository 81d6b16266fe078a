"""Hubs that are silent, absent, closing, refusing or none at all: the agent comes back in its time, and says why."""

import asyncio
import json
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from websockets.asyncio.server import ServerConnection

from gpumon.agent.backoff import Schedule, Setback
from gpumon.agent.dial import dial
from gpumon.config import DnsSection
from gpumon.errors import ResolveError
from gpumon.wire import Close
from tests.agent.hubs import (
    HURRIED,
    QUICK,
    Stream,
    answering,
    fake_hub,
    hear_in_order,
    raw_hub,
    reporting_to,
    welcome,
)
from tests.running import Site, running_agent, running_hub, until, until_true


@pytest.fixture
def failures(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Setback, float, float | None]]:
    """How each try ended, for how long its link had held, and when the hub asked to come back."""
    found: list[tuple[Setback, float, float | None]] = []
    original = Schedule.failed

    def spy(
        self: Schedule, hub: str, setback: Setback, held_seconds: float = 0, retry_after_seconds: float | None = None
    ) -> None:
        found.append((setback, held_seconds, retry_after_seconds))
        original(self, hub, setback, held_seconds, retry_after_seconds)

    monkeypatch.setattr(Schedule, "failed", spy)
    return found


async def last_error(agent: Site) -> str:
    return str((await agent.get("/health?verbose"))["link"]["last_error"])


async def until_said(agent: Site, words: str) -> None:
    """Wait until the link's last error has ``words``."""

    async def is_said() -> bool:
        return words in await last_error(agent)

    await until(is_said)


async def silent(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    await reader.read(-1)


async def half_an_answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 101 Switching Proto")
    await silent(reader, writer)


async def close_at_once(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.close()


async def reset(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    writer.transport.abort()


async def noise(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"SSH-2.0-OpenSSH_9.2\r\n" * 10)
    await writer.drain()
    writer.close()


async def endless_head(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n")
    while True:
        writer.write(b"X-Header: y\r\n" * 1000)
        await writer.drain()


@pytest.mark.parametrize(
    ("talk", "setback", "words"),
    [
        (silent, Setback.LOST, "it takes connections and does not answer within 0.1 s"),
        (half_an_answer, Setback.LOST, "does not answer within 0.1 s"),
        (close_at_once, Setback.UNWELCOME, "does not talk as a hub does"),
        (reset, Setback.UNWELCOME, ""),
        (noise, Setback.UNWELCOME, "does not talk as a hub does"),
        (endless_head, Setback.LOST, "does not answer within 0.1 s"),
    ],
)
async def test_what_is_no_hub_is_left_in_time_and_tried_again(
    talk: Stream, setback: Setback, words: str, failures: list[tuple[Setback, float, float | None]]
) -> None:
    pace = HURRIED if setback is Setback.LOST else QUICK
    async with raw_hub(talk) as hub, running_agent(reporting_to(hub.url), pace=pace) as agent:
        await until_true(lambda: hub.visits >= 3 and len(failures) >= 2)
        assert words in await last_error(agent)
        assert (await agent.get("/health"))["status"] == "ok"
    assert failures[1][0] is setback


async def test_a_hub_that_says_no_welcome_is_left_in_time(
    failures: list[tuple[Setback, float, float | None]],
) -> None:
    async def never(connection: ServerConnection) -> None:
        await connection.wait_closed()

    async with fake_hub(never) as hub:
        pace = replace(QUICK, welcome=0.1)
        async with running_agent(reporting_to(hub.url), pace=pace) as agent:
            await until_true(lambda: len(failures) >= 2)
            assert "it does not say welcome within 0.1 s" in await last_error(agent)
    assert failures[0][0] is Setback.LOST


@pytest.mark.parametrize(
    "answer",
    ["nonsense", '{"type": "ack", "sequence": 1}', '{"type": "welcome"}', "[" * 100_000, b"\xff\xfe"],
    ids=["not JSON", "no welcome first", "half a welcome", "deep", "bytes"],
)
async def test_a_hub_that_talks_nonsense_is_left_and_tried_again(
    answer: str | bytes, failures: list[tuple[Setback, float, float | None]]
) -> None:
    async def nonsense(connection: ServerConnection) -> None:
        await connection.recv()
        await connection.send(answer)

    async with fake_hub(nonsense) as hub, running_agent(reporting_to(hub.url), pace=QUICK) as agent:
        await until_true(lambda: hub.visits >= 3)
        assert (await agent.get("/health"))["status"] == "ok"
    assert {setback for setback, _, _ in failures[:2]} == {Setback.UNWELCOME}


async def test_nonsense_in_the_middle_of_a_link_ends_that_link_alone() -> None:
    async def nonsense(connection: ServerConnection) -> None:
        await welcome(connection)
        await hear_in_order(connection)
        await connection.send("nonsense")

    async with fake_hub(nonsense) as hub, running_agent(reporting_to(hub.url), pace=QUICK):
        await until_true(lambda: hub.visits >= 3)


@pytest.mark.parametrize(
    ("head", "setback", "hint"),
    [
        ("401 Unauthorized", Setback.REFUSED, None),
        ("403 Forbidden", Setback.REFUSED, None),
        ("404 Not Found", Setback.UNWELCOME, None),
        ("429 Too Many Requests\r\nRetry-After: 7", Setback.UNWELCOME, 7),
        ("500 Internal Server Error", Setback.UNWELCOME, None),
        ("503 Service Unavailable", Setback.UNWELCOME, None),
        ("503 Service Unavailable\r\nRetry-After: 3", Setback.UNWELCOME, 3),
        ("503 Service Unavailable\r\nRetry-After: 1\r\nRetry-After: 2", Setback.UNWELCOME, 1),
        ("503 Service Unavailable\r\nRetry-After: -1", Setback.UNWELCOME, None),
        ("503 Service Unavailable\r\nRetry-After: ４", Setback.UNWELCOME, None),
        ("503 Service Unavailable\r\nRetry-After: " + "9" * 500, Setback.UNWELCOME, None),
        ("503 Service Unavailable\r\nRetry-After: Fri, 31 Dec 1999 23:59:59 GMT", Setback.UNWELCOME, None),
        ("200 OK", Setback.UNWELCOME, None),
        ("302 Found\r\nLocation: ws://[", Setback.UNWELCOME, None),
        ("302 Found\r\nLocation: ws://h:99999/", Setback.UNWELCOME, None),
        ("302 Found\r\nLocation: ws://127.0.0.1:9/", Setback.UNWELCOME, None),
        ("999 Nobody Knows", Setback.UNWELCOME, None),
    ],
    ids=lambda value: value[:50].replace("\r\n", " ") if isinstance(value, str) else "",
)
async def test_a_refusal_by_status_is_told_and_tried_again_in_its_time(
    head: str, setback: Setback, hint: float | None, failures: list[tuple[Setback, float, float | None]]
) -> None:
    talk = answering(head, "not \x1b[31myou")
    async with raw_hub(talk) as hub, running_agent(reporting_to(hub.url), pace=QUICK) as agent:
        await until_true(lambda: hub.visits >= 2)
        assert f"status {head[:3]}" in await last_error(agent) or "does not talk" in await last_error(agent)
        assert "\x1b" not in await last_error(agent)
    assert (failures[0][0], failures[0][2]) == (setback, hint)


CODES = [
    (1000, Setback.UNWELCOME),
    (1001, Setback.LOST),
    (1009, Setback.UNWELCOME),
    (1011, Setback.UNWELCOME),
    (1013, Setback.UNWELCOME),
    (Close.GOING_AWAY, Setback.LOST),
    (Close.BAD_MESSAGE, Setback.UNWELCOME),
    (Close.UNAUTHORISED, Setback.REFUSED),
    (Close.TOO_SLOW, Setback.UNWELCOME),
    (Close.REPLACED, Setback.UNWELCOME),
    (Close.PROTOCOL, Setback.REFUSED),
    (Close.NAME_TAKEN, Setback.REFUSED),
    (Close.COPIED, Setback.REFUSED),
    (Close.TOO_MANY, Setback.REFUSED),
    (4999, Setback.UNWELCOME),
]


@pytest.mark.parametrize(("code", "setback"), CODES)
@pytest.mark.parametrize("when", ["before welcome", "after welcome"])
async def test_each_close_code_is_told_and_answered_as_agreed(
    code: int, setback: Setback, when: str, failures: list[tuple[Setback, float, float | None]]
) -> None:
    async def refuse(connection: ServerConnection) -> None:
        await (connection.recv() if when == "before welcome" else welcome(connection))
        await connection.close(code, "give one of them\n another --name")

    if when == "before welcome" and code == Close.BAD_MESSAGE:
        setback = Setback.REFUSED
    async with fake_hub(refuse) as hub, running_agent(reporting_to(hub.url), pace=QUICK) as agent:
        await until_true(lambda: hub.visits >= 2)
        assert f"give one of them another --name ({int(code)})" in await last_error(agent)
    assert failures[0][0] is setback


async def test_a_hub_that_accepts_and_closes_is_not_hit_without_end(
    failures: list[tuple[Setback, float, float | None]],
) -> None:
    async def accept_and_close(connection: ServerConnection) -> None:
        await welcome(connection)
        await connection.close(1000)

    pace = replace(QUICK, first=0.05, unwelcome_most=3600.0)
    async with fake_hub(accept_and_close) as hub, running_agent(reporting_to(hub.url), pace=pace):
        started = time.monotonic()
        await until_true(lambda: hub.visits >= 5)
        took = time.monotonic() - started
    assert all(held < 5 for _, held, _ in failures)
    # Delays double, by chance of at most 0.05, 0.1, 0.2, 0.4, 0.8 ...: without that there would be hundreds.
    assert hub.visits <= 6 + took / 0.05


async def test_a_lost_link_is_told_once_and_again_only_after_a_link_has_held(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def abort(connection: ServerConnection) -> None:
        await welcome(connection)
        connection.transport.abort()

    with caplog.at_level("INFO", logger="gpumon.agent"):
        async with fake_hub(abort) as hub, running_agent(reporting_to(hub.url), pace=QUICK) as agent:
            await until_true(lambda: hub.visits >= 6)
            link = (await agent.get("/health?verbose"))["link"]
            assert link["reconnects"] >= 4
        told = [record.getMessage() for record in caplog.records if "hub http" in record.getMessage()]
        assert [line.partition(": ")[2] for line in told] == [
            "connected to gpumon 0",
            "the connection was lost; trying again",
        ]
        caplog.clear()
        pace = replace(QUICK, held=0.0)
        async with fake_hub(abort) as hub, running_agent(reporting_to(hub.url), pace=pace):
            await until_true(lambda: hub.visits >= 4)
        assert sum("the connection was lost" in record.getMessage() for record in caplog.records) >= 3


async def test_the_logs_last_word_on_a_hub_that_is_back_is_not_that_it_was_lost(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def abort_twice(connection: ServerConnection) -> None:
        await welcome(connection)
        if hub.visits <= 2:
            connection.transport.abort()

    def told() -> list[str]:
        lines = [record.getMessage() for record in caplog.records if "hub http" in record.getMessage()]
        return [line.partition(": ")[2] for line in lines]

    with caplog.at_level("INFO", logger="gpumon.agent"):
        async with fake_hub(abort_twice) as hub, running_agent(reporting_to(hub.url), pace=replace(QUICK, held=0.5)):
            await until_true(lambda: len(told()) >= 3)
    assert told() == ["connected to gpumon 0", "the connection was lost; trying again", "connected again"]


async def test_a_refusal_by_one_hub_does_not_delay_another() -> None:
    async with raw_hub(answering("403 Forbidden")) as refusing, running_hub() as hub:
        pace = replace(QUICK, refused=600.0)
        async with running_agent(reporting_to(refusing.url, hub.url), pace=pace):
            await hub.node_when("n", lambda node: node["status"] == "online")
    assert refusing.visits == 1


def blackhole() -> tuple[socket.socket, list[socket.socket]]:
    """A listener whose queue is full: it answers no connection."""
    listener = socket.socket()
    listener.bind(("127.0.0.2", 0))
    listener.listen(0)
    waiting = []
    for _ in range(3):
        one = socket.socket()
        one.setblocking(False)
        one.connect_ex(listener.getsockname())
        waiting.append(one)
    return listener, waiting


async def test_every_address_of_a_name_is_tried_in_turn() -> None:
    silent_one, waiting = blackhole()
    port = silent_one.getsockname()[1]
    tried: list[bool] = []
    with ExitStack() as sockets:
        for one in (silent_one, *waiting):
            sockets.enter_context(one)
        addresses = ("127.0.0.2", "::1", "127.0.0.3", "127.0.0.1")
        with pytest.raises(OSError, match=r"127\.0\.0\.2: no answer within 1 s; ::1: .*; 127\.0\.0\.3: .*refused"):
            await dial(addresses, port, 1, lambda: tried.append(True))
        listener = sockets.enter_context(socket.create_server(("127.0.0.1", port)))
        assert listener.getsockname()[1] == port
        found, address = await dial(addresses, port, 1, lambda: tried.append(True))
        with found:
            assert address == "127.0.0.1"
            assert len(tried) == 8
            assert found.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            assert found.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            options = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT, socket.TCP_USER_TIMEOUT)
            assert [found.getsockopt(socket.IPPROTO_TCP, option) for option in options] == [15, 5, 3, 20_000]


class Names:
    """The resolver's answers, as a test sets them: addresses, an exception, or nothing for ever."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *answer: str) -> None:
        self.answer: Any = answer
        self.asked = 0
        names = self

        async def addresses(_: object, host: str) -> Any:
            names.asked += 1
            assert host == "hub.lab"
            await until_true(lambda: names.answer is not None)
            if isinstance(names.answer, Exception):
                raise names.answer
            return names.answer

        monkeypatch.setattr("gpumon.resolver.Resolver.addresses", addresses)


async def test_an_address_that_takes_connections_and_does_nothing_does_not_hide_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two of three addresses are something else: each is tried, and the third is a hub. In between another is tried."""
    Names(monkeypatch, "127.0.0.2", "127.0.0.3", "127.0.0.1")
    async with running_hub() as hub, raw_hub(silent, "127.0.0.2", hub.port), raw_hub(silent, "127.0.0.3", hub.port):
        settings = reporting_to(f"http://hub.lab:{hub.port}", "http://hub.lab:9")
        async with running_agent(settings, pace=replace(QUICK, upgrade=0.5)):
            await hub.node_when("n", lambda node: node["status"] == "online")


async def test_a_name_that_is_not_known_at_the_start_is_asked_again_until_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    known = Names(monkeypatch)
    known.answer = ResolveError("No address for hub.lab (nobody knows it)")
    async with running_hub() as hub, running_agent(reporting_to(f"http://hub.lab:{hub.port}"), pace=QUICK) as agent:
        await until_true(lambda: known.asked >= 3)
        assert "No address for hub.lab" in await last_error(agent)
        known.answer = ("127.0.0.1",)
        await hub.node_when("n", lambda node: node["status"] == "online")


async def test_a_look_up_that_hangs_is_waited_for_no_longer_than_its_deadline_and_not_begun_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    known = Names(monkeypatch)
    known.answer = None
    async with (
        running_hub() as hub,
        running_agent(reporting_to(f"http://hub.lab:{hub.port}"), pace=replace(QUICK, name=0.1)) as agent,
    ):
        await until_said(agent, "its name is not resolved within 0.1 s")
        await asyncio.sleep(0.5)  # time enough for many more tries
        assert known.asked == 1
        known.answer = ("127.0.0.1",)
        await hub.node_when("n", lambda node: node["status"] == "online")


async def test_a_look_up_that_failed_late_is_begun_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    known = Names(monkeypatch)
    known.answer = None
    async with running_hub() as hub:
        pace = replace(QUICK, name=0.1, first=0.3, lost_most=0.3)
        async with running_agent(reporting_to(f"http://hub.lab:{hub.port}"), pace=pace) as agent:
            await until_said(agent, "its name is not resolved")
            known.answer = ResolveError("late")
            await until_true(lambda: known.asked == 2)
            known.answer = ("127.0.0.1",)
            await hub.node_when("n", lambda node: node["status"] == "online")


class NameServer:
    """A DNS server of our own that knows one name, once it is told to."""

    def __init__(self) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.knows = False
        self.address = "127.0.0.1"
        self.port = self.socket.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self) -> None:
        with suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)  # or who waits there would wait for ever
        self._thread.join()
        self.socket.close()

    def _serve(self) -> None:
        import dns.message
        import dns.rcode
        import dns.rrset

        while True:
            try:
                data, peer = self.socket.recvfrom(4096)
            except OSError:
                return
            if not data:
                return
            query = dns.message.from_wire(data)
            answer = dns.message.make_response(query)
            if not self.knows:
                answer.set_rcode(dns.rcode.SERVFAIL)
            elif query.question[0].rdtype.name == "A":
                answer.answer.append(dns.rrset.from_text_list(query.question[0].name, 300, "IN", "A", [self.address]))
            self.socket.sendto(answer.to_wire(), peer)


async def test_names_are_asked_of_the_configured_server_as_soon_as_that_knows_them() -> None:
    server = NameServer()
    dns = DnsSection(server=f"127.0.0.1:{server.port}", enabled=True)
    async with running_hub() as hub:
        settings = reporting_to(f"http://hub.lab.invalid:{hub.port}")
        async with running_agent(settings, pace=replace(QUICK, name=5.0), dns=dns) as agent:
            await until_said(agent, "No address for hub.lab.invalid")
            server.knows = True
            await hub.node_when("n", lambda node: node["status"] == "online")
    server.close()


async def test_a_hub_that_is_not_where_its_name_led_is_looked_up_again_before_that_answer_is_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("gpumon.resolver.LEAST_TTL_SECONDS", 0.1)
    server = NameServer()
    server.knows, server.address = True, "127.0.0.2"
    dns = DnsSection(server=f"127.0.0.1:{server.port}", enabled=True)
    async with running_hub() as hub:
        settings = reporting_to(f"http://hub.lab.invalid:{hub.port}")
        async with running_agent(settings, pace=QUICK, dns=dns) as agent:
            await until_said(agent, "127.0.0.2: Connection refused")
            server.address = "127.0.0.1"
            await hub.node_when("n", lambda node: node["status"] == "online")
    server.close()


@contextmanager
def certified(folder: Path) -> Iterator[tuple[ssl.SSLContext, Path]]:
    """A server's side of TLS for ``hub.lab``, and the certificate that vouches for it."""
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    subject = ["-subj", "/CN=hub.lab", "-addext", "subjectAltName=DNS:hub.lab"]
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    files = ["-keyout", str(key), "-out", str(certificate), "-days", "2"]
    try:
        subprocess.run([*command, *files, *subject], check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("no openssl here to make a certificate")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    yield context, certificate


async def test_over_tls_the_name_of_the_address_is_asked_for_and_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Names(monkeypatch, "127.0.0.1")
    heads: list[bytes] = []
    asked: list[str | None] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.close()

    with certified(tmp_path) as (context, certificate):
        context.sni_callback = lambda _, name, __: asked.append(name)
        async with raw_hub(talk, tls=context) as server:
            port = urlsplit(server.url).port
            settings = reporting_to(f"https://hub.lab:{port}")
            async with running_agent(settings, pace=QUICK) as agent:
                await until_true(lambda: asked)
                await until_said(agent, "shows a certificate of an unknown authority")
            assert not heads
            monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
            async with running_agent(settings, pace=QUICK):
                await until_true(lambda: heads)
    assert set(asked) == {"hub.lab"}
    assert f"Host: hub.lab:{port}\r\n".encode() in heads[0]


async def test_tls_that_never_ends_its_handshake_is_left_in_time(
    failures: list[tuple[Setback, float, float | None]],
) -> None:
    async with raw_hub(silent) as hub:
        settings = reporting_to(hub.url.replace("http:", "https:"))
        async with running_agent(settings, pace=replace(HURRIED, upgrade=0.5)):
            await until_true(lambda: len(failures) >= 2)
    assert failures[0][0] is Setback.LOST


async def test_a_hub_that_takes_nothing_more_is_left_in_time(
    failures: list[tuple[Setback, float, float | None]],
) -> None:
    """The window of the connection closes: what is sent does not go out, and pings neither."""

    async def stop_reading(connection: ServerConnection) -> None:
        await welcome(connection)
        connection.transport.pause_reading()
        await over.wait()
        connection.transport.abort()

    over = asyncio.Event()
    async with fake_hub(stop_reading) as hub:
        settings = reporting_to(hub.url)
        async with running_agent(settings, simulate=128, pace=replace(QUICK, send=0.2, goodbye=0.2)) as agent:
            await until_true(lambda: bool(failures))
            assert "it takes nothing within 0.2 s" in await last_error(agent)
        over.set()


async def test_an_agent_tells_how_its_link_is() -> None:
    async with running_hub() as hub, running_agent(reporting_to(hub.url), pace=QUICK) as agent:
        await hub.node_when("n", lambda node: node["status"] == "online")
        assert "link" not in await agent.get("/health")
        link = (await agent.get("/health?verbose"))["link"]
        assert (link["hub"], link["reconnects"], link["reports_dropped"]) == (hub.url, 0, 0)
        assert link["connected_since"].endswith("Z")
        assert (link["last_error"], link["last_error_at"]) == (None, None)
        assert json.dumps(link)
    async with running_agent(reporting_to("http://127.0.0.1:9"), pace=QUICK) as agent:
        await until_said(agent, "hub http://127.0.0.1:9: cannot be reached: 127.0.0.1: Connection refused")
        link = (await agent.get("/health?verbose"))["link"]
        assert (link["hub"], link["connected_since"]) == (None, None)
        assert link["last_error_at"].endswith("Z")
