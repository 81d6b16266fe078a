import subprocess
import sys

import msgspec
import pytest

from gpumon.agent.boards import BOARDS
from gpumon.agent.sample import Sample
from gpumon.agent.scenario import FAULTS, Scenario
from gpumon.agent.simulate import SimulatedReader
from gpumon.errors import UsageError
from gpumon.model import Gpu, Process

EVERYTHING = "h200:8,a100:6,a100-mig:6,rtx5090:6,gb10:6"
FAULTY = "a100:5,fault=lost:0,fault=unresponsive:1,fault=xid79:2,fault=throttled:3,fault=ecc:4"


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


async def sample_of(text: str, seed: int = 0) -> Sample:
    return await SimulatedReader(Scenario.parse(text), seed).read()


def processes_of(gpu: Gpu) -> list[Process]:
    return [*(gpu.processes or []), *(one for device in gpu.mig_devices or [] for one in device.processes or [])]


# ---- what is asked for ----


@pytest.mark.parametrize(
    ("text", "boards"),
    [
        ("0", ()),
        ("2", ("h200", "h200")),
        ("gb10", ("gb10",)),
        ("h200:1,rtx5090:2", ("h200", "rtx5090", "rtx5090")),
        (" a100-mig:1 , 1", ("a100-mig", "h200")),
    ],
)
def test_boards_are_numbered_in_the_order_in_which_they_are_asked_for(text: str, boards: tuple[str, ...]) -> None:
    assert Scenario.parse(text).boards == boards


def test_a_fault_befalls_the_gpu_that_is_named_and_the_first_by_default() -> None:
    scenario = Scenario.parse("fault=lost:3,h200:4,fault=throttled,fault=no_driver")
    assert scenario.faults == {3: "lost", 0: "throttled"}
    assert scenario.node_fault == "no_driver"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "'' is no board; allowed: a number of GPUs, or h200, a100, a100-mig, rtx5090, gb10, each"),
        ("h100:8", "'h100:8' is no board; allowed: .*h200"),
        ("h200:", "'h200:': '' is not allowed; allowed: a whole number from 0 to 128"),
        ("h200:-1", "'-1' is not allowed"),
        ("h200:٣", "is not allowed"),
        ("129", "'129' is not allowed; allowed: a whole number from 0 to 128"),
        ("h200:100,a100:100", "200 GPUs; allowed: at most 128"),
        ("h200,fault=fire", "'fault=fire' is no fault; allowed: lost, unresponsive, xid79, throttled, ecc, no_driver"),
        ("h200:2,fault=lost:2", "'fault=lost:2': there is no GPU 2; allowed: GPUs 0 to 1"),
        ("0,fault=lost", "there is no GPU 0; allowed: no GPU is simulated"),
        ("2,fault=lost:x", "'x' is not allowed"),
        ("2,fault=lost:1,fault=ecc:1", "GPU 1 has a fault already"),
        ("rtx5090,fault=ecc", "rtx5090 has no ECC memory"),
        ("fault=no_driver:1", "a fault of the whole machine; allowed: fault=no_driver"),
    ],
)
def test_what_cannot_be_simulated_is_told_with_what_can(text: str, expected: str) -> None:
    with pytest.raises(UsageError, match=f"^--simulate: .*{expected}") as raised:
        Scenario.parse(text)
    assert len(raised.value.faults) == 1


# ---- what is told ----


@pytest.mark.parametrize("text", [EVERYTHING, FAULTY])
async def test_everything_simulated_says_so_and_is_within_the_bounds_of_the_wire(text: str) -> None:
    reader = SimulatedReader(Scenario.parse(text))
    assert reader.simulated
    sample = await reader.read()
    assert "simulated" in f"{sample.driver_version} {sample.nvml_version}"
    for gpu in sample.gpus:
        assert msgspec.json.decode(msgspec.json.encode(gpu), type=Gpu) == gpu
        assert "simulated" in str(gpu.name)
        assert gpu.error is None or "simulated" in gpu.error.message
        assert all("simulated" in xid.meaning for xid in gpu.xids or [])
        for process in processes_of(gpu):
            assert "simulated" in str(process.name)
            assert "simulated" in str(process.command)
            assert str(process.user).startswith("sim-")


@pytest.mark.parametrize("text", [EVERYTHING, FAULTY])
async def test_every_null_has_its_reason_and_nothing_else_has(text: str) -> None:
    for gpu in (await sample_of(text)).gpus:
        nulls = {name for name in Gpu.__struct_fields__ if getattr(gpu, name) is None} - {"error"}
        assert nulls == set(gpu.unavailable), gpu.name


async def test_the_memory_adds_up() -> None:
    for gpu in (await sample_of(EVERYTHING)).gpus:
        used = gpu.memory_used_bytes or 0
        assert gpu.memory_total_bytes == used + (gpu.memory_free_bytes or 0) + (gpu.memory_reserved_bytes or 0)
        assert (gpu.memory_free_bytes or 0) > 0
        ledger = gpu.memory_ledger
        if ledger is None:
            assert gpu.memory_kind == "unified"
            continue
        assert used == ledger.processes_bytes + ledger.unaccounted_bytes
        assert ledger.processes_bytes == sum(one.memory_used_bytes or 0 for one in gpu.processes or [])
        assert (ledger.reserved_bytes, ledger.cause) == (gpu.memory_reserved_bytes, None)


async def test_nothing_is_above_its_maximum_and_no_counter_goes_back() -> None:
    clock = Clock()
    reader = SimulatedReader(Scenario.parse(EVERYTHING), clock=clock)
    before = (await reader.read()).gpus
    for _ in range(200):
        clock.now += 1
        gpus = (await reader.read()).gpus
        for gpu, earlier in zip(gpus, before, strict=True):
            assert (gpu.energy_joules_total or 0) > (earlier.energy_joules_total or 0)
            assert (gpu.power_draw_watts or 0) <= (gpu.power_limit_watts or 1e9)
            assert (gpu.sm_clock_megahertz or 0) <= (gpu.sm_clock_max_megahertz or 0)
            assert (gpu.memory_clock_megahertz or 0) <= (gpu.memory_clock_max_megahertz or 0)
            assert (gpu.temperature_celsius or 0) < (gpu.slowdown_temperature_celsius or 0)
            assert (gpu.nvlink_active_count or 0) <= (gpu.nvlink_count or 0)
        before = gpus


async def test_a_partitioned_gpu_tells_no_rate_and_its_slices_their_own_memory_and_processes() -> None:
    (gpu,) = (await sample_of("a100-mig")).gpus
    assert gpu.mig_enabled is True
    assert (gpu.utilization_percent, gpu.unavailable["utilization_percent"]) == (None, "unsupported")
    assert gpu.mig_devices is not None
    assert [device.index for device in gpu.mig_devices] == list(range(7))
    assert len({device.uuid for device in gpu.mig_devices}) == 7
    slices = [one for device in gpu.mig_devices for one in device.processes or []]
    assert sorted(one.pid for one in slices) == sorted(one.pid for one in gpu.processes or [])
    for device in gpu.mig_devices:
        assert device.memory_total_bytes == (device.memory_used_bytes or 0) + (device.memory_free_bytes or 0)
        assert sum(one.memory_used_bytes or 0 for one in device.processes or []) <= (device.memory_used_bytes or 0)


async def test_boards_tell_what_such_boards_tell() -> None:
    gpus = dict(zip(BOARDS, (await sample_of(",".join(BOARDS))).gpus, strict=True))
    assert gpus["h200"].fan_speed_percent is None
    assert gpus["rtx5090"].fan_speed_percent is not None
    assert gpus["rtx5090"].ecc_uncorrected_total is None
    assert gpus["h200"].recovery_action == "none"
    assert gpus["h200"].memory_kind == "dedicated"
    unified = gpus["gb10"]
    assert unified.memory_kind == "unified"
    for field in ("fan_speed_percent", "pcie_generation", "pcie_width", "power_limit_watts"):
        assert getattr(unified, field) is None
        assert unified.unavailable[field] == "unsupported"


async def test_loads_look_like_training_inference_a_notebook_and_nothing() -> None:
    clock = Clock()
    reader = SimulatedReader(Scenario.parse("h200:4"), clock=clock)
    seen: list[list[float]] = [[], [], [], []]
    for _ in range(120):
        clock.now += 1
        gpus = (await reader.read()).gpus
        for index, gpu in enumerate(gpus):
            seen[index].append(gpu.utilization_percent or 0)
    training, inference, idle, notebook = seen
    assert sum(value > 90 for value in training) > 100
    assert min(training) < 50
    assert min(inference) < 20 < 60 < max(inference)
    assert set(idle) == set(notebook) == {0}
    assert (gpus[2].processes, gpus[2].throttle_reasons) == ([], ["gpu_idle"])
    assert gpus[3].processes
    assert (gpus[3].memory_used_bytes or 0) > 2**30


# ---- faults ----


async def test_faults_on_request() -> None:
    sample = await sample_of(FAULTY)
    lost, silent, xid, hot, bad = sample.gpus
    assert sample.status == "degraded"
    assert (lost.status, lost.unavailable["xids"]) == ("lost", "lost")
    assert (xid.status, [one.code for one in xid.xids or []]) == ("lost", [79])
    assert lost.utilization_percent is xid.utilization_percent is None
    assert (silent.status, silent.error is not None) == ("unresponsive", True)
    assert (hot.status, hot.throttle_reasons) == ("ok", ["sw_thermal_slowdown", "hw_thermal_slowdown"])
    assert (hot.sm_clock_megahertz or 0) < (hot.sm_clock_max_megahertz or 0)
    assert (bad.ecc_uncorrected_total or 0) > 0
    assert bad.remapped_rows is not None
    assert bad.remapped_rows.pending
    assert bad.recovery_action not in (None, "none")


async def test_a_gpu_that_does_not_answer_keeps_its_values_and_their_age() -> None:
    clock = Clock()
    reader = SimulatedReader(Scenario.parse("h200,fault=unresponsive"), clock=clock)
    before = (await reader.read()).gpus[0]
    clock.now += 100
    after = (await reader.read()).gpus[0]
    assert msgspec.structs.replace(after, error=None) == msgspec.structs.replace(before, error=None)
    assert after.error is not None
    assert "100 s" in after.error.message


@pytest.mark.parametrize(("text", "status"), [("8,fault=no_driver", "no_driver"), ("0", "no_gpus")])
async def test_a_machine_without_driver_or_gpus(text: str, status: str) -> None:
    sample = await sample_of(text)
    assert (sample.status, sample.gpus) == (status, [])
    assert sample.error is not None
    assert "simulated" in sample.error.message


@pytest.mark.parametrize("fault", FAULTS)
async def test_every_fault_has_an_effect(fault: str) -> None:
    assert await sample_of(f"a100,fault={fault}") != await sample_of("a100")


# ---- who they are ----


async def test_a_seed_gives_the_same_machine_and_another_seed_another() -> None:
    uuids = [[gpu.uuid for gpu in (await sample_of("3", seed)).gpus] for seed in (1, 1, 2)]
    assert uuids[0] == uuids[1] != uuids[2]


def test_a_simulation_never_loads_the_drivers_binding() -> None:
    code = (
        "import asyncio, sys; from gpumon.agent.simulate import SimulatedReader; "
        "from gpumon.agent.scenario import Scenario; import gpumon.agent.app, gpumon.agent.probe; "
        f"asyncio.run(SimulatedReader(Scenario.parse({EVERYTHING!r})).read()); print('pynvml' in sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"
