"""The log: one line an event, whatever stands in it."""

import logging

MAX_LOG_CHARACTERS = 2000


class OneLine(logging.Formatter):
    """One line an event: what strangers say is quoted in logs, and must not look like another event."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  (the name is logging's)
        line = super().formatMessage(record)[:MAX_LOG_CHARACTERS]
        return "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in line)
