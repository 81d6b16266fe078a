"""What is refused: counted by reason, said in the log, and told to who asks."""

import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from itertools import takewhile
from typing import Final

log = logging.getLogger(__name__)

QUIET_SECONDS = 60.0
MOST_ADDRESSES = 16
"""From so many addresses a reason is said within a minute; what comes from more is said of all together."""
MOST_REMEMBERED = 1024

REASONS: Final = {
    "silent_connection": "connections on which nothing was said",
    "too_many_connections": "connections beyond what one address may have",
    "too_many_unfinished": "unfinished requests beyond what one address may have",
    "slow_request": "requests that did not become complete",
    "large_request": "requests whose head or body was too large",
    "bad_request": "what was not HTTP",
    "slow_reader": "connections whose peer stopped reading",
    "bad_frame": "connections that did not talk as WebSocket does",
    "bad_message": "messages of agents in other words than those agreed on",
    "large_message": "messages of agents that were too large",
    "too_many_messages": "agents and viewers that said more than they may",
    "not_joined": "agents that have not joined, or were revoked",
    "no_token": "requests without the token that they take",
    "failed_login": "logins, and requests again and again, with another token than the hub's",
    "foreign_request": "requests in a foreign name, of a foreign page or of no meaning",
    "too_many_agents": "agents beyond what a hub takes: in one second, of new names from one address, or at all",
}
"""What is counted under which name, in words."""


@dataclass(slots=True)
class _Said:
    """When something was last said in the log, and how often it came since."""

    at: float
    more: int = 0


class Refusals:
    """Counts what is refused since the start. A reason is said at once, and then at most once a minute for each
    address, however often it comes.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.counts: dict[str, int] = {}
        self._monotonic = monotonic
        self._said: OrderedDict[tuple[str, str], _Said] = OrderedDict()

    def note(self, reason: str, address: str | None, words: str, level: int = logging.WARNING) -> None:
        """Count one refusal for ``reason``. ``words`` are for the log: what was refused, and what is allowed."""
        self.counts[reason] = self.counts.get(reason, 0) + 1
        now = self._monotonic()
        key = reason, address or "a peer"
        if key not in self._said and self._addresses(reason, now) >= MOST_ADDRESSES:
            key = reason, "many addresses"
        said = self._said.get(key)
        if said is not None and now - said.at < QUIET_SECONDS:
            said.more += 1
            return
        more = f" ({said.more} more since the last word of it)" if said is not None and said.more else ""
        self._said[key] = _Said(now)
        self._said.move_to_end(key)
        if len(self._said) > MOST_REMEMBERED:
            self._said.popitem(last=False)
        log.log(level, "refused %s: %s%s", key[1], words, more)

    def _addresses(self, reason: str, now: float) -> int:
        """Of how many addresses this was said within the last minute."""
        recent = takewhile(lambda one: now - one[1].at < QUIET_SECONDS, reversed(self._said.items()))
        return sum(key[0] == reason for key, _ in recent)
