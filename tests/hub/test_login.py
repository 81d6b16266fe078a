"""In and out: tokens, sessions, what ends them, and what keeps strangers from guessing."""

import asyncio
import json
import os
import re
import signal
import stat
import threading
import time
from pathlib import Path

import aiohttp
import pytest

from gpumon import statefile
from gpumon.config import AuthSection
from gpumon.hub.auth import MOST_SESSIONS, SESSION_SECONDS, SESSIONS_FILE, TOKEN_FILE, Auth, renew
from gpumon.hub.failures import FAILURES_SECONDS, MOST_ADDRESSES, Failures
from gpumon.hub.login import MOST_FAILURES
from tests.hub.lock import LockedHub, locked_hub
from tests.hub.rawhttp import Answer, exchange, get
from tests.running import program, until, until_true

CLOSED = AuthSection(viewers="token")
JSON = "Content-Type: application/json"


async def post(hub: LockedHub, body: bytes, *headers: str) -> Answer:
    words = (*(headers or (JSON,)), f"Content-Length: {len(body)}")
    return await exchange(hub.site, get("/api/login", *words, method="POST", host=hub.host) + body)


def key(token: str) -> bytes:
    return json.dumps({"token": token}).encode()


async def looks(hub: LockedHub, *headers: str) -> int:
    return (await exchange(hub.site, get("/api/nodes", *headers, host=hub.host))).status


async def leave(hub: LockedHub, cookie: str) -> Answer:
    return await exchange(hub.site, get("/api/login", cookie, hub.origin, method="DELETE", host=hub.host))


async def test_the_token_buys_a_cookie_that_no_script_and_no_other_site_gets(tmp_path: Path) -> None:
    async with locked_hub(tmp_path, CLOSED) as hub:
        answer = await post(hub, key(hub.token))
        assert answer.status == 204
        line = next(line for line in answer.head.split("\r\n") if line.startswith("set-cookie: "))
        name, *attributes = line.removeprefix("set-cookie: ").split("; ")
        assert {one.lower() for one in attributes} == {"httponly", "samesite=strict", "path=/", "max-age=7776000"}
        assert hub.token not in answer.head
        assert await looks(hub, f"Cookie: {name}") == 200
        assert await looks(hub, f"Cookie: other=1; {name}; more=2") == 200
        assert await looks(hub, f"Cookie: {name}x") == 401
        assert await looks(hub) == 401
        left = await leave(hub, f"Cookie: {name}")
        assert left.status == 204
        assert f"{name.partition('=')[0]}=" in left.head
        assert "max-age=0" in left.head.lower()
        assert await looks(hub, f"Cookie: {name}") == 401


async def test_leaving_ends_one_session_and_no_other(tmp_path: Path) -> None:
    async with locked_hub(tmp_path, CLOSED) as hub:
        one, other = await hub.log_in(), await hub.log_in()
        await leave(hub, one)
        assert await looks(hub, one) == 401
        assert await looks(hub, other) == 200


async def test_token_and_sessions_lie_in_files_of_the_owner_alone_and_outlive_the_hub(tmp_path: Path) -> None:
    async with locked_hub(tmp_path, CLOSED) as hub:
        cookie, ended, token = await hub.log_in(), await hub.log_in(), hub.token
        await leave(hub, ended)
    assert len(token) >= 43
    for name in (TOKEN_FILE, SESSIONS_FILE):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600
    kept = (tmp_path / SESSIONS_FILE).read_text()
    assert token not in kept
    assert cookie.partition("=")[2] not in kept
    async with locked_hub(tmp_path, CLOSED) as hub:
        assert hub.token == token
        assert await looks(hub, cookie) == 200
        assert await looks(hub, ended) == 401


async def test_another_token_ends_what_the_old_one_bought(tmp_path: Path) -> None:
    async with locked_hub(tmp_path, CLOSED) as hub:
        cookie, bearer = await hub.log_in(), hub.bearer
    renew(tmp_path)
    async with locked_hub(tmp_path, CLOSED) as hub:
        assert hub.bearer != bearer
        assert [await looks(hub, one) for one in (cookie, bearer, hub.bearer)] == [401, 401, 200]


@pytest.mark.parametrize(
    "kept",
    [b"", b"{", b"[]", b'{"token": 1}', b"[" * 100_000, b"\xff", b'{"token":"x","sessions":{}}', b'{"token":"\xff"}'],
)
async def test_damaged_sessions_are_none(tmp_path: Path, kept: bytes) -> None:
    async with locked_hub(tmp_path, CLOSED) as hub:
        cookie = await hub.log_in()
    (tmp_path / SESSIONS_FILE).write_bytes(kept)
    async with locked_hub(tmp_path, CLOSED) as hub:
        assert await looks(hub, cookie) == 401
        assert await looks(hub, await hub.log_in()) == 200


@pytest.mark.parametrize("token", ["", "short", "with space in between it", "ünïcödé-ünïcödé-ünïcödé", "x" * 300])
async def test_what_is_no_token_opens_nothing(tmp_path: Path, token: str) -> None:
    (tmp_path / TOKEN_FILE).write_text(token)
    async with locked_hub(tmp_path, CLOSED) as hub:
        assert await looks(hub, f"Authorization: Bearer {token.encode().decode('latin-1')}") == 401
        assert (await post(hub, key(token))).status == 401


async def test_a_folder_that_cannot_be_written_leaves_the_hub_closed_and_well(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    auth = Auth(CLOSED, tmp_path / "file" / "folder")
    token = auth.token
    auth.read()
    auth.configure(CLOSED)
    assert auth.token == token
    await auth.open_session()
    assert auth.caller(b"Bearer " + auth.token.encode(), None) is not None


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"", (JSON,), 400),
        (b"{}", (JSON,), 400),
        (b"null", (JSON,), 400),
        (b'{"token": 1}', (JSON,), 400),
        (b'{"token": "\xff"}', (JSON,), 400),
        (b"[" * 4000, (JSON,), 400),
        (b'{"token": "' + b"x" * 600 + b'"}', (JSON,), 400),
        (b" " * 5000 + b"{}", (JSON,), 413),
        (b'{"token": "x"}', ("Content-Type: text/plain",), 415),
        (b'{"token": "x"}', ("X-Nothing: x",), 415),
        (b"token=x", ("Content-Type: application/x-www-form-urlencoded",), 415),
        (b"--x\r\n\r\n--x--\r\n", ("Content-Type: multipart/form-data; boundary=x",), 415),
        (b'{"token": "\\ud800"}', (JSON,), 400),
        (b'{"token": "wrong"}', ("Content-Type: Application/JSON; charset=utf-8",), 401),
        (b'{"token": "x"}', (JSON, "Origin: http://evil.example"), 403),
        (b'{"token": "x"}', (JSON, "Origin: null"), 403),
    ],
)
async def test_what_is_no_login_is_refused_in_words(
    tmp_path: Path, body: bytes, headers: tuple[str, ...], status: int
) -> None:
    async with locked_hub(tmp_path, CLOSED) as hub:
        answer = await post(hub, body, *headers)
        assert (answer.status, json.loads(answer.body)["status"]) == (status, status)
        assert "set-cookie" not in answer.head


async def test_a_login_that_does_not_come_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gpumon.hub.login.BODY_SECONDS", 0.05)
    async with locked_hub(tmp_path, CLOSED) as hub:
        slow = get("/api/login", JSON, "Content-Length: 100", method="POST", host=hub.host)
        assert (await exchange(hub.site, slow + b"{")).status == 408


async def test_after_five_failures_an_address_must_wait_and_who_has_the_token_is_not_locked_out(tmp_path: Path) -> None:
    async with locked_hub(tmp_path, CLOSED) as hub:
        cookie = await hub.log_in()
        answers = await asyncio.gather(*(post(hub, key("wrong")) for _ in range(MOST_FAILURES + 3)))
        assert sorted(answer.status for answer in answers) == [401] * MOST_FAILURES + [429] * 3
        refused = await post(hub, key("wrong"))
        assert refused.status == 429
        assert 1 <= int(re.search(r"retry-after: (\d+)", refused.head)[1]) <= FAILURES_SECONDS + 1  # type: ignore[index]
        assert await looks(hub, cookie) == 200
        assert await looks(hub, hub.bearer) == 200
        assert (await post(hub, key(hub.token))).status == 204


def test_an_address_may_try_again_after_a_minute_and_no_other_waits_for_it() -> None:
    failures = Failures(MOST_FAILURES)
    for second in range(MOST_FAILURES):
        assert failures.wait_seconds("10.0.0.1", second) == 0
        failures.add("10.0.0.1", second)
    assert failures.wait_seconds("10.0.0.1", 10.0) == FAILURES_SECONDS - 10
    assert failures.wait_seconds("::ffff:10.0.0.1", 10.0) == FAILURES_SECONDS - 10  # the same, by another socket
    assert failures.wait_seconds("10.0.0.2", 10.0) == 0
    assert failures.wait_seconds("10.0.0.1", FAILURES_SECONDS) == 0
    failures.add("10.0.0.1", FAILURES_SECONDS)
    assert failures.wait_seconds("10.0.0.1", FAILURES_SECONDS) == 1


def test_a_network_of_ipv6_counts_as_one_and_all_of_them_are_bounded() -> None:
    failures = Failures(MOST_FAILURES)
    for number in range(MOST_FAILURES):
        failures.add(f"2001:db8::{number}", 0)
    assert failures.wait_seconds("2001:db8::ffff", 1) > 0
    assert failures.wait_seconds("2001:db8:0:1::1", 1) == 0
    for number in range(2 * MOST_ADDRESSES):
        failures.add(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", 0)
    assert len(failures._at) == MOST_ADDRESSES


async def test_sessions_are_bounded_and_end(monkeypatch: pytest.MonkeyPatch) -> None:
    auth = Auth(CLOSED)

    def may_look(value: str) -> bool:
        caller = auth.caller(None, f"{auth.cookie}={value}".encode())
        assert caller is not None
        return caller.may_look

    first, second = await auth.open_session(), await auth.open_session()
    for _ in range(MOST_SESSIONS - 1):
        last = await auth.open_session()
    assert [may_look(one) for one in (first, second, last)] == [False, True, True]
    later = time.time() + SESSION_SECONDS + 1
    monkeypatch.setattr(time, "time", lambda: later)
    assert not may_look(last)
    await auth.open_session()
    assert len(auth._sessions) == 1


async def test_streams_end_with_the_session_that_opened_them(tmp_path: Path) -> None:
    async with locked_hub(tmp_path, CLOSED) as hub:
        session = hub.site.session
        cookies = [await hub.log_in() for _ in range(2)]
        headers = [dict([one.split(": ", 1)]) for one in cookies]
        streams = [await session.get(f"{hub.site.url}/api/events", headers=one) for one in headers]
        sockets = [await session.ws_connect(f"{hub.site.url}/api/stream", headers=one) for one in headers]
        scripts = await session.get(f"{hub.site.url}/api/events", headers={"Authorization": f"Bearer {hub.token}"})
        for one in sockets:
            assert (await one.receive_json())["type"] == "snapshot"
        await leave(hub, cookies[0])
        assert b"snapshot" in await streams[0].read()  # to its end
        message = await sockets[0].receive()
        assert (message.type, sockets[0].close_code) == (aiohttp.WSMsgType.CLOSE, 4001)
        assert (await hub.site.get("/health"))["status"] == "ok"

        async def the_others_are_there() -> bool:
            health = await exchange(hub.site, get("/health", hub.bearer))
            return bool(json.loads(health.body)["viewers"] == 3)

        await until(the_others_are_there)
        assert not sockets[1].closed
        for answer in (*streams, scripts):
            answer.close()
        for one in sockets:
            await one.close()


async def test_a_disk_that_hangs_delays_no_login_for_long_and_keeps_the_newest_when_it_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("gpumon.hub.auth.WRITE_SECONDS", 0.1)
    mended, began, write = threading.Event(), [], statefile.write

    def hang(path: Path, data: bytes) -> None:
        began.append(path)
        mended.wait(30)
        write(path, data)

    async with locked_hub(tmp_path, CLOSED) as hub:
        monkeypatch.setattr(statefile, "write", hang)
        first, second = await hub.log_in(), await hub.log_in()
        await leave(hub, first)
        assert "cannot be kept: the disk does not answer" in caplog.text
        assert len(began) == 1
        assert [await looks(hub, one) for one in (first, second)] == [401, 200]
        mended.set()
        await until_true(lambda: len(began) == 2 and (tmp_path / SESSIONS_FILE).exists())

        async def is_kept() -> bool:
            return len(json.loads((tmp_path / SESSIONS_FILE).read_bytes())["sessions"]) == 1

        await until(is_kept)
    async with locked_hub(tmp_path, CLOSED) as hub:
        assert [await looks(hub, one) for one in (first, second)] == [401, 200]


def test_the_link_is_printed_and_the_token_is_in_no_log(tmp_path: Path) -> None:
    state = tmp_path / "state"
    environment = {"GPUMON_REQUIRE_LOGIN": "1", "GPUMON_STATE_DIR": str(state)}
    with program("hub", "--host=127.0.0.1", "--port=0", environment=environment, folder=tmp_path) as hub:
        port = hub.port("hub")
        assert hub.process.stdout is not None
        line = hub.process.stdout.readline()
        token = (state / TOKEN_FILE).read_text().strip()
        assert re.search(rf"http://\S+:{port}/#token={token}$", line.strip())
        hub.wait_for(TOKEN_FILE)
        hub.end()
    assert token not in hub.said


def test_a_new_token_can_be_asked_for(tmp_path: Path) -> None:
    tokens = []
    for arguments in ([], [], ["--new-token"]):
        folder = f"--state-dir={tmp_path}"
        with program("hub", "--host=127.0.0.1", "--port=0", "--require-login", folder, *arguments) as hub:
            hub.port("hub")
            assert hub.process.stdout is not None
            tokens.append(hub.process.stdout.readline().strip().partition("#token=")[2])
    assert tokens[0] == tokens[1] != tokens[2]
    assert all(tokens)


async def test_another_configuration_or_token_ends_the_streams_of_who_may_look_no_longer(tmp_path: Path) -> None:
    file, state = tmp_path / "config.json", tmp_path / "state"
    file.write_text("{}")
    options = ("hub", "--host=127.0.0.1", "--port=0", f"--config={file}", f"--state-dir={state}")
    with program(*options, environment={"PYTHONUNBUFFERED": "1"}) as hub:
        url = f"http://127.0.0.1:{hub.port('hub')}"
        async with aiohttp.ClientSession() as session:

            async def status(headers: dict[str, str]) -> int:
                async with session.get(f"{url}/api/nodes", headers=headers) as answer:
                    return answer.status

            assert await status({}) == 200
            bearer = {"Authorization": f"Bearer {(state / TOKEN_FILE).read_text().strip()}"}
            anybody = await session.ws_connect(f"{url}/api/stream")
            holder = await session.ws_connect(f"{url}/api/stream", headers=bearer)
            assert [(await one.receive_json())["type"] for one in (anybody, holder)] == ["snapshot"] * 2
            file.write_text(json.dumps({"auth": {"viewers": "token"}}))
            os.kill(hub.process.pid, signal.SIGHUP)
            await asyncio.wait_for(anybody.receive(), 30)
            assert anybody.close_code == 4001
            assert [await status(one) for one in ({}, bearer)] == [401, 200]
            (state / TOKEN_FILE).unlink()
            os.kill(hub.process.pid, signal.SIGHUP)
            await asyncio.wait_for(holder.receive(), 30)
            assert holder.close_code == 4001
            assert await status(bearer) == 401
            assert (state / TOKEN_FILE).exists()
            for one in (anybody, holder):
                await one.close()
