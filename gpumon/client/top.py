"""``gpumon top``: the fleet live, a row a GPU or a node; or once; or as JSON."""

import asyncio
from collections.abc import Callable
from typing import Final, NoReturn

from gpumon.client.choice import Choice
from gpumon.client.controls import HELP, Controls
from gpumon.client.listing import NONE_CHOSEN, NONE_YET, Page, show_json
from gpumon.client.picture import Line, gpu_table, local_time, node_table, painted, running, summary
from gpumon.client.rows import (
    GpuRow,
    Order,
    gpu_rows,
    matching,
    node_rows,
    record,
    sorted_nodes,
    sorted_rows,
)
from gpumon.client.stream import Hub
from gpumon.client.watch import Watch, look
from gpumon.errors import HubError
from gpumon.terminal import IN_ASCII, Cell, cut, wrap
from gpumon.text import printable

FOLDS_FROM_GPUS: Final = 200
"""Where there are more, a row is a node, until somebody wants it otherwise."""
MEASURED_ROWS: Final = 500
HEADS: Final[dict[Order, str]] = {
    "node": "NODE",
    "util": "UTIL",
    "memory": "MEMORY GiB",
    "temperature": "°C",
    "power": "POWER W",
    "user": "PROCESSES",
    "model": "MODEL",
    "state": "STATE",
}
NODE_HEADS: Final[dict[Order, str]] = HEADS | {"temperature": "HOTTEST °C", "user": "USERS", "state": "FREE"}
KEYS: Final = "q quit  h help  f filter  o sort  t by "


class Top:
    """What is shown of ``watch``, as ``controls`` say, of the nodes of ``choice``."""

    def __init__(self, watch: Watch, choice: Choice, controls: Controls) -> None:
        self._watch = watch
        self._choice = choice
        self._controls = controls

    def rows(self) -> list[GpuRow]:
        """The GPUs that are asked for, in order."""
        fleet, controls = self._watch.fleet, self._controls
        rows = matching(gpu_rows(self._choice.among(fleet.nodes), fleet.now()), controls.words)
        return sorted_rows(rows, controls.order, is_reversed=controls.is_reversed)

    def picture(self, columns: int, lines: int | None) -> list[Line]:
        """Everything, in ``lines`` of the terminal, or in as many as it takes."""
        controls, rows = self._controls, self.rows()
        controls.settle(sum(row.gpu is not None for row in rows), FOLDS_FROM_GPUS)
        head = [*self._head(rows, columns), []]
        if lines is None:
            return [*head, *self._table(rows, columns)]
        room = max(1, lines - len(head) - 2)  # the heading and the foot stay
        (heading, *shown), first, count = self._part(rows, columns, room)
        blank: list[Line] = [[]] * (room - len(shown))
        return [*head, heading, *shown, *blank, self._foot(first, len(shown), count, columns)][-lines:]

    def _part(self, rows: list[GpuRow], columns: int, room: int) -> tuple[list[Line], int, int]:
        """What there is room for, under its heading; the first of it, and how many there are.

        Columns are as wide as all rows need, unless these are so many that it takes long to see.
        """
        controls = self._controls
        if controls.is_helping:
            return self._help(columns)[: room + 1], 0, 0
        if not controls.is_folded and len(rows) > MEASURED_ROWS:
            first = controls.window(len(rows), room)
            return self._table(rows[first : first + room], columns), first, len(rows)
        table = self._table(rows, columns)
        first = controls.window(len(table) - 1, room)
        return [table[0], *table[1 + first : 1 + first + room]], first, len(table) - 1

    def _head(self, rows: list[GpuRow], columns: int) -> list[Line]:
        watch = self._watch
        if watch.trouble is None or watch.lost_at is None:
            at, silent = Cell(local_time(watch.fleet.now()), "grey"), watch.silent_seconds
            quiet = [] if silent is None else [Cell(f"nothing told for {silent:.0f} s", "yellow")]
            return running([Cell("gpumon", "bold"), at, *quiet, *summary(rows)], columns)
        said = (
            f"No word from the hub since {local_time(watch.lost_at)}, and what is shown is from then. {watch.trouble}"
        )
        return [[("red bold", line)] for line in wrap(said, columns, rest=2)[:3]]

    def _table(self, rows: list[GpuRow], columns: int) -> list[Line]:
        controls = self._controls
        if not rows:
            why = NONE_CHOSEN if self._watch.fleet.nodes else NONE_YET
            return [[], *([("", line)] for line in wrap(why, columns))]
        if not controls.is_folded:
            return gpu_table(rows, columns, sorted_by=HEADS[controls.order])
        nodes = sorted_nodes(node_rows(self._in_order(rows)), controls.order, is_reversed=controls.is_reversed)
        return node_table(nodes, columns, sorted_by=NODE_HEADS[controls.order])

    def _in_order(self, rows: list[GpuRow]) -> list[GpuRow]:
        """The rows in the hub's own order, by which nodes that are equal stand."""
        places = {node.name: place for place, node in enumerate(self._watch.fleet.nodes)}
        return sorted(rows, key=lambda row: places[row.node.name])

    def _help(self, columns: int) -> list[Line]:
        lines: list[Line] = [[("bold", "Keys")]]
        return lines + [[("cyan", f"  {keys:18}"), ("", cut(what, max(0, columns - 20)))] for keys, what in HELP]

    def _foot(self, first: int, shown: int, count: int, columns: int) -> Line:
        controls = self._controls
        if controls.is_typing:
            return [("bold", "filter: "), ("", cut(printable(controls.words), max(0, columns - 10))), ("", "_")]
        part = f"{first + 1}-{first + shown} of {count}  " if shown < count and not controls.is_helping else ""
        order = f"sort: {controls.order}{' reversed' if controls.is_reversed else ''}  "
        words = f"filter: {printable(controls.words)}  " if controls.words else ""
        return [("grey", cut(part + order + words + KEYS + ("GPU" if controls.is_folded else "node"), columns))]


async def once(page: Page, hub: Hub, choice: Choice, controls: Controls, *, as_json: bool) -> int:
    """Show one picture; the exit status. Raises HubError: the hub does not tell."""
    watch = Watch(hub, "overview", 1.0)
    watch.fleet = await look(hub, "overview")
    top = Top(watch, choice, controls)
    if as_json:
        show_json(page, [record(row) for row in top.rows()])
    else:
        page.write(painted(top.picture(page.size().columns, None), color=page.color))
    return 0


async def follow(page: Page, hub: Hub, choice: Choice, controls: Controls, pace_seconds: float) -> NoReturn:
    """Write a line of JSON whenever something has changed, until cancelled.

    Raises:
        HubError: the hub cannot be reached, or refuses.
    """
    watch = Watch(hub, "overview", pace_seconds)
    top = Top(watch, choice, controls)

    def changed() -> None:
        if watch.trouble is None:
            show_json(page, [record(row) for row in top.rows()])

    await watch.run(changed)


async def live(page: Page, hub: Hub, choice: Choice, controls: Controls, pace_seconds: float) -> int:
    """Draw upon the terminal until somebody quits, or cancelled; the exit status.

    Raises:
        HubError: the hub cannot be reached the first time, or refuses.
    """
    from gpumon.client.screen import Screen

    watch = Watch(hub, "overview", pace_seconds)
    top = Top(watch, choice, controls)

    def draw(columns: int, lines: int) -> list[Line]:
        picture = top.picture(columns, lines)
        if page.ascii_only:
            return [[(style, text.translate(IN_ASCII)) for style, text in line] for line in picture]
        return picture

    def press(key: str) -> None:
        controls.press(key)
        if controls.has_quit:
            screen.leave()

    screen = Screen(draw, press, color=page.color)
    told = asyncio.Event()

    def changed() -> None:
        told.set()
        screen.changed()

    async with asyncio.TaskGroup() as group:
        following = group.create_task(_followed(watch, changed, told.set, screen.leave))
        await told.wait()
        if not following.done():
            ticking = group.create_task(_tick(watch, screen.changed))
            await screen.run()
            ticking.cancel()
            following.cancel()
    if not following.cancelled():
        raise following.result()
    return 0


async def _tick(watch: Watch, changed: Callable[[], None]) -> NoReturn:
    """While nothing is told the picture says for how long."""
    while True:
        await asyncio.sleep(1)
        if watch.silent_seconds is not None:
            changed()


async def _followed(watch: Watch, changed: Callable[[], None], *ends: Callable[[], None]) -> HubError:
    """Why it could not go on; ``ends`` are called then."""
    try:
        await watch.run(changed)
    except HubError as error:
        return error
    finally:
        for end in ends:
            end()
