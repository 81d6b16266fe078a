"""A hub that writes down every report that it takes, for tests that kill it.

    python -m tests.ledgerhub PORT FILE [ADDRESS]

A line of the file is ``boot_id sequence``, written before the report is acknowledged and never buffered: what a
killed hub had taken stands there.
"""

import os
import sys
from collections import Counter
from pathlib import Path

from gpumon.config import AuthSection, Config
from gpumon.hub import app
from gpumon.hub.core import Hub
from gpumon.hub.member import Member
from gpumon.lifecycle import run
from gpumon.listening import listen
from gpumon.model import Report

NEW_LIFE = "new life"


def main(port: int, file: Path, address: str = "127.0.0.1") -> None:
    """Be the hub."""
    number = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(number, f"{NEW_LIFE}\n".encode())

    class Witness(Hub):
        def _remember(self, member: Member, report: Report) -> None:
            os.write(number, f"{report.boot_id} {report.sequence}\n".encode())
            super()._remember(member, report)

    setattr(app, "Hub", Witness)  # noqa: B010  (typed, it would be an assignment to a class)
    config = Config(auth=AuthSection(push="open"))  # its agents are as many, and as far away, as a test likes
    run(app.run(config, listen(address, port, "test")))


class Ledger:
    """What the hubs of one file have taken, in one life after the other."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def lives(self) -> list[dict[str, list[int]]]:
        """For each life of the hub, the sequences of each boot in the order in which they were taken."""
        lives: list[dict[str, list[int]]] = []
        for line in self._file.read_text().splitlines():
            if line == NEW_LIFE:
                lives.append({})
            else:
                boot, sequence = line.split()
                lives[-1].setdefault(boot, []).append(int(sequence))
        return lives

    def taken(self) -> dict[str, set[int]]:
        """The sequences of each boot that any life has taken."""
        taken: dict[str, set[int]] = {}
        for life in self.lives():
            for boot, sequences in life.items():
                taken.setdefault(boot, set()).update(sequences)
        return taken

    def repeated(self) -> list[tuple[str, int]]:
        """What one life has taken twice."""
        return [
            (boot, sequence)
            for life in self.lives()
            for boot, sequences in life.items()
            for sequence, times in Counter(sequences).items()
            if times > 1
        ]

    def missing(self) -> dict[str, set[int]]:
        """What nobody has taken although a later one of the same boot was."""
        taken = self.taken()
        return {boot: gaps for boot, found in taken.items() if (gaps := set(range(1, max(found) + 1)) - found)}


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:])
