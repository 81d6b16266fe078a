"""Who is let through to what: every route there is, by every method and over WebSocket, in every mode."""

import json
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from starlette.routing import Route, WebSocketRoute

from gpumon.config import AuthSection, Config, HubSection
from gpumon.hub import gate
from gpumon.hub.app import routes
from gpumon.hub.auth import Auth
from gpumon.hub.core import Hub
from gpumon.hub.door import Door
from gpumon.hub.ingest import Ingest
from gpumon.hub.page import Page
from gpumon.hub.roster import open_roster
from tests.hub.lock import LockedHub, locked_hub
from tests.hub.rawhttp import Answer, exchange, get, upgrade

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PURGE")
CALLERS = ("nothing", "wrong token", "right token", "cookie", "ended cookie")

# What each caller is answered, in the order of CALLERS: while looking is open, then while it is closed.
SHOWN = "200 401 200 200 200  200 401 200 200 200"
LOOKED_AT = "200 401 200 200 200  401 401 200 200 401"
UNKNOWN = "404 401 404 404 404  401 401 404 404 401"
REFUSED = "401 401 405 405 401  401 401 405 405 401"
NOBODY = "401 401 404 404 401  401 401 404 404 401"
TABLE = {
    ("GET", "/"): SHOWN,
    ("GET", "/?format=text"): LOOKED_AT,
    ("GET", "/?format=html"): LOOKED_AT,
    ("GET", "/plain.css"): SHOWN,
    ("GET", "/index.html"): SHOWN,
    ("GET", "/assets/*"): SHOWN,
    ("GET", "/licences.txt"): SHOWN,
    ("GET", "/health"): SHOWN,
    ("GET", "/api/login"): SHOWN,
    ("POST", "/api/login"): "415 401 415 415 415  415 401 415 415 415",
    ("DELETE", "/api/login"): "401 401 204 204 401  401 401 204 204 401",
    ("GET", "/api/nodes"): LOOKED_AT,
    ("GET", "/api/nodes/{name}"): UNKNOWN,
    ("GET", "/api/nodes/{name}/history"): UNKNOWN,
    ("GET", "/api/history"): LOOKED_AT,
    ("GET", "/api/catalog"): LOOKED_AT,
    ("GET", "/openapi.json"): LOOKED_AT,
    ("GET", "/metrics"): LOOKED_AT,
    ("GET", "/api/events"): LOOKED_AT,
    ("GET", "/api/stream"): "426 401 426 426 426  401 401 426 426 401",
    ("GET", "/api/push"): "426 401 426 426 426  426 401 426 426 426",
    ("WEBSOCKET", "/api/stream"): "101 401 101 101 101  401 401 101 101 401",
    (
        "WEBSOCKET",
        "/api/push",
    ): "101 101 101 101 101  101 101 101 101 101",  # agents' own rules: tests/hub/test_ingest.py
    ("GET", "/api/agents"): "401 401 200 200 401  401 401 200 200 401",
    ("GET", "/api/agents/{agent}"): REFUSED,
    ("DELETE", "/api/agents/{agent}"): NOBODY,
    ("GET", "/api/agents/{agent}/admit"): REFUSED,
    ("POST", "/api/agents/{agent}/admit"): NOBODY,
    # What there is not is not told either.
    ("GET", "/nowhere"): UNKNOWN,
    ("POST", "/nowhere"): "401 401 404 404 401  401 401 404 404 401",
    ("GET", "/api/agents/x/y"): NOBODY,
    ("WEBSOCKET", "/nowhere"): "403 401 403 403 403  401 401 403 403 401",
}
VARIANTS = {"/": ["/", "/?format=text", "/?format=html"]}


def walked() -> list[tuple[str, str]]:
    """Every method and address that there is a route for, and every one that there is none for."""
    hub = Hub()
    found: list[tuple[str, str]] = [("GET", "/nowhere"), ("POST", "/nowhere"), ("GET", "/api/agents/x/y")]
    door = Door(open_roster(None), "token", hub.clock)
    for route in routes(hub, Ingest(hub, door), Auth(AuthSection()), Page()):
        if isinstance(route, WebSocketRoute):
            found.append(("WEBSOCKET", route.path))
        else:
            assert isinstance(route, Route)
            found += [(method, path) for path in VARIANTS.get(route.path, [route.path]) for method in METHODS]
    return [*found, ("WEBSOCKET", "/nowhere")]


def expected(method: str, path: str) -> list[int]:
    row = "/assets/*" if path.startswith("/assets/") else path
    if (answers := TABLE.get(("GET" if method == "HEAD" else method, row))) is None:
        known = {address for _, address in TABLE}
        assert row in known, f"{path} is a new route: say in TABLE who may reach it"
        assert method not in ("GET", "WEBSOCKET"), f"{method} {path} is new: say in TABLE who may reach it"
        answers = REFUSED
    return [int(status) for status in answers.split()]


@pytest.fixture(params=["open", "token"])
async def hub(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[LockedHub]:
    monkeypatch.setattr(gate, "MOST_WRONG_TOKENS", 10_000)
    async with locked_hub(tmp_path, AuthSection(viewers=request.param)) as locked:
        yield locked


async def headers_of(caller: str, hub: LockedHub) -> list[str]:
    match caller:
        case "wrong token":
            return [f"Authorization: Bearer {hub.token[:-1]}"]
        case "right token":
            return [hub.bearer]
        case "cookie":
            return [await hub.log_in(), hub.origin]
        case "ended cookie":
            cookie = await hub.log_in()
            ended = await exchange(hub.site, asked(hub, "DELETE", "/api/login", [cookie, hub.origin]))
            assert ended.status == 204
            return [cookie, hub.origin]
    return []


def asked(hub: LockedHub, method: str, path: str, headers: list[str]) -> bytes:
    target = path.replace("{name}", "nobody")
    if method == "WEBSOCKET":
        headers = [one for one in headers if path != "/api/push" or not one.startswith("Origin")]
        return upgrade(target, "Sec-WebSocket-Protocol: gpumon.v1", *headers, host=hub.host)
    return get(target, "Accept: text/html", *headers, method=method, host=hub.host)


async def test_every_route_lets_through_who_may_pass_and_nobody_else(hub: LockedHub) -> None:
    wrong = []
    for method, path in walked():
        answers = expected(method, path)
        half = answers[len(CALLERS) :] if hub.is_closed else answers[: len(CALLERS)]
        for caller, status in zip(CALLERS, half, strict=True):
            answer = await exchange(hub.site, asked(hub, method, path, await headers_of(caller, hub)))
            if answer.status != status:
                wrong.append(f"{method} {path} by {caller}: {answer.status}, expected {status}")
            if answer.status == 401:
                assert "www-authenticate: Bearer" in answer.head
    assert wrong == []


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "PURGE"])
async def test_who_is_logged_in_changes_things_from_the_hubs_page_only(hub: LockedHub, method: str) -> None:
    for origin, status in (([], 403), (["Origin: null"], 403), (["Origin: http://evil.example"], 403)):
        cookie = await hub.log_in()
        assert (await exchange(hub.site, asked(hub, method, "/api/nodes", [cookie, *origin]))).status == status
        assert (await exchange(hub.site, asked(hub, method, "/api/nodes", [cookie, hub.origin]))).status == 405
    assert (await exchange(hub.site, asked(hub, method, "/api/nodes", [hub.bearer]))).status == 405


async def test_other_ways_to_say_who_one_is_are_nobodys(hub: LockedHub) -> None:
    status = 401 if hub.is_closed else 200
    for header in (
        f"Authorization: {hub.token}",
        f"Authorization: Basic {hub.token}",
        "Authorization: Basic YTpi",  # a proxy's own, passed on
        f"Authorization: Token {hub.token}",
        f"X-Authorization: Bearer {hub.token}",
        f"Cookie: gpumon={hub.token}",
        f"Cookie: token={hub.token}",
    ):
        assert (header, (await exchange(hub.site, get("/api/nodes", header))).status) == (header, status)
    assert (await exchange(hub.site, get(f"/api/nodes?token={hub.token}"))).status == status
    for header in ("Authorization: Bearer", "Authorization: Bearer ", "Authorization: bearer x", f"{hub.bearer}x"):
        assert (await exchange(hub.site, get("/api/nodes", header))).status == 401
    assert (await exchange(hub.site, get("/api/nodes", hub.bearer.replace("Bearer", "bEARER")))).status == 200


async def test_of_a_closed_hub_a_stranger_learns_nothing_but_that_it_lives(hub: LockedHub) -> None:
    health = (await exchange(hub.site, get("/health"))).body
    assert (health == b'{"status":"ok"}') is hub.is_closed
    assert b"hub_version" in (await exchange(hub.site, get("/health", hub.bearer))).body
    answer = await exchange(hub.site, get("/api/login"))
    assert json.loads(answer.body) == {
        "viewers": "token" if hub.is_closed else "open",
        "may_look": not hub.is_closed,
        "logged_in": False,
    }


async def test_of_many_wrong_tokens_an_address_is_told_to_wait_and_who_has_the_right_one_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gate, "MOST_WRONG_TOKENS", 3)
    proxied = Config(hub=HubSection(proxies=["127.0.0.1"]))
    async with locked_hub(tmp_path, AuthSection(viewers="token"), proxied) as hub:
        cookie = await hub.log_in()

        async def ask(*headers: str, address: str = "203.0.113.9", path: str = "/api/nodes") -> Answer:
            return await exchange(hub.site, get(path, f"X-Forwarded-For: {address}", *headers, host=hub.host))

        wrong = [f"{hub.bearer[:-1]}{sign}" for sign in "!#$%&"]
        assert [(await ask(one)).status for one in wrong] == [401, 401, 401, 429, 429]
        refused = await ask(wrong[0], path="/health")
        assert (refused.status, json.loads(refused.body)["status"]) == (429, 429)
        assert 1 <= int(re.search(r"retry-after: (\d+)", refused.head)[1]) <= 61  # type: ignore[index]
        assert [(await ask(one)).status for one in (hub.bearer, cookie)] == [200, 200]
        assert (await ask()).status == 401
        assert (await ask(wrong[0], address="203.0.113.10")).status == 401
        health = json.loads((await ask(hub.bearer, path="/health?verbose")).body)
        assert health["refused"] == {"no_token": 5, "failed_login": 3}
