import contextlib
import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpumon.config import PLACES, Config, NodeEntry, load, name_server, parse
from gpumon.errors import ConfigError

EXAMPLES = Path(__file__).parent.parent / "examples"

# The file of the program that gpumon replaces, word for word.
OLD_FILE = """
{
  "nodes": [
    {"name": "gpu-server-1", "host": "192.168.1.101", "port": 8081, "alias": "机器学习服务器"},
    {"name": "gpu-server-2", "host": "gpu-server.local", "port": 8081, "alias": "深度学习服务器"}
  ],
  "aggregator": {"port": 8080},
  "dns": {"server": "127.0.0.1:5353", "enabled": true}
}
"""


def faults(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse(text.encode())
    return list(caught.value.faults)


def test_the_old_programs_file_is_read_as_it_is() -> None:
    config = parse(OLD_FILE.encode())
    assert config.nodes == [
        NodeEntry(name="gpu-server-1", host="192.168.1.101", port=8081, alias="机器学习服务器"),
        NodeEntry(name="gpu-server-2", host="gpu-server.local", port=8081, alias="深度学习服务器"),
    ]
    assert config.hub.port == 8080
    assert config.dns.enabled
    assert name_server(config.dns.server) == ("127.0.0.1", 5353)


def test_what_the_file_leaves_out_has_its_default() -> None:
    assert parse(b"{}") == Config()
    config = parse(b'\xef\xbb\xbf{"nodes": [{"name": "a", "host": "b"}]}')
    assert (config.nodes[0].port, config.nodes[0].alias) == (8081, "")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"nodes": [{"name": "a",}]}', r"^line 1, column 2[45]: not JSON: "),
        ("", r"^line 1, column 1: not JSON: "),
        ("[]", r"^the file: \[\] is not allowed; allowed: an object$"),
        ('{"nods": []}', r"^nods: unknown key \(did you mean nodes\?\); allowed: nodes, hub, "),
        ('{"nodes": [{"name": "a", "host": "h", "colour": 1}]}', r"^nodes\[0\]\.colour: unknown key; allowed: name, "),
        ('{"nodes": {}}', r"^nodes: \{\} is not allowed; allowed: a list "),
        ('{"nodes": [{"host": "h"}]}', r"^nodes\[0\]\.name: missing"),
        ('{"nodes": [{"name": "a", "host": "h", "port": 70000}]}', r"^nodes\[0\]\.port: 70000 .*from 1 to 65535$"),
        ('{"nodes": [{"name": "a", "host": "h", "port": "x"}]}', r"^nodes\[0\]\.port: \"x\" .*from 1 to 65535$"),
        ('{"nodes": [{"name": "a", "host": "h", "port": true}]}', r"^nodes\[0\]\.port: true .*from 1 to 65535$"),
        ('{"nodes": [{"name": "a", "host": "http://h"}]}', r"^nodes\[0\]\.host: .*without scheme"),
        ('{"nodes": [{"name": "a", "host": "h:8081"}]}', r"^nodes\[0\]\.host: .*the port has a key of its own"),
        ('{"nodes": [{"name": "a/b", "host": "h"}]}', r"^nodes\[0\]\.name: .*without '/'"),
        ('{"nodes": [{"name": "a\\n", "host": "h"}]}', r"^nodes\[0\]\.name: .* control characters"),
        ('{"nodes": [{"name": "\\ud800", "host": "h"}]}', r"^nodes\[0\]\.name: .*ud800.* is not allowed"),
        ('{"nodes": [{"name": "..", "host": "h"}]}', r"^nodes\[0\]\.name: "),
        ('{"nodes": [{"name": "a", "host": "h", "alias": "\\ud800"}]}', r"^nodes\[0\]\.alias: "),
        ('{"nodes": [{"name": "a", "host": "h\\n"}]}', r"^nodes\[0\]\.host: "),
        ('{"nodes": [{"name": "a", "host": "h", "tags": "x"}]}', r"^nodes\[0\]\.tags: .*a list of at most 16 tags$"),
        ('{"nodes": [{"name": "a", "host": "h", "tags": ["x,y"]}]}', r"^nodes\[0\]\.tags\[0\]: .*without commas"),
        (
            '{"nodes": [{"name": "a", "host": "h", "kind": "dcgm"}]}',
            r'^nodes\[0\]\.kind: "dcgm" .*allowed: "gpumon", "gpustat", "dcgm-exporter", "nvidia-gpu-exporter", "nv',
        ),
        ('{"nodes": [{"name": "a", "host": "h", "path": "metrics"}]}', r"^nodes\[0\]\.path: .*such as /metrics"),
        ('{"nodes": [{"name": "a", "host": "h", "path": "//elsewhere/x"}]}', r"^nodes\[0\]\.path: "),
        ('{"nodes": [{"name": "a", "host": "h", "path": "/a b"}]}', r"^nodes\[0\]\.path: "),
        ('{"nodes": [{"name": "a", "host": "h", "path": "/a\\r\\nX: y"}]}', r"^nodes\[0\]\.path: "),
        ('{"agent": {"tags": ["x", ""]}}', r"^agent\.tags\[1\]: \"\" .*1 to 40 characters"),
        ('{"nodes": [{"name": "a", "host": "a..b"}]}', r"^nodes\[0\]\.host: "),
        ('{"hub": {"stale_after_seconds": 60}}', r"^hub\.stale_after_seconds: 60 .*at most hub\.offline_after_seconds"),
        (
            '{"nodes": [{"name": "a", "host": "h"}, {"name": "a", "host": "i"}]}',
            r"^nodes\[1\]\.name: \"a\" is the name of nodes\[0\] already",
        ),
        ('{"hub": {}, "aggregator": {}}', r"^aggregator: is the older name of hub"),
        ('{"hub": {"port": 1, "port": 2}}', r'^"port": this key stands twice'),
        (
            '{"hub": {"connections_per_address": 9}}',
            r"^hub\.connections_per_address: 9 .*a whole number from 10 to 100000$",
        ),
        ('{"hub": {"poll_interval_seconds": 0}}', r"^hub\.poll_interval_seconds: 0 .*from 0\.2 to 60$"),
        ('{"hub": {"poll_interval_seconds": NaN}}', r"^NaN: not a number of JSON"),
        ('{"hub": {"port": 1e400}}', r"^hub\.port: "),
        ('{"dns": {"enabled": true}}', r"^dns\.server: missing"),
        ('{"dns": {"server": "127.0.0.1:99999"}}', r"^dns\.server: .*such as 127\.0\.0\.1:5353"),
        ('{"agent": {"hub": ["ftp://x"]}}', r"^agent\.hub\[0\]: .*http://"),
    ],
)
def test_a_fault_names_the_place_the_value_and_what_is_allowed(text: str, expected: str) -> None:
    (fault, *_) = faults(text)
    assert re.search(expected, fault)
    assert "\n" not in fault


def test_what_python_would_choke_on_is_a_fault_too() -> None:
    assert faults("[" * 100_000)[0].startswith("nested too deeply")
    assert faults('{"hub": {"port": ' + "9" * 5000 + "}}")[0].startswith("not JSON that can be read")


def test_every_fault_is_told_at_once() -> None:
    found = faults('{"nodes": [{"name": 1, "host": 2}, {"port": 0}], "dns": 5, "hb": {}}')
    assert [fault.split(":")[0] for fault in found] == [
        "hb",
        "nodes[0].name",
        "nodes[0].host",
        "nodes[1].name",
        "nodes[1].host",
        "nodes[1].port",
        "dns",
    ]


def test_a_value_of_the_wrong_type_hides_no_fault_of_another_kind() -> None:
    nodes = [{"name": "z", "host": "h", "port": "x"}, {"name": "a", "host": "h"}, {"name": "a", "host": "h"}]
    found = faults(json.dumps({"nodes": nodes, "dns": {"enabled": True}}))
    assert [fault.split(":")[0] for fault in found] == ["nodes[0].port", "nodes[2].name", "dns.server"]
    found = faults(
        json.dumps(
            {
                "nodes": [{"name": "a", "host": "h:1", "port": 0}, {"name": "a"}],
                "aggregator": {"port": "x", "stale_after_seconds": 60},
                "dns": {"enabled": True, "server": 5},
                "agent": {"hub": [5, "ftp://x"]},
            }
        )
    )
    assert [fault.split(":")[0] for fault in found] == [
        "nodes[0].port",
        "nodes[1].host",
        "aggregator.port",
        "dns.server",
        "agent.hub[0]",
        "nodes[0].host",
        "nodes[1].name",
        "aggregator.stale_after_seconds",
        "agent.hub[1]",
    ]


def test_a_list_that_is_too_long_is_a_fault() -> None:
    (fault,) = faults(json.dumps({"nodes": [{"name": str(number), "host": "h"} for number in range(10_001)]}))
    assert fault == "nodes: 10001 are too many; allowed: a list of at most 10000 nodes"
    (fault,) = faults(json.dumps({"agent": {"hub": ["http://h"] * 17}}))
    assert fault.startswith("agent.hub: 17 are too many; ")


@pytest.mark.parametrize(("kind", "place"), PLACES.items())
def test_port_and_path_are_those_of_the_kind_unless_told(kind: str, place: tuple[int, str]) -> None:
    text = f'{{"nodes": [{{"name": "a", "host": "h", "kind": "{kind}"}}]}}'
    (node,) = parse(text.encode()).nodes
    assert (node.kind, node.port, node.path) == (kind, *place)
    (node,) = parse(text.replace('"host"', '"port": 1, "path": "/x?y=z", "host"').encode()).nodes
    assert (node.port, node.path) == (1, "/x?y=z")


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.json: cannot be read: No such file"):
        load(tmp_path / "nowhere.json")
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        load(tmp_path)
    latin = tmp_path / "latin.json"
    latin.write_bytes('{"nodes": "ü"}'.encode("latin-1"))
    with pytest.raises(ConfigError, match=r"latin\.json: byte 11: not UTF-8"):
        load(latin)


CONFIGURATIONS = sorted(set(EXAMPLES.glob("*.json")) - {EXAMPLES / "grafana-dashboard.json"})


@pytest.mark.parametrize("path", CONFIGURATIONS, ids=lambda path: path.name)
def test_the_examples_are_right(path: Path) -> None:
    load(path)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.sampled_from(["nodes", "hub", "dns"]), inner),
    max_leaves=20,
)


@given(JSON_VALUES)
def test_no_json_at_all_breaks_the_reader(value: Any) -> None:
    with contextlib.suppress(ConfigError):
        parse(json.dumps(value).encode())


@given(st.binary())
def test_no_bytes_at_all_break_the_reader(data: bytes) -> None:
    with contextlib.suppress(ConfigError):
        parse(data)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("127.0.0.1", ("127.0.0.1", 53)),
        ("127.0.0.1:5353", ("127.0.0.1", 5353)),
        ("::1", ("::1", 53)),
        ("[::1]:5353", ("::1", 5353)),
        ("dns.example", None),
        ("127.0.0.1:0", None),
        ("127.0.0.1:", None),
        ("127.0.0.1:٣", None),
    ],
)
def test_name_servers(text: str, expected: tuple[str, int] | None) -> None:
    assert name_server(text) == expected


def test_sleeping_gpus_are_left_alone_unless_the_file_says_otherwise() -> None:
    assert parse(b"{}").agent.wake_sleeping_gpus is False
    assert parse(b'{"agent": {"wake_sleeping_gpus": true}}').agent.wake_sleeping_gpus is True
    with pytest.raises(ConfigError, match=r"agent\.wake_sleeping_gpus.*true or false"):
        parse(b'{"agent": {"wake_sleeping_gpus": 1}}')
