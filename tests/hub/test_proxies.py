"""Who asks is who the connection is from, or whom a proxy of the configuration names."""

import asyncio
import json
from pathlib import Path

import pytest
from starlette.types import Scope

from gpumon.config import AuthSection, Config, HubSection, parse
from gpumon.errors import ConfigError
from gpumon.hub.login import MOST_FAILURES
from gpumon.hub.proxies import Proxies
from tests.hub.lock import LockedHub, locked_hub
from tests.hub.rawhttp import Answer, exchange, get

OURS = ["10.0.0.5", "10.0.1.0/24", "fd00::/8"]


def asked(peer: str | None, *forwarded: str, proto: str = "", kind: str = "http") -> Scope:
    headers = [(b"x-forwarded-for", one.encode()) for one in forwarded]
    headers += [(b"x-forwarded-proto", proto.encode())] if proto else []
    client = None if peer is None else (peer, 50_000)
    return {"type": kind, "scheme": "ws" if kind == "websocket" else "http", "client": client, "headers": headers}


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("192.0.2.1", ["203.0.113.9"], "192.0.2.1"),  # anybody may say so
        ("127.0.0.1", ["203.0.113.9"], "127.0.0.1"),
        ("10.0.0.5", [], "10.0.0.5"),
        ("10.0.0.5", ["203.0.113.9"], "203.0.113.9"),
        ("10.0.1.77", ["203.0.113.9"], "203.0.113.9"),
        ("10.0.0.6", ["203.0.113.9"], "10.0.0.6"),
        ("10.0.0.5", ["127.0.0.1, 203.0.113.9"], "203.0.113.9"),  # what the client wrote, then what our proxy saw
        ("10.0.0.5", ["127.0.0.1", "203.0.113.9"], "203.0.113.9"),
        ("10.0.0.5", ["127.0.0.1, 203.0.113.9, 10.0.1.2"], "203.0.113.9"),  # through two of ours
        ("10.0.0.5", ["10.0.1.2, 10.0.1.3"], "10.0.1.2"),
        ("10.0.0.5", ["127.0.0.1, unknown"], "10.0.0.5"),
        ("10.0.0.5", ["203.0.113.9, unknown, 10.0.1.2"], "10.0.1.2"),
        ("10.0.0.5", [""], "10.0.0.5"),
        ("10.0.0.5", ["203.0.113.9:4711"], "203.0.113.9"),
        ("10.0.0.5", ["[2001:db8::1]:4711"], "2001:db8::1"),
        ("10.0.0.5", ["2001:db8::1"], "2001:db8::1"),
        ("::ffff:10.0.0.5", ["203.0.113.9"], "203.0.113.9"),
        ("fd00::1", ["::ffff:203.0.113.9"], "203.0.113.9"),
    ],
)
def test_only_what_our_proxies_have_added_counts(peer: str, forwarded: list[str], client: str) -> None:
    scope = asked(peer, *forwarded)
    Proxies(OURS).look_behind(scope)
    assert scope["client"][0] == client


def test_the_scheme_is_believed_of_our_proxies_only() -> None:
    for peer, proto, kind, scheme in (
        ("10.0.0.5", "https", "http", "https"),
        ("10.0.0.5", "http, HTTPS", "http", "https"),
        ("10.0.0.5", "https", "websocket", "wss"),
        ("10.0.0.5", "https, http", "http", "http"),
        ("10.0.0.5", "gopher", "http", "http"),
        ("192.0.2.1", "https", "http", "http"),
    ):
        scope = asked(peer, proto=proto, kind=kind)
        Proxies(OURS).look_behind(scope)
        assert scope["scheme"] == scheme


def test_their_addresses_are_known() -> None:
    proxies = Proxies(OURS)
    assert [proxies.has(one) for one in ("10.0.0.5", "10.0.1.9", "::ffff:10.0.0.5", "fd00::1")] == [True] * 4
    assert [proxies.has(one) for one in ("10.0.0.6", "127.0.0.1", "unix", "")] == [False] * 4
    assert not Proxies().has("10.0.0.5")


def test_without_proxies_or_an_address_nothing_is_looked_at() -> None:
    for proxies, peer in ((Proxies(), "10.0.0.5"), (Proxies(OURS), None)):
        scope = asked(peer, "203.0.113.9", proto="https")
        before = dict(scope)
        proxies.look_behind(scope)
        assert scope == before


@pytest.mark.parametrize("wrong", ["proxy.example", "10.0.0.0/33", "10.0.0.5:80", "", "[::1]"])
def test_what_is_no_address_is_an_error_of_the_configuration(wrong: str) -> None:
    with pytest.raises(ConfigError, match=r"hub\.proxies\[1\]"):
        parse(json.dumps({"hub": {"proxies": ["10.0.0.5", wrong]}}).encode())
    assert parse(json.dumps({"hub": {"proxies": OURS}}).encode()).hub.proxies == OURS


async def post(hub: LockedHub, token: str, *headers: str) -> Answer:
    body = json.dumps({"token": token}).encode()
    words = ("Content-Type: application/json", f"Content-Length: {len(body)}", *headers)
    return await exchange(hub.site, get("/api/login", *words, method="POST") + body)


async def test_who_guesses_behind_a_proxy_locks_nobody_else_out(tmp_path: Path) -> None:
    config = Config(hub=HubSection(proxies=["127.0.0.1"]))
    async with locked_hub(tmp_path, AuthSection(), config) as hub:
        guesser, other = "X-Forwarded-For: 203.0.113.9", "X-Forwarded-For: 203.0.113.10"
        await asyncio.gather(*(post(hub, "wrong", guesser) for _ in range(MOST_FAILURES)))
        assert (await post(hub, "wrong", guesser)).status == 429
        assert (await post(hub, "wrong", other)).status == 401
        answer = await post(hub, hub.token, other, "X-Forwarded-Proto: https")
        assert answer.status == 204
        assert "; secure" in answer.head.lower()


async def test_who_writes_that_header_anew_each_time_is_locked_out_all_the_same(tmp_path: Path) -> None:
    async with locked_hub(tmp_path, AuthSection()) as hub:
        for number in range(MOST_FAILURES):
            assert (await post(hub, "wrong", f"X-Forwarded-For: 203.0.113.{number}")).status == 401
        refused = await post(hub, "wrong", "X-Forwarded-For: 203.0.113.99", "X-Forwarded-Proto: https")
        assert refused.status == 429
