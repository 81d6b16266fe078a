"""``gpumon top`` in a terminal, against a real hub: keys, sizes, cuts, and every way out."""

import asyncio
import json
import os
import signal
import subprocess
import sys

import pytest

from tests.client.labs import HOSTILE, gpu, lab, silent_server
from tests.client.terminals import ALTERNATE, BACK, terminal, terminal_of
from tests.hub.agents import raw_agent
from tests.running import free_port, program, until

F4, DOWN, END = "\x1bOS", "\x1b[B", "\x1b[F"


async def test_the_fleet_is_live_and_keys_change_how_it_is_looked_at() -> None:
    async with lab() as one:
        await one.report("a", [gpu(0), gpu(1, 70, user="alice")], tags=["room 3"])
        async with terminal("top", "--hub", one.site.url) as tty:
            await tty.shows("1 of 2 GPUs free", "alice: pyth", "q quit")
            await one.report("a", [gpu(0, 30, user="bob"), gpu(1)])
            await tty.shows("bob: pyth", "1 of 2 GPUs free")
            tty.press("h")
            await tty.shows("Keys", "reverse the order")
            tty.press(" ")
            await tty.shows("bob: pyth")
            tty.press("/")
            screen = await tty.shows("sort: node reversed")
            assert screen.index("free ") < screen.index("bob: pyth")
            tty.press("of")
            await tty.shows("sort: state")
            tty.press("t")
            await tty.shows("STATUS", "1/2")
            tty.press("t" + F4 + "bob")
            await tty.shows("filter: bob_")
            tty.press("\x1b[200~x\x1b[201~\x7f\r")  # pasted
            await tty.when(lambda text: "filter: bob " in text and "0 of 1 GPUs free" in text)
            tty.press("\x1b")
            await tty.shows("1 of 2 GPUs free")
            tty.press("q")
            assert await tty.status() == 0
            assert tty.written.count(ALTERNATE) == tty.written.count(BACK) == 1


async def test_it_follows_the_size_of_the_window_and_scrolls() -> None:
    async with lab() as one:
        await one.report("a", [gpu(index) for index in range(40)])
        async with terminal("top", "--hub", one.site.url) as tty:
            await tty.shows("1-20 of 40")
            assert tty.text.count("H100") == 20
            tty.press(DOWN)
            await tty.shows("2-21 of 40")
            tty.press(END)
            await tty.shows("21-40 of 40")
            tty.resize(130, 50)
            await tty.when(lambda text: "of 40  sort" not in text and text.count("H100") == 40)
            assert "████████" not in tty.text  # nobody uses them
            tty.resize(60, 10)
            await tty.shows("of 40 ")
            tty.press("\x03")
            assert await tty.status() == 0


async def test_when_the_hub_goes_it_says_so_and_when_it_is_back_it_goes_on() -> None:
    port = free_port()
    async with terminal("top", "--hub", f"http://127.0.0.1:{port}", "--interval", "0") as early:
        await early.shows("the hub cannot be reached")
        assert await early.status() == 3
        assert ALTERNATE not in early.written
    async with lab(port) as one:
        await one.report("a", [gpu(0, 30, user="bob")])
        tty_context = terminal("top", "--hub", one.site.url)
        tty = await tty_context.__aenter__()
        await tty.shows("bob: pyth")
    try:
        await tty.shows("No word from the hub since", "bob: pyth")
        async with lab(port) as again:
            await again.report("b", [gpu(0, 30, user="carol")])
            await tty.when(lambda text: "carol: pyth" in text and "No word" not in text and "bob" not in text)
            tty.press("q")
            assert await tty.status() == 0
    finally:
        await tty_context.__aexit__(None, None, None)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_gives_the_terminal_back(number: int) -> None:
    async with lab() as one:
        await one.report("a", [gpu(0)])
        async with terminal("top", "--hub", one.site.url) as tty:
            await tty.shows("1 of 1 GPUs free")
            tty.process.send_signal(number)
            assert await tty.status() == 0


BROKEN = """
import asyncio
from gpumon.client.screen import Screen

pictures = []

def draw(columns, lines):
    pictures.append(1)
    if len(pictures) > 1:
        raise ZeroDivisionError("a fault of our own")
    return [[("bold", "all is well")]]

asyncio.run(Screen(draw, lambda key: None, color=True).run())
"""


async def test_a_fault_of_our_own_gives_the_terminal_back() -> None:
    async with terminal_of("-c", BROKEN) as tty:
        await tty.shows("all is well")
        tty.press("x")
        assert await tty.status() == 1
        await tty.shows("ZeroDivisionError: a fault of our own")


async def test_what_strangers_say_is_no_command_to_the_terminal() -> None:
    async with lab() as one:
        await one.report("a", [gpu(0, 30, user=HOSTILE, name=HOSTILE)], tags=["[red]"])
        async with terminal("top", "--hub", one.site.url, columns=160) as tty:
            await tty.shows("0 of 1 GPUs free", "]0;owned")
            assert b"\x1b]0" not in tty.written
            assert "\u202e".encode() not in tty.written
            assert b"\x9b2J" not in tty.written.replace("\x9b".encode(), b"\x9b")
            tty.press("q")
            assert await tty.status() == 0


async def test_no_color_and_a_locale_of_ascii_are_respected() -> None:
    async with lab() as one:
        await one.report("a", [gpu(0, 40, user="alice")])
        async with terminal("top", "--hub", one.site.url, columns=130, NO_COLOR="1", LC_ALL="C") as tty:
            screen = await tty.shows("#######", "####    ", "alice: python train.py")
            assert "█" not in screen
            assert b"\x1b[32m" not in tty.written
            assert tty.written.isascii()
            tty.press("q")
            assert await tty.status() == 0


async def test_in_a_pipe_there_is_one_picture_and_no_control_character() -> None:
    async with lab() as one:
        await one.report("机器", [gpu(0, 40, user="alice")])
        status, text, said = await one.run("top")
        assert (status, said) == (0, "")
        assert all(line.isprintable() for line in text.splitlines())
        assert "机器" in text
        status, text, _ = await one.run("top", "--once", "--json", "--filter", "alice")
        assert (status, [row["node"] for row in json.loads(text)]) == (0, ["机器"])
        status, text, _ = await one.run("nodes", FORCE_COLOR="1", COLUMNS="60")
        assert (status, "\x1b[" in text) == (0, True)


async def test_json_without_end_is_an_array_a_line() -> None:
    async with lab() as one:
        await one.report("a", [gpu(0, 40, user="alice")])
        with program("top", "--json", "--interval", "0", "--hub", one.site.url) as command:
            assert command.process.stdout is not None
            first = json.loads(await asyncio.to_thread(command.process.stdout.readline))
            assert [row["state"] for row in first] == ["busy"]
            await one.report("a", [gpu(0)])
            while first[0]["state"] != "free":
                first = json.loads(await asyncio.to_thread(command.process.stdout.readline))
            assert await asyncio.to_thread(command.end) == 0


async def test_who_has_read_enough_is_no_fault() -> None:
    async with lab() as one:
        for number in range(30):
            await one.report(f"n{number:02}", [gpu(index) for index in range(8)])
        read, write = os.pipe()
        os.close(read)
        ask = [sys.executable, "-m", "gpumon", "nodes", "--json", "--hub", one.site.url]
        process = await asyncio.create_subprocess_exec(*ask, stdout=write, stderr=subprocess.PIPE)
        os.close(write)
        _, said = await process.communicate()
        assert (process.returncode, said) == (0, b"")


async def test_an_interrupted_list_is_not_taken_for_an_empty_one() -> None:
    async with silent_server() as (url, came):
        for words, status in ((("nodes", "--json"), 130), (("top", "--once", "--json"), 130), (("top", "--json"), 0)):
            with program(*words, "--hub", url) as command:
                await asyncio.wait_for(came.wait(), 30)
                came.clear()
                assert await asyncio.to_thread(command.end, signal.SIGINT) == status
                assert command.wrote == ""


async def test_each_viewer_is_forgotten_by_the_hub() -> None:
    async with lab() as one, raw_agent(one.site):
        await one.run("nodes")

        async def none() -> bool:
            return bool((await one.site.get("/health"))["viewers"] == 0)

        assert await until(none)
