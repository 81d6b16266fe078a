"""The catalogue of what drivers do: a test for each row that can be built, over the real binding in a real child.

What concerns the reader's side (hangs, crashes, pauses, Xids) stands in ``test_reader``.
"""

from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from gpumon.agent.driver import is_refused, mismatch
from gpumon.agent.memory import Memory, ledger, system_memory
from gpumon.agent.pipe import Beats, Pass, Read, line
from gpumon.agent.processlists import is_hidden
from gpumon.model import Gpu, MigDevice, Process
from tests import fakenvml
from tests.agent.talks import Driver, Talk
from tests.fakenvml import GIB, Scenario

MIB = 2**20
NO_PROCESS = 4_000_001
NEVER = 10.0**9
FULL = Beats(slow_passes=0, slow_seconds=0.0, static_seconds=NEVER)
FAST = Beats(slow_passes=10**9, slow_seconds=NEVER, static_seconds=NEVER)


@pytest.fixture
def driver(tmp_path: Path) -> Iterator[Driver]:
    driver = Driver(tmp_path)
    yield driver
    for talk in driver.talks:
        talk.close()


def one(driver: Driver, scenario: Scenario, *, own_namespace: bool = False) -> Gpu:
    scenario.write(driver.file)
    driver.talks.append(Talk(driver.file, driver.log, own_namespace=own_namespace))
    _, (gpu,) = driver.talks[-1].one_pass()
    return gpu


# ---- memory ----


@pytest.mark.parametrize("answer", ["refused", "nothing"])
def test_rows_5_and_7_a_board_that_shares_the_machines_memory(driver: Driver, answer: str) -> None:
    scenario = fakenvml.unified()
    if answer == "nothing":  # row 6: another driver of the same board succeeds, with a total of 0
        scenario.gpus[0].memory_total = scenario.gpus[0].memory_used = 0
    gpu = one(driver, scenario)
    assert gpu.memory_kind == "unified"
    assert gpu.memory_total_bytes == psutil.virtual_memory().total
    assert gpu.memory_used_bytes is not None
    assert gpu.memory_free_bytes == gpu.memory_total_bytes - gpu.memory_used_bytes
    unsupported = {"memory_reserved_bytes", "memory_ledger", "pcie_generation", "pcie_width"}
    unsupported |= {"pcie_generation_max", "pcie_width_max"}
    assert {gpu.unavailable[field] for field in unsupported} == {"unsupported"}


def test_row_6_where_the_call_works_on_such_a_board_it_is_believed(driver: Driver) -> None:
    scenario = fakenvml.unified()
    scenario.gpus[0].memory_total, scenario.gpus[0].memory_used = 100 * GIB, 5 * GIB
    gpu = one(driver, scenario)
    assert (gpu.memory_kind, gpu.memory_total_bytes, gpu.memory_used_bytes) == ("unified", 100 * GIB, 5 * GIB)


def test_row_6_a_lost_gpu_is_not_taken_for_one_that_shares_memory(driver: Driver) -> None:
    scenario = fakenvml.unified()
    scenario.gpus[0].does["nvmlDeviceGetMemoryInfo"] = 15
    gpu = one(driver, scenario)
    assert (gpu.status, gpu.memory_kind, gpu.memory_total_bytes) == ("lost", None, None)


def test_a_board_on_no_pci_bus_shares_memory_whatever_its_name(driver: Driver) -> None:
    scenario = fakenvml.unified()
    scenario.gpus[0].name, scenario.gpus[0].bus_type = "Some board", 3
    assert one(driver, scenario).memory_kind == "unified"


def test_the_machines_memory_is_read_as_the_kernel_tells_it(tmp_path: Path) -> None:
    file = tmp_path / "meminfo"
    file.write_text("MemTotal:     1000 kB\nMemFree:  1 kB\nMemAvailable:  600 kB\nHugePages_Total:   0\n")
    assert system_memory(file) == Memory("unified", 1_024_000, 409_600, 614_400, None)
    for text in ("", "MemTotal: x kB\n", "MemTotal: 5 kB\n"):
        file.write_text(text)
        with pytest.raises(Exception, match="unsupported"):
            system_memory(file)


def test_row_15_what_the_driver_reserves_is_told_apart_from_what_is_used(driver: Driver) -> None:
    gpu = one(driver, fakenvml.datacentre(1))
    assert (gpu.memory_used_bytes, gpu.memory_reserved_bytes) == (20 * GIB, GIB // 2)
    scenario = fakenvml.datacentre(1)
    scenario.gpus[0].does["nvmlDeviceGetMemoryInfo_v2"] = 13
    scenario.gpus[0].does["nvmlDeviceGetMemoryInfo"] = 0
    gpu = one(driver, scenario)
    assert (gpu.memory_used_bytes, gpu.memory_reserved_bytes) == (20 * GIB + GIB // 2, None)
    assert gpu.memory_ledger is not None
    assert "keeps for itself" in str(gpu.memory_ledger.cause)


# ---- the ledger ----


def board(used: int, *, reserved: int | None = 0) -> Memory:
    return Memory("dedicated", 80 * GIB, used, 80 * GIB - used, reserved)


def test_the_ledger_adds_up_and_a_trifle_has_no_cause() -> None:
    found = ledger(board(10 * GIB, reserved=GIB), [Process(pid=1, type="compute", memory_used_bytes=9 * GIB)])
    assert (found.processes_bytes, found.reserved_bytes, found.unaccounted_bytes) == (9 * GIB, GIB, GIB)
    assert found.cause is None  # 2 % of 80 GiB is more
    assert ledger(board(0), [Process(pid=1, memory_used_bytes=GIB)]).unaccounted_bytes == 0


@pytest.mark.parametrize(
    ("processes", "reserved", "says"),
    [
        (None, 0, "not visible from here"),
        ([], 0, "Managed memory, or memory of a process that has ended"),
        ([Process(pid=1, type="compute")], 0, "1 process here whose memory the driver does not tell"),
        ([Process(pid=1, type="graphics", memory_used_bytes=1)], 0, "display"),
        ([], None, "keeps for itself"),
    ],
)
def test_what_is_unaccounted_for_has_a_likely_cause(
    processes: list[Process] | None, reserved: int | None, says: str
) -> None:
    assert says in str(ledger(board(10 * GIB, reserved=reserved), processes).cause)


def test_row_26_memory_that_no_process_accounts_for_is_told(driver: Driver) -> None:
    gpu = one(driver, fakenvml.datacentre(1))
    assert gpu.memory_ledger is not None
    assert (gpu.memory_ledger.processes_bytes, gpu.memory_ledger.unaccounted_bytes) == (7 * GIB, 13 * GIB)
    assert gpu.memory_ledger.cause


@pytest.mark.parametrize(("code", "reason"), [(4, None), (999, "error"), (3, "unsupported")])
def test_without_processes_there_is_a_ledger_only_where_they_are_known_to_be_hidden(
    driver: Driver, code: int, reason: str | None
) -> None:
    scenario = fakenvml.datacentre(1)
    scenario.gpus[0].does["nvmlDeviceGetComputeRunningProcesses"] = code
    scenario.gpus[0].does["nvmlDeviceGetGraphicsRunningProcesses"] = code
    gpu = one(driver, scenario)
    assert gpu.processes is None
    assert gpu.unavailable.get("memory_ledger") == reason
    if reason is None:
        assert gpu.memory_ledger is not None
        assert "not visible from here" in str(gpu.memory_ledger.cause)


# ---- values by number ----


def test_row_18_power_is_told_as_average_and_as_of_now(driver: Driver) -> None:
    gpu = one(driver, fakenvml.datacentre(1))
    assert (gpu.power_draw_watts, gpu.power_draw_average_watts, gpu.power_draw_instant_watts) == (
        512.345,
        512.345,
        530.1,
    )


def test_row_17_power_and_its_limit_are_two_things(driver: Driver) -> None:
    scenario = fakenvml.datacentre(1)
    scenario.gpus[0].power_limit = None
    gpu = one(driver, scenario)
    assert (gpu.power_draw_watts, gpu.power_limit_watts) == (512.345, None)
    assert gpu.unavailable["power_limit_watts"] == "unsupported"


def test_row_19_a_value_of_a_type_that_is_none_is_not_believed(driver: Driver) -> None:
    scenario = fakenvml.datacentre(1)
    scenario.gpus[0].field_type = 99
    gpu = one(driver, scenario)
    assert gpu.unavailable["memory_temperature_celsius"] == "error"
    assert gpu.temperature_celsius == 50


def test_row_19_a_threshold_of_0_degrees_is_none(driver: Driver) -> None:
    scenario = fakenvml.datacentre(1)
    scenario.gpus[0].slowdown_temperature = 0
    gpu = one(driver, scenario)
    assert (gpu.slowdown_temperature_celsius, gpu.unavailable["slowdown_temperature_celsius"]) == (None, "no_data")


@pytest.mark.parametrize("by_number", [True, False])
def test_row_20_errors_of_memory_since_loading_and_for_ever(driver: Driver, by_number: bool) -> None:
    scenario = fakenvml.datacentre(1)
    if not by_number:
        scenario.gpus[0].does["nvmlDeviceGetFieldValues"] = 13
    gpu = one(driver, scenario)
    assert (gpu.ecc_corrected_total, gpu.ecc_uncorrected_total) == (3, 0)
    assert (gpu.ecc_corrected_lifetime_total, gpu.ecc_uncorrected_lifetime_total) == (9, 1)
    assert gpu.remapped_rows is not None
    assert (gpu.remapped_rows.correctable, gpu.remapped_rows.uncorrectable) == (2, 1)
    assert (gpu.remapped_rows.pending, gpu.remapped_rows.failure) == (False, False)


def test_row_21_what_is_not_supported_by_number_is_not_asked_for_again(driver: Driver) -> None:
    scenario = fakenvml.consumer(1)
    one(driver, scenario)
    before = len(driver.calls())
    driver.talks[-1].one_pass()
    again = driver.calls()[before:]
    assert "nvmlDeviceGetRemappedRows" not in again
    assert "nvmlDeviceGetTotalEccErrors" not in again


@pytest.mark.parametrize("by_number", [True, False])
def test_row_25_links_that_are_there_and_links_that_work(driver: Driver, by_number: bool) -> None:
    scenario = fakenvml.datacentre(1)
    scenario.gpus[0].nvlink_active = 17
    if not by_number:
        scenario.gpus[0].does["nvmlDeviceGetFieldValues"] = 13
    gpu = one(driver, scenario)
    assert (gpu.nvlink_count, gpu.nvlink_active_count) == (18, 17)
    _, (gpu,) = driver.talks[-1].one_pass()
    assert gpu.nvlink_active_count == 17


@pytest.mark.parametrize(
    ("number", "word"), [(0, "none"), (1, "gpu_reset"), (2, "node_reboot"), (4, "drain_and_reset"), (77, "unknown")]
)
def test_row_27_the_drivers_own_verdict(driver: Driver, number: int, word: str) -> None:
    scenario = fakenvml.datacentre(1)
    scenario.gpus[0].recovery_action = number
    assert one(driver, scenario).recovery_action == word


# ---- processes ----


def test_row_30_a_driver_that_knows_only_the_first_form_of_the_lists(driver: Driver) -> None:
    scenario = fakenvml.datacentre(1)
    for kind in ("Compute", "Graphics"):
        for form in ("_v2", "_v3"):
            scenario.gpus[0].does[f"nvmlDeviceGet{kind}RunningProcesses{form}"] = 13
    scenario.gpus[0].does |= {f"nvmlDeviceGet{kind}RunningProcesses": 0 for kind in ("Compute", "Graphics")}
    gpu = one(driver, scenario)
    assert gpu.processes is not None
    assert [(process.pid, process.memory_used_bytes) for process in gpu.processes] == [(2, 5 * GIB), (1, 2 * GIB)]


def test_row_12_a_list_longer_than_the_room_for_it_is_read_whole(driver: Driver) -> None:
    scenario = fakenvml.datacentre(1)
    scenario.gpus[0].processes = [fakenvml.Process(NO_PROCESS + place, MIB) for place in range(150)]
    gpu = one(driver, scenario)
    assert gpu.processes is not None
    assert (len(gpu.processes), gpu.processes_truncated) == (150, 0)


def test_more_processes_than_a_report_has_room_for_are_counted(driver: Driver) -> None:
    scenario = fakenvml.datacentre(1)
    scenario.gpus[0].processes = [fakenvml.Process(1000 + place, MIB) for place in range(600)]
    scenario.write(driver.file)
    driver.talks.append(Talk(driver.file))
    talk = driver.talks[-1]
    _, (gpu,) = talk.one_pass(Pass(describe_processes=False))
    assert gpu.processes is not None
    assert (len(gpu.processes), gpu.processes_truncated) == (512, 88)
    assert len(line(Read(gpu=gpu))) < 2**20


def test_row_36_processes_that_are_hidden_are_not_none(driver: Driver) -> None:
    scenario = fakenvml.datacentre(1)
    scenario.gpus[0].processes.clear()
    gpu = one(driver, scenario, own_namespace=True)
    assert (gpu.processes, gpu.unavailable["processes"]) == (None, "denied")
    assert gpu.memory_ledger is not None
    scenario.gpus[0].memory_used = 0
    assert one(driver, scenario, own_namespace=True).processes == []
    scenario.gpus[0].memory_used = 20 * GIB
    assert one(driver, scenario).processes == []  # whoever sees all processes knows that there is none


def test_row_36_what_the_driver_may_have_reserved_proves_no_process() -> None:
    assert is_hidden(board(3 * GIB), utilization=0)
    assert not is_hidden(board(3 * GIB, reserved=None), utilization=0)
    assert is_hidden(board(3 * GIB, reserved=None), utilization=5)
    assert not is_hidden(board(GIB), utilization=99)


# ---- MIG ----


def partitioned(*parts: fakenvml.MigDevice) -> Scenario:
    scenario = fakenvml.datacentre(1)
    scenario.gpus[0].mig_mode, scenario.gpus[0].mig_devices = 1, list(parts)
    scenario.gpus[0].processes.clear()
    return scenario


def slices(gpu: Gpu) -> list[MigDevice]:
    assert gpu.mig_devices is not None
    return gpu.mig_devices


def test_row_45_a_partitioned_gpu_and_its_slices(driver: Driver) -> None:
    process = fakenvml.Process(NO_PROCESS, 2 * GIB)
    small = fakenvml.MigDevice(
        "MIG-1", "NVIDIA H100 80GB HBM3 MIG 1g.10gb", gpu_instance=7, compute_instance=0, processes=[process]
    )
    odd = fakenvml.MigDevice("MIG-2", "MIG", memory_total=40 * GIB, memory_used=3 * GIB, slices=3)
    gpu = one(driver, partitioned(small, odd))
    assert gpu.mig_enabled is True
    for field in ("utilization_percent", "memory_utilization_percent", "encoder_utilization_percent"):
        assert (getattr(gpu, field), gpu.unavailable[field]) == (None, "unsupported")
    first, second = slices(gpu)
    assert (first.profile, first.gpu_instance_id, first.compute_instance_id) == ("1g.10gb", 7, 0)
    assert (first.memory_total_bytes, first.memory_used_bytes, first.memory_free_bytes) == (10 * GIB, GIB, 9 * GIB)
    assert [(one.pid, one.memory_used_bytes) for one in first.processes or []] == [(NO_PROCESS, 2 * GIB)]
    assert (second.profile, second.memory_used_bytes, second.processes) == ("3g.40gb", 3 * GIB, [])
    assert second.gpu_instance_id is None
    assert gpu.memory_ledger is not None
    assert gpu.memory_ledger.processes_bytes == 2 * GIB  # of the slices


def test_row_46_a_slice_that_is_made_anew_is_another_one(driver: Driver) -> None:
    before = fakenvml.MigDevice("MIG-1", gpu_instance=1, compute_instance=0)
    gpu = one(driver, partitioned(before))
    assert [part.uuid for part in slices(gpu)] == ["MIG-1"]
    again = fakenvml.MigDevice("MIG-9", "MIG 2g.20gb", 20 * GIB, 0, gpu_instance=1, compute_instance=0)
    partitioned(again).write(driver.file)
    _, (gpu,) = driver.talks[-1].one_pass()
    assert [(part.uuid, part.profile, part.memory_used_bytes) for part in slices(gpu)] == [("MIG-9", "2g.20gb", 0)]
    whole = partitioned()
    whole.gpus[0].mig_mode = 0
    whole.write(driver.file)
    _, (gpu,) = driver.talks[-1].one_pass()
    assert (gpu.mig_devices, gpu.utilization_percent) == ([], 90)  # what was unsupported is asked for again


def test_row_47_slices_that_may_not_be_seen_cost_the_gpu_nothing(driver: Driver) -> None:
    scenario = partitioned(fakenvml.MigDevice("MIG-1"))
    scenario.gpus[0].does["nvmlDeviceGetMigDeviceHandleByIndex"] = 4
    gpu = one(driver, scenario)
    assert (gpu.status, gpu.mig_devices, gpu.unavailable["mig_devices"]) == ("ok", None, "denied")
    assert gpu.memory_total_bytes == 80 * GIB


def test_a_slice_with_figures_out_of_bounds_costs_the_slices_alone(driver: Driver) -> None:
    gpu = one(driver, partitioned(fakenvml.MigDevice("MIG-1", memory_total=2**60)))
    assert gpu.unavailable["mig_devices"] == "error"
    assert gpu.temperature_celsius == 50


# ---- the driver as a whole ----

KERNEL = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.54.03  Tue Jun  6 22:20:39 UTC 2023\nGCC version: 12\n"
OPEN_KERNEL = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.95.05  Release Build  (x)\n"
MAPS = "7f00-7f01 r--p 0 00:01 5  /usr/lib/x86_64-linux-gnu/libnvidia-ml.so.580.105.08\n"


def test_row_59_a_driver_that_was_updated_is_told_with_both_versions() -> None:
    assert "updated to 580.105.08, but the old one (535.54.03)" in mismatch(KERNEL, MAPS).message
    assert "(580.95.05)" in mismatch(OPEN_KERNEL, MAPS).message
    for kernel, maps in (("", MAPS), (KERNEL, ""), ("junk", "libnvidia-ml.so.1")):
        assert mismatch(kernel, maps).message.startswith("The NVIDIA driver was updated")
        assert mismatch(kernel, maps).code == "driver_mismatch"


def test_row_63_devices_that_are_there_and_may_not_be_opened(tmp_path: Path) -> None:
    device = tmp_path / "nvidiactl"
    assert not is_refused([device])
    device.write_text("")
    assert not is_refused([device])
    device.chmod(0)
    refused = True
    try:
        device.read_text()
        refused = False  # root may read everything
    except PermissionError:
        pass
    assert is_refused([device]) is refused


# ---- the beats ----


def test_what_is_slow_keeps_its_value_in_between_and_what_is_fast_does_not(driver: Driver) -> None:
    scenario = fakenvml.datacentre(2)
    scenario.write(driver.file)
    driver.talks.append(Talk(driver.file, driver.log))
    talk = driver.talks[-1]
    talk.one_pass(Pass())
    for gpu in scenario.gpus:
        gpu.temperature, gpu.pcie_width, gpu.slowdown_temperature = 77, 8, 99
    scenario.write(driver.file)
    before = len(driver.calls())
    _, gpus = talk.one_pass(Pass())
    assert [(gpu.temperature_celsius, gpu.pcie_width, gpu.slowdown_temperature_celsius) for gpu in gpus] == [
        (77, 16, 87),
        (77, 16, 87),
    ]
    assert all(
        gpu.name and gpu.processes is not None and not gpu.unavailable.keys() - {"fan_speed_percent"} for gpu in gpus
    )
    assert len(driver.calls()) - before <= 2 * 8
    _, gpus = talk.one_pass()
    assert [(gpu.pcie_width, gpu.slowdown_temperature_celsius) for gpu in gpus] == [(8, 99), (8, 99)]


def test_the_gpus_take_turns_with_what_is_slow(driver: Driver) -> None:
    scenario = fakenvml.datacentre(8)
    scenario.write(driver.file)
    driver.talks.append(Talk(driver.file, driver.log))
    talk = driver.talks[-1]
    request = Pass(beats=Beats(slow_passes=5, slow_seconds=0.0))
    talk.one_pass(request)
    turns = []
    for _ in range(20):
        before = driver.calls().count("nvmlDeviceGetPersistenceMode")
        talk.one_pass(request)
        turns.append(driver.calls().count("nvmlDeviceGetPersistenceMode") - before)
    assert max(turns) <= 2
    assert sum(turns) == 8 * 20 // 5


def test_a_gpu_whose_board_is_exchanged_under_its_index_keeps_nothing_of_the_other(driver: Driver) -> None:
    scenario = fakenvml.datacentre(2)
    scenario.write(driver.file)
    driver.talks.append(Talk(driver.file))
    talk = driver.talks[-1]
    talk.one_pass()
    other = fakenvml.consumer(1).gpus[0]
    scenario.gpus[1] = other
    scenario.write(driver.file)
    _, gpus = talk.one_pass()
    assert (gpus[1].uuid, gpus[1].name, gpus[1].ecc_uncorrected_total) == (other.uuid, other.name, None)


def test_row_40_the_gpus_are_known_by_uuid_when_the_driver_counts_anew(driver: Driver) -> None:
    scenario = fakenvml.datacentre(3)
    scenario.write(driver.file)
    driver.talks.append(Talk(driver.file))
    talk = driver.talks[-1]
    talk.one_pass(Pass())
    del scenario.gpus[0]
    scenario.write(driver.file)
    _, gpus = talk.one_pass(Pass())
    assert [gpu.uuid for gpu in gpus] == [gpu.uuid for gpu in scenario.gpus]
    assert [gpu.temperature_celsius for gpu in gpus] == [51, 52]


def test_at_most_160_calls_of_the_driver_for_everything_and_far_fewer_between(driver: Driver) -> None:
    scenario = fakenvml.datacentre(8)
    for place in range(10):
        scenario.gpus[place % 8].processes.append(fakenvml.Process(NO_PROCESS + place, GIB))
    scenario.write(driver.file)
    driver.talks.append(Talk(driver.file, driver.log))
    talk = driver.talks[-1]
    talk.one_pass(Pass())
    counts = []
    for request in (Pass(beats=FULL), Pass(beats=FAST)):
        before = len(driver.calls())
        talk.one_pass(request)
        counts.append(len(driver.calls()) - before)
    assert counts[0] <= 160
    assert counts[1] <= 60
