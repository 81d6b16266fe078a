import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from gpumon.hub.card import Card
from gpumon.hub.feed import Feed
from gpumon.hub.letters import Letter, Removal
from gpumon.hub.mailbox import COMMENT_SECONDS, MOST_TOLD_BYTES, Mailbox
from gpumon.hub.overview import Glance, Row
from tests.hub.viewers import FakeLine, as_json, look, telling
from tests.running import until_true


class State:
    """A fleet of numbers, and the feed that tells of it."""

    def __init__(self) -> None:
        self.values = {"a": 1, "b": 1}
        self.version = 0
        self.cards: dict[str, Card] = {}
        self.on_encoded: Callable[[str], None] = lambda _: None
        self.feed = Feed(
            encoded=self.encoded,
            glance=self.glance,
            names=lambda: list(self.values),
            now=lambda: "2026-01-01T00:00:00.000Z",
            version=lambda: self.version,
        )

    def encoded(self, name: str) -> bytes:
        self.on_encoded(name)
        return json.dumps({"name": name, "value": self.values[name]}).encode()

    def glance(self, name: str) -> Glance:
        """Hundreds are on the card, the rest is a number."""
        hundreds, value = divmod(self.values[name], 100)
        data = json.dumps({"name": name, "hundreds": hundreds}).encode()
        if name not in self.cards or self.cards[name].json != data:
            self.cards[name] = Card(data)
        return Glance(self.cards[name], Row(None, None, None, [value], [None], [None], [None], [None]))

    def set(self, name: str, value: int) -> None:
        self.values[name] = value
        self.version += 1
        self.feed.changed(name)


def told(line: FakeLine) -> list[tuple[str, dict[str, int]]]:
    """Kind and nodes of each message since the last time."""
    return [(one["type"], {node["name"]: node["value"] for node in one["nodes"]}) for one in line.told()]


@pytest.fixture
async def state() -> AsyncIterator[State]:
    state = State()
    async with telling(state.feed):
        yield state


async def test_the_first_letter_is_everything_and_the_next_only_what_changed(state: State) -> None:
    _, line = look(state.feed)
    assert told(line) == [("snapshot", {"a": 1, "b": 1})]
    state.set("b", 2)
    await until_true(lambda: line.written)
    assert told(line) == [("nodes", {"b": 2})]


async def test_what_changes_while_the_snapshot_is_made_comes_after_it(state: State) -> None:
    line = FakeLine()
    mailbox = Mailbox(line, as_json)
    _, other = look(state.feed)
    snapshot = state.feed.open(mailbox, 0.0)
    state.set("a", 7)
    await until_true(lambda: len(other.written) == 2)
    assert line.written == []
    mailbox.begin(snapshot)
    assert told(line) == [("snapshot", {"a": 1, "b": 1}), ("nodes", {"a": 7})]


async def test_who_is_shown_out_while_the_snapshot_is_made_is_not_told_of_it(state: State) -> None:
    line = FakeLine()
    mailbox = Mailbox(line, as_json)
    snapshot = state.feed.open(mailbox, 0.0)
    mailbox.close()
    mailbox.begin(snapshot)
    assert line.written == []


async def test_a_slow_viewer_gets_the_newest_of_each_node_in_one_letter(state: State) -> None:
    (_, slow), (_, quick) = look(state.feed), look(state.feed)
    slow.told()
    quick.told()
    slow.blocked = True
    for value in range(2, 20):
        state.set("a", value)
        await until_true(lambda: quick.written)
        assert told(quick) == [("nodes", {"a": value})]
    state.set("b", 5)
    await until_true(lambda: quick.written)
    assert slow.written == []
    slow.unblock()
    assert told(slow) == [("nodes", {"a": 19, "b": 5})]
    slow.unblock()
    assert slow.written == []


async def test_a_letter_is_rendered_once_for_all(state: State) -> None:
    lines = [look(state.feed)[1] for _ in range(3)]
    state.set("a", 2)
    await until_true(lambda: all(len(line.written) == 2 for line in lines))
    for number in range(2):
        assert len({id(line.written[number]) for line in lines}) == 1


async def test_each_pace_is_told_the_first_change_at_once_and_the_rest_together(state: State) -> None:
    (_, calm), (_, hasty) = look(state.feed, pace=30), look(state.feed)
    calm.told()
    hasty.told()
    state.set("a", 2)
    await until_true(lambda: calm.written and hasty.written)
    assert told(calm) == told(hasty) == [("nodes", {"a": 2})]
    for value in (3, 4):
        state.set("a", value)
        await until_true(lambda: hasty.written)
        assert told(hasty) == [("nodes", {"a": value})]
    assert calm.written == []


async def test_a_quiet_line_gets_a_comment_and_a_busy_one_does_not(state: State) -> None:
    (quiet, line), (busy, other) = look(state.feed, comment=b"still here"), look(state.feed, comment=b"still here")
    for second in range(int(COMMENT_SECONDS) + 3):
        busy.put(Letter("nodes", "e-1", "now", {}))
        quiet.sweep(1000.0 + second)
        busy.sweep(1000.0 + second)
    assert line.written.count(b"still here") == 1
    assert b"still here" not in other.written


async def test_the_end_of_the_feed_ends_every_mailbox_now_and_later(state: State) -> None:
    early, _ = look(state.feed)
    state.feed.close()
    assert early.closed.is_set()
    assert look(state.feed)[0].closed.is_set()


def test_an_event_is_framed_as_the_standard_says() -> None:
    letter = Letter("nodes", "e-1", "now", {"a": b'{"name":"a"}'})
    lines = b"".join(letter.event()).decode().split("\n")
    assert lines[0] == "event: nodes"
    assert lines[1] == "id: e-1"
    assert json.loads(lines[2].removeprefix("data: "))["nodes"] == [{"name": "a"}]
    assert lines[3:] == ["", ""]


# ---- nodes that go ----


def letter(identity: str, *names: str) -> Letter:
    return Letter("nodes", identity, "now", {name: json.dumps({"name": name}).encode() for name in names})


def removal(identity: str, *names: str) -> Removal:
    return Removal(identity, "now", names)


@pytest.fixture
def slow() -> tuple[Mailbox, FakeLine]:
    """A viewer that has had its snapshot and takes nothing more yet."""
    line = FakeLine()
    mailbox = Mailbox(line, lambda message: message.identity.encode() + b" " + as_json(message))
    mailbox.begin(Letter("snapshot", "e-0", "now", {}))
    line.written.clear()
    line.blocked = True
    return mailbox, line


def shape(line: FakeLine) -> list[tuple[str, str, list[str]]]:
    """Identity, kind and names of each message that comes when the viewer reads again."""
    line.unblock()
    found = []
    for identity, _, text in (data.decode().partition(" ") for data in line.written):
        one = json.loads(text)
        names = one["names"] if one["type"] == "removed" else [node["name"] for node in one["nodes"]]
        found.append((identity, one["type"], names))
    return found


def test_a_node_that_goes_is_named_and_takes_its_news_along(slow: tuple[Mailbox, FakeLine]) -> None:
    mailbox, line = slow
    mailbox.put(letter("e-1", "a", "b"))
    mailbox.remove(removal("e-2", "a"))
    assert shape(line) == [("e-1", "nodes", ["b"]), ("e-2", "removed", ["a"])]


def test_a_node_that_is_back_before_the_viewer_looks_never_went(slow: tuple[Mailbox, FakeLine]) -> None:
    mailbox, line = slow
    mailbox.remove(removal("e-1", "a", "b"))
    mailbox.put(letter("e-2", "a"))
    assert shape(line) == [("e-1", "removed", ["b"]), ("e-2", "nodes", ["a"])]


def test_of_two_messages_that_wait_the_newest_comes_last(slow: tuple[Mailbox, FakeLine]) -> None:
    mailbox, line = slow
    for number in (1, 3, 5):
        mailbox.put(letter(f"e-{number}", "a"))
        mailbox.remove(removal(f"e-{number + 1}", "b"))
    assert shape(line) == [("e-5", "nodes", ["a"]), ("e-6", "removed", ["b"])]


def test_a_snapshot_takes_the_place_of_all_that_waits(slow: tuple[Mailbox, FakeLine]) -> None:
    mailbox, line = slow
    mailbox.remove(removal("e-1", "b"))
    mailbox.put(letter("e-2", "a"))
    mailbox.put(Letter("snapshot", "e-3", "now", {"c": b'{"name":"c"}'}))
    mailbox.put(letter("e-4", "d"))
    assert shape(line) == [("e-3", "snapshot", ["c"]), ("e-4", "nodes", ["d"])]


class NarrowLine(FakeLine):
    """Takes one message at a time."""

    def write(self, data: bytes) -> None:
        super().write(data)
        self.blocked = True


def long_letter(identity: str, value: int, *names: str) -> Letter:
    """A quarter of what is told at once, of each node."""
    padding = "x" * (MOST_TOLD_BYTES // 4)
    nodes = {name: json.dumps({"name": name, "value": value, "padding": padding}).encode() for name in names}
    return Letter("nodes", identity, "now", nodes)


def test_a_slow_viewer_is_told_as_much_at_a_time_as_it_takes_and_the_newest_of_the_rest() -> None:
    line = NarrowLine()
    mailbox = Mailbox(line, as_json)
    mailbox.begin(Letter("snapshot", "e-0", "now", {}))
    everybody = [f"n{number:02d}" for number in range(20)]
    for value in (1, 2):
        mailbox.put(long_letter(f"e-{value}", value, *everybody))
    line.written.clear()
    seen: dict[str, list[int]] = {}
    gone: list[str] = []
    turns = 0
    while turns < 3 or line.blocked:
        line.unblock()
        for data in line.written:
            assert len(data) < 1.1 * MOST_TOLD_BYTES
            message = json.loads(data)
            gone += message.get("names", [])
            for node in message.get("nodes", []):
                seen.setdefault(node["name"], []).append(node["value"])
        line.written.clear()
        turns += 1
        if turns == 2:  # what was told, and what was not yet: changes, goes, and goes and is back
            mailbox.put(long_letter("e-3", 3, "n00", "n19"))
            mailbox.remove(removal("e-4", "n01", "n18", "n17"))
            mailbox.put(long_letter("e-5", 5, "n17"))
    assert turns > 6
    assert gone == ["n01", "n18"]
    assert "n18" not in seen
    assert seen["n00"] == [2, 3]
    assert {name: values[-1] for name, values in seen.items() if name not in ("n00", "n01")} == {
        name: {"n17": 5, "n19": 3}.get(name, 2) for name in everybody if name not in ("n00", "n01", "n18")
    }


def test_of_what_waits_for_one_viewer_the_removed_come_in_their_order() -> None:
    line = NarrowLine()
    mailbox = Mailbox(line, as_json)
    mailbox.begin(Letter("snapshot", "e-0", "now", {}))
    mailbox.put(long_letter("e-1", 1, *"abcdefgh"))
    mailbox.remove(removal("e-2", "a"))
    mailbox.put(Letter("snapshot", "e-3", "now", {"b": b'{"name":"b"}'}))
    mailbox.put(long_letter("e-4", 4, *"cdefgh"))
    mailbox.remove(removal("e-5", "b"))
    line.written.clear()
    kinds = []
    for _ in range(10):
        line.unblock()
        kinds += [one["type"] for one in line.told()]
    assert kinds == ["snapshot", "nodes", "nodes", "removed"]


async def test_of_a_new_order_and_nodes_that_went_viewers_hear_one_snapshot(state: State) -> None:
    _, line = look(state.feed)
    line.told()
    state.feed.removed(["a"])
    state.feed.reordered()
    assert [one["type"] for one in await line.next()] == ["snapshot"]


# ---- the overview ----


def cards(message: dict[str, Any]) -> dict[str, int]:
    assert message["view"] == "overview"
    return {card["name"]: card["hundreds"] for card in message["cards"]}


def numbers(message: dict[str, Any]) -> dict[str, int]:
    columns = message["numbers"]
    return {name: gpus[0] for name, gpus in zip(columns["names"], columns["utilization_percent"], strict=True)}


async def test_of_the_overview_a_card_travels_only_when_it_has_changed(state: State) -> None:
    _, line = look(state.feed, view="overview")
    (snapshot,) = line.told()
    assert (snapshot["type"], cards(snapshot), numbers(snapshot)) == ("snapshot", {"a": 0, "b": 0}, {"a": 1, "b": 1})
    found = []
    for value in (302, 303, 404):
        state.set("a", value)
        (message,) = await line.next()
        found.append((message["type"], cards(message), numbers(message)))
    assert found == [("nodes", {"a": 3}, {"a": 2}), ("nodes", {}, {"a": 3}), ("nodes", {"a": 4}, {"a": 4})]


async def test_a_slow_viewer_of_the_overview_loses_no_card_and_gets_the_newest_numbers(state: State) -> None:
    (_, slow), (_, quick) = look(state.feed, view="overview"), look(state.feed, view="overview")
    slow.told()
    quick.told()
    slow.blocked = True
    for name, value in (("a", 101), ("b", 2), ("a", 102), ("b", 3), ("a", 103)):
        state.set(name, value)
        await quick.next()
    slow.unblock()
    (message,) = slow.told()
    assert (cards(message), numbers(message)) == ({"a": 1}, {"a": 3, "b": 3})


async def test_a_card_that_changed_back_between_two_messages_reaches_who_saw_it_changed(state: State) -> None:
    _, early = look(state.feed, view="overview")
    state.set("a", 100)
    await early.next()
    await early.next()
    state.set("a", 200)
    _, late = look(state.feed, view="overview")
    assert cards(late.told()[0])["a"] == 2
    state.set("a", 100)
    assert cards((await late.next())[-1]) == {"a": 1}


async def test_the_overview_is_rendered_once_for_all(state: State) -> None:
    lines = [look(state.feed, view="overview")[1] for _ in range(3)]
    state.set("a", 102)
    await until_true(lambda: all(len(line.written) == 2 for line in lines))
    for number in range(2):
        assert len({id(line.written[number]) for line in lines}) == 1


async def test_a_new_order_is_told_with_all_cards(state: State) -> None:
    _, line = look(state.feed, view="overview")
    line.told()
    state.feed.reordered()
    (snapshot,) = await line.next()
    assert (snapshot["type"], cards(snapshot)) == ("snapshot", {"a": 0, "b": 0})


# ---- some nodes only ----


async def test_who_wants_one_node_hears_of_no_other(state: State) -> None:
    _, line = look(state.feed, only=frozenset({"b", "not there yet"}))
    _, other = look(state.feed)
    assert told(line) == [("snapshot", {"b": 1})]
    other.told()
    state.set("a", 2)
    await other.next()
    state.set("b", 2)
    await other.next()
    assert told(line) == [("nodes", {"b": 2})]
    state.feed.removed(["a"])
    await other.next()
    state.feed.removed(["b"])
    (gone,) = await line.next()
    assert (gone["type"], gone["names"]) == ("removed", ["b"])


async def test_nodes_that_nobody_wants_are_not_made_into_words(state: State) -> None:
    look(state.feed, only=frozenset({"b"}))
    _, line = look(state.feed, only=frozenset({"a"}))
    line.told()
    asked: list[str] = []
    state.values["c"] = 1
    state.on_encoded = asked.append
    state.set("c", 2)
    state.set("a", 2)
    assert told_names(await line.next()) == [["a"]]
    assert asked == ["a"]


def told_names(messages: list[dict[str, Any]]) -> list[list[str]]:
    return [[node["name"] for node in message["nodes"]] for message in messages]
