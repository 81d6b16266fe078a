"""Hub and agent over TLS: everything that works without works, and what is wrong with a certificate is told."""

import asyncio
import contextlib
import gc
import json
import os
import signal
import socket
import ssl
import threading
import tracemalloc
from asyncio import sslproto
from asyncio.sslproto import SSLProtocol
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from msgspec import structs
from websockets.asyncio.client import connect

from gpumon import certificates, limits, pipe, securing
from gpumon.certificates import trusting
from gpumon.config import AgentSection, Config, HubSection, NodeEntry, TlsSection
from tests.agent.hubs import QUICK
from tests.authority import Authority, Signed, self_made
from tests.hub.strangers import answer, stranger
from tests.running import Site, program, running_agent, running_hub, until, until_true


@pytest.fixture
def own(tmp_path: Path) -> Signed:
    return self_made(tmp_path)


@pytest.fixture
async def hub(own: Signed) -> AsyncIterator[Site]:
    async with running_hub(Config(tls=own.files)) as site:
        yield site


def pinning(own: Signed) -> ssl.SSLContext:
    return trusting(None, own.fingerprint)


def reporting_to(site: Site, pin: str = "", **more: Any) -> AgentSection:
    return AgentSection(name="n", hub=[site.url + (f"#sha256={pin}" if pin else "")], interval_seconds=0.2, **more)


def secure_viewer(port: int, own: Signed, path: str) -> ssl.SSLSocket:
    """A viewer that takes little at once, and nothing by itself."""
    plain = socket.socket()
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    plain.settimeout(20)
    plain.connect(("127.0.0.1", port))
    viewer = pinning(own).wrap_socket(plain)
    viewer.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    return viewer


# ---- what is served ----


async def test_reports_come_and_streams_go_over_tls(hub: Site, own: Signed) -> None:
    async with running_agent(reporting_to(hub, own.fingerprint), pace=QUICK):
        node = await hub.node_when("n", lambda node: (node["status"], node["source"]) == ("online", "push"))
        seen = node["report"]["sequence"]
        address = hub.url.replace("https", "wss") + "/api/stream?pace=0"
        async with connect(address, ssl=pinning(own), proxy=None) as viewer:
            while seen is None or seen < node["report"]["sequence"] + 3:
                for told in json.loads(await viewer.recv())["nodes"]:
                    seen = told["report"]["sequence"]
        async with hub.session.get(f"{hub.url}/api/events") as stream:
            assert stream.headers["Content-Encoding"] == "gzip"
            while b"event: nodes" not in await stream.content.readline():
                pass
        async with hub.session.get(f"{hub.url}/") as page:
            assert page.status == 200


async def test_large_letters_reach_a_slow_reader_whole(own: Signed) -> None:
    """More than all buffers on the way hold: the hub waits for the viewer, and goes on where it stopped."""
    nodes = [NodeEntry(name=f"n{number}", host="127.0.0.1", port=9, alias="x" * 250) for number in range(4000)]
    async with running_hub(Config(nodes=nodes, tls=own.files, hub=HubSection(poll_interval_seconds=60))) as hub:
        viewer = await asyncio.to_thread(secure_viewer, hub.port, own, "/api/events")
        body = bytearray()

        def read() -> None:
            while len(body) < 1_000_000 or not body.endswith(b"\n\n\r\n"):  # the end of an event, and of its chunk
                piece = viewer.recv(4096)
                assert piece, "the stream ended within the letter"
                body.extend(piece)

        with viewer:
            await asyncio.to_thread(read)
        text = bytes(body).partition(b"\r\n\r\n")[2]
        whole = b""
        while text:  # chunks
            size, _, text = text.partition(b"\r\n")
            whole += text[: int(size, 16)]
            text = text[int(size, 16) + 2 :]
        data = whole.partition(b"data: ")[2].partition(b"\n")[0]
        assert len(data) > 1_000_000
        assert [node["name"] for node in json.loads(data)["nodes"]] == [entry.name for entry in nodes]


async def test_a_viewer_that_stops_reading_is_cut_off_and_freed(
    hub: Site, own: Signed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipe, "STALLED_SECONDS", 1.0)
    async with running_agent(reporting_to(hub, own.fingerprint), simulate=128, pace=QUICK):
        await hub.node_when("n", lambda node: node["status"] == "online")
        stuck = await asyncio.to_thread(secure_viewer, hub.port, own, "/api/events?pace=0")
        with stuck:

            async def viewers() -> int:
                return int((await hub.get("/health"))["viewers"])

            async def is_there() -> bool:
                return await viewers() == 1

            async def is_freed() -> bool:
                return await viewers() == 0

            await until(is_there)
            await until(is_freed, patience=40)
            assert await until(lambda: hub.node("n"))


async def test_what_a_stuck_viewer_costs_is_bounded(hub: Site, own: Signed, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[pipe.Pipe] = []
    made = pipe.Pipe.made

    def spy(self: pipe.Pipe, transport: asyncio.BaseTransport) -> None:
        kept.append(self)
        made(self, transport)

    monkeypatch.setattr(pipe.Pipe, "made", spy)
    async with running_agent(reporting_to(hub, own.fingerprint), simulate=128, pace=QUICK):
        await hub.node_when("n", lambda node: node["status"] == "online")
        stuck = await asyncio.to_thread(secure_viewer, hub.port, own, "/api/events?pace=0")
        with stuck:
            for _ in range(10):
                await asyncio.sleep(0.1)
                await until_true(lambda: any(one.blocked for one in kept))
                (blocked,) = [one for one in kept if one.blocked]
                transport = blocked._transport
                assert transport is not None
                assert transport.get_write_buffer_size() <= 2 * pipe.PIECE_BYTES


async def test_a_connection_keeps_little_ready_for_what_comes(hub: Site, own: Signed) -> None:
    await hub.get("/health")  # from when it takes connections on, this holds for our end as well
    tracemalloc.start()
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", hub.port, ssl=pinning(own))
        writer.write(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b"200" in await reader.readline()
        only = tracemalloc.Filter(inclusive=True, filename_pattern=sslproto.__file__)
        kept = sum(trace.size for trace in tracemalloc.take_snapshot().filter_traces([only]).statistics("filename"))
        writer.close()
    finally:
        tracemalloc.stop()
    assert 2 * securing.READ_BYTES <= kept < 4 * securing.READ_BYTES  # the hub's end and the one here


async def test_a_plain_request_to_a_port_of_tls_is_ended_and_harms_nobody(hub: Site) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", hub.port)
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    with contextlib.suppress(ConnectionResetError):
        assert await reader.read() == b""
    writer.close()
    assert (await hub.get("/health"))["status"] == "ok"


async def test_a_handshake_that_never_ends_is_ended(own: Signed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(securing, "HANDSHAKE_SECONDS", 0.3)
    async with running_hub(Config(tls=own.files)) as hub:
        for first in (b"", b"\x16\x03\x01"):
            reader, writer = await asyncio.open_connection("127.0.0.1", hub.port)
            writer.write(first)
            with contextlib.suppress(ConnectionResetError):
                assert await reader.read() == b""
            writer.close()
        assert (await hub.get("/health?verbose"))["refused"] == {"silent_connection": 2}


async def is_ended(reader: asyncio.StreamReader) -> bool:
    """Whether the other side has closed, as far as is seen by now."""
    try:
        async with asyncio.timeout(0.01):
            return await reader.read() == b""
    except TimeoutError:
        return False
    except ConnectionResetError:
        return True


async def test_who_does_not_even_shake_hands_counts_from_the_first_packet(
    own: Signed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "is_spared", lambda _: False)
    async with running_hub(Config(tls=own.files, hub=HubSection(connections_per_address=20))) as hub:
        silent = [await asyncio.open_connection("127.0.0.1", hub.port) for _ in range(400)]
        elsewhere = aiohttp.TCPConnector(ssl=pinning(own), local_addr=("127.0.0.2", 0))
        async with aiohttp.ClientSession(connector=elsewhere) as session:

            async def refused() -> int:
                async with session.get(f"{hub.url}/health?verbose") as answer:
                    return int((await answer.json())["refused"].get("too_many_connections", 0))

            async def are_refused() -> bool:
                return await refused() == 380

            await until(are_refused)

            async def the_others_are_open() -> bool:
                return [await is_ended(reader) for reader, _ in silent].count(False) == 20

            await until(the_others_are_open)
            for _, writer in silent:
                writer.close()

            async def is_served_again() -> bool:
                with contextlib.suppress(aiohttp.ClientError):
                    return bool((await hub.get("/health"))["status"] == "ok")
                return False

            await until(is_served_again)


async def test_of_all_that_shake_hands_who_has_taken_longest_gives_way(
    own: Signed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(securing, "MAX_HANDSHAKES", 5)
    async with running_hub(Config(tls=own.files)) as hub:
        silent = [await asyncio.open_connection("127.0.0.1", hub.port) for _ in range(5)]
        async with hub.session.get(f"{hub.url}/health") as answer:
            assert answer.status == 200
        with contextlib.suppress(ConnectionResetError):
            assert await silent[0][0].read() == b""
        assert [await is_ended(reader) for reader, _ in silent[1:]] == [False] * 4
        for _, writer in silent:
            writer.close()


GET = b"GET /health HTTP/1.1\r\nHost: localhost\r\n"
UPGRADE = (
    b"GET /api/stream HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)


@pytest.mark.parametrize(
    ("is_secure", "said"),
    [
        pytest.param(True, GET + b"\r\n", id="answered"),
        pytest.param(True, GET, id="half a head"),
        pytest.param(True, UPGRADE, id="WebSocket"),
        pytest.param(False, GET + b"\r\n", id="no TLS"),
        pytest.param(False, b"", id="silent"),
    ],
)
async def test_what_a_connection_held_is_free_once_it_has_ended(
    is_secure: bool, said: bytes, hub: Site, own: Signed
) -> None:
    """By itself, without Python looking for circles of garbage, which it does after thousands of them."""

    def visit() -> None:
        with contextlib.ExitStack() as end:
            one = end.enter_context(socket.create_connection(("127.0.0.1", hub.port), 10))
            if is_secure:
                one = end.enter_context(pinning(own).wrap_socket(one))
            one.sendall(said)
            if said.endswith(b"\r\n\r\n"):
                with contextlib.suppress(ConnectionResetError):
                    one.recv(100)

    def held() -> int:
        return sum(type(one) is SSLProtocol for one in gc.get_objects())

    await hub.session.close()
    gc.collect()
    gc.disable()
    try:
        before = held()
        for _ in range(5):
            await asyncio.to_thread(visit)
        await until_true(lambda: held() <= before)
    finally:
        gc.enable()


def secure(own: Signed) -> tuple[str, ...]:
    return f"--tls-certificate={own.certificate}", f"--tls-key={own.key}"


def pushed(own: Signed, port: int) -> Any:
    url = f"https://127.0.0.1:{port}#sha256={own.fingerprint}"
    local = ("--host=127.0.0.1", "--port=0", "--simulate=64", "--name=n", "--interval=0.2")
    return program("agent", *local, f"--hub={url}", *secure(own))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_everything_ends_in_time_whoever_is_connected(own: Signed, tmp_path: Path, number: int) -> None:
    with program("hub", "--host=127.0.0.1", "--port=0", *secure(own), folder=tmp_path) as hub:
        port = hub.port("hub")
        with pushed(own, port) as agent:
            agent.wait_for("connected to gpumon")
            reading, stuck = (secure_viewer(port, own, "/api/events?pace=0") for _ in range(2))
            silent = socket.create_connection(("127.0.0.1", port))  # does not even shake hands
            assert reading.recv(100).startswith(b"HTTP/1.1 200")
            end = threading.Event()

            def drain() -> None:
                with contextlib.suppress(OSError):
                    while reading.recv(65536) and not end.is_set():
                        pass

            thread = threading.Thread(target=drain)
            thread.start()
            assert agent.end(number) == 0
            assert hub.end(number) == 0
            end.set()
            thread.join(10)
            for viewer in (reading, stuck, silent):
                viewer.close()
        for ended in (agent, hub):
            assert "Traceback" not in ended.said


# ---- whom the agent believes ----


async def last_error(agent: Site) -> str:
    return str((await agent.get("/health?verbose"))["link"]["last_error"])


async def said(agent: Site, words: str) -> None:
    async def is_said() -> bool:
        return words in await last_error(agent)

    await until(is_said)


async def test_an_agent_believes_the_authority_that_it_was_given(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    async with running_hub(Config(tls=authority.sign("hub").files)) as hub:
        async with running_agent(reporting_to(hub), pace=QUICK, tls=TlsSection(ca=str(authority.file))):
            await hub.node_when("n", lambda node: node["source"] == "push")


async def test_an_agent_says_in_words_why_it_does_not_believe(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    known = TlsSection(ca=str(authority.file))
    for shown, tls, pin, words in (
        (authority.sign("old", begins=-9, ends=-1), known, "", "shows a certificate that has expired"),
        (authority.sign("elsewhere", "elsewhere.lab"), known, "", "shows a certificate for another name: "),
        (self_made(tmp_path), known, "", "shows a certificate of an unknown authority: give"),
        (self_made(tmp_path), known, "ab" * 32, "shows another certificate than the pinned one: sha256="),
        (authority.sign("good"), TlsSection(ca=str(tmp_path / "gone")), "", "cannot be trusted: tls.ca: "),
    ):
        async with running_hub(Config(tls=shown.files)) as hub:
            async with running_agent(reporting_to(hub, pin), pace=QUICK, tls=tls) as agent:
                await said(agent, words)
            assert await hub.get("/api/nodes") == []
    async with running_hub() as hub:
        settings = AgentSection(name="n", hub=[hub.url.replace("http", "https")])
        async with running_agent(settings, pace=QUICK) as agent:
            await said(agent, "does not speak TLS: is it http:// there?")


async def test_one_command_joins_a_hub_of_a_self_made_certificate_and_an_admin_sees_who_has(
    own: Signed, tmp_path: Path
) -> None:
    """As printed: the command has the token and the pin; only the name is one that this machine need not know."""
    state = f"--state-dir={tmp_path / 'hub'}"
    (tmp_path / "hub").mkdir()
    with program("hub", "--host=0.0.0.0", "--port=0", state, *secure(own), folder=tmp_path) as hub:
        words = await asyncio.to_thread(hub.wait_for, r"run on it: (GPUMON_JOIN_TOKEN=(\S+) gpumon agent --hub (\S+))")
        assert words[3].endswith(f"#sha256={own.fingerprint}")
        port = int(words[3].partition("#")[0].rpartition(":")[2])
        with program("hub", "--print-join", f"--port={port}", state, *secure(own), folder=tmp_path) as printing:
            assert await asyncio.to_thread(printing.status) == 0
            assert printing.wrote.strip() == words[1]
        pin = f"https://127.0.0.1:{port}#sha256={own.fingerprint}"
        for url, status, said in (
            (pin, 0, "No agent has joined"),
            (pin.replace(own.fingerprint, "00" * 32), 1, "shows another certificate than the pinned one"),
            (f"https://127.0.0.1:{port}", 1, "shows a certificate of an unknown authority"),
        ):
            with program("agents", f"--hub={url}", state, "list", folder=tmp_path) as asking:
                assert await asyncio.to_thread(asking.status) == status
                assert said in asking.wrote + asking.said


# ---- what is told of a certificate ----


async def test_a_hub_names_its_certificate_where_it_says_how_to_join(own: Signed) -> None:
    config = Config(nodes=[NodeEntry(name="n", host="127.0.0.1", port=9)], tls=own.files)
    async with running_hub(config) as hub:
        node = await hub.node_when("n", lambda node: node["verdict"])
        assert f"--hub https://localhost:{hub.port}#sha256={own.fingerprint}" in node["verdict"]["hint"]


async def notices(hub: Site) -> dict[str, str]:
    return {notice["code"]: notice["message"] for notice in (await hub.get("/health"))["notices"]}


async def test_a_certificate_that_ends_soon_or_was_changed_badly_is_a_notice_until_it_is_mended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(certificates, "LOOK_SECONDS", 0.05)
    soon, good = self_made(tmp_path, "soon", ends=3), self_made(tmp_path, "good")
    async with running_hub(Config(tls=soon.files)) as hub:

        async def is_warned() -> bool:
            return "certificate_expires" in await notices(hub)

        async def is_bad() -> bool:
            return "bad_certificate" in await notices(hub)

        await until(is_warned)
        kept = soon.key.read_bytes()
        soon.key.write_bytes(b"junk")
        await until(is_bad)
        soon.key.write_bytes(kept)
        connector = aiohttp.TCPConnector(ssl=pinning(good))

        async def is_mended() -> bool:
            async with aiohttp.ClientSession(connector=connector, connector_owner=False) as session:
                with contextlib.suppress(aiohttp.ClientConnectorError):
                    return not await notices(Site(hub.port, session, hub.shown))
            return False

        soon.certificate.write_bytes(good.certificate.read_bytes())
        soon.key.write_bytes(good.key.read_bytes())
        await until(is_mended)
        await connector.close()


async def test_an_agents_certificate_that_ends_soon_is_advice_in_its_report(tmp_path: Path) -> None:
    soon = self_made(tmp_path, ends=3)
    async with running_agent(AgentSection(name="n", interval_seconds=0.2), tls=soon.files) as agent:

        async def advice() -> list[str]:
            return [one["message"] for one in (await agent.get("/gpu-info")).get("advice", [])]

        assert (await until(advice))[0].startswith("The agent's certificate expires on ")


def test_a_certificate_that_cannot_be_used_is_an_error_of_use(own: Signed, tmp_path: Path) -> None:
    for command in ("hub", "agent"):
        for arguments, words in (
            ((f"--tls-certificate={tmp_path / 'nothing'}",), "tls.certificate: "),
            ((f"--tls-key={own.key}",), "tls.certificate: missing; it must be given with tls.key"),
            ((f"--tls-ca={own.key}",), "tls.ca: "),
            (("--tls-certificate=",), "--tls-certificate: "),
        ):
            with program(command, "--port=0", *arguments, folder=tmp_path) as one:
                assert one.status() == 2
                assert words in one.said
                assert "Traceback" not in one.said


async def test_the_file_names_a_certificate_and_sighup_another(own: Signed, tmp_path: Path) -> None:
    file, other = tmp_path / "config.json", self_made(tmp_path, "other")

    def write(tls: Signed | None) -> None:
        files = {} if tls is None else {"certificate": str(tls.certificate), "key": str(tls.key)}
        file.write_text(json.dumps({"tls": files}))

    write(own)
    with program("hub", "--host=127.0.0.1", "--port=0", f"--config={file}") as hub:
        port = await asyncio.to_thread(hub.port, "hub")
        context = pinning(other)
        write(other)
        hub.process.send_signal(signal.SIGHUP)

        async def ask() -> Any:
            with contextlib.suppress(aiohttp.ClientConnectorError):
                async with aiohttp.ClientSession() as session:
                    async with session.get(f"https://127.0.0.1:{port}/health", ssl=context) as response:
                        return await response.json()
            return None

        assert (await until(ask))["notices"] == []
        write(None)
        hub.process.send_signal(signal.SIGHUP)

        async def is_told() -> bool:
            answer = await ask()
            return bool(answer and [one["code"] for one in answer["notices"]] == ["restart_needed"])

        await until(is_told)


# ---- the agent's own answers, and how the hub asks for them ----


async def test_an_agent_with_a_token_answers_those_only_who_know_it() -> None:
    async with running_agent(AgentSection(name="n", token="a-long-secret")) as agent:
        for path in ("/gpu-info", "/health", "/nothing"):
            for header in ({}, {"Authorization": "Bearer another-secret"}, {"Authorization": "a-long-secret"}):
                async with agent.session.get(agent.url + path, headers=header) as response:
                    assert (response.status, response.headers["WWW-Authenticate"]) == (401, "Bearer")
                    assert response.headers["Content-Type"] == "application/problem+json"
        for words in ("Bearer a-long-secret", "bearer  a-long-secret"):
            async with agent.session.get(f"{agent.url}/health", headers={"Authorization": words}) as response:
                assert response.status in (200, 503)


async def test_authorities_on_a_disk_that_hangs_are_told_and_believed_when_it_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gpumon.agent.link.TRUST_SECONDS", 0.05)
    monkeypatch.setattr("gpumon.hub.fetch.CONNECT_SECONDS", 0.5)
    authority = Authority(tmp_path)
    one, ca, was = authority.sign("one"), tmp_path / "ca", tmp_path / "was"
    signed = one.files
    os.mkfifo(ca)
    believing = TlsSection(ca=str(ca))
    async with running_hub(Config(tls=signed)) as hub, running_agent(AgentSection(name="p"), tls=signed) as polled:
        entry = NodeEntry(name="p", host="localhost", port=polled.port, tls=True)
        pinned = structs.replace(entry, name="pinned", fingerprint=one.fingerprint)
        config = Config(nodes=[entry, pinned], tls=believing, hub=HubSection(poll_interval_seconds=0.2))
        async with running_agent(reporting_to(hub), pace=QUICK, tls=believing) as agent, running_hub(config) as other:
            await said(agent, "the file of the authorities that it may be signed by could not be read within 0.05 s")
            node = await other.node_when("p", lambda node: node["error"])
            assert node["error"]["code"] == "untrusted"
            assert "could not be read within 0.5 s: its disk hangs" in node["error"]["message"]
            assert [thread.name for thread in threading.enumerate()].count(
                "authorities"
            ) == 2  # of the agent, and of the hub
            await other.node_when("pinned", lambda node: node["status"] == "online")  # which needs no authority
            ca.rename(was)
            ca.write_bytes(authority.file.read_bytes())
            os.close(os.open(was, os.O_WRONLY))  # who reads may go on
            await hub.node_when("n", lambda node: node["source"] == "push")
            await other.node_when("p", lambda node: node["status"] == "online")


async def test_a_hub_asks_an_agent_over_tls_with_its_token(tmp_path: Path) -> None:
    authority, own = Authority(tmp_path), self_made(tmp_path)
    closed = AgentSection(name="x", token="a-long-secret", interval_seconds=0.2)
    async with (
        running_agent(closed, tls=authority.sign("agent", "localhost").files) as signed,
        running_agent(closed, tls=own.files) as self_signed,
        running_agent(closed) as plain,
    ):

        def entry(name: str, site: Site, **more: Any) -> NodeEntry:
            host = "127.0.0.1" if name == "wrong-name" else "localhost"
            words: dict[str, Any] = {"name": name, "host": host, "port": site.port, "token": "a-long-secret"}
            return NodeEntry(**words | more)

        config = Config(
            nodes=[
                entry("signed", signed, tls=True),
                entry("pinned", self_signed, tls=True, fingerprint=own.fingerprint),
                entry("plain", plain),
                entry("wrong-name", signed, tls=True),
                entry("unknown", self_signed, tls=True),
                entry("no-tls", plain, tls=True),
                entry("not-plain", signed),
                entry("no-token", signed, tls=True, token=None),
                entry("wrong-token", signed, tls=True, token="another-secret"),
            ],
            tls=TlsSection(ca=str(authority.file)),
            hub=HubSection(poll_interval_seconds=0.2),
        )
        async with running_hub(config) as hub:
            for name in ("signed", "pinned", "plain"):
                node = await hub.node_when(name, lambda node: node["status"] == "online")
                assert (node["source"], node["error"]) == ("poll", None)
            for name, code, words in (
                ("wrong-name", "untrusted", "shows a certificate for another name"),
                ("unknown", "untrusted", "shows a certificate of an unknown authority"),
                ("no-tls", "untrusted", "does not speak TLS: is it http:// there?"),
                ("not-plain", "bad_answer", ""),
                ("no-token", "bad_status", "status 401"),
                ("wrong-token", "bad_status", "status 401"),
            ):
                error = (await hub.node_when(name, lambda node: node["error"]))["error"]
                assert (error["code"], words in error["message"], bool(error["hint"])) == (code, True, True), error
            async with hub.session.get(f"{hub.url}/api/nodes") as response:
                assert "secret" not in await response.text()


async def test_a_token_that_a_node_tells_back_is_told_to_nobody(caplog: pytest.LogCaptureFixture) -> None:
    heads: list[bytes] = []

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        padding = b"x" * 190  # so that the words are cut within the token
        writer.write(b"HTTP/1.1 500 Oops\r\nConnection: close\r\n\r\n" + padding + b"a-long-secret")
        await writer.drain()
        writer.close()

    async with stranger(echo) as port, stranger(answer(b'a-long-secret{"node": "a-long-secret"}')) as other:
        nodes = [
            NodeEntry(name="echo", host="127.0.0.1", port=port, token="a-long-secret"),
            NodeEntry(name="junk", host="127.0.0.1", port=other, token="a-long-secret"),
        ]
        async with running_hub(Config(nodes=nodes)) as hub:
            for name in ("echo", "junk"):
                await hub.node_when(name, lambda node: node["error"])
            async with hub.session.get(f"{hub.url}/api/nodes") as response:
                assert "a-long" not in await response.text()
    assert b"Authorization: Bearer a-long-secret\r\n" in heads[0]
    assert "a-long" not in caplog.text


def test_the_token_of_an_agent_comes_from_the_environment_and_is_not_shown() -> None:
    with program("agent", "--port=0", "--simulate=1", environment={"GPUMON_AGENT_TOKEN": "short"}) as one:
        assert one.status() == 2
        assert "GPUMON_AGENT_TOKEN: this secret is not allowed; allowed: 8 to 256" in one.said
        assert "short" not in one.said
