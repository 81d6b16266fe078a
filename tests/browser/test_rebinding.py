"""DNS rebinding, from end to end: a page of a stranger's, whose name leads to the stranger first and then to the hub,
or to an agent.

Chromium asks a SOCKS proxy, which asks a real DNS server, for each connection anew: as a browser would whose cache has
run out.
"""

import contextlib
import json
import socket
import socketserver
import struct
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import dns.exception
import dns.resolver
from playwright.sync_api import Browser, Page
from websockets.sync.client import connect

from tests.dnsmasq import Dnsmasq, dnsmasq, needs_dnsmasq
from tests.hub.agents import hello, report
from tests.running import free_port, program

pytestmark = needs_dnsmasq

NAME = "rebind.example"
STRANGER, HUB = "127.0.0.2", "127.0.0.1"
SECRET = "train_the_secret_model.py"
ASK = """
async (seconds) => {
  const told = {};
  const asked = async (name, ask) => {
    const late = new Promise((resolve) => setTimeout(resolve, seconds * 1000, "nothing came"));
    told[name] = await Promise.race([ask().catch(String), late]);
  };
  const first = (source) => new Promise((resolve) => {
    source.addEventListener("snapshot", ({ data }) => resolve(data));
    source.addEventListener("message", ({ data }) => resolve(data));
    source.addEventListener("error", () => resolve("refused"));
  });
  await asked("rest", async () => (await fetch("/api/nodes")).text());
  await asked("text", async () => (await fetch("/?format=text")).text());
  await asked("past", async () => (await fetch("/api/history")).text());
  await asked("events", () => first(new EventSource("/api/events")));
  await asked("socket", () => first(new WebSocket(`ws://${location.host}/api/stream`)));
  await asked("agent", () => {
    const agent = new WebSocket(`ws://${location.host}/api/push`, "gpumon.v1");
    agent.addEventListener("open", () => agent.dispatchEvent(new MessageEvent("message", { data: "opened" })));
    return first(agent);
  });
  await asked("login", async () => String((await fetch("/api/login", {method: "DELETE"})).status));
  return told;
}
"""

ASK_AN_AGENT = """
async () => {
  const told = {};
  const asked = async (name, path, more) => {
    const bare = { referrerPolicy: "no-referrer", credentials: "omit", cache: "no-store", ...more };
    told[name] = await fetch(path, bare).then((answer) => answer.text(), String);
  };
  await asked("plain", "/gpu-info", {});
  await asked("with a referer", "/gpu-info", { referrerPolicy: "unsafe-url" });
  await asked("range", "/gpu-info", { headers: { Range: "bytes=0-" } });
  const disguise = { "User-Agent": "curl/8", "Accept-Encoding": "gzip", "Accept-Language": "", "X-Odd": "1" };
  await asked("disguised", "/gpu-info", { headers: disguise });
  await asked("health", "/health?verbose", {});
  const work = `fetch("http://${location.host}/gpu-info").then((a) => a.text(), String).then(postMessage)`;
  told.worker = await new Promise((resolve) => {
    const worker = new Worker(URL.createObjectURL(new Blob([work])));
    worker.onmessage = ({ data }) => resolve(data);
    worker.onerror = () => resolve("refused");
  });
  told.asked = await new Promise((resolve) => {
    const request = new XMLHttpRequest();
    request.open("GET", "/gpu-info");
    request.onloadend = () => resolve(request.responseText);
    request.send();
  });
  return told;
}
"""


class _Stranger(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(b"<!doctype html><title>a stranger's page</title>")

    def log_message(self, format: str, *values: object) -> None:
        del format, values


class _Socks(socketserver.BaseRequestHandler):
    """A connection by SOCKS 5 (RFC 1928), to a name that is looked up now."""

    def handle(self) -> None:
        with contextlib.suppress(
            OSError, struct.error, dns.resolver.NXDOMAIN, dns.resolver.NoAnswer, dns.exception.Timeout
        ):
            near: socket.socket = self.request
            near.recv(near.recv(2)[1])
            near.sendall(b"\x05\x00")
            _, _, _, kind, size = struct.unpack("!5B", near.recv(5))
            assert kind == 3, "a name"
            name = near.recv(size).decode()
            (port,) = struct.unpack("!H", near.recv(2))
            resolver = dns.resolver.Resolver(configure=False)
            resolver.nameservers, resolver.port = [HUB], self.server.dns_port  # type: ignore[attr-defined]
            address = resolver.resolve(name, "A", lifetime=20)[0].to_text()
            with socket.create_connection((address, port), 20) as far:
                far.settimeout(None)
                near.sendall(b"\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00")
                back = threading.Thread(target=_pour, args=(far, near))
                back.start()
                _pour(near, far)
                back.join()


def _pour(one: socket.socket, other: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := one.recv(65536):
            other.sendall(data)
    for end in (one, other):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


class _Threads(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True
    dns_port = 0


@contextlib.contextmanager
def serving(server: socketserver.BaseServer) -> Iterator[None]:
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextlib.contextmanager
def lured(browser: Browser, names: Dnsmasq, port: int) -> Iterator[Page]:
    """A browser on the stranger's page, whose name leads to the hub by now."""
    socks = _Threads((HUB, 0), _Socks)
    socks.dns_port = names.port
    with serving(socks), serving(ThreadingHTTPServer((STRANGER, port), _Stranger)):
        context = browser.new_context(proxy={"server": f"socks5://{HUB}:{socks.server_address[1]}"})
        page = context.new_page()
        page.goto(f"http://{NAME}:{port}/")
        assert page.title() == "a stranger's page"
        names.know({NAME: HUB})
        yield page
        context.close()


def asked_by_the_page(browser: Browser, folder: Path, *options: str) -> dict[str, Any]:
    port = free_port()
    with (
        dnsmasq(folder, {NAME: STRANGER}, ttl=0) as names,
        program("hub", f"--host={HUB}", f"--port={port}", *options, folder=folder) as hub,
    ):
        hub.port("hub")
        with connect(f"ws://{HUB}:{port}/api/push", subprotocols=["gpumon.v1"], proxy=None) as agent:  # type: ignore[list-item]
            agent.send(json.dumps(hello()))
            agent.recv()
            process = {"pid": 1, "user": "alice", "command": SECRET, "type": "compute"}
            agent.send(json.dumps(report(1, gpus=[{"index": 0, "processes": [process]}])))
            agent.recv()
            with lured(browser, names, port) as page:
                page.wait_for_function("async () => !(await (await fetch('/health')).text()).includes('stranger')")
                told = page.evaluate(ASK, 20)
    assert isinstance(told, dict)
    return told


def test_a_page_whose_name_is_turned_to_the_hub_gets_nothing(browser: Browser, tmp_path: Path) -> None:
    told = asked_by_the_page(browser, tmp_path)
    for way, answer in told.items():
        assert SECRET not in answer
        assert "alice" not in answer
        assert '"nodes"' not in answer, way
    assert [json.loads(told[way])["status"] for way in ("rest", "text", "past")] == [403] * 3
    assert [told[way] for way in ("events", "socket", "agent", "login")] == ["refused"] * 3 + ["403"]


def test_by_a_name_that_the_hub_allows_the_same_page_gets_all_of_it(browser: Browser, tmp_path: Path) -> None:
    told = asked_by_the_page(browser, tmp_path, f"--allow-host={NAME}")
    assert [SECRET in told[way] for way in ("rest", "text", "events", "socket")] == [True] * 4
    assert told["agent"] == "opened"
    assert told["login"] == "401"


def asked_of_an_agent(browser: Browser, folder: Path, *options: str) -> dict[str, str]:
    port = free_port()
    local = ("agent", f"--host={HUB}", f"--port={port}", "--simulate=1", f"--name={SECRET}")
    with dnsmasq(folder, {NAME: STRANGER}, ttl=0) as names, program(*local, *options, folder=folder) as agent:
        agent.port("agent")
        with lured(browser, names, port) as page:
            page.wait_for_function("async () => !(await (await fetch('/health')).text()).includes('stranger')")
            told = page.evaluate(ASK_AN_AGENT)
    assert isinstance(told, dict)
    return told


def test_a_page_whose_name_is_turned_to_an_agent_gets_nothing(browser: Browser, tmp_path: Path) -> None:
    told = asked_of_an_agent(browser, tmp_path)
    assert {way: json.loads(answer)["status"] for way, answer in told.items()} == dict.fromkeys(told, 403)
    assert SECRET not in str(told)
    told = asked_of_an_agent(browser, tmp_path, f"--allow-host={NAME}")
    assert {way: SECRET in answer for way, answer in told.items()} == dict.fromkeys(told, True)
