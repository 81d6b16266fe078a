"""How a link has been doing: for the log, once each, and for whoever asks the agent."""

import logging
import time

from msgspec import Struct

from gpumon.agent.setback import Failure
from gpumon.text import one_line
from gpumon.timestamp import rfc3339
from gpumon.wire import Gap, Welcome

log = logging.getLogger(__name__)

MOST_KINDS = 64
MOST_SAID = 300


class LinkState(Struct, frozen=True, kw_only=True):
    """The link's own numbers. ``hub`` is null while there is no connection.

    ``reports_waiting`` are still to be sent, ``reports_unacknowledged`` were, and the hub has not said yet that it has
    them; ``bytes_waiting`` are those of both. ``reports_dropped`` are lost for good.
    """

    hub: str | None
    connected_since: str | None
    reconnects: int
    reports_waiting: int
    reports_unacknowledged: int
    bytes_waiting: int
    reports_dropped: int
    last_error: str | None
    last_error_at: str | None


class Diary:
    """Remembers what happened, and tells the log what it has not told within ``repeat_seconds``."""

    def __init__(self, repeat_seconds: float) -> None:
        self._repeat = repeat_seconds
        self._told: dict[tuple[str, str], float] = {}
        self._lost: set[str] = set()  # hubs of which the log's last word is that they are lost
        self._hub: str | None = None
        self._since: str | None = None
        self._connections = 0
        self._error: str | None = None
        self._error_at: str | None = None

    def state(self, kept: int, unsent: int, kept_bytes: int, dropped: int) -> LinkState:
        """What there is to tell, with the numbers of the outbox: what was sent on a connection that is gone waits."""
        waiting = kept if self._hub is None else unsent
        return LinkState(
            hub=self._hub,
            connected_since=self._since,
            reconnects=max(self._connections - 1, 0),
            reports_waiting=waiting,
            reports_unacknowledged=kept - waiting,
            bytes_waiting=kept_bytes,
            reports_dropped=dropped,
            last_error=self._error,
            last_error_at=self._error_at,
        )

    def connected(self, hub: str, welcome: Welcome, waiting: int, gap: Gap | None) -> None:
        """``hub`` has said welcome."""
        self._hub, self._since = one_line(hub, MOST_SAID), rfc3339(time.time())
        self._connections += 1
        if self._is_new(hub, "connected"):
            late = f"; reports that come late: {waiting - 1}" if waiting > 1 else ""
            lost = f"; lost: {gap.count}" if gap else ""
            log.info("hub %s: connected to gpumon %s%s%s", hub, welcome.hub_version, late, lost)
            self._lost.discard(hub)

    def held(self, hub: str) -> None:
        """The link to ``hub`` has held."""
        if hub in self._lost:
            log.info("hub %s: connected again", hub)
            self._lost.discard(hub)

    def failed(self, hub: str, failure: Failure, *, has_held: bool) -> None:
        """A try of ``hub`` has ended. After a link that has held, everything is worth telling again."""
        self._hub = self._since = None
        self._error = one_line(f"hub {hub}: {failure.text}", 2 * MOST_SAID)
        self._error_at = rfc3339(time.time())
        if has_held:
            self._told = {told: at for told, at in self._told.items() if told[0] != hub}
        if self._is_new(hub, failure.kind):
            log.warning("hub %s: %s; trying again", hub, failure.text)
            self._lost.add(hub)

    def left(self, hub: str) -> None:
        """``hub`` is not wanted any longer."""
        self._hub = self._since = None
        self._lost.discard(hub)
        log.info("hub %s: left, as it is not configured any longer", hub)

    def own_fault(self, what: str, error: BaseException) -> None:
        """``error`` was raised where it should not."""
        if self._is_new(what, f"own fault {type(error).__name__}"):
            log.error("%s: failed by a fault of gpumon's own; trying again", what, exc_info=error)

    def _is_new(self, hub: str, kind: str) -> bool:
        now = time.monotonic()
        if now - self._told.get((hub, kind), -self._repeat) < self._repeat:
            return False
        if len(self._told) >= MOST_KINDS:
            self._told.clear()
        self._told[hub, kind] = now
        return True
