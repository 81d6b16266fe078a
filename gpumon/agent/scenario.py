"""What a simulation is asked for, in one line of text.

A list separated by commas: boards with their number, and faults with the index of the GPU that has them::

    8                                  eight GPUs of the default board
    h200:8                             eight H200
    h200:4,rtx5090:2                   a mix, numbered in this order
    h200:8,fault=lost:3                GPU 3 is lost
    a100-mig:2,fault=throttled         GPU 0 is too hot
    fault=no_driver                    a machine whose driver is not loaded
"""

from typing import Final, Self

from msgspec import Struct

from gpumon.agent.boards import BOARDS
from gpumon.errors import UsageError
from gpumon.model import MAX_GPUS

DEFAULT_BOARD: Final = "h200"

NODE_FAULTS: Final = frozenset({"no_driver"})
FAULTS: Final = ("lost", "unresponsive", "xid79", "throttled", "ecc", *NODE_FAULTS)


class Scenario(Struct, frozen=True, kw_only=True):
    """Boards by GPU index, faults by GPU index, and faults of the whole machine."""

    boards: tuple[str, ...] = ()
    faults: dict[int, str] = {}
    node_fault: str | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """The scenario that ``text`` asks for. Raises :class:`UsageError`, one line a fault."""
        boards: list[str] = []
        faults: dict[int, str] = {}
        node_fault = None
        wrong: list[str] = []
        for part in (part.strip() for part in text.split(",")):
            try:
                if part.startswith("fault="):
                    name, index = _fault(part)
                    if name in NODE_FAULTS:
                        node_fault = name
                    elif index in faults:
                        wrong.append(f"{part!r}: GPU {index} has a fault already; allowed: one a GPU")
                    else:
                        faults[index] = name
                else:
                    boards += _boards(part)
            except UsageError as error:
                wrong += error.faults
        scenario = cls(boards=tuple(boards), faults=faults, node_fault=node_fault)
        wrong = wrong or _impossible(scenario)
        if wrong:
            raise UsageError(*(f"--simulate: {fault}" for fault in wrong))
        return scenario


def _boards(part: str) -> list[str]:
    name, colon, count = part.partition(":")
    if not colon and name.isascii() and name.isdigit():
        name, count = DEFAULT_BOARD, name
    elif not colon:
        count = "1"
    if name not in BOARDS:
        raise UsageError(
            f"{part!r} is no board; allowed: a number of GPUs, or {', '.join(BOARDS)}, each with ':NUMBER'"
        )
    return [name] * _number(part, count, MAX_GPUS)


def _fault(part: str) -> tuple[str, int]:
    name, colon, index = part.removeprefix("fault=").partition(":")
    if name not in FAULTS:
        raise UsageError(f"{part!r} is no fault; allowed: {', '.join(FAULTS)}, each with ':GPU'")
    if name in NODE_FAULTS and colon:
        raise UsageError(f"{part!r}: this is a fault of the whole machine; allowed: fault={name}")
    return name, _number(part, index, MAX_GPUS - 1) if colon else 0


def _number(part: str, text: str, most: int) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 4 and int(text) <= most):
        raise UsageError(f"{part!r}: {text!r} is not allowed; allowed: a whole number from 0 to {most}")
    return int(text)


def _impossible(scenario: Scenario) -> list[str]:
    """What is well said but cannot be."""
    count = len(scenario.boards)
    if count > MAX_GPUS:
        return [f"{count} GPUs; allowed: at most {MAX_GPUS}"]
    wrong = []
    for index, name in sorted(scenario.faults.items()):
        if index >= count:
            have = f"GPUs 0 to {count - 1}" if count else "no GPU is simulated"
            wrong.append(f"'fault={name}:{index}': there is no GPU {index}; allowed: {have}")
        elif name == "ecc" and not BOARDS[scenario.boards[index]].has_ecc:
            wrong.append(f"'fault=ecc:{index}': {scenario.boards[index]} has no ECC memory; allowed: a GPU that has it")
    return wrong
