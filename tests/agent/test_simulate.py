import msgspec
import pytest

from gpumon.agent.simulate import BOARDS, SimulatedReader
from gpumon.model import Gpu


@pytest.mark.parametrize("seed", range(len(BOARDS)))
async def test_everything_simulated_says_so_and_is_within_the_bounds_of_the_wire(seed: int) -> None:
    reader = SimulatedReader(8, seed)
    assert reader.simulated
    sample = await reader.read()
    assert len(sample.gpus) == 8
    for gpu in sample.gpus:
        assert msgspec.json.decode(msgspec.json.encode(gpu), type=Gpu) == gpu
        assert gpu.name is not None
        assert "simulated" in gpu.name
        assert gpu.memory_total_bytes == sum(
            part or 0 for part in (gpu.memory_used_bytes, gpu.memory_free_bytes, gpu.memory_reserved_bytes)
        )
        for process in gpu.processes or []:
            assert process.name is not None
            assert "simulated" in process.name
            assert process.user is not None
            assert process.user.startswith("sim-")
        nulls = {name for name in Gpu.__struct_fields__ if getattr(gpu, name) is None} - {"error"}
        assert nulls == set(gpu.unavailable)


async def test_a_seed_gives_the_same_machine_and_another_seed_another() -> None:
    uuids = [[gpu.uuid for gpu in (await SimulatedReader(3, seed).read()).gpus] for seed in (1, 1, 2)]
    assert uuids[0] == uuids[1] != uuids[2]
