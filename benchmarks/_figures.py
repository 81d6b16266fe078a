"""What a benchmark says: figures, as the table that docs/performance.md holds."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """One row. ``goal`` says what was aimed at, ``met`` whether this run reached it (None: no goal)."""

    what: str
    ours: str
    reference: str = ""
    ratio: float | None = None
    goal: str = ""
    met: bool | None = None


def compared(what: str, ours: Sequence[float], reference: Sequence[float], unit: str, most: float) -> Figure:
    """A row that compares the medians of two interleaved series; ``most`` is the ratio aimed at."""
    median, other = statistics.median(ours), statistics.median(reference)
    ratio = median / other
    return Figure(what, f"{median:.3g} {unit}", f"{other:.3g} {unit}", ratio, f"≤ {most:g}", ratio <= most)


def show(title: str, figures: Sequence[Figure]) -> None:
    """Print the table."""
    print(f"\n## {title}\n")
    print("| | here | reference | ratio | goal | |")
    print("|---|---|---|---|---|---|")
    for one in figures:
        ratio = "" if one.ratio is None else f"{one.ratio:.2f}"
        met = "" if one.met is None else "met" if one.met else "**missed**"
        print(f"| {one.what} | {one.ours} | {one.reference} | {ratio} | {one.goal} | {met} |")
    print(flush=True)


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which ``share`` of ``values`` lie."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
