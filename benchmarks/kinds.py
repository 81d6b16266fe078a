"""What an answer of another program costs a hub to read, by kind, beside our own report of the same GPUs.

The answers are those that the tests read (tests/hub/recorded). Time is the processor's, the best of several rounds.

    python -m benchmarks.kinds [--rounds 30]
"""

import argparse
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

from benchmarks._figures import Figure, show
from gpumon.hub.kinds import READERS
from gpumon.model import Kind
from gpumon.wire import decode_report, encode

RECORDED = Path(__file__).parent.parent / "tests" / "hub" / "recorded"
FILES: Final[dict[str, Kind]] = {
    "gpustat.json": "gpustat",
    "dcgm.txt": "dcgm-exporter",
    "nvidia_gpu_exporter.txt": "nvidia-gpu-exporter",
    "nvitop.txt": "nvitop-exporter",
}
TIMES = 20


def seconds(call: Callable[[], object], rounds: int) -> float:
    """The processor's time for one call, in the best round."""
    best = float("inf")
    for _ in range(rounds):
        began = time.process_time()
        for _ in range(TIMES):
            call()
        best = min(best, (time.process_time() - began) / TIMES)
    return best


def compared(file: str, rounds: int) -> Figure:
    body, kind = (RECORDED / file).read_bytes(), FILES[file]
    report = READERS[kind](body, "n")
    ours = encode(report)
    theirs = seconds(partial(READERS[kind], body, "n"), rounds) / len(report.gpus)
    own = seconds(partial(decode_report, ours), rounds) / len(report.gpus)
    return Figure(kind, f"{theirs * 1e6:.0f} µs a GPU", f"{own * 1e6:.1f} µs", theirs / own)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=30)
    rounds = parser.parse_args().rounds
    show("An answer of another program, against our own report of the same", [compared(file, rounds) for file in FILES])


if __name__ == "__main__":
    main()
