"""``gpumon agents``: what an admin types, against a real hub."""

import json
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gpumon import statefile
from tests.running import Program, program


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[tuple[Program, int]]:
    """A hub, with its folder, and where it is."""
    with program("hub", "--host=0.0.0.0", "--port=0", f"--state-dir={tmp_path}") as running:
        yield running, running.port("hub")


def asked(*arguments: str, port: int, folder: Path | None, **environment: str) -> tuple[int, str, str]:
    """The status of ``gpumon agents``, what it wrote and what it complained of."""
    where = [f"--hub=http://127.0.0.1:{port}", *([] if folder is None else [f"--state-dir={folder}"])]
    with program("agents", *where, *arguments, environment=environment) as command:
        status = command.status()
        return status, command.wrote, command.said


def test_agents_are_listed_admitted_and_revoked(hub: tuple[Program, int], tmp_path: Path) -> None:
    running, port = hub
    assert asked("list", port=port, folder=tmp_path) == (0, "No agent has joined, and none waits.\n", "")
    token = statefile.read(tmp_path / "join-token")
    assert token is not None
    with program(
        "agent",
        "--host=127.0.0.1",
        "--port=0",
        "--simulate=1",
        "--name=机器 1",
        f"--hub=http://127.0.0.1:{port}",
        environment={"GPUMON_JOIN_TOKEN": token.decode()},
    ) as agent:
        agent.wait_for("this agent has joined the hub")
        status, listed, _ = asked("list", port=port, folder=tmp_path)
        head, row = listed.splitlines()
        assert (status, head.split()) == (0, ["NODE", "STATE", "SINCE", "BY", "ADDRESS", "CODE"])
        assert re.fullmatch(r"机器 1  joined +\S+Z  token +127\.0\.0\.1  ([A-Z2-7]{5}-){4}[A-Z2-7]{5}", row)
        assert asked("revoke", "机器 1", port=port, folder=tmp_path) == (0, "机器 1: revoked\n", "")
        agent.wait_for("an admin has revoked it")
    assert "revoked by an admin" in running.wait_for("revoked by an admin").string
    status, listed, _ = asked("list", "--json", port=port, folder=tmp_path)
    found = json.loads(listed)
    assert (found["push"], found["waiting"], found["joined"][0]["state"]) == ("token", [], "revoked")
    status, said, _ = asked("admit", found["joined"][0]["code"].lower(), port=port, folder=tmp_path)
    assert (status, "comes in at its next try" in said) == (0, True)


def test_the_token_may_come_from_the_environment(hub: tuple[Program, int], tmp_path: Path) -> None:
    token = statefile.read(tmp_path / "viewers.token")
    assert token is not None
    found = asked("list", port=hub[1], folder=None, GPUMON_TOKEN=token.decode().strip())
    assert found[0] == 0


@pytest.mark.parametrize("command", [["list"], ["admit", "n"], ["revoke", "n"]], ids=str)
def test_without_the_right_token_nothing_is_done(command: list[str], hub: tuple[Program, int], tmp_path: Path) -> None:
    wrong = "0123456789" * 3
    status, wrote, said = asked(*command, port=hub[1], folder=None, GPUMON_TOKEN=wrong)
    assert (status, wrote) == (1, "")
    assert "refused with status 401: Authorization: this is not the token of this hub" in said
    assert wrong not in said
    status, _, said = asked(*command, port=hub[1], folder=tmp_path / "empty")
    assert (status, "there is no token of a hub" in said) == (2, True)


def test_what_is_not_there_is_said(hub: tuple[Program, int], tmp_path: Path) -> None:
    status, _, said = asked("admit", "nobody", port=hub[1], folder=tmp_path)
    assert (status, "no agent waits or was revoked under 'nobody'" in said) == (1, True)


def test_a_hub_that_is_not_there_is_said(tmp_path: Path) -> None:
    statefile.write(tmp_path / "viewers.token", b"x" * 40)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    status, _, said = asked("list", port=port, folder=tmp_path)
    assert (status, "the hub cannot be asked: Connection refused" in said) == (1, True)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("ftp://x", "--hub: 'ftp://x' is not allowed; allowed: http://"),
        ("http://user:pw@x", "is not allowed"),
        ("http://10.1.2.3:8080", "GPUMON_TOKEN: missing; it must be given for a hub on another machine"),
        ("http://127.0.0.1.evil.example", "GPUMON_TOKEN: missing"),
        ("http://localhost.evil.example", "GPUMON_TOKEN: missing"),
    ],
)
def test_the_token_of_this_machines_hub_is_told_to_no_other(url: str, expected: str, tmp_path: Path) -> None:
    statefile.write(tmp_path / "viewers.token", b"x" * 40)
    with program("agents", f"--hub={url}", f"--state-dir={tmp_path}", "list") as command:
        assert command.status() == 2
        assert expected in command.said


@contextmanager
def answering(answer: bytes) -> Iterator[tuple[int, list[bytes]]]:
    """Something on a port that answers one request with ``answer``, and what it was asked."""
    heard: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def talk() -> None:
            connection, _ = listener.accept()
            with connection:
                heard.append(connection.recv(65536))
                connection.sendall(answer)

        thread = threading.Thread(target=talk, daemon=True)
        thread.start()
        yield listener.getsockname()[1], heard
        thread.join(10)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n<html>", "does not answer as a hub does"),
        (b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n\xff", "does not answer as a hub does"),
        (b"HTTP/1.1 500 No\r\nConnection: close\r\n\r\nno", "refused with status 500"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "the hub cannot be asked"),
        (b"", "the hub cannot be asked"),
    ],
)
def test_what_is_no_hub_is_said_in_a_line(answer: bytes, expected: str, tmp_path: Path) -> None:
    statefile.write(tmp_path / "viewers.token", b"x" * 40)
    with answering(answer) as (port, _):
        status, _, said = asked("list", port=port, folder=tmp_path)
    assert status == 1
    assert expected in said
    assert len(said.splitlines()) == 1


def test_a_redirect_is_not_followed_and_a_proxy_of_the_environment_not_used(tmp_path: Path) -> None:
    statefile.write(tmp_path / "viewers.token", b"x" * 40)
    with answering(b"") as (other, stolen):
        moved = f"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:{other}/\r\nConnection: close\r\n\r\n".encode()
        proxy = f"http://127.0.0.1:{other}"
        with answering(moved) as (port, heard):
            status, _, said = asked("list", port=port, folder=tmp_path, http_proxy=proxy, HTTP_PROXY=proxy)
        socket.create_connection(("127.0.0.1", other)).close()
    assert (status, "refused with status 302" in said) == (1, True)
    assert b"Authorization: Bearer" in heard[0]
    assert stolen == [b""]
