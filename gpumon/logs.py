"""The log: one line an event, whatever stands in it, and the same line only so often."""

import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

MAX_LOG_CHARACTERS = 2000
MAX_TRACEBACK_CHARACTERS = 6000
SAME_LINES = 5
SAME_SECONDS = 60.0
MOST_LINES = 1000


class OneLine(logging.Formatter):
    """One line an event: what strangers say is quoted in logs, and must not look like another event.

    The traceback of a fault stands in the same line: the words of the error may be a stranger's.
    """

    def format(self, record: logging.LogRecord) -> str:
        line = super().format(record)
        return line.replace("\n", " | ")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  (the name is logging's)
        return _escaped(super().formatMessage(record)[:MAX_LOG_CHARACTERS])

    def formatException(self, ei: object) -> str:  # noqa: N802
        return _shown(super().formatException(ei))  # type: ignore[arg-type]

    def formatStack(self, stack_info: str) -> str:  # noqa: N802
        return _shown(super().formatStack(stack_info))


def _shown(traceback: str) -> str:
    """The end of ``traceback``, which says what happened."""
    return " | ".join(map(_escaped, traceback[-MAX_TRACEBACK_CHARACTERS:].split("\n")))


def _escaped(text: str) -> str:
    return "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in text)


@dataclass(slots=True)
class _Line:
    since: float
    count: int = 0


class Sparing(logging.Filter):
    """Lets the same line through five times a minute. How often it was left out is told when it comes next."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._lines: OrderedDict[tuple[str, str], _Line] = OrderedDict()

    def filter(self, record: logging.LogRecord) -> bool:
        now = self._clock()
        try:
            key = (record.name, record.getMessage()[:MAX_LOG_CHARACTERS])
        except Exception:  # arguments that do not fit: logging complains of them itself
            return True
        line = self._lines.get(key)
        left_out = 0
        if line is None or now - line.since >= SAME_SECONDS:
            left_out = 0 if line is None else max(line.count - SAME_LINES, 0)
            line = self._lines[key] = _Line(now)
        self._lines.move_to_end(key)
        if len(self._lines) > MOST_LINES:
            self._lines.popitem(last=False)
        line.count += 1
        if left_out:
            record.msg, record.args = "%s (left out before: %d times)", (key[1], left_out)
        return line.count <= SAME_LINES
