"""What the child says without waking the agent: the two ends of the second pipe, and the child that uses it."""

import io
import os
import select
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from gpumon.agent.aside import Answers, Aside
from gpumon.agent.pipe import EVERY_PASS, MAX_LINE_BYTES, Doing, Done, FromChild, Pass, Read, Start, from_child, line
from gpumon.model import Gpu
from tests import fakenvml
from tests.agent.talks import Driver


@pytest.fixture
def aside() -> Iterator[Aside]:
    aside = Aside()
    yield aside
    aside.close()


def heard(aside: Aside) -> list[FromChild]:
    return [from_child.decode(said) for said in aside.lines()]


def test_only_what_the_agent_waits_for_goes_through_the_pipe_that_wakes_it(aside: Aside) -> None:
    pipe = io.BytesIO()
    answers = Answers(pipe)
    answers.aside(aside.number)
    answers.doing("gpu", 0, "GPU-0")
    assert heard(aside) == [Doing(step="gpu", index=0, uuid="GPU-0")]
    answers.read(Read(gpu=Gpu(index=0)))
    assert heard(aside) == []  # which goes out with the next
    answers.doing("events")
    assert heard(aside) == [Read(gpu=Gpu(index=0)), Doing(step="events")]
    assert pipe.getvalue() == b""
    answers.read(Read(gpu=Gpu(index=1)))
    answers.over(Done())
    assert pipe.getvalue() == line(Done())
    assert heard(aside) == [Read(gpu=Gpu(index=1))]


def test_without_a_second_pipe_everything_goes_through_the_one(aside: Aside) -> None:
    pipe = io.BytesIO()
    answers = Answers(pipe)
    answers.aside(None)
    answers.doing("list")
    answers.over(Done())
    assert pipe.getvalue() == line(Doing(step="list")) + line(Done())
    assert aside.lines() == []


def test_half_a_line_is_kept_until_the_rest_of_it_has_come(aside: Aside) -> None:
    os.write(aside.number, b"one\ntw")
    assert aside.lines() == [b"one"]
    assert aside.lines() == []
    os.write(aside.number, b"o\n")
    assert aside.lines() == [b"two"]


def test_the_last_words_of_a_child_that_has_died_are_heard(aside: Aside) -> None:
    os.write(aside.number, b"last\nhal")
    aside.given()
    assert aside.lines() == [b"last"]
    assert aside.lines() == []


def test_a_line_without_end_is_not_waited_for(aside: Aside) -> None:
    said = []
    for _ in range(MAX_LINE_BYTES // 60_000 + 2):
        os.write(aside.number, b"x" * 60_000)
        said += aside.lines()
    assert said
    assert len(said[0]) > MAX_LINE_BYTES


def test_a_child_that_says_more_than_there_is_room_for_waits_and_loses_nothing(aside: Aside) -> None:
    answers = Answers(io.BytesIO())
    answers.aside(aside.number)
    gpus = [Gpu(index=index, name="x" * 256) for index in range(10_000)]

    def say() -> None:
        for gpu in gpus:
            answers.read(Read(gpu=gpu))
        answers.over(Done())

    child = threading.Thread(target=say)
    child.start()
    seen: list[FromChild] = []
    while len(seen) < len(gpus):
        seen += heard(aside)
    child.join()
    assert seen == [Read(gpu=gpu) for gpu in gpus]


def test_a_pass_wakes_the_agent_once(tmp_path: Path, aside: Aside) -> None:
    driver = Driver(tmp_path)
    scenario = fakenvml.datacentre(2)
    for gpu in scenario.gpus:
        gpu.processes.clear()
    talk = driver.talk(scenario, start=Start(root=str(tmp_path), aside=aside.number))
    try:
        assert talk.process.stdin is not None
        assert talk.process.stdout is not None
        talk.process.stdin.write(line(Pass(beats=EVERY_PASS)))
        talk.process.stdin.flush()
        select.select([talk.process.stdout], [], [], 60)
        woken = os.read(talk.process.stdout.fileno(), MAX_LINE_BYTES)
        assert isinstance(from_child.decode(woken), Done)  # and nothing else
        said = heard(aside)
        assert [one.step for one in said if isinstance(one, Doing)] == [
            *("init", "list", "gpu", "gpu", "gpu", "gpu", "events")
        ]
        assert [one.gpu.index for one in said if isinstance(one, Read)] == [0, 1]
    finally:
        talk.close()
