"""What simulated GPUs are busy with: training, inference, a notebook that only holds memory, a desktop, nothing."""

import math
from collections.abc import Callable
from typing import Final

from msgspec import Struct

from gpumon.model import ProcessType


class Load(Struct, frozen=True, kw_only=True):
    """One process on a GPU: who runs what, the share of memory that it holds, its utilisation over time."""

    user: str
    command: str
    memory_share: float
    utilization: Callable[[float], float]
    type: ProcessType = "compute"
    container: str | None = None
    job: str | None = None


def _training(seconds: float) -> float:
    """Near full, with a dip for a checkpoint every minute."""
    return 35.0 if seconds % 60 < 3 else 96 + 3 * math.sin(seconds / 5)


def _inference(seconds: float) -> float:
    """Requests come in waves."""
    return 42 + 30 * math.sin(seconds / 23) + 12 * math.sin(seconds / 3.1)


def _nothing(_: float) -> float:
    return 0.0


_TRAINING = Load(
    user="sim-alice", command="python train.py", memory_share=0.88, utilization=_training, job="slurm:48213"
)
_INFERENCE = Load(
    user="sim-bob",
    command="python -m vllm.entrypoints",
    memory_share=0.90,
    utilization=_inference,
    container="docker:5d0c0ffee123",
)
_NOTEBOOK = Load(user="sim-carol", command="python -m ipykernel_launcher", memory_share=0.31, utilization=_nothing)
_DISTRIBUTED = Load(
    user="sim-alice",
    command="python -m torch.distributed.run",
    memory_share=0.71,
    utilization=_training,
    job="slurm:48207",
)

LOADS: Final[tuple[tuple[Load, ...], ...]] = (
    (_TRAINING,),
    (_INFERENCE,),
    (),
    (_NOTEBOOK,),
    (_DISTRIBUTED,),
    (),
)
"""What the GPUs of a machine do, one after the other and then from the start."""

DESKTOP: Final = Load(user="sim-carol", command="Xorg", memory_share=0.008, utilization=_nothing, type="graphics")
"""What draws the screen: on the first GPU of a board that people sit before."""
