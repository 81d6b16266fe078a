"""The fleet as a sheet: a line a GPU, as plain text or as plain HTML, for whoever runs no scripts.

What is *free* and *busy* is :mod:`gpumon.availability`'s to say. Names and commands are chosen by strangers:
:mod:`gpumon.terminal` makes them harmless for a terminal, and :func:`_escaped`, alone, for HTML.
"""

import html
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Final, Literal, NamedTuple

from gpumon.availability import State, state_of
from gpumon.hub.privacy import PRIVATE
from gpumon.model import Gpu, Node, Process
from gpumon.sums import sum_of
from gpumon.terminal import Cell, Column, Grid, line, paint, width, wrap
from gpumon.text import printable
from gpumon.timestamp import seconds

Language = Literal["en", "zh"]

GIB: Final = 2**30
NULL: Final = "-"
BETWEEN: Final = " · "
MOST_PROCESSES: Final = 8
STYLES: Final[dict[State, str]] = {
    "free": "green bold",
    "busy": "",
    "held": "yellow",
    "fault": "red bold",
    "unknown": "grey",
}

COLUMNS: Final = (
    Column("node", least=12, right=False),
    Column("tags", least=10, leave=7, right=False),
    Column("address", leave=6, right=False),
    Column("gpu"),
    Column("state", right=False),
    Column("model", least=10, leave=2, right=False),
    Column("utilization"),
    Column("memory"),
    Column("temperature", leave=4),
    Column("power", leave=5),
    Column("processes", least=12, leave=3, right=False),
)
"""Named by their words in :data:`WORDS`."""
TAGS: Final = 1
"""The place of a column that is not there where nobody uses it."""

WORDS: Final[dict[Language, dict[str, str]]] = {
    "en": {
        "node": "NODE",
        "tags": "TAGS",
        "address": "ADDRESS",
        "gpu": "GPU",
        "model": "MODEL",
        "utilization": "UTIL",
        "memory": "MEMORY GiB",
        "temperature": "°C",
        "power": "POWER W",
        "state": "STATE",
        "processes": "PROCESSES",
        "free": "free",
        "busy": "busy",
        "held": "idle-held",
        "fault": "fault",
        "unknown": "unknown",
        "asleep": "free, asleep",
        "online": "online",
        "stale": "stale",
        "offline": "offline",
        "pending": "pending",
        "no_gpus": "no GPU told",
        "gpus_free": "{free} of {all} GPUs free",
        "nodes_online": "{online} of {all} nodes online",
        "simulated": "{nodes} simulated: numbers invented",
        "since": "last seen {at}",
        "more": "and {count} more",
        "private": "{count}, private",
        "empty": "No node yet. 'gpumon hub --print-join', on the hub's machine, shows what to run on each with GPUs.",
        "wrong": "What is wrong",
        "as_text": "as text, for a terminal",
        "again": "Load again",
        "page": "The page, live (with scripts)",
        "title": "gpumon: every GPU",
    },
    "zh": {
        "node": "节点",
        "tags": "标签",
        "address": "地址",
        "gpu": "GPU",
        "model": "型号",
        "utilization": "利用率",
        "memory": "显存 GiB",
        "temperature": "°C",
        "power": "功率 W",
        "state": "状态",
        "processes": "进程",
        "free": "空闲",
        "busy": "占用",
        "held": "占而不用",
        "fault": "故障",
        "unknown": "未知",
        "asleep": "空闲（休眠）",
        "online": "在线",
        "stale": "数据过期",
        "offline": "离线",
        "pending": "等待中",
        "no_gpus": "没有报告 GPU",
        "gpus_free": "空闲 GPU {free} / {all}",
        "nodes_online": "在线节点 {online} / {all}",
        "simulated": "{nodes} 个模拟节点（数据并非真实）",
        "since": "最后出现于 {at}",
        "more": "另有 {count} 个",
        "private": "{count} 个，不公开",
        "empty": "还没有节点。在中心的机器上运行 gpumon hub --print-join，会显示在每台带 GPU 的机器上要运行的命令。",
        "wrong": "异常",
        "as_text": "纯文本（供终端使用）",
        "again": "重新加载",
        "page": "实时页面（需要脚本）",
        "title": "gpumon：所有 GPU",
    },
}


class Sheet(NamedTuple):
    """What there is to tell, in one language: the fleet in a line, a row a GPU, and what is wrong."""

    language: Language
    at: str
    summary: list[Cell]
    rows: list[list[Cell]]
    troubles: list[str]


def sheet(nodes: Sequence[Node], now: float, language: Language = "en") -> Sheet:
    """The fleet as of ``now``, in seconds since the epoch."""
    words = WORDS[language]
    states = Counter(state_of(gpu, node, now) for node in nodes for gpu in _gpus(node))
    return Sheet(
        language=language,
        at=_moment(now),
        summary=_summary(nodes, states, words),
        rows=[row for node in nodes for row in _rows(node, words, now)],
        troubles=[trouble for node in nodes for trouble in _troubles(node, words)],
    )


def as_text(told: Sheet, columns: int, *, color: bool) -> str:
    """Lines of at most ``columns``, for a terminal."""
    words = WORDS[told.language]
    lines = [*_head([Cell("gpumon", "bold"), Cell(told.at, "grey"), *told.summary], columns, color=color), ""]
    if told.rows:
        heads = [column._replace(head=words[column.head]) for column in COLUMNS]
        grid = Grid(heads, told.rows, headed=True)
        shown = grid.that_fit(_used(told), columns)
        widths = grid.widths(shown, columns)
        lines.append(line([Cell(heads[one].head, "grey", heads[one].right) for one in shown], widths, color=color))
        lines += [line([row[one] for one in shown], widths, color=color) for row in told.rows]
    else:
        lines += wrap(words["empty"], columns)
    if told.troubles:
        lines.append("")
        for trouble in told.troubles:
            found = wrap(trouble, columns, rest=2)
            lines += [paint(one, "yellow") for one in found] if color else found
    return "\n".join([*lines, ""])


def _head(parts: Sequence[Cell], columns: int, *, color: bool) -> Iterator[str]:
    """As many parts on a line as it takes."""
    started, used = "", 0
    for part in parts:
        more = width(part.text) + (len(BETWEEN) if used else 0)
        if used and used + more > columns:
            yield started
            started, used, more = "", 0, width(part.text)
        started += (BETWEEN if used else "") + (paint(part.text, part.style) if color else part.text)
        used += more
    yield started


def as_html(told: Sheet) -> str:
    """A document without scripts. It does not load itself again: who reads slowly would lose their place."""
    words = WORDS[told.language]
    used = _used(told)
    heads = "".join(f'<th scope="col">{_escaped(words[COLUMNS[one].head])}</th>' for one in used)
    rows = "\n".join(f"<tr>{''.join(_cells([row[one] for one in used]))}</tr>" for row in told.rows)
    table = f"<table>\n<thead><tr>{heads}</tr></thead>\n<tbody>\n{rows}\n</tbody>\n</table>"
    summary = "".join(f"<li>{_escaped(part.text)}</li>" for part in told.summary)
    troubles = "".join(f"<li>{_escaped(one)}</li>" for one in told.troubles)
    parts = [
        f'<!doctype html>\n<html lang="{"zh-Hans" if told.language == "zh" else "en"}">\n<head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<meta name="color-scheme" content="light dark"><link rel="stylesheet" href="plain.css">',
        f"<title>{_escaped(words['title'])}</title></head>\n<body>\n<main>\n<h1>{_escaped(words['title'])}</h1>",
        f"<p>{_escaped(told.at)}</p>\n<ul>{summary}</ul>",
        table if told.rows else f"<p>{_escaped(words['empty'])}</p>",
        f"<h2>{_escaped(words['wrong'])}</h2>\n<ul>{troubles}</ul>" if troubles else "",
        f'</main>\n<nav><a href="?format=html&amp;lang={told.language}">{_escaped(words["again"])}</a>',
        f'<a href="?format=text&amp;lang={told.language}">{_escaped(words["as_text"])}</a>',
        f'<a href="./">{_escaped(words["page"])}</a></nav>\n</body>\n</html>\n',
    ]
    return "\n".join(part for part in parts if part)


STYLE_SHEET: Final = """\
body { font: 15px/1.5 system-ui, sans-serif; margin: 1rem auto; max-width: 100rem; padding: 0 1rem; }
main { overflow-x: auto; }
h1 { font-size: 1.3rem; margin: 0; }
h2 { font-size: 1.1rem; }
ul { padding-left: 1.2rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { border-bottom: 1px solid #8888; padding: 2px 14px 2px 0; text-align: left; vertical-align: top; }
thead th { font-size: 0.85rem; }
td:not(:last-child), thead th { white-space: nowrap; }
.right { text-align: right; }
.bold { font-weight: 700; }
nav { display: flex; flex-wrap: wrap; gap: 0.5rem 1.5rem; margin-top: 1.5rem; }
"""
"""Colours are the browser's own: they are readable in every theme, and what a state is stands there as a word."""


def _summary(nodes: Sequence[Node], states: Counter[State], words: dict[str, str]) -> list[Cell]:
    online = sum(node.status == "online" for node in nodes)
    simulated = sum(node.report is not None and node.report.simulated for node in nodes)
    power = sum_of(gpu.power_draw_watts for node in nodes if node.status == "online" for gpu in _gpus(node))
    rest: tuple[State, ...] = ("busy", "held", "fault", "unknown")
    return [
        Cell(words["gpus_free"].format(free=states["free"], all=states.total()), "green bold"),
        *(Cell(f"{states[state]} {words[state]}", STYLES[state]) for state in rest if states[state]),
        Cell(words["nodes_online"].format(online=online, all=len(nodes))),
        *([] if power.value is None else [Cell(power.marked(_watts(power.value)))]),
        *([Cell(words["simulated"].format(nodes=simulated), "yellow")] if simulated else []),
    ]


def _rows(node: Node, words: dict[str, str], now: float) -> Iterator[list[Cell]]:
    name = node.name if node.alias == node.name else f"{node.alias} ({node.name})"
    head = [Cell(name, "bold"), Cell(" ".join(node.tags)), Cell(node.address or node.host or NULL, "green bold")]
    gpus = _gpus(node)
    for gpu in gpus:
        state = state_of(gpu, node, now)
        word = words["asleep"] if gpu.asleep and state == "free" else words[state]
        old = node.status != "online"  # what is known is from before
        grey = "grey" if old else ""
        cells = [
            Cell(str(gpu.index), "cyan"),
            Cell(words[node.status] if old else word, STYLES[state]),
            Cell((gpu.name or NULL).removeprefix("NVIDIA "), grey),
            Cell(_figure(gpu.utilization_percent, "%"), grey),
            Cell(_pair(_gib(gpu.memory_used_bytes), _gib(gpu.memory_total_bytes)), grey),
            Cell(_figure(gpu.temperature_celsius), grey),
            Cell(_pair(_figure(gpu.power_draw_watts), _figure(gpu.power_limit_watts)), grey),
            Cell(_processes(gpu, words), grey),
        ]
        yield _aligned([*head, *cells])
    if not gpus:
        state_word = words["no_gpus"] if node.status == "online" else words[node.status]
        yield _aligned([*head, Cell(NULL), Cell(state_word, "grey"), *[Cell(NULL)] * 6])


def _aligned(cells: Iterable[Cell]) -> list[Cell]:
    return [cell._replace(right=column.right) for cell, column in zip(cells, COLUMNS, strict=True)]


def _used(told: Sheet) -> list[int]:
    """The columns that say something."""
    return [one for one in range(len(COLUMNS)) if one != TAGS or any(row[TAGS].text for row in told.rows)]


def _gpus(node: Node) -> Sequence[Gpu]:
    return node.report.gpus if node.report is not None else ()


def _troubles(node: Node, words: dict[str, str]) -> Iterator[str]:
    """What is wrong with a node, and with each of its GPUs."""
    fault = node.verdict or node.error
    parts = []
    if node.status != "online":
        parts.append(words[node.status])
        if node.last_seen_at is not None:
            parts.append(words["since"].format(at=_at(node.last_seen_at)))
    if fault is not None:
        parts.append(f"{fault.message} {fault.hint or ''}".strip())
    if parts:
        yield f"{node.alias}: {'; '.join(parts)}"
    if node.status != "online":
        return
    for gpu in _gpus(node):
        if gpu.error is not None and gpu.error.message not in (fault.message if fault else ""):
            yield f"{node.alias}, GPU {gpu.index}: {gpu.error.message} {gpu.error.hint or ''}".strip()


def _processes(gpu: Gpu, words: dict[str, str]) -> str:
    processes = gpu.processes or ()
    if gpu.unavailable.get("processes") == PRIVATE:
        return words["private"].format(count=gpu.processes_truncated) if gpu.processes_truncated else NULL
    are_users_told = gpu.unavailable.get("processes.user") != PRIVATE
    told = [
        f"{process.user or '?'}: {_program(process)}" if are_users_told else _program(process)
        for process in processes[:MOST_PROCESSES]
    ]
    more = len(processes) - len(told) + gpu.processes_truncated
    return ", ".join([*told, *([words["more"].format(count=more)] if more else [])]) or NULL


def _program(process: Process) -> str:
    return process.command or process.name or str(process.pid)


def _figure(value: float | None, unit: str = "") -> str:
    return NULL if value is None else f"{value:.0f}{unit}"


def _gib(value: float | None) -> str:
    return NULL if value is None else f"{value / GIB:.1f}"


def _watts(power: float) -> str:
    return f"{power:.0f} W" if power < 1000 else f"{power / 1000:.1f} kW"


def _pair(one: str, of: str) -> str:
    return NULL if one == of == NULL else f"{one}/{of}"


def _moment(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _at(moment: str) -> str:
    try:
        return _moment(seconds(moment))
    except (ValueError, OverflowError):
        return NULL


def _cells(row: Sequence[Cell]) -> Iterator[str]:
    for place, cell in enumerate(row):
        text = _escaped(cell.text)
        classes = " ".join(["right"] * cell.right + ["bold"] * ("bold" in cell.style))
        attribute = f' class="{classes}"' if classes else ""
        yield f'<th scope="row">{text}</th>' if place == 0 else f"<td{attribute}>{text}</td>"


def _escaped(text: str) -> str:
    """Text for HTML, whoever has chosen it."""
    return html.escape(printable(text))
