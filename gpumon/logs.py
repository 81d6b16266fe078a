"""The log: one line an event, whatever stands in it, and no line for ever."""

import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

MAX_LOG_CHARACTERS = 2000
MAX_TRACEBACK_CHARACTERS = 6000
REPEATS = 5
QUIET_SECONDS = 60.0
MOST_REMEMBERED = 256


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
    """How often a line came since ``since``."""

    since: float
    times: int = 0


class Unrepeated(logging.Filter):
    """Lets an identical line pass five times a minute, and says with the last of them that more are left out."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._monotonic = monotonic
        self._lines: OrderedDict[tuple[str, int, str], _Line] = OrderedDict()

    def filter(self, record: logging.LogRecord) -> bool:
        now = self._monotonic()
        key = record.name, record.levelno, record.getMessage()
        line = self._lines.get(key)
        if line is None or now - line.since >= QUIET_SECONDS:
            line = self._lines[key] = _Line(now)
            self._lines.move_to_end(key)
            if len(self._lines) > MOST_REMEMBERED:
                self._lines.popitem(last=False)
        line.times += 1
        if line.times == REPEATS:
            record.msg, record.args = f"{key[2]} (and again: left out for a minute)", ()
        return line.times <= REPEATS
