"""Nodes of other kinds: what the real programs write, recorded (tests/hub/recorded/record.py says which are)."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import json as msgspec_json

from gpumon.config import Config, HubSection, NodeEntry
from gpumon.errors import WireError
from gpumon.hub import check, dcgm, gpustat, nvitop, smi
from gpumon.hub.core import Hub
from gpumon.hub.exposition import MAX_LINE, MAX_SERIES, series
from gpumon.hub.foreign import NULLABLE
from gpumon.hub.kinds import READERS, recognised
from gpumon.model import Fault, Gpu, Kind, Node, Report
from gpumon.wire import decode_report, encode
from tests.fakenvml import GIB, Process, consumer, environment
from tests.hub.clocks import SteppedClock
from tests.hub.recorded.record import SECRET
from tests.hub.strangers import answer, pages, stranger
from tests.running import running_hub

RECORDED = Path(__file__).parent / "recorded"
H100 = "GPU-8c1f0000-0000-4000-8000-000000000000"
RTX = "GPU-40900000-0000-4000-8000-000000000000"
FILES: list[tuple[str, Kind]] = [
    ("gpustat.json", "gpustat"),
    ("gpustat-lost.json", "gpustat"),
    ("nvitop.txt", "nvitop-exporter"),
    ("nvitop-mig.txt", "nvitop-exporter"),
    ("dcgm.txt", "dcgm-exporter"),
    ("dcgm-mig.txt", "dcgm-exporter"),
    ("nvidia_gpu_exporter.txt", "nvidia-gpu-exporter"),
    ("nvidia_gpu_exporter-1.txt", "nvidia-gpu-exporter"),
]
of_each = pytest.mark.parametrize(("file", "kind"), FILES, ids=[file for file, _ in FILES])


def body(file: str) -> bytes:
    return (RECORDED / file).read_bytes()


def read(file: str) -> Report:
    return READERS[dict(FILES)[file]](body(file), "n")


@of_each
def test_each_is_known_by_its_looks_and_within_the_bounds_of_a_report(file: str, kind: Kind) -> None:
    assert recognised(body(file)) == kind
    report = READERS[kind](body(file), "n")
    assert report.node == "n"
    assert decode_report(encode(report)) == report  # which is a decoder that refuses what lies outside
    assert report.gpus


@of_each
def test_every_null_has_its_reason_and_no_value_has_one(file: str, kind: Kind) -> None:
    for gpu in READERS[kind](body(file), "n").gpus:
        for name in NULLABLE:
            assert (getattr(gpu, name) is None) == (name in gpu.unavailable), name
        if gpu.processes is not None:
            for name in ("started_at", "container", "job"):
                assert gpu.unavailable[f"processes.{name}"] == "not_told"


@of_each
def test_secrets_and_folders_of_a_command_line_stay_where_they_are(file: str, kind: Kind) -> None:
    told = encode(READERS[kind](body(file), "n"))
    assert SECRET.encode() not in told
    assert b"/home" not in told
    assert b"/tmp" not in told


@pytest.mark.parametrize(
    ("title", "name"),
    [
        ("python train.py hunter2", "python"),
        ("vllm: worker hunter2", "vllm"),
        ("/usr/bin/python train.py hunter2", "python"),
        ("/usr/bin/python /home/hunter2", None),
        ("[Insufficient Permissions]", None),
    ],
)
def test_a_title_that_a_process_gave_itself_is_told_no_further_than_its_program(title: str, name: str | None) -> None:
    # Its title is padded with zeros to the length of its arguments; psutil tells these as empty ones.
    process = {"pid": 1, "command": title, "full_command": [title, "", ""]}
    page = {"query_time": "now", "gpus": [{"index": 0, "processes": [process]}]}
    (gpu,) = gpustat.read(json.dumps(page).encode(), "n").gpus
    assert gpu.processes is not None
    assert gpu.processes[0].name == name
    assert "hunter2" not in (gpu.processes[0].command or "")


def test_gpustat_as_it_is() -> None:
    report = read("gpustat.json")
    assert (report.status, report.driver_version, report.sampled_at) == ("ok", "580.95.05", None)
    first, second = report.gpus
    assert (first.uuid, first.name) == (H100, "NVIDIA H100 80GB HBM3")
    assert (first.utilization_percent, first.temperature_celsius) == (90, 50)
    assert (first.memory_used_bytes, first.memory_total_bytes) == (20 * GIB, 80 * GIB)
    assert (first.power_draw_watts, first.power_limit_watts, second.fan_speed_percent) == (512, 700, 30)
    assert (first.unavailable["fan_speed_percent"], first.unavailable["sm_clock_megahertz"]) == ("no_data", "not_told")
    assert first.processes is not None
    (process,) = first.processes
    assert (process.name, process.command, process.user) == ("sh", "sh train.sh", "root")
    assert process.memory_used_bytes == 2 * GIB
    assert second.processes == []


def test_a_gpu_that_gpustat_calls_lost_is_lost_and_the_other_one_is_well() -> None:
    report = read("gpustat-lost.json")
    first, second = report.gpus
    assert (report.status, first.status, second.status) == ("degraded", "ok", "lost")
    assert second.error is not None
    assert (second.index, second.name, second.unavailable["name"]) == (1, None, "lost")
    assert first.unavailable["sm_clock_megahertz"] == "not_told"


def test_nvitop_exporter_as_it_is() -> None:
    report = read("nvitop.txt")
    assert (report.hostname, report.driver_version, report.cuda_version) == ("node7", "580.95.05", "13.0")
    first, second = report.gpus
    assert (first.uuid, second.uuid) == (H100, RTX)
    assert (first.memory_used_bytes, first.memory_free_bytes) == (20 * GIB, 80 * GIB - 20 * GIB - GIB // 2)
    assert (first.power_draw_watts, first.sm_clock_megahertz, second.fan_speed_percent) == (512.345, 1980, 30)
    assert first.unavailable["fan_speed_percent"] == "no_data"
    assert first.processes is not None
    (process,) = first.processes
    assert (process.name, process.command, process.user, process.utilization_percent) == (
        "sh",
        "sh train.sh",
        "root",
        0,
    )
    host = report.host
    assert host is not None
    assert host.memory_total_bytes is not None
    assert host.memory_available_bytes is not None
    assert 0 < host.memory_available_bytes < host.memory_total_bytes
    assert host.uptime_seconds
    assert host.disk_total_bytes


def test_nvitop_exporters_slices_belong_to_their_gpu() -> None:
    (gpu,) = read("nvitop-mig.txt").gpus
    assert (gpu.mig_enabled, gpu.utilization_percent) == (True, None)
    assert gpu.mig_devices is not None
    first, second = gpu.mig_devices
    assert (first.profile, first.memory_total_bytes, second.processes) == ("1g.10gb", 10 * GIB, [])
    assert first.processes is not None
    assert [one.command for one in first.processes] == ["sh train.sh"]


def test_dcgm_exporter_in_its_units_and_without_a_word_on_processes() -> None:
    report = read("dcgm.txt")
    assert (report.hostname, report.driver_version) == ("node8", "580.95.05")
    first, second = report.gpus
    assert (first.uuid, first.pci_bus_id, first.index, second.index) == (H100, "00000000:18:00.0", 0, 1)
    assert first.memory_total_bytes == 80 * GIB  # used, free and reserved
    assert (first.energy_joules_total, first.power_draw_watts) == (123456.789, 512.345)
    assert (first.processes, first.unavailable["processes"]) == (None, "not_told")  # which is not "nobody"
    assert first.unavailable["remapped_rows"] == "not_told"  # of four figures one is not in the page


def test_dcgm_exporters_slices_have_memory_of_their_own_and_the_boards_temperature() -> None:
    (gpu,) = read("dcgm-mig.txt").gpus
    assert (gpu.mig_enabled, gpu.temperature_celsius, gpu.memory_used_bytes) == (True, 50, None)
    assert gpu.mig_devices is not None
    assert [(one.gpu_instance_id, one.profile) for one in gpu.mig_devices] == [(7, "1g.10gb"), (8, "1g.10gb")]
    assert gpu.mig_devices[0].memory_used_bytes == 268 * 2**20


def test_what_dcgm_has_no_value_for_is_null() -> None:
    page = b"""DCGM_FI_DEV_GPU_UTIL{gpu="0", UUID="GPU-604ac76c"} 9223372036854775794
DCGM_FI_DEV_MEMORY_TEMP{gpu="0", UUID="GPU-604ac76c"} 2147483634
DCGM_FI_DEV_POWER_USAGE{gpu="0", UUID="GPU-604ac76c"} 140737488355331.000000
DCGM_FI_DEV_GPU_TEMP{gpu="0", UUID="GPU-604ac76c"} 2147483632
"""
    (gpu,) = dcgm.read(page, "n").gpus
    assert gpu.unavailable["utilization_percent"] == "no_data"
    assert gpu.unavailable["memory_temperature_celsius"] == "unsupported"
    assert gpu.unavailable["power_draw_watts"] == "denied"
    assert gpu.unavailable["temperature_celsius"] == "no_data"


def test_nvidia_gpu_exporter_in_base_units_and_with_the_uuids_of_the_driver() -> None:
    report = read("nvidia_gpu_exporter.txt")
    assert (report.status, report.sampled_at) == ("ok", "2026-05-01T12:00:00.000Z")
    first, second = report.gpus
    assert (first.uuid, second.uuid) == (H100, RTX)
    assert (first.utilization_percent, first.sm_clock_megahertz, second.fan_speed_percent) == (90, 1980, 30)
    assert (first.throttle_reasons, first.performance_state, first.compute_mode) == (["sw_power_cap"], "P0", "default")
    assert second.unavailable["ecc_uncorrected_total"] == "no_data"
    assert first.processes is not None
    assert [(one.name, one.memory_used_bytes) for one in first.processes] == [("python3", 2 * GIB), ("gpu_burn", None)]
    assert second.processes == []


def test_version_1_of_nvidia_gpu_exporter_tells_an_index_elsewhere_and_words_by_the_number_in_them() -> None:
    report = read("nvidia_gpu_exporter-1.txt")
    assert (report.status, report.driver_version, report.sampled_at) == ("ok", "580.95.05", None)
    first, second = report.gpus
    assert [(gpu.index, gpu.uuid) for gpu in report.gpus] == [(0, H100), (1, RTX)]  # its lines have the other order
    assert (first.compute_mode, first.throttle_reasons) == ("exclusive_process", ["sw_power_cap"])
    assert (first.memory_total_bytes, first.power_draw_watts) == (81559 * 2**20, 512.34)
    assert (first.mig_enabled, first.mig_devices, second.mig_enabled) == (False, [], None)
    assert first.remapped_rows is not None
    assert (first.remapped_rows.pending, first.remapped_rows.failure) == (True, False)
    # "Drain P2P" is 2 there, which is "Node Reboot" in version 2: nobody shall reboot for that.
    assert b'gpu_recovery_action{uuid="8c1f0000-0000-4000-8000-000000000000"} 2' in body("nvidia_gpu_exporter-1.txt")
    assert (first.recovery_action, first.unavailable["recovery_action"]) == (None, "not_told")
    for name in ("fan_speed_percent", "temperature_celsius", "power_draw_average_watts", "power_draw_instant_watts"):
        assert sum(name in gpu.unavailable for gpu in report.gpus) == (name != "temperature_celsius"), name


def test_nvidia_gpu_exporter_over_nvml_tells_slices_by_the_uuids_of_the_driver() -> None:
    of_instance = 'uuid="8c1f",gpu_instance_id="7"'
    page = f"""nvidia_smi_mig_mode_current{{uuid="8c1f"}} 1
nvidia_smi_mig_info{{{of_instance},compute_instance_id="0",mig_uuid="mig-5ea1",profile="1c.2g.20gb"}} 1
nvidia_smi_mig_info{{{of_instance},compute_instance_id="1",mig_uuid="mig-5ea2",profile="1c.2g.20gb"}} 1
nvidia_smi_mig_info{{uuid="8c1f",gpu_instance_id="9",compute_instance_id="0",mig_uuid="mig-5ea3",profile=""}} 1
nvidia_smi_mig_memory_total_bytes{{{of_instance}}} 2.1e+10
nvidia_smi_mig_memory_used_bytes{{{of_instance}}} 1e+09
nvidia_smi_mig_memory_free_bytes{{{of_instance}}} 2e+10
nvidia_smi_mig_memory_reserved_bytes{{{of_instance}}} 0
"""
    (gpu,) = smi.read(page.encode(), "n").gpus
    assert gpu.mig_devices is not None
    assert (gpu.uuid, gpu.mig_enabled) == ("GPU-8c1f", True)
    assert [(one.uuid, one.profile, one.gpu_instance_id, one.compute_instance_id) for one in gpu.mig_devices] == [
        ("MIG-5ea1", "1c.2g.20gb", 7, 0),
        ("MIG-5ea2", "1c.2g.20gb", 7, 1),
        ("MIG-5ea3", None, 9, 0),
    ]
    assert [one.memory_total_bytes for one in gpu.mig_devices] == [21_000_000_000, 21_000_000_000, None]
    assert gpu.mig_devices[1].memory_free_bytes == 20_000_000_000
    with pytest.raises(WireError, match="more than 64 MIG devices"):
        smi.read("".join(f'nvidia_smi_mig_info{{uuid="a",mig_uuid="{n}"}} 1\n' for n in range(65)).encode(), "n")


def test_slices_that_nvidia_smi_does_not_tell_are_not_none() -> None:
    (gpu,) = smi.read(b'nvidia_smi_mig_mode_current{uuid="8c1f"} 1\n', "n").gpus
    assert (gpu.mig_enabled, gpu.mig_devices) == (True, None)


def test_nvidia_gpu_exporter_without_processes_does_not_say_that_there_are_none() -> None:
    page = b"\n".join(line for line in body("nvidia_gpu_exporter.txt").split(b"\n") if b"compute_app" not in line)
    for gpu in smi.read(page, "n").gpus:
        assert (gpu.processes, gpu.unavailable["processes"]) == (None, "not_told")


def test_an_exporter_that_cannot_read_its_gpus_is_a_node_that_is_not_well() -> None:
    page = b"nvidia_smi_last_collect_success 0\nnvidia_smi_command_exit_code 9\n"
    report = smi.read(page, "n")
    assert report.status == "error"
    assert report.error is not None
    assert "nvidia-smi ended with status 9" in report.error.message
    young = smi.read(b"nvidia_smi_failed_scrapes_total 0\nnvidia_smi_last_collect_success 0\n", "n")
    assert young.error is not None
    assert "(it has not tried yet)" in young.error.message


METRIC = "DCGM_FI_DEV_GPU_TEMP"


def of_dcgm(*values: object) -> list[Gpu]:
    lines = (f'{METRIC}{{gpu="{place}",UUID="GPU-{place}"}} {value}\n' for place, value in enumerate(values))
    return dcgm.read("".join(lines).encode(), "n").gpus


def test_numbers_that_make_no_sense_are_null_and_the_others_stand() -> None:
    gpus = of_dcgm("NaN", "+Inf", "-Inf", "-300", "1e308", "4.5e1", "31")
    assert [gpu.temperature_celsius for gpu in gpus] == [None, None, None, None, None, 45, 31]
    reasons = [gpu.unavailable.get("temperature_celsius") for gpu in gpus]
    assert reasons == ["no_data", "error", "error", "error", "error", None, None]


def test_a_gpu_that_is_told_twice_is_one_and_the_last_word_counts() -> None:
    page = f'{METRIC}{{gpu="0",UUID="a"}} 1\n{METRIC}{{gpu="1",UUID="a"}} 2\n{METRIC}{{gpu="0",UUID="b"}} 3\n'
    gpus = dcgm.read(page.encode(), "n").gpus
    assert [(gpu.index, gpu.uuid, gpu.temperature_celsius) for gpu in gpus] == [(0, "a", 2), (1, "b", 3)]


def test_gpus_of_one_index_or_of_none_get_an_index_of_their_own() -> None:
    page = "".join(f"{METRIC}{{{labels}}} 1\n" for labels in ('UUID="n"', 'gpu="1",UUID="b"', 'gpu="1",UUID="c"'))
    gpus = dcgm.read(f'{page}{METRIC}{{gpu="0",UUID="a"}} 1\n'.encode(), "n").gpus
    assert [(gpu.index, gpu.uuid) for gpu in gpus] == [(0, "a"), (1, "b"), (2, "n"), (3, "c")]


def test_what_dcgm_exporter_tells_of_no_gpu_is_no_gpu() -> None:
    of_a_switch = f'{METRIC}{{nvswitch="nvswitch0",Hostname="node8"}} 40\n'
    (gpu,) = dcgm.read(f'{of_a_switch}{METRIC}{{gpu="3"}} 50\n'.encode(), "n").gpus
    assert (gpu.index, gpu.temperature_celsius) == (3, 50)
    with pytest.raises(WireError, match="none says of which GPU it is"):
        dcgm.read(of_a_switch.encode(), "n")


@pytest.mark.parametrize("name", ["DCGM_FI_DEV_CLOCKS_EVENT_REASONS", "DCGM_FI_DEV_CLOCK_THROTTLE_REASONS"])
def test_dcgm_exporter_tells_reasons_for_throttling_by_their_bits(name: str) -> None:
    bits = {
        0: 0x44,
        1: 0,
        2: 0x100,
        3: 2**63 - 16,
        4: 2**31 - 16,
    }  # the third one's is of a display, which we have no word for
    page = "".join(f'{name}{{gpu="{gpu}",UUID="GPU-{gpu}"}} {value}\n' for gpu, value in bits.items())
    gpus = dcgm.read(page.encode(), "n").gpus
    assert [gpu.throttle_reasons for gpu in gpus] == [["sw_power_cap", "hw_thermal_slowdown"], [], [], None, None]


@pytest.mark.parametrize(
    ("read_it", "page", "expected"),
    [
        (dcgm.read, b"", "none of the metrics of dcgm-exporter"),
        (smi.read, b"node_load1 0.5\n", "none of the metrics of nvidia_gpu_exporter"),
        (nvitop.read, b"node_load1 0.5\n", "none of the metrics of nvitop-exporter"),
        (dcgm.read, b"\xff", "byte 0 is not UTF-8"),
        (dcgm.read, b'DCGM_FI_DEV_GPU_TEMP{gpu="0} 1', "line 1 is not in Prometheus' text format"),
        (dcgm.read, b"\nDCGM_FI_DEV_GPU_TEMP{} one", "line 2 is not"),
        (dcgm.read, b"DCGM_FI_DEV_GPU_TEMP{", "line 1 is not"),
        (dcgm.read, b'DCGM_FI_DEV_GPU_TEMP{gpu="0",gpu="1"} 1', "line 1 is not"),
        (dcgm.read, b"DCGM_FI_DEV_GPU_TEMP " + b"9" * 4000, "line 1 is not"),
        (gpustat.read, b"{}", "missing required field"),
        (gpustat.read, b'{"query_time": "x", "gpus": [{"index": "zero"}]}', r"gpus\[0\]\.index"),
        (gpustat.read, b"[" * 100_000, "nested too deeply|not as agreed"),
        (gpustat.read, b'{"query_time": "x", "gpus": [' + b'{"index": 0},' * 200, "not JSON|not as agreed"),
    ],
)
def test_junk_is_refused_in_words(read_it: Callable[[bytes, str], Report], page: bytes, expected: str) -> None:
    with pytest.raises(WireError, match=expected) as caught:
        read_it(page, "n")
    assert len(str(caught.value)) < 400


def test_more_than_a_node_has_is_refused() -> None:
    with pytest.raises(WireError, match="more than 128 GPUs"):
        of_dcgm(*range(129))
    with pytest.raises(WireError, match="more than 64 MIG devices"):
        dcgm.read(
            b"".join(b'DCGM_FI_DEV_FB_USED{gpu="0",UUID="a",GPU_I_ID="%d"} 1\n' % place for place in range(65)), "n"
        )
    with pytest.raises(WireError, match=f"more than {MAX_SERIES}"):
        series(b"a 1\n" * (MAX_SERIES + 1), {"a"})
    assert len(series(b"b 1\n" * (MAX_SERIES + 1) + b"a 1\n", {"a"})) == 1  # what nobody wants is not counted


def test_a_line_that_is_too_long_is_left_out_and_the_rest_is_read() -> None:
    page = f'a{{l="{"x" * MAX_LINE}"}} 1\na{{l="short"}} 2\n'
    assert [one.value for one in series(page.encode(), {"a"})] == [2]


def test_labels_that_stand_in_several_lines_are_those_of_each() -> None:
    page = b'a{l="x}",m="1"} 1\nb{l="x}",m="1"} 2 1700000000000\na{m="1",l="x}"} 3\na{} 4\na 5\nb{l="y"} 6\n'
    found = series(page, {"a", "b"})
    told = [(one.name, one.labels, one.value) for one in found]
    both = {"l": "x}", "m": "1"}
    assert told == [("a", both, 1), ("b", both, 2), ("a", both, 3), ("a", {}, 4), ("a", {}, 5), ("b", {"l": "y"}, 6)]
    with pytest.raises(WireError, match="line 2 is not"):
        series(b'a{l="x"} 1\na{l="x"} one\n', {"a"})


def test_labels_are_fit_to_be_shown() -> None:
    page = f'{METRIC}{{gpu="0",UUID="\x1b[31mred",modelName="a\\nb\u202e"}} 1\n'
    (gpu,) = dcgm.read(page.encode(), "n").gpus
    assert (gpu.uuid, gpu.name) == ("\ufffd[31mred", "a\ufffdb\ufffd")


def test_of_too_many_processes_the_largest_are_told_and_the_others_counted() -> None:
    many = [{"pid": pid, "gpu_memory_usage": pid} for pid in range(600)]
    report = gpustat.read(json.dumps({"query_time": "x", "gpus": [{"index": 0, "processes": many}]}).encode(), "n")
    (gpu,) = report.gpus
    assert gpu.processes is not None
    assert (len(gpu.processes), gpu.processes[0].pid, gpu.processes_truncated) == (512, 599, 88)


LINES = [line for file, _ in FILES if file.endswith(".txt") for line in body(file).split(b"\n")]


@given(
    st.lists(st.sampled_from(LINES), max_size=30),
    st.integers(0, 10_000),
    st.binary(max_size=12) | st.sampled_from([b'"', b"}", b"{", b"\\", b",", b"=", b"NaN", b" 1e999", b"\r", b"\0"]),
)
@settings(max_examples=300)
def test_a_page_that_was_spoilt_is_read_or_refused(lines: list[bytes], place: int, noise: bytes) -> None:
    page = b"\n".join(lines)
    place = place % (len(page) + 1)
    page = page[:place] + noise + page[place:]
    for read_it in (dcgm.read, smi.read, nvitop.read):
        try:
            report = read_it(page, "n")
        except WireError:
            continue
        assert decode_report(encode(report)) == report


KEYS = sorted(set(re.findall(r'"([\w.]+)":', body("gpustat.json").decode())))
VALUES = st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=9)


@given(VALUES | st.lists(VALUES, max_size=3), st.sampled_from(KEYS))
@settings(max_examples=200)
def test_an_answer_that_was_spoilt_is_read_or_refused(value: object, key: str) -> None:
    whole = json.loads(body("gpustat.json"))
    for place in (whole, whole["gpus"][0], whole["gpus"][0]["processes"][0]):
        if key in place:
            place[key] = value
    try:
        report = gpustat.read(msgspec_json.encode(whole), "n")
    except WireError:
        return
    assert decode_report(encode(report)) == report


def test_the_real_gpustat_over_the_fake_driver(tmp_path: Path) -> None:
    scenario, file = consumer(1), tmp_path / "scenario"
    scenario.gpus[0].processes = [Process(os.getpid(), GIB)]
    scenario.write(file)
    found = subprocess.run(
        [sys.executable, "-m", "gpustat", "--json"],
        env={**os.environ, **environment(file)},
        capture_output=True,
        check=True,
    )
    assert recognised(found.stdout) == "gpustat"
    (gpu,) = gpustat.read(found.stdout, "n").gpus
    assert (gpu.uuid, gpu.fan_speed_percent, gpu.memory_used_bytes) == (RTX, 30, GIB)
    assert gpu.processes is not None
    assert [(one.pid, one.memory_used_bytes) for one in gpu.processes] == [(os.getpid(), GIB)]


# ---- a hub that asks them ----


@of_each
async def test_a_hub_asks_each_at_its_path_and_shows_what_it_is_asked_through(file: str, kind: Kind) -> None:
    asked: list[str] = []
    async with stranger(pages({"/there/it?is=1": body(file)}, asked)) as port:
        entry = NodeEntry(name="n", host="127.0.0.1", port=port, kind=kind, path="/there/it?is=1")
        async with running_hub(Config(nodes=[entry], hub=HubSection(poll_interval_seconds=0.2))) as hub:
            node = await hub.node_when("n", lambda node: node["report"])
            assert (node["kind"], node["source"], node["error"]) == (kind, "poll", None)
            assert node["report"]["gpus"][0]["uuid"] == H100
            assert asked[0].startswith("GET /there/it?is=1 HTTP/1.1\r\n")
            assert "openmetrics" not in asked[0]


POLLED = {
    "exporter_not_running": (Fault(code="refused", message="No."), "no dcgm-exporter runs there"),
    "exporter_hangs": (Fault(code="no_answer", message="No."), "dcgm-exporter hangs"),
    "wrong_kind": (Fault(code="bad_answer", message="It is HTML."), "is no dcgm-exporter. It is HTML."),
    "host_unreachable": (Fault(code="unreachable", message="No."), "does not answer"),
}


@pytest.mark.parametrize("code", POLLED)
def test_what_is_wrong_is_said_of_its_program_and_not_of_an_agent(code: str) -> None:
    fault, words = POLLED[code]
    hub = Hub([NodeEntry(name="n", host="10.0.0.1", kind="dcgm-exporter")], clock=SteppedClock())
    member = hub.fleet.admit("n", None, None)
    hub.fault(member, fault)
    verdict = msgspec_json.decode(hub.fleet.encoded("n"), type=Node).verdict
    assert verdict is not None
    assert verdict.code == code
    assert words in verdict.message
    assert "agent" not in verdict.message


def test_an_exporter_that_is_stuck_is_not_only_a_wrong_clock() -> None:
    clock = SteppedClock()
    hub = Hub([NodeEntry(name="n", host="10.0.0.1", kind="nvidia-gpu-exporter")], clock=clock)
    for _ in range(10):
        hub.record(hub.fleet.admit("n", None, None), read("nvidia_gpu_exporter.txt"), "poll")
        clock.advance(1)
    verdict = msgspec_json.decode(hub.fleet.encoded("n"), type=Node).verdict
    assert verdict is not None
    assert "or nvidia-gpu-exporter has not read its GPUs for so long" in verdict.message


def test_a_node_may_become_one_of_another_kind_and_keeps_what_is_known_of_it() -> None:
    entry = NodeEntry(name="n", host="10.0.0.1", port=9400, kind="dcgm-exporter")
    hub = Hub([entry], clock=SteppedClock())
    hub.record(hub.fleet.admit("n", None, None), read("dcgm.txt"), "poll")
    hub.reconfigure(Config(nodes=[NodeEntry(name="n", host="10.0.0.1", port=9400)]))
    node = msgspec_json.decode(hub.fleet.encoded("n"), type=Node)
    assert node.kind == "gpumon"
    assert node.report == read("dcgm.txt")


async def found(*entries: NodeEntry) -> tuple[int, str]:
    said: list[str] = []
    config = Config(nodes=list(entries))
    status = await check.run(Path("config.json"), config, said.append, 160, color=False, as_json=False)
    return status, "".join(said)


async def test_check_says_what_it_found_and_which_kind_a_node_seems_to_be() -> None:
    async with stranger(answer(body("dcgm.txt"))) as port:
        status, text = await found(NodeEntry(name="right", host="127.0.0.1", port=port, kind="dcgm-exporter"))
        assert (status, "2 GPUs, via dcgm-exporter, driver 580.95.05" in text) == (0, True)
        for kind in ("gpumon", "gpustat", "nvitop-exporter"):
            status, text = await found(NodeEntry(name="wrong", host="127.0.0.1", port=port, kind=kind))
            assert status == 1
            assert 'It looks like dcgm-exporter: set nodes[].kind to "dcgm-exporter".' in text


async def test_check_looks_at_the_pages_of_all_kinds_before_it_gives_up() -> None:
    async with stranger(pages({"/metrics": body("nvidia_gpu_exporter.txt")})) as port:
        status, text = await found(NodeEntry(name="n", host="127.0.0.1", port=port))
        assert status == 1
        assert "status 404" in text
        assert 'set nodes[].kind to "nvidia-gpu-exporter"' in text
        entry = NodeEntry(name="n", host="127.0.0.1", port=port, kind="nvidia-gpu-exporter", path="/metric")
        status, text = await found(entry)
        assert "nvidia-gpu-exporter is there, at /metrics: mend nodes[].path." in text
