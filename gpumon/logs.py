"""The log: one line an event, whatever stands in it."""

import logging

MAX_LOG_CHARACTERS = 2000
MAX_TRACEBACK_CHARACTERS = 6000


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
