import asyncio
import json
from typing import Any

import pytest

from gpumon.hub.feed import Feed, Letter, Mailbox


class State:
    """A fleet of numbers, and the feed that tells of it."""

    def __init__(self) -> None:
        self.values = {"a": 1, "b": 1}
        self.version = 0
        self.feed = Feed(
            encoded=lambda name: json.dumps({"name": name, "value": self.values[name]}).encode(),
            names=lambda: list(self.values),
            now=lambda: "2026-01-01T00:00:00.000Z",
            version=lambda: self.version,
        )

    def set(self, name: str, value: int) -> None:
        self.values[name] = value
        self.version += 1
        self.feed.changed(name)


@pytest.fixture
def state() -> State:
    return State()


async def told(mailbox: Mailbox) -> tuple[str, dict[str, int]]:
    letter = await asyncio.wait_for(mailbox.get(), 5)
    assert letter is not None
    message = json.loads(letter.json)
    return message["type"], {node["name"]: node["value"] for node in message["nodes"]}


def is_empty(mailbox: Mailbox) -> bool:
    task = mailbox.get()
    try:
        task.send(None)
    except StopIteration:
        return False
    finally:
        task.close()
    return True


async def test_the_first_letter_is_everything_and_the_next_only_what_changed(state: State) -> None:
    mailbox = state.feed.open()
    assert await told(mailbox) == ("snapshot", {"a": 1, "b": 1})
    state.set("b", 2)
    state.feed.flush()
    assert await told(mailbox) == ("nodes", {"b": 2})


async def test_what_changes_before_the_snapshot_is_in_it_and_not_told_twice(state: State) -> None:
    mailbox = state.feed.open()
    state.set("a", 7)
    state.feed.flush()
    assert await told(mailbox) == ("snapshot", {"a": 7, "b": 1})
    state.feed.flush()
    assert is_empty(mailbox)


async def test_a_slow_viewer_gets_the_newest_of_each_node_in_one_letter(state: State) -> None:
    slow, quick = state.feed.open(), state.feed.open()
    await told(slow)
    await told(quick)
    for value in range(2, 100):
        state.set("a", value)
        state.feed.flush()
        assert await told(quick) == ("nodes", {"a": value})
    state.set("b", 5)
    state.feed.flush()
    assert await told(slow) == ("nodes", {"a": 99, "b": 5})
    assert is_empty(slow)


async def test_a_letter_is_rendered_once_for_all(state: State) -> None:
    viewers = [state.feed.open() for _ in range(3)]
    snapshots = [await viewer.get() for viewer in viewers]
    assert snapshots[0] is snapshots[1] is snapshots[2]
    state.set("a", 2)
    state.feed.flush()
    letters: list[Any] = [await viewer.get() for viewer in viewers]
    assert letters[0].event is letters[1].event is letters[2].event


async def test_the_feed_tells_at_once_and_then_at_most_four_times_a_second(state: State) -> None:
    mailbox = state.feed.open()
    await told(mailbox)
    runner = asyncio.create_task(state.feed.run())
    state.set("a", 2)
    assert await told(mailbox) == ("nodes", {"a": 2})
    state.set("a", 3)
    state.set("a", 4)
    await asyncio.sleep(0)
    assert is_empty(mailbox)
    assert await told(mailbox) == ("nodes", {"a": 4})
    runner.cancel()


async def test_the_end_of_the_feed_ends_every_mailbox_now_and_later(state: State) -> None:
    early = state.feed.open()
    waiting = asyncio.create_task(early.get())
    await asyncio.sleep(0)
    state.feed.close()
    assert await waiting is None or await early.get() is None
    assert await state.feed.open().get() is None


def test_an_event_is_framed_as_the_standard_says() -> None:
    letter = Letter("nodes", "e-1", "now", {"a": b'{"name":"a"}'})
    lines = letter.event.decode().split("\n")
    assert lines[0] == "event: nodes"
    assert lines[1] == "id: e-1"
    assert json.loads(lines[2].removeprefix("data: "))["nodes"] == [{"name": "a"}]
    assert lines[3:] == ["", ""]


# ---- nodes that go ----


def waiting(mailbox: Mailbox) -> list[dict[str, Any]]:
    """All that waits for a viewer."""
    found: list[dict[str, Any]] = []
    while True:
        task = mailbox.get()
        try:
            task.send(None)
        except StopIteration as end:
            found.append(json.loads(end.value.json) | {"identity": end.value.identity})
        else:
            return found
        finally:
            task.close()


def shape(mailbox: Mailbox) -> list[tuple[str, list[str]]]:
    return [
        (one["type"], one["names"] if one["type"] == "removed" else [node["name"] for node in one["nodes"]])
        for one in waiting(mailbox)
    ]


async def test_a_node_that_goes_is_named_and_takes_its_news_along(state: State) -> None:
    mailbox = state.feed.open()
    await told(mailbox)
    state.set("a", 2)
    state.set("b", 2)
    state.feed.flush()
    state.feed.removed(["a"])
    assert shape(mailbox) == [("nodes", ["b"]), ("removed", ["a"])]


async def test_a_node_that_is_back_before_the_viewer_looks_never_went(state: State) -> None:
    mailbox = state.feed.open()
    await told(mailbox)
    state.feed.removed(["a", "b"])
    state.set("a", 3)
    state.feed.flush()
    assert shape(mailbox) == [("removed", ["b"]), ("nodes", ["a"])]


async def test_of_two_messages_that_wait_the_newest_comes_last(state: State) -> None:
    mailbox = state.feed.open()
    await told(mailbox)
    for _ in range(3):
        state.set("a", state.version)
        state.feed.flush()
        state.version += 1
        state.feed.removed(["b"])
    messages = waiting(mailbox)
    assert [one["type"] for one in messages] == ["nodes", "removed"]
    assert messages[-1]["identity"] == state.feed.identity
    state.version += 1
    state.feed.removed(["b"])
    state.set("a", 5)
    state.feed.flush()
    assert [one["type"] for one in waiting(mailbox)] == ["removed", "nodes"]


async def test_who_has_not_seen_anything_yet_needs_no_word_of_who_went(state: State) -> None:
    mailbox = state.feed.open()
    state.feed.removed(["a"])
    assert [kind for kind, _ in shape(mailbox)] == ["snapshot"]
    state.feed.removed(["b"])
    state.feed.reordered()
    assert [kind for kind, _ in shape(mailbox)] == ["snapshot"]
