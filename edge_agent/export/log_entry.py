"""Log records on their way to the collector."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from edge_agent.export.backlog import Backlog

_MAX_MESSAGE = 16_384
EXPORT_THREAD = "otlp-export"
"""Name of the thread that exports."""


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One log record, formatted. ``level`` is Python's number."""

    time_ns: int
    level: int
    level_name: str
    logger: str
    message: str
    exception: str | None


class BacklogHandler(logging.Handler):
    """Formats a record at once (its arguments may change later) and puts it into ``backlog``; never waits.

    What HTTP libraries log while they export is left out: each export would give the next one something to send.
    """

    def __init__(self, backlog: Backlog[LogEntry]) -> None:
        super().__init__()
        self._backlog = backlog
        self._formatter = logging.Formatter()
        self.addFilter(lambda record: not _is_echo(record))

    def emit(self, record: logging.LogRecord) -> None:
        try:
            exception = self._formatter.formatException(record.exc_info) if record.exc_info else None
            entry = LogEntry(
                time_ns=int(record.created * 1e9),
                level=record.levelno,
                level_name=record.levelname,
                logger=record.name,
                message=record.getMessage()[:_MAX_MESSAGE],
                exception=exception and exception[:_MAX_MESSAGE],
            )
        except (TypeError, ValueError, KeyError):  # a record whose arguments do not fit its text
            self.handleError(record)
        else:
            self._backlog.put(entry)


def _is_echo(record: logging.LogRecord) -> bool:
    return record.threadName == EXPORT_THREAD and not record.name.startswith("edge_agent.")
