"""A fleet as rows and as lines of text, whatever strangers say."""

import json
import re
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpumon.client.choice import Choice
from gpumon.client.controls import HELP, Controls
from gpumon.client.figures import bar
from gpumon.client.fleet import Fleet
from gpumon.client.listing import run
from gpumon.client.picture import gpu_table, node_table, notices, painted, running, summary, troubles
from gpumon.client.rows import ORDERS, Order, gpu_rows, matching, node_rows, sorted_nodes, sorted_rows
from gpumon.client.stream import Hub, Message
from gpumon.client.top import Top, once
from gpumon.client.watch import Watch
from gpumon.errors import HubError
from gpumon.model import Fault, Gpu, Node, Process
from gpumon.sums import Sum
from gpumon.terminal import IN_ASCII, width, writable
from tests.client.labs import GIB, HOSTILE, Sheet, busy_gpu, free_gpu, gpu, lab, node

NOW = 1_795_456_800.0
FLEET = [
    node("a", free_gpu(0), busy_gpu(1, utilization_percent=90, temperature_celsius=70, power_draw_watts=400)),
    node("b", busy_gpu(0, name="NVIDIA A100", utilization_percent=10, temperature_celsius=80, power_draw_watts=99)),
    node("c", status="offline", report=None),
]


def order_of(order: Order, *, is_reversed: bool = False) -> list[tuple[str, int | None]]:
    rows = sorted_rows(gpu_rows(FLEET, NOW), order, is_reversed=is_reversed)
    return [(row.node.name, row.gpu.index if row.gpu else None) for row in rows]


def test_rows_are_sorted_by_what_is_asked_for_and_the_unknown_stands_last() -> None:
    assert order_of("node") == [("a", 0), ("a", 1), ("b", 0), ("c", None)]
    assert order_of("node", is_reversed=True) == [("c", None), ("b", 0), ("a", 1), ("a", 0)]
    assert order_of("util") == [("a", 1), ("b", 0), ("a", 0), ("c", None)]
    assert order_of("util", is_reversed=True) == [("b", 0), ("a", 1), ("a", 0), ("c", None)]
    assert order_of("temperature")[:2] == [("b", 0), ("a", 1)]
    assert order_of("power")[:2] == [("a", 1), ("b", 0)]
    assert order_of("model")[0] == ("b", 0)
    assert order_of("state") == [("a", 0), ("a", 1), ("b", 0), ("c", None)]
    by_node = sorted_nodes(node_rows(gpu_rows(FLEET, NOW)), "state", is_reversed=False)
    assert [row.node.name for row in by_node] == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("", 4),
        ("free", 1),
        ("FREE h100", 1),
        ("alice", 2),
        ("alice a100", 1),
        ("train.py", 2),
        ("offline", 1),
        ("x", 0),
    ],
)
def test_rows_are_filtered_by_words(words: str, expected: int) -> None:
    assert len(matching(gpu_rows(FLEET, NOW), words)) == expected


def test_a_nodes_row_sums_up_what_is_known_now() -> None:
    first, second, third = node_rows(gpu_rows(FLEET, NOW))
    assert (first.states["free"], first.gpu_count, first.users, first.models) == (1, 2, ["alice"], ["H100"])
    assert (first.memory_used_bytes, first.memory_total_bytes) == (Sum(70 * GIB), Sum(160 * GIB))
    assert (first.utilization_percent, first.temperature_celsius) == (90, 70)
    assert first.power_draw_watts == Sum(400, is_partial=True)  # the other does not tell
    assert second.states["free"] == 0
    assert (third.gpu_count, third.utilization_percent, third.power_draw_watts) == (0, None, Sum(None))
    (stale,) = node_rows(gpu_rows([node("s", busy_gpu(0, power_draw_watts=99), status="stale")], NOW))
    assert (stale.memory_used_bytes, stale.power_draw_watts, stale.states["free"]) == (Sum(None), Sum(None), 0)


def test_a_sum_to_which_more_belongs_is_marked_and_one_of_nothing_is_a_dash() -> None:
    some = node("s", busy_gpu(0, power_draw_watts=400), busy_gpu(1, memory_used_bytes=None))
    none = node("t", busy_gpu(0, memory_used_bytes=None, memory_total_bytes=None))
    _, first, second = painted(node_table(node_rows(gpu_rows([some, none], NOW)), 120), color=False).splitlines()
    assert re.search(r" ≥70\.0/160\.0 +— +≥400 ", first)
    assert re.search(r" — +— +— ", second)
    assert "≥" not in second


def gpu_line(**values: Any) -> list[tuple[str, str]]:
    return gpu_table(gpu_rows([node("n", busy_gpu(0, **values))], NOW), 140)[1]


def test_a_gpu_is_hot_near_the_temperature_that_it_names_itself() -> None:
    for celsius, is_hot in ((87, True), (86, False)):
        line = gpu_line(temperature_celsius=celsius, slowdown_temperature_celsius=92)
        assert any(text.strip() == str(celsius) and ("red" in style) == is_hot for style, text in line)


def test_what_a_hub_keeps_to_itself_is_said_to_be_private_and_no_user_is_made_up() -> None:
    hidden = gpu_line(processes=[], processes_truncated=2, unavailable={"processes": "private"})
    assert "".join(text for _, text in hidden).endswith("2, private")
    nameless = Process(pid=7, command="python train.py", type="compute")
    told = "".join(text for _, text in gpu_line(processes=[nameless], unavailable={"processes.user": "private"}))
    assert told.endswith("  python train.py")
    assert "".join(text for _, text in gpu_line(processes=[nameless])).endswith("  ?: python train.py")


def test_a_node_that_comes_and_goes_flaps_while_it_is_there() -> None:
    for status, word in (("online", "flapping"), ("stale", "stale")):
        _, line = node_table(node_rows(gpu_rows([node("n", flapping=True, status=status)], NOW)), 100)
        assert "".join(text for _, text in line).split()[:2] == ["n", word]


def test_a_fault_that_the_node_tells_is_not_told_of_its_gpu_again() -> None:
    lost, hot = (Fault(code="x", message=message) for message in ("GPU 0 is lost.", "GPU 1 is too hot."))
    one = node("n", free_gpu(0, error=lost), free_gpu(1, error=hot), verdict=Fault(code="y", message="GPU 0 is lost."))
    assert painted(troubles([one], 100), color=False).splitlines() == [
        "n: GPU 0 is lost.",
        "n, GPU 1: GPU 1 is too hot.",
    ]


text = st.text(max_size=40) | st.sampled_from([HOSTILE, "机器学习服务器", "e\u0301" * 9, "👩‍💻", "[bold]x[/]"])


@st.composite
def nodes(draw: st.DrawFn) -> Node:
    def any_gpu(index: int) -> Gpu:
        process = Process(pid=1, user=draw(text), command=draw(text), type="compute")
        error = Fault(code="x", message=draw(text), hint=draw(text)) if draw(st.booleans()) else None
        return free_gpu(index, name=draw(text), processes=[process], error=error)

    verdict = Fault(code="x", message=draw(text)) if draw(st.booleans()) else None
    gpus = [any_gpu(index) for index in range(draw(st.integers(0, 2)))]
    return node(draw(text) or "n", *gpus, alias=draw(text), tags=[draw(text)], verdict=verdict)


@settings(max_examples=40)
@given(st.lists(nodes(), max_size=3), st.integers(20, 200))
def test_whatever_strangers_say_no_line_is_too_wide_and_none_is_a_command(fleet: list[Node], columns: int) -> None:
    rows = gpu_rows(fleet, NOW)
    tables = [gpu_table(rows, columns), node_table(node_rows(rows), columns)]
    for lines in (running(summary(rows), columns), troubles(fleet, columns), *tables):
        for shown in painted(lines, color=False).split("\n"):
            assert shown.replace("\u200d", "").replace("\u200c", "").isprintable()
    for table in tables:
        least = 60  # what cannot be left out, of columns as narrow as can be
        assert len({width("".join(text for _, text in line)) for line in table}) == 1
        assert width("".join(text for _, text in table[0])) <= max(columns, least)


def test_what_is_wrong_with_the_hub_is_told_in_sentences() -> None:
    fault = Fault(code="open_push", message=f"Anybody may report. {HOSTILE}", hint="Close it.")
    lines = painted(notices([fault], 40), color=False).splitlines()
    assert lines[0].startswith("hub: Anybody may report.")
    assert lines[-1].endswith("Close it.")
    assert all(line.isprintable() and width(line) <= 40 for line in lines)


def test_at_80_columns_there_is_who_uses_it_and_at_140_everything() -> None:
    one = node("gpu-server-12", busy_gpu(0, utilization_percent=50, power_draw_watts=9), tags=["room 3"])
    narrow = painted(gpu_table(gpu_rows([one], NOW), 80), color=False)
    assert max(map(len, narrow.splitlines())) <= 80
    for word in ("gpu-server-12", "busy", "H100", "50%", "70.0/80.0", "alice: "):
        assert word in narrow
    wide = painted(gpu_table(gpu_rows([one], NOW), 140), color=False)
    for word in ("████    ", "room 3", "alice: python train.py"):
        assert word in wide


@pytest.mark.parametrize(
    ("fraction", "expected"),
    [(None, "    "), (0, "    "), (0.5, "██  "), (1, "████"), (2, "████"), (0.53, "██▏ "), (1 / 32, "▏   ")],
)
def test_bars_are_exact_to_an_eighth_and_as_wide_as_asked_for(fraction: float | None, expected: str) -> None:
    assert bar(fraction, 4) == expected


def test_where_there_is_only_ascii_our_signs_have_a_stand_in_of_the_same_width() -> None:
    assert writable("a…·—█▌▏°C 机", "ascii") == "a~.-##  C ?"
    assert writable("a…█ 机", "utf-8") == "a…█ 机"
    assert all(
        width(chr(sign)) == len(chr(stand_in)) for sign, stand_in in IN_ASCII.items() if isinstance(stand_in, int)
    )


# ---- what is printed ----


@pytest.mark.parametrize(("draws", "told"), [((None, None), []), ((None, 0.0), ["≥0 W"]), ((700.0, 700.0), ["1.4 kW"])])
def test_power_that_nobody_knows_is_not_told_as_none(draws: tuple[float | None, ...], told: list[str]) -> None:
    gpus = [free_gpu(place, power_draw_watts=draw) for place, draw in enumerate(draws)]
    parts = summary(gpu_rows([node("a", *gpus)], 0.0))
    assert [cell.text for cell in parts if cell.text.endswith("W")] == told


async def test_nodes_are_listed_with_what_is_wrong_chosen_and_as_json() -> None:
    async with lab() as one:
        await one.report("b", [gpu(0, 70, user="alice")], driver_version="580.95", tags=["room 3"])
        fault = {"code": "lost", "message": "GPU 0 fell off the bus.", "hint": "Reboot."}
        await one.report("a", [gpu(0, status="lost", error=fault)], status="degraded", error=fault)
        sheet = Sheet(160)
        assert await run(sheet.page, one.hub, Choice(), as_json=False) == 0
        head, _, columns, first, second, *rest = sheet.text.splitlines()
        assert head.startswith("0 of 2 GPUs free · 1 busy · 1 fault · 2 of 2 nodes online")
        assert columns.split()[:3] == ["NODE", "STATUS", "FREE"]
        assert first.split()[:3] == ["a", "online", "0/1"]
        assert second.split()[:7] == ["b", "online", "0/1", "H100", "90%", "███████▎", "70.0/80.0"]
        assert re.search(r"580\.95 +room 3 +alice$", second)
        assert "a: GPU 0 fell off the bus. Reboot." in rest
        chosen = Sheet()
        await run(chosen.page, one.hub, Choice(tags=("ROOM 3",)), as_json=True)
        (found,) = json.loads(chosen.text)
        assert found == await one.site.node("b")
        nothing = Sheet()
        await run(nothing.page, one.hub, Choice(names=("zzz",)), as_json=False)
        assert "No node is as asked for." in nothing.text


async def test_a_hub_without_nodes_says_how_to_begin() -> None:
    async with lab() as one:
        for sheet, shown in ((Sheet(), run), (Sheet(), None)):
            if shown is None:
                await once(sheet.page, one.hub, Choice(), Controls(), as_json=False)
            else:
                await shown(sheet.page, one.hub, Choice(), as_json=False)
            assert "gpumon hub --print-join" in " ".join(sheet.text.split())


async def test_top_prints_one_picture_or_one_array() -> None:
    async with lab() as one:
        await one.report("a", [gpu(0), gpu(1, 70, user=HOSTILE)])
        sheet, array = Sheet(), Sheet()
        controls = Controls(order="memory")
        await once(sheet.page, one.hub, Choice(), controls, as_json=False)
        lines = sheet.text.splitlines()
        assert [line.split()[1] for line in lines if line.startswith("a ")] == ["1", "0"]
        assert all(line.isprintable() for line in lines)
        await once(array.page, one.hub, Choice(), controls, as_json=True)
        assert array.text.removesuffix("\n").isprintable()
        first, second = json.loads(array.text)
        assert (first["state"], second["state"], first["node"], second["uuid"]) == ("busy", "free", "a", "GPU-00000000")
        assert first["memory_used_bytes"] == 70 * GIB
        assert first["processes"][0]["command"] == "python train.py"


# ---- keys ----


def pressed(*keys: str) -> Controls:
    controls = Controls()
    for key in keys:
        controls.press(key)
    return controls


def test_keys_sort_as_in_nvitop() -> None:
    assert (pressed("o", "s").order, pressed("o", "s").is_reversed) == ("util", False)
    assert (pressed("o", "S").order, pressed("o", "S").is_reversed) == ("util", True)
    assert pressed("o", "z").order == "node"
    assert pressed("o", "z", "s").order == "node"  # what begins nothing is over
    assert pressed(".").order == ORDERS[1]
    assert pressed(",").order == ORDERS[-1]
    assert pressed("/").is_reversed
    assert not pressed("/", "/").is_reversed


def test_another_order_is_read_from_its_beginning() -> None:
    for keys in ("os", "/", ".", "t", "escape"):
        controls = pressed("down", "down")
        assert controls.window(rows=30, page=10) == 2
        for key in [keys] if keys == "escape" else keys:
            controls.press(key)
        assert controls.window(30, 10) == 0, keys


def test_keys_filter_and_letters_are_letters_then() -> None:
    controls = pressed("f", *"free q", "backspace", "q", "enter")
    assert (controls.words, controls.is_typing, controls.has_quit) == ("free q", False, False)
    assert pressed("f", *"x", "escape").words == ""
    assert pressed("f", *"x", "c-u", "y", "enter").words == "y"
    assert pressed("f", *"x", "enter", "escape").words == ""
    assert pressed("f", *"x" * 999).words == "x" * 200
    assert pressed("f", "c-c").has_quit
    assert pressed("f", "\x1b").words == ""


def test_other_keys() -> None:
    assert pressed("q").has_quit
    assert pressed("Q").has_quit
    assert pressed("c-c").has_quit
    assert pressed("h").is_helping
    assert not pressed("?", "q").is_helping
    assert not pressed("?", "q").has_quit
    assert not any((pressed("x").has_quit, pressed("x").is_helping, pressed("x").is_typing))
    for keys, _ in HELP:
        assert keys


def test_scrolling_stays_within_the_rows() -> None:
    controls = pressed("down", "down", "up")
    assert controls.window(rows=30, page=10) == 1
    controls.press("pagedown")
    assert controls.window(30, 10) == 11
    controls.press("end")
    assert controls.window(30, 10) == 20
    assert controls.window(5, 10) == 0  # the window grew, or rows went
    controls.press("home")
    controls.press("up")
    assert controls.window(30, 10) == 0


def top_of(fleet: list[Node], controls: Controls) -> Top:
    watch: Any = Watch(Sheet, "overview", 1.0)  # type: ignore[arg-type]  # nobody is asked
    watch.fleet._nodes = {one.name: one for one in fleet}
    return Top(watch, Choice(), controls)


def test_a_large_fleet_is_shown_by_node_until_somebody_wants_gpus() -> None:
    fleet = [node(f"n{number:02}", *map(free_gpu, range(8))) for number in range(26)]
    controls = Controls()
    top = top_of(fleet, controls)
    assert "STATUS" in painted(top.picture(100, None), color=False)
    assert "t by GPU" in painted(top.picture(100, 24), color=False)
    controls.press("t")
    assert "STATE" in painted(top.picture(100, None), color=False)
    assert "t by node" in painted(top.picture(100, 24), color=False)
    controls.press("t")
    assert "STATUS" in painted(top.picture(100, None), color=False)
    assert "STATE" in painted(top_of(fleet[:25], Controls()).picture(100, None), color=False)


@pytest.mark.parametrize("lines", [1, 2, 5, 24, 60])
@pytest.mark.parametrize("columns", [20, 80, 140])
@pytest.mark.parametrize("keys", ["", "h", "t", "fzzz", "f\n"])
def test_a_picture_fills_the_terminal_and_no_more(lines: int, columns: int, keys: str) -> None:
    controls = pressed(*keys)
    picture = top_of(FLEET * 3, controls).picture(columns, lines)
    assert len(picture) == lines or (lines < 6 and len(picture) <= lines)


async def test_where_the_hub_is_gone_the_picture_says_since_when() -> None:
    top = top_of(FLEET, Controls())
    top._watch.trouble, top._watch.lost_at = "http://hub: the link has ended", NOW
    picture = painted(top.picture(100, 24), color=False)
    assert "No word from the hub since " in picture
    assert "the link" in picture
    assert "alice" in picture


async def test_of_a_hub_that_hangs_the_picture_says_for_how_long_and_then_what_it_is_from() -> None:
    time_of_day = 0.0
    watch = Watch(Hub("http://hub"), "overview", 1.0)
    watch.fleet = Fleet(lambda: time_of_day)
    watch.fleet.take(Message("snapshot", "2026-11-23T14:00:00.000Z", nodes=FLEET))
    watch.has_told = True
    top = Top(watch, Choice(), Controls())
    assert "nothing told" not in painted(top.picture(100, 24), color=False)
    time_of_day = 20.0
    assert "nothing told for 20 s" in painted(top.picture(100, 24), color=False)
    watch._lose(HubError("the link has ended"))
    assert watch.lost_at == pytest.approx(time.time() - 20, abs=5)


def test_of_very_many_gpus_the_part_that_is_shown_is_the_part_that_is_asked_for() -> None:
    fleet = [node(f"n{number:03}", *map(free_gpu, range(8))) for number in range(80)]
    controls = Controls(fold="gpu")
    top = top_of(fleet, controls)
    assert "1-20 of 640" in painted(top.picture(100, 24), color=False)
    controls.press("end")
    last = painted(top.picture(100, 24), color=False)
    assert "621-640 of 640" in last
    assert "n079    7  free" in re.sub(r"(n079) +(7)", r"\1    \2", last)
