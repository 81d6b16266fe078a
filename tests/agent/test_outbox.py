import asyncio

import pytest

from gpumon.agent.outbox import Outbox


def filled(count: int, **bounds: int) -> Outbox:
    outbox = Outbox(**bounds)
    for sequence in range(1, count + 1):
        outbox.put(sequence, b"x" * 10)
    return outbox


async def rest_of(outbox: Outbox, sequence: int = 0) -> list[tuple[int, bool]]:
    """What waits after ``sequence``: each number, and whether it is late."""
    found = []
    late = True
    while late:
        entry, late = await outbox.after(sequence)
        sequence = entry.sequence
        found.append((sequence, late))
    return found


async def test_reports_come_in_order_and_all_but_the_newest_are_late() -> None:
    assert await rest_of(filled(3)) == [(1, True), (2, True), (3, False)]


async def test_what_is_acknowledged_is_forgotten() -> None:
    outbox = filled(5)
    outbox.acknowledge(3)
    assert len(outbox) == 2
    assert await rest_of(outbox) == [(4, True), (5, False)]
    outbox.acknowledge(99)
    assert len(outbox) == 0


async def test_a_reader_that_is_ahead_waits_for_the_next() -> None:
    outbox = filled(2)
    task = asyncio.create_task(outbox.after(2))
    await asyncio.sleep(0)
    assert not task.done()
    outbox.put(3, b"")
    entry, late = await task
    assert (entry.sequence, late) == (3, False)


@pytest.mark.parametrize("bounds", [{"max_reports": 3}, {"max_bytes": 30}])
async def test_when_it_is_full_the_oldest_go_and_are_counted(bounds: dict[str, int]) -> None:
    outbox = filled(10, **bounds)
    assert (len(outbox), outbox.dropped) == (3, 7)
    assert await rest_of(outbox) == [(8, True), (9, True), (10, False)]
    assert await rest_of(outbox, sequence=2) == [(8, True), (9, True), (10, False)]


def test_a_single_report_is_kept_however_large() -> None:
    outbox = Outbox(max_bytes=1)
    outbox.put(1, b"xxx")
    assert (len(outbox), outbox.dropped) == (1, 0)


async def test_a_reader_in_the_middle_of_what_is_dropped_goes_on_with_what_is_left() -> None:
    outbox = filled(2, max_reports=4)
    assert (await outbox.after(0))[0].sequence == 1
    for sequence in range(3, 12):
        outbox.put(sequence, b"")
    assert (await outbox.after(1))[0].sequence == 8
