"""How busy processes keep a GPU: the real binding over the fake library."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from gpumon.agent.pipe import EVERY_PASS, Pass
from tests import fakenvml
from tests.agent.talks import Driver, Talk
from tests.fakenvml import GIB, Process, Scenario

FIRST, SECOND, THIRD = 4_000_001, 4_000_002, 4_000_003  # no processes of this machine


@pytest.fixture
def talks(tmp_path: Path) -> Iterator[Driver]:
    driver = Driver(tmp_path)
    yield driver
    for talk in driver.talks:
        talk.close()


def busy() -> Scenario:
    scenario = fakenvml.datacentre(1)
    scenario.gpus[0].processes = [Process(FIRST, 2 * GIB), Process(SECOND, GIB)]
    return scenario


def shares(talk: Talk) -> dict[int, float | None]:
    _, (gpu,) = talk.one_pass(Pass(describe_processes=False, beats=EVERY_PASS))
    assert gpu.processes is not None
    return {one.pid: one.utilization_percent for one in gpu.processes}


def test_processes_have_their_shares_and_each_sample_is_told_once(talks: Driver) -> None:
    scenario = busy()
    scenario.gpus[0].shares = [(FIRST, 100, 70), (SECOND, 90, 20), (FIRST, 80, 10)]
    talk = talks.talk(scenario)
    assert shares(talk) == {FIRST: 70, SECOND: 20}
    scenario.gpus[0].shares += [(SECOND, 120, 55)]
    scenario.write(talks.file)
    assert shares(talk) == {FIRST: None, SECOND: 55}
    assert shares(talk) == {FIRST: None, SECOND: None}


def test_row_10_a_gpu_that_idles_has_processes_without_shares(talks: Driver) -> None:
    scenario = busy()
    scenario.gpus[0].shares = []
    talk = talks.talk(scenario)
    assert shares(talk) == {FIRST: None, SECOND: None}
    scenario.gpus[0].shares = [(FIRST, 100, 70)]
    scenario.write(talks.file)
    assert shares(talk) == {FIRST: 70, SECOND: None}


def test_row_11_samples_that_were_never_taken_are_left_out(talks: Driver) -> None:
    scenario = busy()
    never = [(0, 0, 0)] * 90 + [(FIRST, 0, 100), (THIRD, 2**63, 50), (SECOND, 100, 4_000_000_000)]
    scenario.gpus[0].shares = [*never, (FIRST, 100, 33)]
    talk = talks.talk(scenario)
    assert shares(talk) == {FIRST: 33, SECOND: None}
    scenario.gpus[0].shares = [*never, (FIRST, 110, 44)]
    scenario.write(talks.file)
    assert shares(talk) == {FIRST: 44, SECOND: None}


def test_row_12_more_room_is_given_than_the_driver_said(talks: Driver) -> None:
    scenario = busy()
    scenario.gpus[0].shares = [(FIRST, 100, 33)]
    scenario.gpus[0].shares_room = 200
    assert shares(talks.talk(scenario)) == {FIRST: 33, SECOND: None}


def test_a_driver_without_shares_is_asked_once(talks: Driver) -> None:
    talk = talks.talk(busy())
    assert shares(talk) == {FIRST: None, SECOND: None}
    assert shares(talk) == {FIRST: None, SECOND: None}
    assert talks.calls().count("nvmlDeviceGetProcessUtilization") == 1


@pytest.mark.parametrize("code", [1, 2, 4, 6, 7, 13, 16, 999])
def test_shares_that_cannot_be_had_cost_no_process(talks: Driver, code: int) -> None:
    scenario = busy()
    scenario.gpus[0].does["nvmlDeviceGetProcessUtilization"] = code
    assert shares(talks.talk(scenario)) == {FIRST: None, SECOND: None}
