"""Xids: the errors that the driver reports of a GPU by number. What they mean, and how often each was seen.

Some are the fault of the program that ran, not of the GPU. They are told as well, for the program's owner
asks too, but they are no reason to alarm whoever looks after the machine.
"""

from typing import Final

from gpumon.model import Gravity, Xid

MAX_XIDS = 64

MEANINGS: Final[dict[int, tuple[Gravity, str]]] = {
    8: ("warning", "The GPU stopped processing: a program ran into the time limit of the driver."),
    13: ("warning", "A program made the graphics engine fail, most often by accessing memory out of bounds."),
    31: ("warning", "A program accessed memory that is not mapped."),
    32: ("warning", "The commands of a program were invalid or corrupted."),
    38: ("warning", "The driver's firmware reported an error."),
    43: ("info", "A program made the GPU stop working for it. Other programs are not concerned."),
    45: ("info", "A program's work was ended early, by itself, by a signal or after another error."),
    48: ("critical", "An uncorrectable memory error (double bit). The GPU has to be reset."),
    56: ("critical", "The display engine failed."),
    57: ("critical", "Programming the video memory interface failed."),
    58: ("critical", "Unstable video memory interface."),
    61: ("critical", "The GPU's microcontroller halted (breakpoint or warning)."),
    62: ("critical", "The GPU's microcontroller halted. The GPU has to be reset."),
    63: ("critical", "A row or page of memory was retired or will be remapped; it takes effect with the next reset."),
    64: ("critical", "A row or page of memory could not be retired or remapped. The GPU has to be looked at."),
    68: ("warning", "The video decoder failed for a program."),
    69: ("warning", "A program made the graphics engine's class interface fail."),
    74: ("critical", "NVLink failed. Check the other GPUs and switches on the link; a reset may be needed."),
    79: ("critical", "The GPU has fallen off the bus: it no longer answers. Check power, cooling and seating."),
    92: ("warning", "Many single-bit memory errors were corrected."),
    94: ("critical", "An uncorrectable memory error was contained: only the programs that hit it were ended."),
    95: ("critical", "An uncorrectable memory error was not contained. The GPU has to be reset."),
    109: ("warning", "Switching between the contexts of programs took too long."),
    119: ("critical", "The GPU's system processor (GSP) did not answer in time. A reset or reboot is needed."),
    120: ("critical", "The GPU's system processor (GSP) failed. A reset or reboot is needed."),
    121: ("warning", "The chip-to-chip link reported an error."),
    140: ("critical", "An uncorrectable error in memory that is not the GPU's main memory. A reset is needed."),
    143: ("critical", "The GPU could not be initialised."),
    154: ("warning", "What it takes to make this GPU work again has changed: see its recovery action."),
}
UNKNOWN: Final[tuple[Gravity, str]] = ("warning", "See NVIDIA's documentation of Xid errors for this number.")


class XidLog:
    """What was seen of each GPU since the agent started, whichever child has seen it."""

    def __init__(self) -> None:
        self._seen: dict[str, dict[int, Xid]] = {}

    def note(self, uuid: str, code: int, at: str) -> Xid:
        """The GPU has reported ``code``."""
        seen = self._seen.setdefault(uuid, {})
        before = seen.pop(code, None)
        gravity, meaning = MEANINGS.get(code, UNKNOWN)
        count = before.count + 1 if before else 1
        seen[code] = Xid(code=code, meaning=meaning, gravity=gravity, count=count, last_at=at)
        while len(seen) > MAX_XIDS:
            del seen[next(iter(seen))]
        return seen[code]

    def of(self, uuid: str | None) -> list[Xid]:
        """Newest first."""
        return list(reversed(self._seen.get(uuid or "", {}).values()))
