import json

import pytest

from gpumon.errors import PollError
from gpumon.hub.fetch import read_answer

# What the Go program that gpumon replaces answers, with every way in which a value can be unreadable.
ANSWER = {
    "node_name": "gpu-server-1",
    "timestamp": "2026-05-01T20:00:00.123456789+08:00",
    "gpus": [
        {
            "id": "00000000:17:00.0",
            "name": "NVIDIA A100-SXM4-80GB",
            "utilization": 97.0,
            "memory_used": 71_000_000_000,
            "memory_total": 85_899_345_920,
            "temperature": 61,
            "power_usage": 312_500,
            "power_limit": 400_000,
            "processes": [
                {"pid": 11, "name": "small", "used": 1_000},
                {"pid": 12, "name": "large", "used": 70_000_000_000},
                {"pid": 13, "name": "unknown", "used": 18_446_744_073_709_551_615},
            ],
        },
        {
            "id": "00000000:65:00.0",
            "name": "NVIDIA A100-SXM4-80GB",
            "utilization": 0,
            "memory_used": 0,
            "memory_total": 85_899_345_920,
            "temperature": 0,
            "power_usage": 0,
            "power_limit": 400_000,
            "processes": None,
        },
        {
            "id": "00000000:CA:00.0",
            "name": "",
            "utilization": 0,
            "memory_used": 0,
            "memory_total": 0,
            "temperature": 0,
            "power_usage": 0,
            "power_limit": 0,
            "processes": [],
        },
    ],
}


def test_the_old_programs_answer_becomes_a_report() -> None:
    report = read_answer(json.dumps(ANSWER).encode())[0]
    assert (report.node, report.sampled_at, report.status) == ("gpu-server-1", "2026-05-01T12:00:00.123Z", "ok")
    gpu = report.gpus[0]
    assert (gpu.index, gpu.pci_bus_id, gpu.name) == (0, "00000000:17:00.0", "NVIDIA A100-SXM4-80GB")
    assert (gpu.utilization_percent, gpu.temperature_celsius) == (97.0, 61.0)
    assert (gpu.power_draw_watts, gpu.power_limit_watts) == (312.5, 400.0)
    assert (gpu.memory_used_bytes, gpu.memory_free_bytes) == (71_000_000_000, 14_899_345_920)
    assert gpu.processes is not None
    assert [(one.pid, one.memory_used_bytes) for one in gpu.processes] == [
        (12, 70_000_000_000),
        (11, 1_000),
        (13, None),
    ]
    assert gpu.unavailable["fan_speed_percent"] == gpu.unavailable["processes.user"] == "not_told"


def test_names_of_processes_are_shown_without_folders_and_secrets() -> None:
    told = {
        "/home/alice/private/env/bin/python3": "python3",
        "C:\\Users\\alice\\train.exe": "train.exe",
        "/opt/My App/run": None,  # or is it the program My, with arguments?
        "python3 --api-key s3cr3t-0123456789abcdef": "python3",
        "./hf_abcdefghijklmnopqrstuvwxyz0123456789": "***",
        "": None,
        "/": None,
    }
    processes = [{"pid": pid, "name": name, "used": 1000 - pid} for pid, name in enumerate(told)]
    answer = {"node_name": "n", "gpus": [{"id": "0:17:00.0", "processes": processes}]}
    (gpu,) = read_answer(json.dumps(answer).encode())[0].gpus
    assert gpu.processes is not None
    assert [one.name for one in gpu.processes] == list(told.values())


def test_an_idle_gpu_keeps_its_real_zeros_and_loses_the_impossible_ones() -> None:
    gpu = read_answer(json.dumps(ANSWER).encode())[0].gpus[1]
    assert (gpu.utilization_percent, gpu.memory_used_bytes) == (0.0, 0)
    assert (gpu.temperature_celsius, gpu.power_draw_watts) == (None, None)
    assert gpu.unavailable["temperature_celsius"] == gpu.unavailable["power_draw_watts"] == "no_data"


def test_a_gpu_of_zeros_alone_is_a_gpu_that_could_not_be_read() -> None:
    gpu = read_answer(json.dumps(ANSWER).encode())[0].gpus[2]
    assert gpu.pci_bus_id == "00000000:CA:00.0"
    assert (gpu.name, gpu.utilization_percent, gpu.memory_used_bytes, gpu.memory_total_bytes) == (None,) * 4
    assert gpu.processes == []


@pytest.mark.parametrize(
    ("timestamp", "expected"),
    [
        (1_777_636_800, "2026-05-01T12:00:00.000Z"),
        ("0001-01-01T00:00:00Z", None),
        ("soon", None),
        (1e300, None),
        (None, None),
    ],
)
def test_its_time_is_read_in_any_form(timestamp: object, expected: str | None) -> None:
    report = read_answer(json.dumps({"node_name": "n", "timestamp": timestamp, "gpus": []}).encode())[0]
    assert report.sampled_at == expected
    assert report.status == "no_gpus"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"<!doctype html><p>hello", "HTML"),
        (b"", "cannot be read: not JSON"),
        (b"[]", r"cannot be read: not as agreed: Expected `object`, got `array`"),
        (b"{}", r"missing required field `node`"),
        (b'{"node": "a", "gpus": [{"index": "zero"}]}', r"\$\.gpus\[0\]\.index"),
        (b'{"node": "a", "gpus": [{"index": 0, "utilization_percent": 101}]}', r"utilization_percent"),
        (b'{"node_name": 5}', r"\$\.node_name"),
        (b'{"node": "a", "x": ' + b"[" * 1_000_000 + b"]" * 1_000_000 + b"}", "nested too deeply"),
        (b'{"node": "\xff"}', "not JSON"),
        (b"OK", "not JSON"),
    ],
    ids=lambda value: value if isinstance(value, str) else repr(value[:30]),
)
def test_junk_is_refused_in_words(body: bytes, expected: str) -> None:
    with pytest.raises(PollError, match=expected) as caught:
        read_answer(body)[0]
    assert caught.value.answered
    assert "\n" not in caught.value.message


def test_a_stranger_who_tells_little_is_read() -> None:
    report = read_answer(b'{"node": "x", "gpus": [{"index": 0, "name": "A thing"}], "colour": "green"}')[0]
    assert report.gpus[0].utilization_percent is None
    assert report.sequence is None


def test_text_of_polled_nodes_is_cleaned_and_their_processes_are_counted() -> None:
    answer = {
        "node_name": "n",
        "gpus": [{"id": "0\x1b[31m", "name": "\u202eevil", "processes": [{"pid": 1, "name": "a\nb"}]}],
    }
    for ascii_only in (True, False):
        report, is_legacy = read_answer(json.dumps(answer, ensure_ascii=ascii_only).encode())
        assert is_legacy
        (gpu,) = report.gpus
        assert (gpu.pci_bus_id, gpu.name) == ("0\ufffd[31m", "\ufffdevil")
        assert gpu.processes is not None
        assert gpu.processes[0].name == "a\ufffdb"
    crowd = {
        "node_name": "n",
        "gpus": [{"id": str(at), "processes": [{"pid": pid} for pid in range(512)]} for at in range(4)],
    }
    with pytest.raises(PollError, match="2048 processes of one node"):
        read_answer(json.dumps(crowd).encode())
    report, _ = read_answer(b'{"node": "n", "hostname": "a\\u001bb"}')
    assert report.hostname == "a\ufffdb"
