"""Disks that hang."""

import threading
from collections.abc import Callable, Iterator

import pytest

from gpumon.disk import Disk

LONG = 20.0


class Hanging:
    """A disk that answers when it is let go, by the number of the question."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.begun = 0

    def read(self) -> int:
        self.begun += 1
        number = self.begun
        assert self.go.wait(LONG)
        return number


@pytest.fixture
def hanging() -> Iterator[Hanging]:
    one = Hanging()
    yield one
    one.go.set()


def threads(name: str) -> int:
    return [one.name for one in threading.enumerate()].count(name)


def failing(error: Exception) -> Callable[[], int]:
    def fail() -> int:
        raise error

    return fail


async def test_what_the_work_gives_or_raises_is_given_and_raised() -> None:
    disk = Disk("d")
    assert await disk.ask(lambda: 5, LONG) == 5
    for error in (OSError(5, "Input/output error"), ValueError("x"), TimeoutError("of its own")):
        with pytest.raises(type(error)) as raised:
            await disk.ask(failing(error), LONG)
        assert raised.value is error
    assert await disk.ask(str, LONG) == ""


async def test_one_thread_waits_for_a_disk_that_hangs_however_often_it_is_asked(hanging: Hanging) -> None:
    disk = Disk("hangs")
    for _ in range(20):
        with pytest.raises(TimeoutError):
            await disk.ask(hanging.read, 0.01)
    assert (hanging.begun, threads("hangs")) == (1, 1)
    hanging.go.set()
    assert await disk.ask(hanging.read, LONG) == 2  # asked later, so it is no answer from before


async def test_a_machine_that_allows_no_thread_is_told_and_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk("d")
    with monkeypatch.context() as refusing:
        refusing.setattr(threading.Thread, "start", lambda _: failing(RuntimeError("can't start new thread"))())
        with pytest.raises(RuntimeError):
            await disk.ask(lambda: 1, LONG)
    assert await disk.ask(lambda: 1, LONG) == 1
