"""``gpumon probe``: what it shows, and the program as its users run it."""

import contextlib
import dataclasses
import fcntl
import json
import os
import re
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from gpumon.agent import probe
from gpumon.agent.notes import NULLABLE, ranges
from gpumon.agent.probe import Screen
from gpumon.agent.scenario import Scenario
from gpumon.agent.simulate import SimulatedReader
from gpumon.agent.table import table
from gpumon.model import Cost, Gpu, MemoryLedger, Process, RemappedRows, Report, Xid
from gpumon.terminal import width
from tests import fakenvml
from tests.fakenvml import environment
from tests.running import program

ROOT = Path(__file__).parents[2]
NOW = 1_800_000_000.0
ESCAPE = re.compile(r"\x1b\[[0-9;]*m")
PLAIN = {"NO_COLOR": "", "FORCE_COLOR": "", "TERM": "xterm", "COLUMNS": "", "LINES": ""}
MIX = "h200:2,a100-mig,rtx5090:2,gb10,fault=lost:1,fault=throttled:3,fault=ecc:0"
HOSTILE = "\x1b]0;owned\x07\x1b[31mred\x9b2J\u202e\nnext"


async def report_of(text: str) -> Report:
    sample = await SimulatedReader(Scenario.parse(text)).read()
    return Report(
        node="node", sampled_at="2026-11-23T15:00:00.000Z", simulated=True, status=sample.status, gpus=sample.gpus
    )


def shown(report: Report, columns: int = 140, *, color: bool = False) -> str:
    return "\n".join(table(report, columns, color=color, now=NOW))


def gpu(**values: Any) -> Report:
    return Report(node="node", gpus=[Gpu(index=0, **values)])


# ---- the table ----


@pytest.mark.parametrize("columns", [40, 60, 72, 80, 100, 120, 140, 200, 300])
@pytest.mark.parametrize("text", [MIX, "128", "0", "gb10", "a100-mig:8"])
async def test_no_line_is_wider_than_the_terminal(text: str, columns: int) -> None:
    report = await report_of(text)
    plain = table(report, columns, color=False, now=NOW)
    assert max(map(width, plain)) <= columns
    colored = table(report, columns, color=True, now=NOW)
    assert [ESCAPE.sub("", one) for one in colored] == plain


async def test_one_line_a_gpu_with_its_processes_below() -> None:
    lines = shown(await report_of("h200,rtx5090")).splitlines()
    heading = lines.index("") + 1
    assert lines[heading].split()[:3] == ["#", "GPU", "UTIL"]
    assert lines[heading + 1].startswith("0  NVIDIA H200 (simulated)")
    assert re.search(r"\b\d+\.\d/140\.4  +\d+ +\d+/700 ", lines[heading + 1])
    assert re.fullmatch(
        r"   sim-alice  python train.py \(simulated\) .*\d+  C  +123\.0 GiB +\d+%  .*", lines[heading + 2]
    )
    assert lines[heading + 3].startswith("1  NVIDIA GeForce RTX 5090")
    assert lines[heading + 4].lstrip().startswith("sim-bob")


async def test_a_wide_terminal_shows_more_and_a_narrow_one_what_matters() -> None:
    report = await report_of("h200")
    narrow, wide = shown(report, 60), shown(report, 200)
    for word in ("UTIL", "MEMORY GiB", "POWER W", "STATE"):
        assert word in narrow
    assert "UUID" not in narrow
    assert report.gpus[0].uuid is not None
    assert report.gpus[0].uuid in wide
    assert "slurm:" in wide


async def test_a_column_that_no_gpu_fills_is_left_out() -> None:
    assert "FAN" not in shown(await report_of("h200:2"))
    assert "FAN" in shown(await report_of("h200,rtx5090"))


def test_columns_stand_under_each_other_whatever_the_script_of_the_names() -> None:
    names = ["机器学习服务器", "GPU", "Ｇ" * 60]
    report = Report(node="n", gpus=[Gpu(index=i, name=name, performance_state="P0") for i, name in enumerate(names)])
    for columns in (60, 80, 140):
        lines = [one for one in table(report, columns, color=False, now=NOW) if one.endswith(" P0")]
        assert len({width(one) for one in lines}) == 1
        assert len(lines) == 3


async def test_every_null_is_listed_with_its_reason_and_equal_gpus_together() -> None:
    report = await report_of("h200:3,rtx5090:2,gb10")
    text = shown(report)
    listed = " ".join(text.partition("Not available")[2].split())
    groups = re.split(r"\bGPU (?=[0-9])", listed)[1:]
    assert [group.split()[0] for group in groups] == ["0-2", "3-4", "5"]
    for group, one in zip(groups, (report.gpus[0], report.gpus[3], report.gpus[5]), strict=True):
        nulls = {name for name in NULLABLE if getattr(one, name) is None}
        assert nulls == set(re.findall(r"[a-z0-9]+(?:_[a-z0-9]+)+|xids|processes(?=,|$)", group))
        assert "unsupported (this board or its driver does not have it): " in group


@pytest.mark.parametrize(
    "reason", ["unsupported", "denied", "no_data", "lost", "reset_required", "driver", "timeout", "error"]
)
def test_every_reason_has_a_meaning(reason: Any) -> None:
    report = gpu(unavailable=dict.fromkeys(NULLABLE, reason), status="error")
    assert re.search(rf"    {reason} \([A-Za-z' ,]+\): everything$", shown(report), re.MULTILINE)


def test_a_null_without_a_reason_is_not_hidden() -> None:
    assert "no reason is given: " in shown(gpu(utilization_percent=1, unavailable={"name": "denied"}))


def test_what_a_stranger_has_named_does_no_harm() -> None:
    process = Process(pid=1, name=HOSTILE, user=HOSTILE, command=HOSTILE, job=HOSTILE, container=HOSTILE)
    slowed = gpu(name=HOSTILE, throttle_reasons=[HOSTILE], processes=[process], recovery_action=HOSTILE)
    report = replace(slowed, node=HOSTILE, driver_version=HOSTILE, sampled_at=HOSTILE)
    for columns in (60, 200):
        assert all(one.isprintable() for one in table(report, columns, color=False, now=NOW))
        assert all(ESCAPE.sub("", one).isprintable() for one in table(report, columns, color=True, now=NOW))


@pytest.mark.parametrize(
    ("started_at", "expected"),
    [
        ("2027-01-15T07:59:55Z", "0m 5s"),
        ("2027-01-15T06:58:55Z", "1h 1m"),
        ("2027-01-12T05:00:00Z", "3d 3h"),
        ("2027-01-16T00:00:00Z", "0m 0s"),
        ("yesterday", "1 "),
        (None, "1 "),
    ],
)
def test_running_times_in_their_two_greatest_units(started_at: str | None, expected: str) -> None:
    processes = [Process(pid=1, user="u", command="c", started_at=started_at)]
    row = shown(gpu(processes=processes)).splitlines()[4]
    assert row.startswith("   u  c  1")
    assert expected in f"{row} "


async def test_a_slices_processes_stand_below_it_and_only_there() -> None:
    report = await report_of("a100-mig")
    text = shown(report)
    assert text.count("MIG 0  1g.10gb") == 1
    for process in report.gpus[0].processes or []:
        assert text.count(f" {process.pid} ") == 1


def test_the_health_of_a_gpu_is_told_in_sentences() -> None:
    text = shown(
        gpu(
            throttle_reasons=["hw_thermal_slowdown", "something_new"],
            recovery_action="drain_and_reset",
            ecc_uncorrected_total=3,
            remapped_rows=RemappedRows(correctable=0, uncorrectable=1, pending=False, failure=True),
            memory_ledger=MemoryLedger(processes_bytes=0, unaccounted_bytes=3 * 2**30, cause="Someone else."),
            xids=[Xid(code=79, meaning="Gone", gravity="critical", count=2, last_at="2026-11-23T15:00:00Z")],
            processes=[],
            processes_truncated=7,
        )
    )
    for expected in (
        "Slowed down to protect itself (hw thermal)",
        "asks for a recovery: drain and reset",
        "3 uncorrected memory errors",
        "no spare row is left",
        "3.0 GiB of memory in use are no process's. Someone else.",
        "Xid 79 (critical, 2 times, last 2026-11-23",
        "… and 7 more processes",
        "hw thermal, something new",
    ):
        assert expected in text


def test_a_driver_that_is_slow_is_told() -> None:
    report = replace(gpu(), agent=Cost(slowest_call="nvmlDeviceGetPowerUsage", slowest_call_seconds=1.24))
    assert "The driver took 1.2 s for nvmlDeviceGetPowerUsage." in shown(report)
    assert "The driver took" not in shown(replace(report, agent=Cost()))


def test_ranges_of_gpus() -> None:
    assert ranges([0]) == "0"
    assert ranges([3, 1, 2, 7, 5, 6, 2]) == "1-3, 5-7"


async def test_colours_are_those_that_gpustats_users_know() -> None:
    text = shown(await report_of(MIX), color=True)
    assert "\x1b[36m0\x1b[0m" in text
    assert re.search(r"\x1b\[34m(NVIDIA )?H200", text)
    assert re.search(r"\x1b\[32;1m *9\d%", text)
    assert re.search(r"\x1b\[31;1m *89\x1b", text), "near the temperature at which it slows down"
    assert re.search(r"\x1b\[31;1mlost", text)
    assert re.search(r"\x1b\[35m *\d+/700", text)
    assert re.search(r"\x1b\[33m *\d+\.\d/140\.4", text)
    assert re.search(r"\x1b\[90msim-alice", text)


# ---- the program ----


@pytest.fixture
def scenario(tmp_path: Path) -> Path:
    return tmp_path / "scenario"


def test_one_sample_of_this_machine_as_a_table(scenario: Path) -> None:
    fakenvml.datacentre(gpus=2).write(scenario)
    with program("probe", environment=PLAIN | environment(scenario)) as probe:
        assert probe.status() == 0
        assert (probe.said, "\x1b" in probe.wrote) == ("", False)
        for expected in ("driver 580.95.05  CUDA 13.0  NVML 13.580.95.05", "NVIDIA H100 80GB HBM3", "90%", "20.0/80.0"):
            assert expected in probe.wrote
        assert re.search(
            r"Not available\n  GPU 0-1\n(    .*\n)*    unsupported \(.*\): .*fan_speed_percent", probe.wrote
        )


def test_one_sample_as_json(scenario: Path) -> None:
    fakenvml.datacentre(gpus=2).write(scenario)
    with program("probe", "--json", environment=PLAIN | environment(scenario)) as probe:
        assert probe.status() == 0
        report = msgspec.json.decode(probe.wrote, type=Report)
        assert (len(report.gpus), report.simulated, report.status) == (2, False, "ok")
        assert report.node == report.hostname
        assert report.sampled_at is not None
        assert report.gpus[0].unavailable["fan_speed_percent"] == "unsupported"


@pytest.mark.parametrize(
    ("make", "library", "words"),
    [
        (fakenvml.no_driver, True, ("no_driver: ", "modprobe nvidia")),
        (fakenvml.driver_mismatch, True, ("driver_mismatch: ", "Reboot this machine")),
        (fakenvml.no_gpus, True, ("no_gpus: ", "lspci")),
        (fakenvml.no_gpus, False, ("libnvidia-ml.so.1", "Install the NVIDIA driver")),
        (lambda: fakenvml.lost_gpu(0, 1), True, ("GPU 0: lost. ", "Reboot the machine", "everything")),
    ],
    ids=["not loaded", "mismatch", "no GPUs", "no library", "the only GPU lost"],
)
def test_where_no_gpu_can_be_read_it_says_why_and_ends_with_status_1(
    make: Any, library: bool, words: tuple[str, ...], scenario: Path
) -> None:
    make().write(scenario)
    environ = PLAIN | environment(scenario, library=library)
    with program("probe", environment=environ) as probe, program("probe", "--json", environment=environ) as as_json:
        assert (probe.status(), as_json.status()) == (1, 1)
        assert (probe.said, as_json.said) == ("", "")
        told = " ".join(probe.wrote.split())
        assert all(word in told for word in words), probe.wrote
        report = json.loads(as_json.wrote)
        assert report["error"] or report["gpus"][0]["error"]


@pytest.mark.parametrize("trouble", [fakenvml.hanging, fakenvml.crashing], ids=["hangs", "crashes"])
async def test_a_gpu_that_hangs_or_kills_its_reader_is_named_and_the_others_are_shown(
    trouble: Any, scenario: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here with the patience of a machine that is too busy to start a reader within the 20 s that a person waits."""
    monkeypatch.setattr("gpumon.agent.probe.PATIENCE_SECONDS", dict.fromkeys(probe.PATIENCE_SECONDS, 120.0))
    monkeypatch.setattr("gpumon.agent.probe.DEADLINES", dataclasses.replace(probe.DEADLINES, hard=2.0))
    trouble(1, 3).write(scenario)
    for name, value in environment(scenario).items():
        monkeypatch.setenv(name, value)
    wrote: list[str] = []
    screen = Screen(wrote.append, lambda: os.terminal_size((80, 24)), color=False, redraws=False)
    assert await probe.run(screen, None, None, as_json=True) == 0
    gpus = json.loads(wrote[0])["gpus"]
    assert [one["status"] for one in gpus] == ["ok", "unresponsive", "ok"]
    assert "GPU 1" in gpus[1]["error"]["message"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_it_can_be_ended_while_the_driver_hangs(number: int, scenario: Path, tmp_path: Path) -> None:
    stuck = fakenvml.datacentre(1)
    stuck.init = "hang"
    stuck.write(scenario)
    log = tmp_path / "calls"
    with program("probe", environment=PLAIN | environment(scenario, log=log)) as probe:
        while not (log.exists() and "nvmlInitWithFlags" in log.read_text()):
            assert probe.process.poll() is None
        assert probe.end(number) == 0
        assert probe.said == ""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_watching_as_json_is_an_object_a_line_until_a_signal(number: int, scenario: Path) -> None:
    machine = fakenvml.datacentre(1)
    machine.write(scenario)
    with program("probe", "--watch", "--json", "--interval=0.2", environment=environment(scenario)) as probe:
        assert probe.process.stdout is not None
        json.loads(probe.process.stdout.readline())
        machine.gpus[0].utilization = 17
        machine.write(scenario)
        for text in probe.process.stdout:  # the test's own deadline ends this
            if [one["utilization_percent"] for one in json.loads(text)["gpus"]] == [17]:
                break
        assert probe.end(number) == 0
        assert probe.said == ""


@pytest.mark.parametrize("arguments", [(), ("--json",)], ids=["table", "json"])
def test_watching_ends_when_nobody_reads_any_longer(arguments: tuple[str, ...]) -> None:
    with program("probe", "--simulate=2", "--watch", "--interval=0.2", *arguments) as probe:
        assert probe.process.stdout is not None
        assert probe.process.stdout.readline()
        probe.process.stdout.close()
        assert probe.process.wait(30) == 0
        assert probe.process.stderr is not None
        assert probe.process.stderr.read() == ""


def test_a_simulation_needs_no_driver_and_says_what_it_is(scenario: Path) -> None:
    with program("probe", "--simulate", MIX, environment=PLAIN | environment(scenario, library=False)) as probe:
        assert probe.status() == 0
        assert "SIMULATED" in probe.wrote
        assert "GPU 1: lost. " in probe.wrote
    with program("probe", "--simulate=2,fault=no_driver", environment=PLAIN) as probe:
        assert probe.status() == 1
    with program("probe", "--json", environment=PLAIN | {"GPUMON_PROBE_SIMULATE": "gb10"}) as probe:
        assert probe.status() == 0
        assert json.loads(probe.wrote)["simulated"] is True


# ---- on a terminal ----


class Terminal:
    """``gpumon probe`` with a terminal of its own for standard output."""

    def __init__(
        self, *arguments: str, columns: int = 80, lines: int = 24, variables: dict[str, str] | None = None
    ) -> None:
        self._screen, end = os.openpty()
        fcntl.ioctl(end, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        self.process = subprocess.Popen(
            [sys.executable, "-m", "gpumon", "probe", *arguments],
            stdout=end,
            stderr=subprocess.PIPE,
            env=os.environ | PLAIN | {"PYTHONPATH": str(ROOT)} | (variables or {}),
        )
        os.close(end)
        self.seen = ""

    def until(self, pattern: str) -> str:
        """What was written, as soon as it matches ``pattern``; or until the program ends."""
        while not re.search(pattern, self.seen):
            with contextlib.suppress(OSError):  # the other end is closed
                if part := os.read(self._screen, 65536):
                    self.seen += part.decode(errors="ignore").replace("\r\n", "\n")
                    continue
            break
        return self.seen

    def close(self) -> None:
        self.process.kill()
        self.process.communicate(timeout=30)
        os.close(self._screen)


@pytest.fixture
def terminals() -> Iterator[list[Terminal]]:
    opened: list[Terminal] = []
    yield opened
    for one in opened:
        one.close()


@pytest.mark.parametrize(
    ("arguments", "variables", "colored"),
    [
        ((), {}, True),
        ((), {"NO_COLOR": "1"}, False),
        ((), {"TERM": "dumb"}, False),
        ((), {"NO_COLOR": "1", "FORCE_COLOR": "1"}, False),
        (("--color=always",), {"NO_COLOR": "1"}, True),
        (("--color=never",), {"FORCE_COLOR": "1"}, False),
        (("--json",), {}, False),
    ],
)
def test_colours_on_a_terminal(
    arguments: tuple[str, ...], variables: dict[str, str], colored: bool, terminals: list[Terminal]
) -> None:
    terminal = Terminal("--simulate=2", *arguments, variables=variables)
    terminals.append(terminal)
    assert ("\x1b[" in terminal.until("the end of it")) == colored
    assert terminal.process.wait(30) == 0


@pytest.mark.parametrize(
    ("arguments", "variables", "colored"),
    [
        ((), {}, False),
        ((), {"FORCE_COLOR": "1"}, True),
        ((), {"FORCE_COLOR": "0"}, False),
        (("--color=always",), {}, True),
        ((), {"GPUMON_PROBE_COLOR": "always"}, True),
    ],
)
def test_colours_in_a_pipe(arguments: tuple[str, ...], variables: dict[str, str], colored: bool) -> None:
    with program("probe", "--simulate=2", *arguments, environment=PLAIN | variables) as probe:
        assert probe.status() == 0
        assert ("\x1b[" in probe.wrote) == colored


def test_the_table_keeps_to_the_terminals_width(terminals: list[Terminal]) -> None:
    for columns in (80, 140):
        terminals.append(Terminal("--simulate", MIX, columns=columns))
        lines = ESCAPE.sub("", terminals[-1].until("the end of it")).splitlines()
        assert columns - 8 < max(map(width, lines)) <= columns


def test_watching_redraws_in_place_and_keeps_to_the_terminals_height(terminals: list[Terminal], scenario: Path) -> None:
    machine = fakenvml.datacentre(8)
    machine.write(scenario)
    terminal = Terminal("--watch", "--interval=0.2", lines=12, variables=environment(scenario))
    terminals.append(terminal)
    terminal.until("H100")
    machine.gpus[0].utilization = 17
    machine.write(scenario)
    terminal.until(r"17%")
    terminal.until(r"17%[^\x00]*more lines")
    picture = terminal.seen.split("\x1b[H")[-1]
    assert picture.count("\n") < 12
    assert "more lines: make the window taller" in picture
    terminal.process.send_signal(signal.SIGINT)
    assert terminal.process.wait(30) == 0
    assert terminal.process.stderr is not None
    assert terminal.process.stderr.read() == b""


def test_an_output_that_cannot_say_it_all_is_no_reason_to_fail() -> None:
    with program("probe", "--simulate=gb10", environment=PLAIN | {"PYTHONIOENCODING": "ascii"}) as probe:
        assert probe.status() == 0
        assert "GB10" in probe.wrote
