"""By which names a hub may be asked, and from whose pages: over HTTP, as a stream, over WebSocket."""

import json
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gpumon.config import Config, HubSection
from gpumon.hosts import MOST_KEPT, Hosts, own_names
from tests.hub.rawhttp import Answer, exchange, get, upgrade
from tests.running import Site, program, running_hub

HERE = socket.gethostname().lower()
CONFIGURED = ("gpus.lab.example", "Zweiter-Name", "grafikkarten.münchen.example")

ALLOWED = (
    "127.0.0.1",
    "127.0.0.1:8080",
    "127.0.0.1:1",
    "10.1.2.3:8080",
    "[::1]",
    "[::1]:8080",
    "[fe80::1%eth0]:8080",
    "[::ffff:127.0.0.1]:8080",
    "localhost",
    "LOCALHOST:8080",
    "localhost.",
    "localhost.:8080",
    HERE,
    f"{HERE}.",
    f"{HERE.upper()}:8080",
    HERE.partition(".")[0],
    f"{HERE.partition('.')[0]}.local",
    "gpus.lab.example",
    "GPUs.lab.EXAMPLE.:8080",
    "zweiter-name",
    "grafikkarten.xn--mnchen-3ya.example",
)
FOREIGN = (
    "evil.example",
    "evil-localhost",
    "localhost.evil.example",
    "localhost.localdomain",
    "sub.localhost",
    "xlocalhost",
    f"{HERE}.evil.example",
    f"evil-{HERE}",
    f"evil.{HERE}",
    "evil.gpus.lab.example",
    "gpus.lab.example.evil.example",
    "gpus.lab.exampl",
    "lab.example",
    "127.0.0.1.evil.example",
    "127.0.0.1.nip.io:8080",
    "0x7f000001",
    "0x7f.1",
    "2130706433",
    "127.1",
    "0177.0.0.1",
    "127.0.0.01",
    "127.0.0.256",
    "evil.example:8080",
    "localhost_evil",
    "münchen.example".encode("idna").decode(),
)
MALFORMED = (
    "",
    ".",
    "..",
    ":8080",
    "localhost:",
    "localhost:port",
    "localhost:123456",
    "localhost:80:80",
    "localhost..",
    ".localhost",
    "local..host",
    "user@localhost",
    "user:password@localhost:8080",
    "localhost@evil.example",
    "localhost/evil.example",
    "localhost#evil.example",
    "localhost?evil.example",
    "localhost\\evil.example",
    "localhost evil.example",
    "localhost,evil.example",
    "http://localhost",
    "[::1",
    "::1",
    "[::1]evil.example",
    "[::1].evil.example",
    "[evil.example]",
    "[127.0.0.1]",
    "[::1]:8080:8080",
    "[::1%]",
    "local%68ost",
    "localhost%00.evil.example",
    "*",
    "münchen.example",
    "a" * 255,
)


@pytest.fixture
async def hub() -> AsyncIterator[Site]:
    async with running_hub(Config(hub=HubSection(hosts=list(CONFIGURED)))) as site:
        yield site


def status_of(hosts: Hosts, host: str, origin: str | None = None, scheme: str = "http") -> int:
    fault = hosts.fault(host.encode("latin-1"), None if origin is None else origin.encode("latin-1"), scheme)
    return 200 if fault is None else fault[0]


@pytest.mark.parametrize(
    ("names", "status"), [(ALLOWED, 200), (FOREIGN, 403), (MALFORMED, 400)], ids=["allowed", "foreign", "malformed"]
)
def test_only_names_of_the_hub_are_allowed(names: tuple[str, ...], status: int) -> None:
    hosts = Hosts(CONFIGURED)
    for _ in range(2):  # also from memory
        assert {name: status_of(hosts, name) for name in names} == dict.fromkeys(names, status)


async def test_the_rule_holds_for_pages_answers_streams_and_websockets(hub: Site) -> None:
    for name, status in [*((one, 200) for one in ALLOWED), *((one, 403) for one in FOREIGN)]:
        for target in ("/", "/api/nodes", "/health", "/nowhere"):
            answer = await exchange(hub, get(target, host=name))
            assert (name, target, answer.status) == (
                name,
                target,
                404 if (target, status) == ("/nowhere", 200) else status,
            )
        assert (name, (await exchange(hub, get("/api/events", host=name))).status) == (name, status)
        assert (name, (await exchange(hub, upgrade("/api/stream", host=name))).status) == (
            name,
            101 if status == 200 else status,
        )


async def test_what_is_no_name_at_all_is_a_bad_request(hub: Site) -> None:
    for name in MALFORMED:
        assert (name, (await exchange(hub, get("/api/nodes", host=name))).status) == (name, 400)
        assert (name, (await exchange(hub, upgrade("/api/stream", host=name))).status) == (name, 400)


async def test_a_refusal_says_which_key_to_set_and_tells_nothing_else(hub: Site) -> None:
    answer = await exchange(hub, get("/api/nodes", host="gpus.other.example"))
    told = json.loads(answer.body)
    assert (answer.status, told["status"]) == (403, 403)
    assert "application/problem+json" in answer.head
    assert "hub.hosts" in told["detail"]
    assert "'gpus.other.example'" in told["detail"]


@pytest.mark.parametrize(
    "request_bytes",
    [
        get("/api/nodes", "Host: evil.example"),
        get("/api/nodes", "Host: 127.0.0.1"),
        get("/api/nodes", host=None),
        get("/api/nodes", "Origin: http://127.0.0.1", "Origin: http://127.0.0.1"),
        get("http://127.0.0.1/api/nodes"),
        get("http://evil.example/api/nodes"),
        get("*", method="OPTIONS"),
        b"GET /api/nodes HTTP/1.0\r\n\r\n",
        upgrade("/api/stream", "Host: evil.example"),
        upgrade("http://127.0.0.1/api/stream"),
        b"CONNECT evil.example:443 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    ],
)
async def test_requests_that_name_two_places_or_none_are_refused(hub: Site, request_bytes: bytes) -> None:
    assert (await exchange(hub, request_bytes)).status == 400


ORIGINS = {
    "http://{host}": 200,
    "https://{host}": 200,  # a proxy may speak TLS for the hub
    "HTTP://{host}": 403,
    "http://{upper}": 200,
    "http://evil.example": 403,
    "http://evil.example:{port}": 403,
    "http://{name}": 403,  # another port is another page
    "http://{name}:1": 403,
    "http://localhost:{port}": 403,  # the hub's, but not how it was asked
    "http://{host}.evil.example": 403,
    "http://evil.example/{host}": 403,
    "http://{host}/": 403,
    "http://user@{host}": 403,
    "http://{host} http://{host}": 403,
    "ftp://{host}": 403,
    "file://": 403,
    "null": 403,
    "": 403,
    "{host}": 403,
    "chrome-extension://abcdefgh": 403,
}


@pytest.mark.parametrize("template", ORIGINS)
async def test_only_the_hubs_own_page_may_ask(hub: Site, template: str) -> None:
    host = f"{HERE}:{hub.port}"
    origin = template.format(host=host, upper=host.upper(), name=HERE, port=hub.port)
    expected = ORIGINS[template]

    async def answers(request: bytes) -> Answer:
        return await exchange(hub, request)

    for target in ("/api/nodes", "/api/events", "/"):
        assert (await answers(get(target, f"Origin: {origin}", host=host))).status == expected
    for target in ("/api/stream", "/api/push"):
        more = ["Sec-WebSocket-Protocol: gpumon.v1"] if target == "/api/push" else []
        answer = await answers(upgrade(target, f"Origin: {origin}", *more, host=host))
        assert answer.status == (101 if expected == 200 else expected)


def test_by_tls_only_pages_that_came_by_tls_may_ask() -> None:
    hosts = Hosts()
    for scheme in ("https", "wss"):
        assert status_of(hosts, "localhost:1", "https://localhost:1", scheme) == 200
        assert status_of(hosts, "localhost:1", "http://localhost:1", scheme) == 403
    assert status_of(hosts, "localhost:1", "http://localhost:1") == 200


async def test_an_agent_may_know_the_hub_by_a_name_that_it_does_not_know(hub: Site) -> None:
    agent = upgrade("/api/push", "Sec-WebSocket-Protocol: gpumon.v1", host="any-name.example")
    assert (await exchange(hub, agent)).status == 101
    page = upgrade("/api/push", "Origin: http://any-name.example", host="any-name.example")
    assert (await exchange(hub, page)).status == 403
    assert (await exchange(hub, get("/api/push", host="any-name.example"))).status == 403


async def test_what_another_sites_page_fetches_is_refused_and_a_link_is_not(hub: Site) -> None:
    for site, mode, status in (
        ("cross-site", "no-cors", 403),
        ("cross-site", "cors", 403),
        ("cross-site", "navigate", 200),
        ("same-origin", "cors", 200),
        ("none", "navigate", 200),
    ):
        headers = (f"Sec-Fetch-Site: {site}", f"Sec-Fetch-Mode: {mode}")
        assert (await exchange(hub, get("/api/nodes", *headers))).status == status
        assert (await exchange(hub, get("/", *headers, "Accept: text/html"))).status == 200


async def test_no_answer_allows_other_pages_to_read_it_or_caches_to_keep_it(hub: Site) -> None:
    for target in ("/api/nodes", "/api/catalog", "/api/nodes/nobody", "/api/events", "/health", "/nowhere", "/"):
        answer = await exchange(hub, get(target, f"Origin: http://{HERE}:1", host=f"{HERE}:1"))
        head = answer.head.lower()
        assert "access-control-" not in head
        assert "content-security-policy: default-src 'none'" in head
        for header in ("x-content-type-options: nosniff", "referrer-policy: no-referrer"):
            assert header in head
        for header in ("cross-origin-opener-policy: same-origin", "cross-origin-resource-policy: same-origin"):
            assert header in head
        assert head.count("cache-control: no-store") == (target.startswith("/api") or target == "/health")


def test_what_is_remembered_is_bounded_and_forgotten_with_the_configuration() -> None:
    hosts = Hosts(["gpus.example"])
    for number in range(2 * MOST_KEPT):
        assert status_of(hosts, f"127.0.0.1:{number}") == 200
    assert len(hosts._good) <= MOST_KEPT
    assert status_of(hosts, "gpus.example") == 200
    hosts.configure([])
    assert status_of(hosts, "gpus.example") == 403


def test_the_machines_whole_name_is_learnt(monkeypatch: pytest.MonkeyPatch) -> None:
    hosts = Hosts()
    assert status_of(hosts, "hub.lab.example") == 403
    row = (socket.AF_INET, socket.SOCK_STREAM, 6, "Hub.lab.example.", ("127.0.1.1", 0))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [row])
    hosts.learn()
    assert status_of(hosts, "hub.lab.example") == 200
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: (_ for _ in ()).throw(socket.gaierror(-3, "silence")))
    hosts.learn()
    assert status_of(hosts, "hub.lab.example") == 200


def test_a_machine_of_any_name_has_names(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, names in (
        ("GPU-hub.lab.example", {"gpu-hub.lab.example", "gpu-hub", "gpu-hub.local"}),
        ("Hub.lab", {"hub.lab", "hub", "hub.local"}),
        ("hub", {"hub", "hub.local"}),
        ("", set()),
    ):
        monkeypatch.setattr(socket, "gethostname", lambda name=name: name)
        assert own_names() == names


def test_a_name_can_be_given_by_option_and_by_environment(tmp_path: Path) -> None:
    environment = {"GPUMON_HUB_HOSTS": "one.example two.example"}
    for arguments, names in ((["--allow-host=three.example"], ["three.example"]), ([], ["one.example", "two.example"])):
        with program(
            "hub", "--host=127.0.0.1", "--port=0", *arguments, environment=environment, folder=tmp_path
        ) as hub:
            port = hub.port("hub")
            for name in ("one.example", "two.example", "three.example"):
                with socket.create_connection(("127.0.0.1", port), 10) as asking:
                    asking.sendall(get("/health", host=name))
                    assert asking.recv(12).endswith(b"200" if name in names else b"403")


def test_a_name_that_is_none_is_an_error_of_use(tmp_path: Path) -> None:
    with program("hub", "--allow-host=http://gpus.example", folder=tmp_path) as hub:
        assert hub.status() == 2
    assert "--allow-host" in hub.said
