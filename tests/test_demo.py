"""``gpumon demo``: what a newcomer sees first."""

import json
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.fakenvml import datacentre, environment
from tests.running import Program, program


def nodes_when(port: int, condition: Callable[[list[dict[str, Any]]], bool]) -> list[dict[str, Any]]:
    while True:  # the test's own deadline ends this
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/nodes", timeout=30) as response:
            nodes: list[dict[str, Any]] = json.load(response)
        if condition(nodes):
            return nodes


def online(count: int) -> Callable[[list[dict[str, Any]]], bool]:
    return lambda nodes: sum(node["status"] == "online" for node in nodes) == count


def told(demo: Program) -> int:
    return demo.port("hub")


def test_the_demo_shows_this_machine_and_three_simulated_nodes_labelled_so(tmp_path: Path) -> None:
    with program(
        "demo", "--port=0", "--host=127.0.0.1", environment=environment(tmp_path / "none", library=False)
    ) as demo:
        nodes = nodes_when(
            told(demo),
            lambda nodes: online(4)(nodes) and any(node["report"]["status"] == "no_driver" for node in nodes),
        )
        simulated = [node for node in nodes if node["report"]["simulated"]]
        (own,) = [node for node in nodes if not node["report"]["simulated"]]
        assert [node["name"] for node in simulated] == ["simulated-1", "simulated-2", "simulated-3"]
        assert all("simulated" in gpu["name"] for node in simulated for gpu in node["report"]["gpus"])
        assert own["report"]["gpus"] == []
        assert own["report"]["error"]["message"]
        assert all(node["source"] == "push" for node in nodes)
        assert demo.end() == 0
        assert "Traceback" not in demo.said


def test_the_demo_finds_itself_wherever_it_listens(tmp_path: Path) -> None:
    nothing = environment(tmp_path / "none", library=False)
    with program("demo", "--port=0", "--host=127.0.0.2", "--nodes=1", environment=nothing) as demo:
        assert demo.wait_for(r"simulated-1: agent \S+ at 127\.0\.0\.\d connected")


def test_the_demo_shows_this_machines_real_gpus(tmp_path: Path) -> None:
    scenario = tmp_path / "scenario"
    datacentre(gpus=2).write(scenario)
    arguments = ("demo", "--port=0", "--host=127.0.0.1", "--nodes=1")
    with program(*arguments, environment=environment(scenario)) as demo:
        nodes = nodes_when(told(demo), lambda nodes: online(2)(nodes) and all(node["report"]["gpus"] for node in nodes))
        assert {node["report"]["simulated"] for node in nodes} == {True, False}
