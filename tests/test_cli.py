"""The program as its users start it, stop it, and misuse it."""

import asyncio
import contextlib
import json
import re
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from websockets import Subprotocol
from websockets.sync.client import connect

from gpumon import wire
from gpumon.lifecycle import run
from tests.fakenvml import datacentre, environment
from tests.hub.agents import hello
from tests.running import program

ANY = "127.0.0.1"
V1 = Subprotocol(wire.SUBPROTOCOL)


def fetch(port: int, path: str) -> tuple[int, bytes]:
    with urllib.request.urlopen(f"http://{ANY}:{port}{path}", timeout=30) as response:
        return response.status, response.read()


def first_report(port: int, gpus: int = 1) -> dict[str, Any]:
    """What an agent tells once it has read so many GPUs: on a busy machine, its first sample may be without them."""
    found: dict[str, Any] = {"gpus": []}
    while len(found["gpus"]) < gpus:
        try:
            found = json.loads(fetch(port, "/gpu-info")[1])
        except urllib.error.HTTPError as error:
            error.close()
    return found


@pytest.fixture
def config(tmp_path: Path) -> Callable[[object], Path]:
    def write(value: object) -> Path:
        file = tmp_path / "config.json"
        file.write_text(value if isinstance(value, str) else json.dumps(value))
        return file

    return write


NODES = [{"name": "b", "host": ANY, "port": 9}, {"name": "a", "host": ANY, "port": 9, "alias": "别名"}]


@pytest.mark.parametrize(
    "arguments",
    [
        ("-mode=aggregator", "-config=config.json", "-port=0"),
        ("-mode", "aggregator", "-config", "config.json", "-port", "0"),
        ("--mode=aggregator", "--config=config.json", "--port=0"),
        ("-port=0",),
        ("hub", "--port", "0", "--host", ANY),
        ("--log-level", "debug", "hub", "--port=0", "--config=config.json"),
    ],
    ids=" ".join,
)
def test_a_hub_starts_by_its_own_and_by_the_old_programs_command_lines(
    arguments: tuple[str, ...], tmp_path: Path, config: Callable[[object], Path]
) -> None:
    config({"nodes": NODES, "aggregator": {"port": 8080}})
    with program(*arguments, folder=tmp_path) as hub:
        nodes = json.loads(fetch(hub.port("hub"), "/api/nodes")[1])
        assert [(node["name"], node["alias"]) for node in nodes] == [("b", "b"), ("a", "别名")]
        assert hub.end() == 0


def test_the_bare_program_is_a_hub_with_the_files_port(tmp_path: Path, config: Callable[[object], Path]) -> None:
    config({"nodes": NODES, "aggregator": {"host": ANY, "port": 0}})
    with program(folder=tmp_path) as hub:
        assert len(json.loads(fetch(hub.port("hub"), "/api/nodes")[1])) == 2
        assert hub.end(signal.SIGINT) == 0


def test_a_hub_needs_no_configuration(tmp_path: Path) -> None:
    with program("hub", "--port=0", folder=tmp_path) as hub:
        assert fetch(hub.port("hub"), "/api/nodes")[1] == b"[]"


@pytest.mark.parametrize(
    "arguments",
    [("-mode=server", "-port=0"), ("agent", "--port=0"), ("agent", "--port", "0", "--name", "n", "--interval=0.2")],
    ids=" ".join,
)
def test_an_agent_starts_by_its_own_and_by_the_old_programs_command_line(
    arguments: tuple[str, ...], tmp_path: Path
) -> None:
    scenario = tmp_path / "scenario"
    datacentre(gpus=2).write(scenario)
    with program(*arguments, environment=environment(scenario), folder=tmp_path) as agent:
        assert len(first_report(agent.port("agent"), gpus=2)["gpus"]) == 2
        assert agent.end() == 0


def test_every_option_has_an_environment_variable_and_flags_win_over_it(tmp_path: Path) -> None:
    wrong = {"GPUMON_AGENT_PORT": "1", "GPUMON_AGENT_NAME": "from-environment", "GPUMON_AGENT_SIMULATE": "1"}
    with program("agent", "--port=0", environment=wrong, folder=tmp_path) as agent:
        agent.wait_for(r"agent from-environment \(simulated\) on")
    with program("agent", "--name=from-flag", environment=wrong | {"GPUMON_AGENT_PORT": "0"}) as agent:
        agent.wait_for(r"agent from-flag \(simulated\) on")


def test_an_agent_reports_the_simulation_that_it_is_asked_for(tmp_path: Path) -> None:
    with program("agent", "--port=0", "--simulate=a100-mig,gb10,fault=lost:1", folder=tmp_path) as agent:
        report = first_report(agent.port("agent"))
        assert (report["simulated"], report["status"]) == (True, "degraded")
        assert [(gpu["name"], gpu["status"]) for gpu in report["gpus"]] == [
            ("NVIDIA A100-SXM4-80GB (simulated)", "ok"),
            ("NVIDIA GB10 (simulated)", "lost"),
        ]


def test_the_old_programs_flags_go_with_the_environment_too(tmp_path: Path) -> None:
    environment = {"GPUMON_AGENT_NAME": "zoe", "GPUMON_AGENT_SIMULATE": "1", "GPUMON_AGENT_HOST": ANY}
    with program("-mode=server", "-port=0", environment=environment, folder=tmp_path) as agent:
        agent.wait_for(r"agent zoe \(simulated\) on http://127\.0\.0\.1:")
    with program(environment={"GPUMON_HUB_PORT": "0", "GPUMON_HUB_HOST": ANY}, folder=tmp_path) as hub:
        hub.wait_for(r"hub on http://127\.0\.0\.1:")


def test_tags_are_told_from_flags_or_the_environment(tmp_path: Path) -> None:
    agent = ("agent", f"--host={ANY}", "--port=0", "--simulate=1")
    with program(*agent, environment={"GPUMON_AGENT_TAGS": "cold teaching"}, folder=tmp_path) as by_environment:
        assert first_report(by_environment.port("agent"))["tags"] == ["cold", "teaching"]
    with program(*agent, "--tag=room 204", "--tag=教学", folder=tmp_path) as by_flags:
        assert first_report(by_flags.port("agent"))["tags"] == ["room 204", "教学"]


def test_what_a_stranger_says_is_one_line_of_the_log(tmp_path: Path) -> None:
    with program("hub", f"--host={ANY}", "--port=0", folder=tmp_path) as hub:
        forged = hello(agent_version="1\n2026 CRITICAL gpumon: forged\x1b[31m")
        with connect(f"ws://{ANY}:{hub.port('hub')}/api/push", subprotocols=[V1], proxy=None) as agent:
            agent.send(json.dumps(forged))
            agent.recv()
        line = hub.wait_for("connected")
        assert "forged\ufffd[31m" in line.string
        assert "\x1b" not in line.string
        assert line.string.startswith("20")


def test_flags_win_over_the_file(config: Callable[[object], Path]) -> None:
    file = config({"agent": {"name": "from-file", "port": 1, "host": ANY}})
    with program("agent", "--config", str(file), "--port=0", "--simulate=1") as agent:
        agent.wait_for(r"agent from-file \(simulated\) on http://127\.0\.0\.1:")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("hub", "--prot=1"), r"--prot"),
        (("-colour=green",), r"-c|colour"),
        (("hub", "--port=70000"), r"70000.*65535"),
        (("hub", "--port=x"), r"'x'"),
        (("hub", "--config=nowhere.json"), r"nowhere\.json: cannot be read: No such file"),
        (("-mode=server", "-config=nowhere.json"), r"nowhere\.json: cannot be read"),
        (("-mode=client",), r"client.*server.*aggregator"),
        (("agent", "--hub=ftp://x", "--simulate=1"), r"--hub: 'ftp://x' is not allowed; allowed: http://"),
        (("agent", "--hub=http://a..b:8080", "--simulate=1"), r"--hub: 'http://a\.\.b:8080' is not allowed"),
        (("hub", "--host=a..b"), r"cannot listen on a\.\.b port 8080: this is no host name"),
        (("agent", "--interval=0", "--simulate=1"), r"--interval.*0\.2"),
        (("agent", "--name=a/b", "--simulate=1"), r"--name: \"a/b\" is not allowed; allowed: .*without '/'"),
        (("agent", "--tag=cold,teaching", "--simulate=1"), r'--tag: "cold,teaching" is not allowed; .* without commas'),
        (("agent", "--host=192.0.2.1", "--simulate=1"), r"192\.0\.2\.1 port 8081: this machine has no such address"),
        (("agent", "--host=no such host", "--simulate=1"), r"--host: \"no such host\" is not allowed"),
        (("agent", "--simulate=h100:8"), r"--simulate: 'h100:8' is no board; allowed: .*h200, .*gb10"),
        (("agent", "--simulate=2,fault=lost:2"), r"'fault=lost:2': there is no GPU 2; allowed: GPUs 0 to 1"),
        (("probe", "--simulate=2,fault=fire"), r"'fault=fire' is no fault; allowed: lost, .*no_driver"),
        (("probe", "--interval=0"), r"--interval.*0\.2"),
        (("probe", "--color=blue"), r"blue.*auto.*always.*never"),
        (("probe", "gpu0"), r"gpu0"),
        (("-port=1", "hub"), r"-port stands alone"),
        (("nonsense",), r"nonsense"),
        (("demo", "--nodes=-1"), r"-1"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_errors_of_use_end_with_status_2_and_one_line(
    arguments: tuple[str, ...], expected: str, tmp_path: Path
) -> None:
    with program(*arguments, folder=tmp_path) as wrong:
        assert wrong.status() == 2
        lines = wrong.said.splitlines()
        assert len(lines) == 1, wrong.said
        assert lines[0].startswith("gpumon: ")
        assert re.search(expected, lines[0])


def test_a_broken_configuration_says_every_fault_on_a_line_and_starts_nothing(
    tmp_path: Path, config: Callable[[object], Path]
) -> None:
    config({"nodes": [{"name": "a", "host": 5}, {"name": "a", "port": 0}], "colour": 1})
    with program(folder=tmp_path) as hub:
        assert hub.status() == 2
        assert [line.split(": ")[2] for line in hub.said.splitlines()] == [
            "colour",
            "nodes[0].host",
            "nodes[1].host",
            "nodes[1].port",
            "nodes[1].name",
        ]
        assert " on http://" not in hub.said


@pytest.mark.parametrize("command", [("hub",), ("agent", "--simulate=1"), ("demo",)], ids=" ".join)
def test_a_port_that_is_taken_is_named(command: tuple[str, ...], tmp_path: Path) -> None:
    with socket.create_server((ANY, 0)) as taken:
        port = taken.getsockname()[1]
        with program(*command, f"--host={ANY}", f"--port={port}", folder=tmp_path) as late:
            assert late.status() == 2
            assert late.said.count("\n") == 1
            assert f"{ANY} port {port}: another program listens there already" in late.said


def test_help_and_version_are_there() -> None:
    for arguments in (
        ("--help",),
        ("-h",),
        ("hub", "--help"),
        ("agent", "--help"),
        ("demo", "--help"),
        ("probe", "--help"),
        ("--version",),
    ):
        with program(*arguments) as asked:
            assert asked.status() == 0


def _look(port: int) -> tuple[socket.socket, socket.socket]:
    """Two viewers of ``/api/events``: one that reads, and one that never will."""
    request = f"GET /api/events HTTP/1.1\r\nHost: {ANY}\r\n\r\n".encode()
    reading = socket.create_connection((ANY, port), 10)
    stuck = socket.socket()
    stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    stuck.connect((ANY, port))
    for viewer in (reading, stuck):
        viewer.sendall(request)

    def drain() -> None:
        with contextlib.suppress(OSError):
            while reading.recv(65536):
                pass

    assert reading.recv(100).startswith(b"HTTP/1.1 200")
    threading.Thread(target=drain, daemon=True).start()
    return reading, stuck


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_everything_ends_with_status_0_in_time_whoever_is_connected(number: int, tmp_path: Path) -> None:
    scenario = tmp_path / "scenario"
    datacentre(gpus=8).write(scenario)
    with program("hub", f"--host={ANY}", "--port=0", folder=tmp_path) as hub:
        port = hub.port("hub")
        url = f"http://{ANY}:{port}"
        real = program("agent", "--port=0", "--name=real", f"--hub={url}", environment=environment(scenario))
        simulated = program("agent", "--port=0", "--simulate=64", "--name=s", "--interval=0.2", f"--hub={url}")
        with real as one, simulated as two:
            one.wait_for("connected to gpumon")
            two.wait_for("connected to gpumon")
            viewers = _look(port)
            with connect(f"ws://{ANY}:{port}/api/stream", proxy=None) as stream:
                for _ in range(8):  # long enough for the viewer who does not read to be full
                    stream.recv(timeout=30)
                assert one.end(number) == 0
                assert hub.end(number) == 0
                assert two.end(number) == 0
            for viewer in viewers:
                viewer.close()
        for ended in (one, two, hub):
            assert "Traceback" not in ended.said


def test_a_viewer_that_says_goodbye_without_having_read_delays_no_end(tmp_path: Path) -> None:
    with program("hub", f"--host={ANY}", "--port=0", folder=tmp_path) as hub:
        port = hub.port("hub")
        with socket.socket() as viewer:
            viewer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            viewer.connect((ANY, port))
            viewer.sendall(
                b"GET /api/stream HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n\r\n"
            )
            with program(
                "agent", "--port=0", "--simulate=128", "--interval=0.2", f"--hub=http://{ANY}:{port}"
            ) as agent:
                agent.wait_for("connected to gpumon")
                with connect(f"ws://{ANY}:{port}/api/stream", proxy=None, max_size=None) as stream:
                    for _ in range(12):  # until what the other viewer does not take fills its socket
                        stream.recv(timeout=30)
                viewer.sendall(b"\x88\x80\x00\x00\x00\x00")
                assert hub.end() == 0
        assert "Traceback" not in hub.said


def test_a_second_signal_ends_at_once(tmp_path: Path) -> None:
    with program("hub", f"--host={ANY}", "--port=0", folder=tmp_path) as hub:
        viewers = _look(hub.port("hub"))
        hub.process.send_signal(signal.SIGINT)
        hub.wait_for("stopping")
        assert hub.end(signal.SIGINT) == 0
        for viewer in viewers:
            viewer.close()


def test_the_echo_of_a_signal_is_no_second_signal() -> None:
    """As one gets it from the launcher as well; one that comes later ends at once."""
    code = """
import asyncio, os, signal
from gpumon import lifecycle

async def tell() -> None:
    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.sleep(0.01)

async def main() -> None:
    try:
        await tell()
        await asyncio.sleep(60)
    finally:
        await tell()
        print("cleaned up", flush=True)
        await asyncio.sleep(2 * lifecycle.ECHO_SECONDS)
        await tell()
        print("never", flush=True)

lifecycle.run(main())
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "cleaned up\n"


def test_the_agent_never_loads_the_driver_binding_nor_the_hub() -> None:
    code = (
        "import sys, gpumon.cli, gpumon.agent.app; "
        "print([name for name in sys.modules if name == 'pynvml' or name.startswith(('gpumon.hub', 'aiohttp', 'dns'))])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_the_loop_is_told_to_stop_from_any_place() -> None:
    """A coroutine that ends by itself ends the program as well."""
    done = []

    async def main() -> None:
        await asyncio.sleep(0)
        done.append(True)

    run(main())
    assert done


def test_an_ipv6_address_is_written_so_that_it_can_be_pasted(tmp_path: Path) -> None:
    if not socket.has_ipv6:
        pytest.skip("this machine has no IPv6")
    with program("hub", "--host=::1", "--port=0", folder=tmp_path) as hub:
        assert hub.wait_for(r"hub on (http://\[::1\]:\d+)")
        assert hub.end() == 0
