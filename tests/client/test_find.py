"""``gpumon find``, as scripts use it: against a real hub, by the real program and a real shell."""

import asyncio
import json
import math
import re
import signal
import subprocess
import sys
import time

import pytest

from gpumon.client import find
from gpumon.client.offers import Wanted, free_parts
from gpumon.client.stream import Hub
from gpumon.errors import HubError
from gpumon.quantities import bytes_of, seconds_of
from tests.client.labs import GIB, HOSTILE, Lab, Sheet, free_gpu, gpu, lab, node, silent_server
from tests.running import free_port, program, until, until_true


def run_by_shell(script: str) -> str:
    return subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True).stdout


async def test_the_host_and_the_devices_are_told_in_a_line_for_a_shell_and_as_json() -> None:
    async with lab() as one:
        await one.report("a", [gpu(0, 70, user="alice"), gpu(1), gpu(2)])
        line = "a.lab CUDA_VISIBLE_DEVICES=GPU-00000001,GPU-00000002\n"
        assert await one.run("find", "--gpus", "2", "--memory", "40GiB", "--model", "h100") == (0, line, "")
        status, script, _ = await one.run("find", "--shell")
        echoed = run_by_shell(script + 'echo "$GPUMON_HOST $CUDA_VISIBLE_DEVICES"')
        assert (status, echoed) == (0, "a.lab GPU-00000001\n")
        status, text, _ = await one.run("find", "--json")
        found = json.loads(text)
        assert (status, found["host"], found["node"], found["simulated"]) == (0, "a.lab", "a", False)
        assert found["gpus"][0]["memory_free_bytes"] == 80 * GIB
        assert found["environment"] == {"CUDA_VISIBLE_DEVICES": "GPU-00000001"}


@pytest.mark.parametrize("command", ["find", "nodes", "top --once", "top --json"])
@pytest.mark.parametrize(("output", "why"), [(">/dev/full", "No space left on device"), (">&-", "it is closed")])
async def test_what_could_not_be_written_is_no_answer(command: str, output: str, why: str) -> None:
    async with lab() as one:
        await one.report("a", [gpu(0)])
        script = f"exec {sys.executable} -m gpumon {command} --hub {one.site.url} {output} <&-"
        shell = await asyncio.create_subprocess_exec("sh", "-c", script, stderr=subprocess.PIPE)
        async with asyncio.timeout(30):
            said = (await shell.communicate())[1].decode()
        assert shell.returncode == 2
        assert re.fullmatch(rf"gpumon: standard output: {why}.*\n", said), said


async def test_the_exit_status_tells_none_from_wrong_from_unreachable() -> None:
    async with lab() as one:
        await one.report("a", [gpu(0, 70, user="alice")])
        assert await one.run("find") == (1, "", "gpumon: nothing that is free just now is as asked for\n")
        status, text, said = await one.run("find", "--gpus", "2", "--json")
        assert (status, text, "no node has what is asked for" in said) == (1, "null\n", True)
        status, _, said = await one.run("find", "--wait", "--timeout", "0.2s")
        assert (status, said) == (1, "gpumon: nothing as asked for was free within 0.2 s\n")
        for wrong in (
            ("--memory", "12"),
            ("--wait", "--timeout", "soon"),
            ("--mig", "--gpus", "2"),
            ("--token-file", "/nowhere"),
        ):
            status, text, said = await one.run("find", *wrong)
            assert (status, text) == (2, ""), wrong
            assert re.fullmatch(r"gpumon: .*(allowed|not|with|one of the two).*\n", said), said
    status, text, said = await one.run("find")
    assert (status, text) == (3, "")
    assert "the hub cannot be reached: Connection refused" in said


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("40GiB", 40 * GIB),
        ("40 gib", 40 * GIB),
        ("40G", 40 * GIB),
        ("80GB", 80 * 10**9),
        ("1.5TiB", 1536 * GIB),
        ("500m", 500 * 2**20),
        ("8Kb", 8000),
    ],
)
def test_sizes_are_read_as_people_write_them(text: str, size: int) -> None:
    assert bytes_of(text) == size


@pytest.mark.parametrize("text", ["", "40", "-1GiB", "GiB", "1e3G", "4 0G", "40XB", "∞G"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="allowed: a size such as 40GiB"):
        bytes_of(text)


@pytest.mark.parametrize(("text", "seconds"), [("90", 90), ("90s", 90), ("1.5m", 90), ("2h", 7200), ("1d", 86_400)])
def test_times_are_read_as_people_write_them(text: str, seconds: float) -> None:
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "-1", "1w", "m"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="allowed: a time such as 90s"):
        seconds_of(text)


async def waiting(one: Lab, sheet: Sheet, settle_seconds: float = 0.0, gpus: int = 1) -> asyncio.Task[int]:
    """A search that has seen that there is nothing."""
    vigil = find.wait(sheet.page, one.hub, Wanted(gpus), "line", settle_seconds, 30.0)
    task = asyncio.create_task(vigil)
    await viewers(one, 1)
    return task


async def viewers(one: Lab, count: int) -> None:
    async def are_there() -> bool:
        return bool((await one.site.get("/health"))["viewers"] == count)

    await until(are_there)


async def test_who_waits_is_told_when_a_gpu_becomes_free_and_not_before() -> None:
    async with lab() as one:
        await one.report("a", [gpu(0, 70, user="alice"), gpu(1, 70, user="bob")])
        await one.report("b", [gpu(0, 70, user="carol")])
        sheet = Sheet()
        task = await waiting(one, sheet, gpus=2)
        await one.report("a", [gpu(0), gpu(1, 70, user="bob")])
        await one.report("b", [gpu(0)])
        assert not task.done()
        await one.report("a", [gpu(0), gpu(1)])
        assert await task == 0
        assert sheet.text == "a.lab CUDA_VISIBLE_DEVICES=GPU-00000000,GPU-00000001\n"
        assert sheet.said == []
        await viewers(one, 0)


async def test_a_gpu_that_is_free_for_a_moment_is_not_given_away() -> None:
    async with lab() as one:
        await one.report("a", [gpu(0, 70, user="alice"), gpu(1, 70, user="bob")])
        vigil = find.Vigil(Sheet().page, one.hub, Wanted(), 3.0)
        task = asyncio.create_task(vigil.offer())
        await viewers(one, 1)
        await one.report("a", [gpu(0), gpu(1, 70, user="bob")])  # between two jobs of a queue
        first = node("a"), free_parts(node("a", free_gpu(0)), 0.0, is_slice=False)[0]
        await until_true(lambda: vigil.seen.seconds(*first, time.time()) > -math.inf)
        while not task.done():
            await one.report("a", [gpu(0, 70, user="alice"), gpu(1)])
        assert [part.gpu.index for part in (await task).parts] == [1]


async def test_a_search_outlives_its_hub_and_trusts_nothing_from_before() -> None:
    port = free_port()
    sheet = Sheet()
    async with lab(port) as one:
        await one.report("a", [gpu(0, 70, user="alice")])
        task = await waiting(one, sheet)
    assert not task.done()
    async with lab(port) as again:
        await again.report("b", [gpu(5)])
        assert await task == 0
    assert sheet.text == "b.lab CUDA_VISIBLE_DEVICES=GPU-00000005\n"


async def test_what_was_free_before_the_link_was_cut_has_to_be_seen_again() -> None:
    vigil = find.Vigil(Sheet().page, Hub("http://hub"), Wanted(), 60.0)
    watch, one = vigil._watch, node("a", free_gpu(0))
    (part,) = free_parts(one, 0.0, is_slice=False)
    watch.fleet._nodes, watch.has_told = {"a": one}, True
    assert vigil._look() is None
    assert vigil.seen.seconds(one, part, watch.fleet.now()) >= 0
    watch.trouble = "the link has ended"
    assert vigil._look() is None
    assert vigil.seen.seconds(one, part, watch.fleet.now()) == -math.inf


async def test_a_hub_that_was_never_there_is_not_waited_for() -> None:
    with pytest.raises(HubError, match="cannot be reached"):
        await find.wait(Sheet().page, Hub(f"http://127.0.0.1:{free_port()}"), Wanted(), "line", 0.0, None)


async def test_a_search_says_that_the_hub_did_not_answer_and_not_that_nothing_was_free() -> None:
    async with silent_server() as (url, _):
        with pytest.raises(HubError, match=r"no answer within 0\.2 s"):
            await find.wait(Sheet().page, Hub(url), Wanted(), "line", 0.0, 0.2)
    async with lab() as one:
        await one.report("a", [gpu(0, 70, user="alice")])
        vigil = find.Vigil(Sheet().page, one.hub, Wanted(), 0.0)
        task = asyncio.create_task(vigil.offer())
        await until_true(lambda: vigil.has_looked)
        assert vigil.doubt == ""
    await until_true(lambda: vigil.doubt.startswith(", as far as is known; no word from the hub since "))
    task.cancel()


async def test_a_search_that_is_ended_has_found_nothing() -> None:
    async with lab() as one:
        await one.report("a", [gpu(0, 70, user="alice")])
        for number in (signal.SIGINT, signal.SIGTERM):
            with program("find", "--wait", "--hub", one.site.url) as command:
                await viewers(one, 1)
                assert await asyncio.to_thread(command.end, number) == 128 + number
                assert command.wrote == ""
                await viewers(one, 0)


async def test_nothing_that_strangers_say_reaches_a_shell_or_the_terminal() -> None:
    async with lab() as one:
        await one.report("a", [gpu(0, name=HOSTILE, uuid="GPU-`id`; reboot")], tags=["x; y"])
        status, text, said = await one.run("find", "--shell")
        assert (status, said) == (0, "")
        assert text == "export GPUMON_HOST=a.lab CUDA_DEVICE_ORDER=PCI_BUS_ID CUDA_VISIBLE_DEVICES=0\n"
        status, text, _ = await one.run("find", "--json")
        assert text.removesuffix("\n").isprintable()
