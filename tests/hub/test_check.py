"""``gpumon check``, against real servers: what it finds, what it says, and how it ends."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gpumon.config import AgentSection, Config, DnsSection, NodeEntry
from gpumon.hub import check
from gpumon.terminal import width
from tests.dnsmasq import dnsmasq, needs_dnsmasq
from tests.hub.strangers import answer, silent, stranger
from tests.running import Site, program, running_agent, until

OLD = {"node_name": "old", "gpus": [{"id": "0:17:00.0", "name": "A100", "temperature": 40}]}
SPLIT = re.compile(r"\s{2,}")


async def found(config: Config, columns: int = 200) -> tuple[int, str]:
    """The exit status, and what was written."""
    said: list[str] = []
    status = await check.run(Path("config.json"), config, said.append, columns, color=False, as_json=False)
    return status, "".join(said)


async def as_json(config: Config) -> dict[str, Any]:
    said: list[str] = []
    await check.run(Path("config.json"), config, said.append, 80, color=False, as_json=True)
    whole = json.loads("".join(said))
    assert isinstance(whole, dict)
    return whole


def row(text: str, name: str) -> list[str]:
    return next(SPLIT.split(line) for line in text.splitlines() if line.startswith(f"{name} "))


async def sampled(agent: Site) -> None:
    async def is_there() -> bool:
        return "node" in await agent.get("/gpu-info")

    await until(is_there)


async def test_a_node_that_is_well_is_told_with_what_it_has() -> None:
    async with running_agent(AgentSection(name="a"), 3) as agent:
        await sampled(agent)
        nodes = [NodeEntry(name="n", host="localhost", port=agent.port, alias="机器学习服务器")]
        status, text = await found(Config(nodes=nodes))
        assert status == 0
        assert row(text, "n")[1:4] == ["机器学习服务器", f"localhost:{agent.port}", "127.0.0.1"]
        assert re.match(r"3 GPUs, simulated, agent [\d.]+, driver [\d.]+$", row(text, "n")[-1])
        assert text.endswith("The node is well.\n")
        (node,) = (await as_json(Config(nodes=nodes)))["nodes"]
        assert (node["is_well"], node["fault"], node["gpus"]) == (True, None, ["ok"] * 3)
        assert node["resolution"]["addresses"][0] == "127.0.0.1"
        assert abs(node["clock_offset_seconds"]) < 30


async def test_a_gpu_that_is_not_well_makes_its_node_so_and_is_named() -> None:
    async with running_agent(AgentSection(name="a"), "h200:4,fault=lost:2") as agent:
        await sampled(agent)
        status, text = await found(Config(nodes=[NodeEntry(name="n", host="127.0.0.1", port=agent.port)]))
        assert status == 1
        assert row(text, "n")[-1].startswith("degraded, 1 of 4 GPUs not well")
        assert "GPU 2: " in text


async def test_the_old_program_is_recognised_and_a_wrong_clock_is_told() -> None:
    late = {"node": "x", "sampled_at": "2020-01-01T00:00:00Z", "gpus": []}
    ahead = {"node": "x", "sampled_at": "2100-01-01T00:00:00Z", "gpus": []}
    async with (
        stranger(answer(json.dumps(OLD).encode())) as old,
        stranger(answer(json.dumps(late).encode())) as behind,
        stranger(answer(json.dumps(ahead).encode())) as before,
    ):
        ports = {"old": old, "behind": behind, "before": before}
        nodes = [NodeEntry(name=name, host="127.0.0.1", port=port) for name, port in ports.items()]
        status, text = await found(Config(nodes=nodes))
        assert status == 0
        assert row(text, "old")[-1] == "1 GPU, the Go program"
        assert re.search(r"clock \d+ days behind, or numbers so old", row(text, "behind")[-1])
        assert re.search(r"clock \d+ days ahead", row(text, "before")[-1])


async def test_each_fault_is_told_in_words_with_what_to_do_all_nodes_at_once() -> None:
    async with stranger(silent) as hangs, stranger(answer(b"<html>")) as web:
        ports = {"closed": 9, "hangs": hangs, "web": web}
        nodes = [NodeEntry(name=name, host="127.0.0.1", port=port) for name, port in ports.items()]
        nodes += [NodeEntry(name=f"hangs-{number}", host="127.0.0.1", port=hangs) for number in range(20)]
        nodes += [NodeEntry(name="unknown", host="nowhere.invalid")]
        status, text = await found(Config(nodes=nodes))  # 21 times 5 s, if it were one after the other
        assert status == 1
        assert row(text, "closed")[-1].startswith("refused")
        assert row(text, "unknown")[-1].startswith("name ")
        assert "start the agent there" in text
        assert "No address for nowhere.invalid (the system's resolver: " in text
        assert "Check that the port in the configuration is the agent's." in text
        assert text.endswith("24 of 24 nodes are not well.\n")


@pytest.mark.parametrize("columns", [30, 50, 80, 160])
async def test_no_line_is_wider_than_the_terminal(columns: int) -> None:
    nodes = [
        NodeEntry(name="节点" * 20, host="127.0.0.1", port=9, alias="别名" * 30),
        NodeEntry(name="n", host="a-long-name." * 10 + "invalid", port=9),
    ]
    _, text = await found(Config(nodes=nodes, dns=DnsSection(enabled=True, server="127.0.0.1:9")), columns)
    assert max(width(line) for line in text.splitlines()) <= columns


@needs_dnsmasq
async def test_the_name_server_is_named_and_whether_it_answers(tmp_path: Path) -> None:
    with dnsmasq(tmp_path, {"node.lab": "127.0.0.1"}) as server:
        dns = DnsSection(enabled=True, server=f"127.0.0.1:{server.port}")
        config = Config(nodes=[NodeEntry(name="n", host="node.lab", port=9)], dns=dns)
        _, text = await found(config)
        assert f"DNS server 127.0.0.1 port {server.port} answers." in text
        assert row(text, "n")[-2] == f"127.0.0.1 port {server.port}"
        server.kill()
        _, text = await found(config)
        assert f"DNS server 127.0.0.1 port {server.port} does not answer." in text
        assert (await as_json(config))["name_server"]["answers"] is False


async def test_a_file_without_nodes_is_well() -> None:
    assert (await found(Config()))[0] == 0


@pytest.fixture
def folder(tmp_path: Path) -> Callable[[object], Path]:
    def write(value: object) -> Path:
        (tmp_path / "config.json").write_text(json.dumps(value))
        return tmp_path

    return write


def test_every_fault_of_the_file_is_told_at_once(folder: Callable[[object], Path]) -> None:
    place = folder({"nodes": [{"name": "a", "host": "h", "port": 0}, {"name": "b"}], "dns": {"sever": ""}})
    with program("check", folder=place) as check_:
        assert check_.status() == 2
        assert all(part in check_.said for part in ("nodes[0].port", "nodes[1].host", "did you mean server?"))
        assert check_.wrote == ""


def test_without_a_file_it_says_so_and_how_safe_a_hub_without_is(tmp_path: Path) -> None:
    with program("check", folder=tmp_path) as check_:
        assert check_.status() == 0
        assert "--config names another" in " ".join(check_.wrote.split())
        assert "Whoever can reach the hub may look" in " ".join(check_.wrote.split())
    with program("check", "--json", folder=tmp_path) as check_:
        assert (check_.status(), json.loads(check_.wrote)["file"]) == (0, None)
    with program("check", "--config=other.json", folder=tmp_path) as check_:
        assert (check_.status(), "other.json" in check_.said) == (2, True)


def test_the_program_ends_with_1_where_a_node_is_not_well_and_writes_json(folder: Callable[[object], Path]) -> None:
    place = folder({"nodes": [{"name": "a", "host": "127.0.0.1", "port": 9}]})
    with program("check", "--json", folder=place) as check_:
        assert check_.status() == 1
        assert json.loads(check_.wrote)["nodes"][0]["fault"]["code"] == "refused"
        assert check_.said == ""


@pytest.mark.parametrize(
    ("environment", "arguments", "is_coloured"),
    [({}, (), False), ({"FORCE_COLOR": "1"}, (), True), ({"NO_COLOR": "1"}, ("--color=always",), True)],
)
def test_colours_come_where_they_are_wished(
    folder: Callable[[object], Path], environment: dict[str, str], arguments: tuple[str, ...], *, is_coloured: bool
) -> None:
    place = folder({"nodes": [{"name": "a", "host": "127.0.0.1", "port": 9}]})
    with program("check", *arguments, environment=environment, folder=place) as check_:
        assert check_.status() == 1
        assert ("\x1b[" in check_.wrote) is is_coloured
