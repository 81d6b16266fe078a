"""What is told of a node to who looks at the whole fleet: a card and a row of numbers.

The card (:mod:`gpumon.hub.card`) holds what rarely changes and travels only when it has; the numbers are rounded to
what a page shows, and travel as columns over the nodes, which compress to a few bytes for each GPU.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple, Self

import orjson

from gpumon.glance import MIB, Values
from gpumon.hub.card import Card, card_of
from gpumon.hub.letters import News
from gpumon.model import Fault, Gpu, Node
from gpumon.timestamp import seconds

MEMORY_STEP_MEBIBYTES: Final = 16
ROW_BYTES: Final = 200
"""Of a row in a message, more or less."""


class Row(NamedTuple):
    """A node's numbers: one place of each column. ``seen_at`` is in seconds since the epoch, by the hub's clock."""

    seen_at: float | None
    host_cpu: int | None
    host_memory: int | None
    utilization: Values
    memory: Values
    temperature: Values
    power: Values
    fan: Values


class Glance(NamedTuple):
    """All that is told of a node."""

    card: Card
    row: Row


def glance_of(node: Node, seen_at: float | None, before: Card | None = None) -> Glance:
    """``node`` at a glance; ``before`` is its last card, which stays if nothing on it has changed."""
    return Glance(card_of(node, seen_at, before), _row(node, seen_at))


class OverviewLetter(News):
    """How nodes are at a glance: numbers of each in ``rows``, and the cards that are news."""

    def __init__(
        self,
        kind: str,
        identity: str,
        sent_at: str,
        rows: Mapping[str, Row],
        cards: Mapping[str, Card],
        notices: Sequence[Fault] = (),
    ) -> None:
        super().__init__(kind, identity, sent_at, notices)
        self.rows = rows
        self.cards = cards

    @property
    def names(self) -> Iterable[str]:
        return self.rows

    def size_of(self, name: str) -> int:
        card = self.cards.get(name)
        return ROW_BYTES + (0 if card is None else len(card.json))

    def content(self) -> dict[str, object]:
        head: dict[str, object] = {"view": "overview"}
        cards = [orjson.Fragment(card.json) for card in self.cards.values()]
        return head | super().content() | {"cards": cards, "numbers": self._numbers()}

    def followed_by(self, later: Self) -> Self:
        return self._like(later, {**self.rows, **later.rows}, {**self.cards, **later.cards})

    def among(self, names: Iterable[str]) -> Self:
        rows = {name: row for name, row in self.rows.items() if name in names}
        return self._like(self, rows, {name: card for name, card in self.cards.items() if name in names})

    def _like(self, dated: "OverviewLetter", rows: Mapping[str, Row], cards: Mapping[str, Card]) -> Self:
        return type(self)(self.kind, dated.identity, dated.sent_at, rows, cards, dated.notices)

    def _numbers(self) -> dict[str, object]:
        now = seconds(self.sent_at)
        rows = self.rows.values()
        return {
            "names": list(self.rows),
            "seen_seconds_ago": [None if row.seen_at is None else max(0, round(now - row.seen_at)) for row in rows],
            "host_cpu_utilization_percent": [row.host_cpu for row in rows],
            "host_memory_used_percent": [row.host_memory for row in rows],
            "utilization_percent": [row.utilization for row in rows],
            "memory_used_mebibytes": [row.memory for row in rows],
            "temperature_celsius": [row.temperature for row in rows],
            "power_draw_watts": [row.power for row in rows],
            "fan_speed_percent": [row.fan for row in rows],
        }


def _row(node: Node, seen_at: float | None) -> Row:
    report = node.report
    gpus: Sequence[Gpu] = report.gpus if report is not None else ()
    host = report.host if report is not None else None
    memory = None
    if host is not None and host.memory_total_bytes and host.memory_available_bytes is not None:
        memory = max(0, round(100 - 100 * host.memory_available_bytes / host.memory_total_bytes))
    return Row(
        seen_at,
        _whole(host.cpu_utilization_percent if host is not None else None),
        memory,
        [_whole(gpu.utilization_percent) for gpu in gpus],
        [_mebibytes(gpu.memory_used_bytes) for gpu in gpus],
        [_whole(gpu.temperature_celsius) for gpu in gpus],
        [_whole(gpu.power_draw_watts) for gpu in gpus],
        [_whole(gpu.fan_speed_percent) for gpu in gpus],
    )


def _whole(value: float | None) -> int | None:
    return None if value is None else round(value)


def _mebibytes(size: int | None) -> int | None:
    return None if size is None else round(size / MIB / MEMORY_STEP_MEBIBYTES) * MEMORY_STEP_MEBIBYTES
