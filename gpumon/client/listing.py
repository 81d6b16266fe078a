"""``gpumon nodes``: the fleet once, a line a node."""

import os
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from gpumon.client.choice import Choice
from gpumon.client.picture import Line, node_table, notices, painted, running, summary, troubles
from gpumon.client.rows import gpu_rows, node_rows
from gpumon.client.stream import Hub
from gpumon.client.watch import look
from gpumon.terminal import wrap
from gpumon.text import printable_json

NONE_YET = "No node yet. 'gpumon hub --print-join', on the hub's machine, shows what to run on each with GPUs."
NONE_CHOSEN = "No node is as asked for."


@dataclass(frozen=True)
class Page:
    """Where text goes, how wide it may be, and of which signs it is; ``say`` is for what is no result."""

    write: Callable[[str], None]
    say: Callable[[str], None]
    size: Callable[[], os.terminal_size]
    color: bool
    ascii_only: bool = False


async def run(page: Page, hub: Hub, choice: Choice, *, as_json: bool) -> int:
    """Show the nodes of ``choice``; the exit status.

    Raises:
        HubError: the hub does not tell.
    """
    fleet = await look(hub, "full" if as_json else "overview")
    nodes = choice.among(fleet.nodes)
    if as_json:
        show_json(page, nodes)
        return 0
    columns = page.size().columns
    rows = gpu_rows(nodes, fleet.now())
    lines: list[Line] = running(summary(rows), columns)
    if nodes:
        lines += [[], *node_table(node_rows(rows), columns)]
    else:
        lines += [[], *([("", one)] for one in wrap(NONE_CHOSEN if fleet.nodes else NONE_YET, columns))]
    said = [*notices(fleet.notices, columns), *troubles(nodes, columns)]
    page.write(painted([*lines, *([[]] if said else []), *said], color=page.color))
    return 0


def show_json(page: Page, value: object) -> None:
    """``value`` as one line of JSON, in which no text can be a command to the terminal."""
    page.write(printable_json(msgspec.json.encode(value)).decode() + "\n")
