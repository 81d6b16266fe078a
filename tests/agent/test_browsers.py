"""Which requests an agent answers by which name: programs by any, browsers by its own."""

import json
import signal
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gpumon.agent.browsers import may_be_a_browser
from gpumon.config import AgentSection
from gpumon.hosts import Hosts
from tests.hub.rawhttp import exchange, get
from tests.running import Site, program, running_agent, until

HERE = socket.gethostname().lower()
STRANGE = "rebind.example:8081"
KNOWN = ("127.0.0.1:1", "[::1]:8081", "10.1.2.3", "localhost", "localhost.:8081", "gpu-07.lab.example:8081")
GO = ("User-Agent: Go-http-client/1.1", "Accept-Encoding: gzip")
CURL = ("User-Agent: curl/8.14.1", "Accept: */*")
PROMETHEUS = ("User-Agent: Prometheus/3.5.0", "Accept: text/plain;q=0.5,*/*;q=0.1", "Accept-Encoding: gzip")
WGET = ("User-Agent: Wget/1.25.0", "Accept: */*", "Accept-Encoding: identity")
HUB = ("Accept: application/json", "Accept-Encoding: identity", "User-Agent: Python/3.11 aiohttp/3.13.2")
PROGRAMS = {"go": GO, "curl": CURL, "prometheus": PROMETHEUS, "wget": WGET, "hub": HUB, "nothing": ()}
CHROMIUM = ("Connection: keep-alive", "User-Agent: Mozilla/5.0 (X11; Linux x86_64) Chrome/156.0.0.0", "Accept: */*")
LANGUAGE = "Accept-Language: en-US,en;q=0.9"
BROWSERS = {
    # As Chromium 156 sends them by plain HTTP; of the others what a script cannot choose.
    "fetch": (*CHROMIUM, "Accept-Encoding: gzip, deflate", LANGUAGE),
    "range": (*CHROMIUM, "Accept-Encoding: identity", LANGUAGE, "Range: bytes=0-"),
    "disguised": ("User-Agent: curl/8.14.1", "Accept: */*", "Accept-Encoding: gzip, deflate"),
    "disguised range": ("User-Agent: curl/8.14.1", "Accept-Encoding: identity", "Range: bytes=0-"),
    "behind a proxy that hides it": CHROMIUM,
    "with a language": (LANGUAGE,),
    "with a referer": (f"Referer: http://{STRANGE}/",),
    "with an origin": (f"Origin: http://{STRANGE}",),
    "with a cookie": ("Cookie: a=b",),
    "by https": ("Sec-Fetch-Site: same-origin",),
    "with hints": ('Sec-CH-UA: "Chromium"',),
    "opened": ("Upgrade-Insecure-Requests: 1",),
}


@pytest.fixture
async def agent() -> AsyncIterator[Site]:
    settings = AgentSection(name="n", interval_seconds=0.2, hosts=["gpu-07.lab.example"])
    async with running_agent(settings) as site:

        async def is_well() -> bool:
            return bool((await site.get("/health"))["status"] == "ok")

        await until(is_well)
        yield site


async def test_programs_ask_by_any_name_and_browsers_by_names_that_are_the_agents(agent: Site) -> None:
    for target in ("/gpu-info", "/health", "/nowhere"):
        for who, headers in PROGRAMS.items():
            answer = await exchange(agent, get(target, *headers, host=STRANGE))
            assert (who, answer.status == 403) == (who, False)
        for who, headers in BROWSERS.items():
            answer = await exchange(agent, get(target, *headers, host=STRANGE))
            assert (who, answer.status) == (who, 403)
            assert set(json.loads(answer.body)) <= {"type", "title", "status", "detail"}
            assert "application/problem+json" in answer.head
    for name in KNOWN:
        assert (name, (await exchange(agent, get("/health", *BROWSERS["fetch"], host=name))).status) == (name, 200)


async def test_a_refusal_says_what_to_do_and_is_counted(agent: Site) -> None:
    answer = await exchange(agent, get("/gpu-info", *BROWSERS["fetch"], host=STRANGE))
    assert "'rebind.example' to agent.hosts of its configuration" in json.loads(answer.body)["detail"]
    assert (await agent.get("/health?verbose"))["refused"] == {"foreign_request": 1}


async def test_pages_of_others_are_refused_by_whatever_name_they_ask(agent: Site) -> None:
    host = f"127.0.0.1:{agent.port}"
    for headers, status in (
        (("Origin: http://evil.example",), 403),
        (("Origin: null",), 403),
        ((f"Origin: http://127.0.0.1:{agent.port + 1}",), 403),
        ((f"Origin: http://{host}",), 200),
        (("Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: cors"), 403),
        (("Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: no-cors"), 403),
        (("Sec-Fetch-Site: cross-site",), 403),
        (("Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: navigate"), 200),
        (("Sec-Fetch-Site: none", "Sec-Fetch-Mode: navigate"), 200),
        (("Sec-Fetch-Site: same-origin", "Sec-Fetch-Mode: cors"), 200),
    ):
        assert (headers, (await exchange(agent, get("/health", *headers, host=host))).status) == (headers, status)
    assert "cross-origin-resource-policy: same-origin" in (await exchange(agent, get("/health"))).head.lower()


async def test_on_loopback_alone_not_even_the_machines_own_name_counts() -> None:
    """Who is on its network could answer for it, and have it lead to loopback."""
    fetch = BROWSERS["fetch"]
    async with running_agent() as agent:
        for name in (HERE, f"{HERE.partition('.')[0]}.local"):
            assert (await exchange(agent, get("/health", *fetch, host=name))).status == 403
    everywhere = Hosts([], "agent")
    assert everywhere.fault(HERE.encode(), None, "http") is None


async def test_who_knows_the_token_may_ask_by_any_name() -> None:
    async with running_agent(AgentSection(token="correct-horse")) as agent:
        fetch = BROWSERS["fetch"]
        bearer = "Authorization: Bearer correct-horse"
        assert (await exchange(agent, get("/health", *fetch, bearer, host=STRANGE))).status in (200, 503)
        assert (await exchange(agent, get("/health", *fetch, host=STRANGE))).status == 401


def test_names_are_given_by_option_by_environment_and_anew_at_sighup(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_text(json.dumps({"agent": {"hosts": ["three.example"]}}))
    local = ("agent", "--host=127.0.0.1", "--port=0", "--simulate=1")
    for arguments, environment, names in (
        (["--allow-host=one.example", f"--config={file}"], {"GPUMON_AGENT_HOSTS": "two.example"}, {"one.example"}),
        ([f"--config={file}"], {"GPUMON_AGENT_HOSTS": "one.example two.example"}, {"one.example", "two.example"}),
        ([f"--config={file}"], {}, {"three.example"}),
    ):
        with program(*local, *arguments, environment=environment, folder=tmp_path) as agent:
            port = agent.port("agent")
            every = ("one.example", "two.example", "three.example", "four.example")
            assert {name for name in every if _status(port, name) != 403} == names
            if not environment:
                file.write_text(json.dumps({"agent": {"hosts": ["four.example"]}}))
                agent.process.send_signal(signal.SIGHUP)
                agent.wait_for(r"taken over: agent\.hosts")
                assert {name for name in every if _status(port, name) != 403} == {"four.example"}


def _status(port: int, name: str) -> int:
    with socket.create_connection(("127.0.0.1", port), 10) as one:
        one.sendall(get("/health", *BROWSERS["fetch"], "Connection: close", host=name))
        return int(one.makefile("rb").readline().split()[1])


def test_what_stands_in_a_request_tells_browsers_from_programs() -> None:
    def headers(lines: tuple[str, ...]) -> dict[bytes, bytes]:
        return {key.lower().encode(): value.encode() for key, _, value in (line.partition(": ") for line in lines)}

    assert {who: may_be_a_browser(headers(lines)) for who, lines in PROGRAMS.items()} == dict.fromkeys(PROGRAMS, False)
    assert {who: may_be_a_browser(headers(lines)) for who, lines in BROWSERS.items()} == dict.fromkeys(BROWSERS, True)
