"""Our log entries as log records of the SDK."""

from __future__ import annotations

from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from edge_agent.export.log_entry import LogEntry
from edge_agent.export.otlp_resource import utf8


def log_record(who: Resource, entry: LogEntry) -> ReadableLogRecord:
    """One record; the logger's name is the scope, as the data model asks."""
    record = LogRecord(
        timestamp=entry.time_ns,
        observed_timestamp=entry.time_ns,
        severity_number=_severity(entry.level),
        severity_text=entry.level_name,
        body=utf8(entry.message),
        attributes=None if entry.exception is None else {"exception.stacktrace": utf8(entry.exception)},
    )
    return ReadableLogRecord(record, who, InstrumentationScope(utf8(entry.logger)))


def _severity(level: int) -> SeverityNumber:
    """Python's levels in the data model's ranges: 10 is DEBUG (5), 20 INFO (9), 30 WARN (13), 40 ERROR (17)."""
    if level < 10:
        return SeverityNumber.TRACE
    if level < 20:
        return SeverityNumber.DEBUG
    if level < 30:
        return SeverityNumber.INFO
    if level < 40:
        return SeverityNumber.WARN
    return SeverityNumber.ERROR if level < 50 else SeverityNumber.FATAL
