import contextlib
import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpumon import wire
from gpumon.errors import WireError
from gpumon.model import Fault, Gpu, Node, Process, Report
from gpumon.timestamp import rfc3339, seconds
from gpumon.wire import Ack, Heartbeat, Hello, ReportFrame, Welcome

REPORT = Report(node="n", boot_id="b", sequence=1, gpus=[Gpu(index=0, processes=[Process(pid=1)])])
HELLO = Hello(agent_version="1", node="n", hostname="h", boot_id="b", interval_seconds=1)


@pytest.mark.parametrize(
    "message", [HELLO, ReportFrame(report=REPORT), Heartbeat()], ids=lambda one: type(one).__name__
)
def test_what_an_agent_says_is_understood(message: wire.FromAgent) -> None:
    assert wire.decode_from_agent(wire.encode(message)) == message


@pytest.mark.parametrize("message", [Welcome(hub_version="1"), Ack(sequence=5)], ids=["welcome", "ack"])
def test_what_a_hub_says_is_understood(message: wire.FromHub) -> None:
    assert wire.decode_from_hub(wire.encode(message)) == message


@pytest.mark.parametrize("late", [True, False])
def test_a_frame_around_encoded_bytes_is_the_frame_around_the_report(late: bool) -> None:
    frame = wire.report_frame(wire.encode(REPORT), late=late)
    assert wire.decode_from_agent(frame) == ReportFrame(report=REPORT, late=late)


def test_unknown_keys_are_ignored_so_that_newer_agents_are_understood() -> None:
    newer = json.loads(wire.encode(REPORT)) | {"colour": "green"}
    newer["gpus"][0]["spin"] = "up"
    assert wire.decode_report(json.dumps(newer).encode()) == REPORT


def test_a_field_that_nobody_tells_is_null_on_the_wire() -> None:
    gpu = json.loads(wire.encode(Gpu(index=0)))
    assert gpu["fan_speed_percent"] is None
    assert set(gpu) == set(Gpu.__struct_fields__)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"node": "n", "gpus": [{"index": 0, "memory_used_bytes": 1e400}]}', "memory_used_bytes"),
        ('{"node": "n", "gpus": [{"index": 0, "memory_used_bytes": 123456789012345678901234567890}]}', "memory_used"),
        ('{"node": "n", "gpus": [{"index": 0, "power_draw_watts": NaN}]}', "not JSON"),
        ('{"node": "n", "gpus": [{"index": 0, "unavailable": {"x": "whatever"}}]}', "unavailable"),
        ('{"node": "n", "status": "fine"}', r"\$\.status"),
        ('{"node": "n", "hostname": "' + "x" * 300 + '"}', "hostname"),
        ('{"node": "\\ud800"}', "not JSON"),
        ('{"x": ' + "[" * 100_000, "nested too deeply|not JSON"),
    ],
    ids=range(8),
)
def test_what_is_out_of_bounds_is_refused_and_named(text: str, expected: str) -> None:
    with pytest.raises(WireError, match=expected):
        wire.decode_report(text.encode())


@given(st.binary() | st.text())
def test_no_bytes_at_all_break_the_decoders(text: bytes | str) -> None:
    data = text if isinstance(text, bytes) else text.encode()
    for decode in (wire.decode_from_agent, wire.decode_from_hub, wire.decode_report):
        with contextlib.suppress(WireError):
            decode(data)


@given(st.from_type(Fault) | st.builds(Process, pid=st.integers(0, 2**53), name=st.text(max_size=256) | st.none()))
def test_whatever_text_is_accepted_can_be_told_on(value: msgspec.Struct) -> None:
    with contextlib.suppress(UnicodeEncodeError):  # a lone surrogate is no text: no decoder lets it in
        json.loads(wire.encode(value))


def test_every_close_code_is_in_the_table_of_the_module() -> None:
    assert wire.__doc__ is not None
    for code in wire.Close:
        assert f"{code.value}  :attr:`{code.name}`" in wire.__doc__
    assert set(wire.Close) >= wire.SLOW_RETRY


@given(st.floats(0, 4e9))
def test_moments_survive_the_wire_to_the_millisecond(moment: float) -> None:
    text = rfc3339(moment)
    assert len(text) == 24
    assert -0.000_001 <= moment - seconds(text) < 0.001_1


def test_a_node_has_the_fields_of_the_contract_and_ours() -> None:
    contract = {
        *("name", "alias", "host", "port", "address", "configured", "status", "status_since", "last_seen_at"),
        *("source", "error", "clock_offset_seconds", "report"),
    }
    ours = {"agent_id", "flapping", "verdict", "evidence", "resolution", "reports_late", "reports_lost", "idle_since"}
    ours |= {"tags", "kind"}
    assert set(Node.__struct_fields__) == contract | ours


def test_the_newest_protocol_that_both_sides_speak_is_chosen() -> None:
    def common(newest: int, oldest: int) -> int | None:
        hello = {"agent_version": "0", "node": "n", "hostname": "h", "boot_id": "b", "interval_seconds": 1}
        return wire.common_protocol(
            msgspec.convert({**hello, "protocol": newest, "oldest_protocol": oldest}, wire.Hello)
        )

    assert common(wire.PROTOCOL, wire.OLDEST_PROTOCOL) == wire.PROTOCOL
    assert common(wire.PROTOCOL + 3, wire.OLDEST_PROTOCOL) == wire.PROTOCOL
    assert common(wire.PROTOCOL + 3, wire.PROTOCOL + 1) is None
    assert common(wire.OLDEST_PROTOCOL - 1, wire.OLDEST_PROTOCOL - 1) is None
