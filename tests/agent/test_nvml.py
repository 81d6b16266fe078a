"""The child that talks to the driver: the real binding, in a real process, over the fake library."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from gpumon.agent.binding import check_binding
from gpumon.agent.pipe import EVERY_PASS, Pass, plain
from gpumon.agent.words import MEASURED
from gpumon.errors import BindingError
from tests import fakenvml
from tests.agent.talks import Driver, Talk
from tests.fakenvml import GIB, HANDLE, MigDevice, Process, Scenario


@pytest.fixture
def driver(tmp_path: Path) -> Iterator[Driver]:
    driver = Driver(tmp_path)
    yield driver
    for talk in driver.talks:
        talk.close()


def test_a_datacentre_gpu_is_read_in_the_units_of_a_report(driver: Driver) -> None:
    talk = driver.talk(fakenvml.datacentre(2))
    assert (talk.ready.driver_version, talk.ready.cuda_version) == ("580.95.05", "13.0")
    assert talk.ready.nvml_version == "13.580.95.05"
    done, gpus = talk.one_pass()
    assert done.error is None
    gpu = gpus[1]
    assert (gpu.index, gpu.uuid) == (1, "GPU-8c1f0000-0000-4000-8000-000000000001")
    assert (gpu.name, gpu.pci_bus_id, gpu.status) == ("NVIDIA H100 80GB HBM3", "00000000:19:00.0", "ok")
    assert (gpu.utilization_percent, gpu.memory_utilization_percent) == (91, 40)
    assert (gpu.encoder_utilization_percent, gpu.decoder_utilization_percent) == (0, 0)
    assert (gpu.memory_total_bytes, gpu.memory_used_bytes) == (80 * GIB, 20 * GIB)
    assert (gpu.memory_free_bytes, gpu.memory_reserved_bytes) == (80 * GIB - 20 * GIB - GIB // 2, GIB // 2)
    assert (gpu.temperature_celsius, gpu.memory_temperature_celsius) == (51, 60)
    assert (gpu.power_draw_watts, gpu.power_limit_watts, gpu.energy_joules_total) == (512.345, 700, 123456.789)
    assert (gpu.sm_clock_megahertz, gpu.memory_clock_megahertz, gpu.performance_state) == (1980, 2619, "P0")
    assert (gpu.throttle_reasons, gpu.ecc_uncorrected_total) == (["sw_power_cap"], 0)
    assert (gpu.pcie_generation, gpu.pcie_width) == (5, 16)
    assert (gpu.persistence_mode, gpu.compute_mode, gpu.mig_enabled) == (True, "default", False)
    assert (gpu.mig_devices, gpu.processes) == ([], [])
    assert gpu.unavailable == {"fan_speed_percent": "unsupported"}
    assert gpu.sampled_at is not None


def test_every_null_of_a_gpu_that_tells_nothing_is_explained(driver: Driver) -> None:
    gpu = driver.one(fakenvml.unsupported())
    assert gpu.status == "ok"
    nulls = {field for field in MEASURED if getattr(gpu, field) is None}
    assert gpu.unavailable == dict.fromkeys(nulls, "unsupported")
    assert set(MEASURED) - nulls == {"processes", "xids"}


def test_a_name_that_is_no_text_is_made_one(driver: Driver) -> None:
    assert driver.one(fakenvml.not_utf8()).name == "NVIDIA \ufffd RTX\ufffd[31m \ufffd4090"


def test_without_the_second_form_of_the_memory_call_the_first_is_asked(driver: Driver) -> None:
    scenario = fakenvml.datacentre(1)
    scenario.gpus[0].does = {"nvmlDeviceGetMemoryInfo_v2": 13, "nvmlDeviceGetMemoryInfo": 0}
    gpu = driver.one(scenario)
    assert (gpu.memory_total_bytes, gpu.memory_used_bytes) == (80 * GIB, 20 * GIB + GIB // 2)
    assert gpu.memory_reserved_bytes is None
    assert gpu.unavailable["memory_reserved_bytes"] == "unsupported"


def test_a_board_without_memory_of_its_own_has_no_memory_figures(driver: Driver) -> None:
    scenario = fakenvml.consumer(1)
    scenario.gpus[0].memory_total = scenario.gpus[0].memory_used = scenario.gpus[0].memory_reserved = 0
    gpu = driver.one(scenario)
    assert (gpu.memory_kind, gpu.memory_ledger) == (None, None)
    assert gpu.memory_total_bytes is gpu.memory_used_bytes is gpu.memory_reserved_bytes is None
    assert gpu.unavailable["memory_total_bytes"] == "unsupported"


@pytest.mark.parametrize("code", [3, 15, 999])
def test_row_19_the_code_of_a_single_field_value_counts(driver: Driver, code: int) -> None:
    scenario = fakenvml.datacentre(1)
    scenario.gpus[0].field_codes[MEMORY_TEMPERATURE] = code
    gpu = driver.one(scenario)
    assert gpu.memory_temperature_celsius is None
    assert gpu.unavailable["memory_temperature_celsius"] == {3: "unsupported", 15: "lost", 999: "error"}[code]
    assert gpu.power_draw_average_watts == (None if code == 15 else 512.345)


def test_figures_outside_the_bounds_are_errors_of_their_field_alone(driver: Driver) -> None:
    scenario = fakenvml.datacentre(1)
    gpu = scenario.gpus[0]
    gpu.utilization, gpu.compute_mode, gpu.temperature, gpu.energy = 4_000_000, 77, 100_000, 2**64 - 1
    seen = driver.one(scenario)
    assert seen.unavailable == {
        "fan_speed_percent": "unsupported",
        "utilization_percent": "error",
        "compute_mode": "error",
        "temperature_celsius": "error",
        "energy_joules_total": "error",
    }
    assert seen.memory_utilization_percent == 40


def test_what_is_not_supported_is_not_asked_again(driver: Driver) -> None:
    talk = driver.talk(fakenvml.datacentre(1))
    talk.one_pass()
    before = len(driver.calls())
    talk.one_pass()
    assert "nvmlDeviceGetFanSpeed" in driver.calls()[:before]
    assert "nvmlDeviceGetFanSpeed" not in driver.calls()[before:]
    assert "nvmlDeviceGetPowerUsage" in driver.calls()[before:]


def test_mig_devices_are_listed(driver: Driver) -> None:
    scenario = fakenvml.datacentre(1)
    scenario.gpus[0].mig_mode = 1
    scenario.gpus[0].mig_devices = [MigDevice("MIG-1"), MigDevice("MIG-2", memory_used=3 * GIB)]
    gpu = driver.one(scenario)
    assert gpu.mig_enabled is True
    assert gpu.mig_devices is not None
    assert [(mig.index, mig.uuid, mig.memory_used_bytes) for mig in gpu.mig_devices] == [
        (0, "MIG-1", GIB),
        (1, "MIG-2", 3 * GIB),
    ]


def test_processes_are_merged_and_ordered(driver: Driver) -> None:
    scenario = fakenvml.datacentre(1)
    scenario.gpus[0].processes = [
        Process(4_000_001, None),
        Process(4_000_002, GIB),
        Process(4_000_003, 2 * GIB),
        Process(4_000_004, 200 * GIB),
        Process(4_000_002, 3 * GIB, "graphics"),
    ]
    processes = driver.one(scenario).processes
    assert processes is not None
    assert [(one.pid - 4_000_000, one.type, one.memory_used_bytes) for one in processes] == [
        (2, "compute+graphics", 3 * GIB),
        (3, "compute", 2 * GIB),
        (1, "compute", None),
        (4, "compute", None),
    ]
    assert processes[0].name is None  # there is no such process


def test_our_own_process_is_described(driver: Driver) -> None:
    scenario = fakenvml.datacentre(1)
    scenario.gpus[0].processes = [Process(os.getpid(), GIB)]
    talk = driver.talk(scenario)
    _, (gpu,) = talk.one_pass()
    assert [doing.step for doing in talk.announced] == ["list", "gpu", "gpu", "processes", "events"]
    assert gpu.processes is not None
    assert gpu.processes[0].pid == os.getpid()
    _, (gpu,) = talk.one_pass(Pass(describe_processes=False, beats=EVERY_PASS))
    assert gpu.processes is not None
    assert gpu.processes[0].name is None


@pytest.mark.parametrize("older", [0, 13])
def test_a_scrambled_list_of_processes_is_not_believed(driver: Driver, older: int) -> None:
    scenario = fakenvml.datacentre(1)
    gpu = scenario.gpus[0]
    gpu.processes = [Process(1001, GIB), Process(1002, 2 * GIB)]
    gpu.process_entry_bytes = 32
    gpu.does["nvmlDeviceGetComputeRunningProcesses_v3"] = 0
    gpu.does["nvmlDeviceGetComputeRunningProcesses"] = older
    gpu.does["nvmlDeviceGetGraphicsRunningProcesses"] = 999 if older else 0
    seen = driver.one(scenario)
    if older:
        assert seen.processes is None
        assert seen.unavailable["processes"] == "error"
    else:
        assert seen.processes is not None
        assert [one.pid for one in seen.processes] == [1002, 1001]


def test_a_query_for_processes_that_fails_is_no_idle_gpu(driver: Driver) -> None:
    scenario = fakenvml.datacentre(1)
    scenario.gpus[0].does["nvmlDeviceGetComputeRunningProcesses"] = 4
    seen = driver.one(scenario)
    assert seen.processes is None
    assert seen.unavailable["processes"] == "denied"


def test_where_only_one_list_of_processes_exists_it_is_enough(driver: Driver) -> None:
    scenario = fakenvml.datacentre(1)
    scenario.gpus[0].does["nvmlDeviceGetGraphicsRunningProcesses"] = 3
    seen = driver.one(scenario)
    assert seen.processes is not None
    assert [one.pid for one in seen.processes] == [2, 1]


@pytest.mark.parametrize(
    ("scenario", "status", "code"),
    [
        (Scenario(init=9), "no_driver", "no_driver"),
        (Scenario(init=12), "no_driver", "no_driver"),
        (Scenario(init=18), "driver_mismatch", "driver_mismatch"),
        (Scenario(init=4), "error", "denied"),
        (Scenario(init=999), "error", "nvml_999"),
    ],
)
def test_a_driver_that_does_not_start_says_why(driver: Driver, scenario: Scenario, status: str, code: str) -> None:
    ready = driver.talk(scenario).ready
    assert ready.status == status
    assert ready.error is not None
    assert ready.error.code == code
    assert ready.error.hint


def test_versions_that_cannot_be_told_are_null(driver: Driver) -> None:
    scenario = fakenvml.datacentre(1)
    scenario.driver_version = b"580\xff"
    scenario.does = {"nvmlSystemGetNVMLVersion": 999, "nvmlSystemGetCudaDriverVersion": 13}
    ready = driver.talk(scenario).ready
    assert (ready.driver_version, ready.nvml_version, ready.cuda_version) == ("580\ufffd", None, None)


def test_what_is_to_be_skipped_is_not_even_asked_who_it_is(driver: Driver) -> None:
    scenario = fakenvml.datacentre(4)
    scenario.gpus[1].does[HANDLE] = "segv"
    scenario.gpus[2].does["nvmlDeviceGetName"] = "segv"
    talk = driver.talk(scenario)
    _, gpus = talk.one_pass(Pass(beats=EVERY_PASS, skip_indexes=[1], skip_uuids=[str(scenario.gpus[2].uuid)]))
    assert [gpu.index for gpu in gpus] == [0, 3]
    _, gpus = talk.one_pass(Pass(only=3))
    assert [gpu.index for gpu in gpus] == [3]


def test_the_end_of_the_requests_ends_the_child_in_good_order(driver: Driver) -> None:
    talk = driver.talk(fakenvml.datacentre(1))
    talk.one_pass()
    assert talk.close() == 0
    assert driver.calls()[-1] == "nvmlShutdown"
    assert driver.calls().count("nvmlInitWithFlags") == 1


def test_sigterm_ends_the_child_in_good_order(driver: Driver) -> None:
    talk = driver.talk(fakenvml.datacentre(1))
    talk.one_pass()
    talk.process.send_signal(signal.SIGTERM)
    assert talk.process.wait(10) == 0
    assert driver.calls()[-1] == "nvmlShutdown"


def test_a_library_that_prints_does_not_disturb(driver: Driver) -> None:
    scenario = fakenvml.datacentre(1)
    scenario.does["nvmlDeviceGetName"] = "chatter"
    assert driver.one(scenario).name == "NVIDIA H100 80GB HBM3"


# What each code means is spelled out here once more, apart from the program.
WORDS = {
    "unsupported": (3, 13, 25, 26),
    "denied": (4, 17),
    "no_data": (6, 21, 27),
    "lost": (15, 28),
    "reset_required": (16, 29),
    "driver": (1, 9, 12, 18),
    "timeout": (10,),
    "error": (2, 5, 7, 8, 11, 14, 19, 20, 22, 23, 24, 30, 999),
}
MEMORY_TEMPERATURE = 82
CODES = [(code, word) for word, codes in WORDS.items() for code in codes]
MEMORY = {f"memory_{word}" for word in ("total_bytes", "used_bytes", "free_bytes", "kind")}
FIELDS = {
    ("nvmlDeviceGetName",): {"name"},
    ("nvmlDeviceGetUUID",): {"uuid", "xids"},
    ("nvmlDeviceGetPciInfo",): {"pci_bus_id"},
    ("nvmlDeviceGetUtilizationRates",): {"utilization_percent", "memory_utilization_percent"},
    ("nvmlDeviceGetEncoderUtilization",): {"encoder_utilization_percent"},
    ("nvmlDeviceGetDecoderUtilization",): {"decoder_utilization_percent"},
    ("nvmlDeviceGetMemoryInfo",): MEMORY | {"memory_reserved_bytes", "memory_ledger"},
    ("nvmlDeviceGetTemperature",): {"temperature_celsius"},
    ("nvmlDeviceGetTemperatureThreshold",): {"slowdown_temperature_celsius"},
    ("nvmlDeviceGetFanSpeed",): {"fan_speed_percent"},
    ("nvmlDeviceGetPowerUsage",): {"power_draw_watts"},
    ("nvmlDeviceGetEnforcedPowerLimit", "nvmlDeviceGetPowerManagementLimit"): {"power_limit_watts"},
    ("nvmlDeviceGetTotalEnergyConsumption",): {"energy_joules_total"},
    ("nvmlDeviceGetClockInfo",): {"sm_clock_megahertz", "memory_clock_megahertz"},
    ("nvmlDeviceGetMaxClockInfo",): {"sm_clock_max_megahertz", "memory_clock_max_megahertz"},
    ("nvmlDeviceGetPerformanceState",): {"performance_state"},
    ("nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetCurrentClocksThrottleReasons"): {"throttle_reasons"},
    ("nvmlDeviceGetTotalEccErrors",): {
        f"ecc_{kind}{since}_total" for kind in ("corrected", "uncorrected") for since in ("", "_lifetime")
    },
    ("nvmlDeviceGetRemappedRows",): {"remapped_rows"},
    ("nvmlDeviceGetNvLinkState",): {"nvlink_count", "nvlink_active_count"},
    ("nvmlDeviceGetCurrPcieLinkGeneration",): {"pcie_generation"},
    ("nvmlDeviceGetCurrPcieLinkWidth",): {"pcie_width"},
    ("nvmlDeviceGetMaxPcieLinkGeneration",): {"pcie_generation_max"},
    ("nvmlDeviceGetMaxPcieLinkWidth",): {"pcie_width_max"},
    ("nvmlDeviceGetPersistenceMode",): {"persistence_mode"},
    ("nvmlDeviceGetComputeMode",): {"compute_mode"},
    ("nvmlDeviceGetMigMode",): {"mig_enabled", "mig_devices"},
    ("nvmlDeviceGetMaxMigDeviceCount",): {"mig_devices"},
    ("nvmlDeviceGetMigDeviceHandleByIndex",): {"mig_devices"},
    ("nvmlDeviceGetComputeRunningProcesses", "nvmlDeviceGetGraphicsRunningProcesses"): {"processes", "memory_ledger"},
    ("nvmlDeviceRegisterEvents",): {"xids"},
}
NUMBERED_ONLY = {
    "memory_temperature_celsius",
    "power_draw_average_watts",
    "power_draw_instant_watts",
    "recovery_action",
}
NUMBERED = NUMBERED_ONLY | {"power_limit_watts", "energy_joules_total"}
NUMBERED |= FIELDS["nvmlDeviceGetTotalEccErrors",] | FIELDS["nvmlDeviceGetRemappedRows",]
NUMBERED |= FIELDS["nvmlDeviceGetNvLinkState",]


def whole_gpu() -> Scenario:
    """One that tells everything, and through functions also what newer drivers tell by number."""
    scenario = fakenvml.datacentre(1)
    gpu = scenario.gpus[0]
    gpu.fan_speed, gpu.processes = 20, []
    return scenario


def test_whatever_any_function_returns_costs_its_own_fields_and_says_why(driver: Driver) -> None:
    scenario = whole_gpu()
    gpu = scenario.gpus[0]
    talk = driver.talk(scenario)
    case = 0
    for functions, fields in FIELDS.items():
        for code, word in CODES:
            case += 1
            mig = any("Mig" in function for function in functions)
            gpu.mig_mode, gpu.mig_devices = int(mig), [MigDevice("MIG-1")] if mig else []
            gpu.uuid = f"GPU-{case}"  # what was not supported is remembered by GPU
            gpu.does = {"nvmlDeviceGetFieldValues": 13, **dict.fromkeys(functions, code)}
            scenario.write(driver.file)
            done, (seen,) = talk.one_pass()
            about = (functions, code, seen)
            assert done.error is None, about
            if word == "lost":
                assert seen.status == "lost", about
                assert seen.unavailable == dict.fromkeys(MEASURED, "lost"), about
                continue
            expected = dict.fromkeys(NUMBERED_ONLY, "unsupported") | dict.fromkeys(fields, word)
            if "nvmlDeviceGetUUID" in functions:
                expected["xids"] = "no_data"
            if "nvmlDeviceGetComputeRunningProcesses" in functions and word == "denied":
                del expected["memory_ledger"]  # the processes are not visible: that is a cause
            if mig and seen.mig_enabled:
                expected |= dict.fromkeys(UTILIZATION, "unsupported")
            if "nvmlDeviceGetMigDeviceHandleByIndex" in functions and word == "no_data":
                del expected["mig_devices"]  # an empty slot
            assert seen.unavailable == expected, about
            nulls = {field for field in MEASURED if getattr(seen, field) is None}
            assert nulls <= seen.unavailable.keys(), about
            assert seen.status == ("error" if word == "reset_required" else "ok"), about


UTILIZATION = {
    f"{what}utilization_percent" for what in ("", "memory_", "encoder_", "decoder_")
}  # which the driver does not know of a GPU that is partitioned


@pytest.mark.parametrize("each", [False, True])
def test_whatever_the_values_by_number_return_costs_their_own_fields_and_says_why(driver: Driver, each: bool) -> None:
    scenario = whole_gpu()
    gpu = scenario.gpus[0]
    talk = driver.talk(scenario)
    for code, word in CODES:
        gpu.uuid = f"GPU-{code}"
        gpu.field_code, gpu.does["nvmlDeviceGetFieldValues"] = (code, 0) if each else (None, code)
        scenario.write(driver.file)
        _, (seen,) = talk.one_pass()
        if word == "lost":
            assert seen.unavailable == dict.fromkeys(MEASURED, "lost"), code
        else:
            fields = NUMBERED_ONLY if word == "unsupported" else NUMBERED
            assert seen.unavailable == dict.fromkeys(fields, word), code


@pytest.mark.parametrize(("code", "word"), CODES)
def test_a_gpu_without_a_handle_costs_no_other_gpu(code: int, word: str, handles: tuple[Driver, Talk]) -> None:
    driver, talk = handles
    scenario = fakenvml.datacentre(3)
    scenario.gpus[1].does[HANDLE] = code
    scenario.write(driver.file)
    _, gpus = talk.one_pass()
    assert [gpu.status for gpu in gpus] == ["ok", "lost" if word == "lost" else "error", "ok"]
    assert gpus[1].unavailable == dict.fromkeys(MEASURED, word)
    assert gpus[1].error is not None
    assert gpus[1].error.hint


@pytest.mark.parametrize(("code", "word"), CODES)
def test_a_driver_that_does_not_count_its_gpus_says_why(code: int, word: str, handles: tuple[Driver, Talk]) -> None:
    driver, talk = handles
    scenario = fakenvml.datacentre(1)
    scenario.does["nvmlDeviceGetCount"] = code
    scenario.write(driver.file)
    done, gpus = talk.one_pass()
    assert gpus == []
    assert done.status == {9: "no_driver", 12: "no_driver", 18: "driver_mismatch"}.get(code, "error"), word
    assert done.error is not None


@pytest.fixture(scope="module")
def handles(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Driver, Talk]]:
    driver = Driver(tmp_path_factory.mktemp("driver"))
    talk = driver.talk(fakenvml.datacentre(1))
    yield driver, talk
    talk.close()


def test_text_of_strangers_is_made_harmless() -> None:
    assert plain("ordinary, 机器学习") == "ordinary, 机器学习"
    assert plain(b"\xff\x00\x1b[0m\n") == "\ufffd\ufffd\ufffd[0m\ufffd"
    assert plain("a\u202eb\u2066c\ud800") == "a\ufffdb\ufffdc\ufffd"
    assert len(plain("x" * 5000)) == 256


def install(folder: Path, distribution: str, version: str, *modules: str) -> None:
    """What a package index's ``distribution`` leaves in a folder of modules."""
    info = folder / f"{distribution.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")
    for module in modules:
        (folder / module).parent.mkdir(exist_ok=True)
        (folder / module).write_text("raise AssertionError('must not be imported')\n")
    (info / "RECORD").write_text("".join(f"{module},,\n" for module in modules))


def test_nvidias_own_binding_is_accepted(tmp_path: Path) -> None:
    check_binding()
    install(tmp_path, "nvidia-ml-py", "13.615.71", "pynvml.py")
    check_binding([str(tmp_path)])
    install(tmp_path, "pynvml", "12.0.0")
    check_binding([str(tmp_path)])


@pytest.mark.parametrize(
    ("packages", "says"),
    [
        ([], "nvidia-ml-py .* is not installed: pip install nvidia-ml-py"),
        ([("pynvml", "11.5.3", "pynvml/__init__.py")], "pynvml 11.5.3 .*pip uninstall -y pynvml && pip install"),
        (
            [("pynvml", "11.5.3", "pynvml/__init__.py"), ("nvidia-ml-py", "13.615.71", "pynvml.py")],
            "pynvml 11.5.3 .*pip uninstall -y pynvml",
        ),
        (
            [("pynvml", "13.0.1", "_pynvml_redirector.py"), ("nvidia-ml-py", "13.615.71", "pynvml.py")],
            "pynvml 13.0.1 .*deprecated.*pip uninstall -y pynvml",
        ),
        ([("nvidia-ml-py3", "7.352.0", "pynvml.py")], "nvidia-ml-py3 7.352.0 .*pip uninstall -y nvidia-ml-py3"),
        ([("something-else", "1", "pynvml.py")], "nvidia-ml-py .* is missing, yet .*pynvml.py"),
        (
            [("something-else", "1", "pynvml/__init__.py"), ("nvidia-ml-py", "13.615.71", "pynvml.py")],
            "not from nvidia-ml-py 13.615.71",
        ),
    ],
)
def test_every_other_pynvml_is_refused_in_one_line(
    tmp_path: Path, packages: list[tuple[str, str, str]], says: str
) -> None:
    tmp_path.joinpath("site").mkdir()
    for distribution, version, module in packages:
        install(tmp_path / "site", distribution, version, module)
    with pytest.raises(BindingError, match=says) as caught:
        check_binding([str(tmp_path / "site")])
    assert len(caught.value.faults) == 1
    assert "\n" not in str(caught.value)
