"""What is told of the machine: of the real one, and of those that answer oddly."""

import threading
import time
from pathlib import Path

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpumon.agent import host
from gpumon.agent.host import Disk, HostReader, busy_percent
from gpumon.model import Host
from gpumon.wire import encode

STAT = """\
cpu  {user} 0 50 {idle} 100 5 5 0 {user} 0
cpu0 1 0 1 1 1 0 0 0 0 0
cpu1 1 0 1 1 1 0 0 0 0 0
cpu2 1 0 1 1 1 0 0 0 0 0
intr 12 0 9
ctxt 99
"""
MEMINFO = """\
MemTotal:       16000000 kB
MemFree:         1000000 kB
MemAvailable:   12000000 kB
SwapTotal:       2000000 kB
SwapFree:        1500000 kB
HugePages_Total:       0
"""


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    (tmp_path / "stat").write_text(STAT.format(user=1000, idle=9000))
    (tmp_path / "meminfo").write_text(MEMINFO)
    (tmp_path / "loadavg").write_text("1.50 0.75 0.25 2/345 6789\n")
    (tmp_path / "uptime").write_text("123456.78 99999.00\n")
    return tmp_path


def settled(disk: Disk) -> tuple[int, int]:
    """What the disk tells once it has told; the time limit of every test bounds the wait."""
    while (found := disk.newest()) is None:
        time.sleep(0)
    return found


def test_the_machine_is_told_in_the_units_of_a_report(proc: Path) -> None:
    reader = HostReader(proc)
    first = reader.read()
    assert (first.cpu_count, first.cpu_utilization_percent) == (3, None)
    assert (first.load_average_1m, first.load_average_5m, first.load_average_15m) == (1.5, 0.75, 0.25)
    assert (first.memory_total_bytes, first.memory_available_bytes) == (16_000_000 * 1024, 12_000_000 * 1024)
    assert (first.swap_total_bytes, first.swap_used_bytes) == (2_000_000 * 1024, 500_000 * 1024)
    assert first.uptime_seconds == 123456.78
    (proc / "stat").write_text(STAT.format(user=1075, idle=9225))
    assert reader.read().cpu_utilization_percent == 25


def test_the_real_machine_is_told_as_others_tell_it() -> None:
    reader = HostReader()
    told, real = reader.read(), psutil.virtual_memory()
    assert told.cpu_count == psutil.cpu_count()
    assert (told.memory_total_bytes, told.swap_total_bytes) == (real.total, psutil.swap_memory().total)
    assert told.memory_available_bytes is not None
    assert 0 < told.memory_available_bytes <= real.total
    assert told.uptime_seconds is not None
    assert abs(told.uptime_seconds - time.clock_gettime(time.CLOCK_BOOTTIME)) < 5
    assert told.load_average_1m is not None
    total, free = settled(Disk(Path("/")))
    assert total == psutil.disk_usage("/").total
    assert 0 <= free <= total
    while (busy := reader.read().cpu_utilization_percent) is None:  # until a tick of the kernel's clock has passed
        pass
    assert 0 <= busy <= 100


def test_a_machine_that_tells_nothing_is_told_as_nulls(tmp_path: Path) -> None:
    assert HostReader(tmp_path, tmp_path / "nowhere", tmp_path).read() == Host(platform="linux")


@pytest.mark.parametrize(
    ("missing", "nulls"),
    [
        ("stat", {"cpu_count", "cpu_utilization_percent"}),
        ("loadavg", {"load_average_1m", "load_average_5m", "load_average_15m"}),
        ("meminfo", {"memory_total_bytes", "memory_available_bytes", "swap_total_bytes", "swap_used_bytes"}),
        ("uptime", {"uptime_seconds"}),
    ],
)
def test_a_file_that_cannot_be_read_costs_its_own_values_alone(proc: Path, missing: str, nulls: set[str]) -> None:
    (proc / missing).unlink()
    told = HostReader(proc).read()
    always_null = {"cpu_utilization_percent", "disk_total_bytes", "disk_free_bytes"}
    found = {field for field in Host.__struct_fields__ if getattr(told, field) is None}
    assert nulls <= found <= nulls | always_null


files = st.sampled_from(["stat", "loadavg", "meminfo", "uptime"])
junk = st.binary(max_size=80) | st.sampled_from(
    [
        b"cpu -1 -1 -1 -1 -1 -1 -1 -1\n",
        b"nan nan nan",
        b"1e400 inf -1",
        b"MemTotal: -5 kB\n",
        b"MemTotal: 9" + b"9" * 40,
    ]
)


@given(st.dictionaries(files, junk, min_size=1))
def test_no_file_is_too_odd(tmp_path_factory: pytest.TempPathFactory, contents: dict[str, bytes]) -> None:
    proc = tmp_path_factory.mktemp("proc")
    reader = HostReader(proc)
    for _ in range(2):
        for name, content in contents.items():
            (proc / name).write_bytes(content)
        encode(reader.read())


@given(st.tuples(st.integers(0), st.integers(0)), st.tuples(st.integers(0), st.integers(0)))
def test_a_share_is_a_share(before: tuple[int, int], now: tuple[int, int]) -> None:
    busy = busy_percent(before, now)
    assert busy is None or 0 <= busy <= 100


def test_a_counter_that_did_not_move_tells_nothing() -> None:
    assert busy_percent((100, 50), (100, 50)) is None
    assert busy_percent(None, (100, 50)) is None
    assert busy_percent((100, 50), (90, 50)) is None
    assert busy_percent((100, 50), (110, 45)) == 100


def test_a_disk_that_hangs_is_waited_for_by_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "DISK_SECONDS", 0.0)
    asked: list[Path] = []
    gate = threading.Event()

    def hang(path: Path) -> tuple[int, int]:
        asked.append(path)
        gate.wait()
        return 100, 40

    disk = Disk(Path("/x"), hang)
    for _ in range(100):
        assert disk.newest() is None
    assert asked in ([], [Path("/x")])  # one alone, as soon as its thread runs
    gate.set()
    assert settled(disk) == (100, 40)


def test_what_a_hung_disk_told_once_goes_out_of_date(monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk(Path("/x"), lambda _: (100, 40))
    assert settled(disk) == (100, 40)
    monkeypatch.setattr(host, "DISK_PATIENCE_SECONDS", -1.0)
    assert disk.newest() is None


def test_a_disk_that_fails_is_null_and_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "DISK_SECONDS", 0.0)
    answers = iter([OSError(5, "?"), OSError(5, "?")])

    def measure(_: Path) -> tuple[int, int]:
        error = next(answers, None)
        if error is not None:
            raise error
        return 100, 40

    assert settled(Disk(Path("/x"), measure)) == (100, 40)
