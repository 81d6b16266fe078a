"""Ends a process whose link does not even try any longer, so that its service manager starts it anew.

A thread, since the event loop may be what hangs.
"""

import logging
import os
import threading
import time
from collections.abc import Callable

log = logging.getLogger(__name__)

PATIENCE_SECONDS = 120.0
LAST_WORD_SECONDS = 1.0


def end_process() -> None:
    """End with a status that tells a service manager to start the agent again."""
    os._exit(os.EX_SOFTWARE)


class Watchdog:
    """Watches from the first :meth:`attempt` on, until :meth:`rest`.

    It looks eight times within its patience. When its own look comes late, the process was halted or the machine
    asleep, and the time until now counts for nothing.
    """

    def __init__(self, patience_seconds: float = PATIENCE_SECONDS, bite: Callable[[], None] = end_process) -> None:
        self._patience = patience_seconds
        self._bite = bite
        self._attempted: float | None = None
        self._ended = threading.Event()

    def attempt(self) -> None:
        """The link tries something."""
        self._attempted = time.monotonic()

    def rest(self) -> None:
        """There is nothing to try."""
        self._attempted = None

    def __enter__(self) -> "Watchdog":
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()

    def _watch(self) -> None:
        period = self._patience / 8
        looked = forgiven = time.monotonic()
        while not self._ended.wait(period):
            now = time.monotonic()
            was_late, looked = now - looked > 2 * period, now
            forgiven = now if was_late else forgiven
            attempted = self._attempted
            if attempted is not None and (silence := now - max(attempted, forgiven)) > self._patience:
                self._end(silence)
                return

    def _end(self, silence: float) -> None:
        # The last word must not keep us: who hangs may hold the log.
        last = threading.Timer(LAST_WORD_SECONDS, self._bite)
        last.daemon = True
        last.start()
        log.critical(
            "the link to the hub has not tried anything for %.0f s: the agent ends, to be started anew", silence
        )
        last.cancel()
        self._bite()
