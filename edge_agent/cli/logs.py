"""Logging of every command: one JSON object a line, or text for people, always on standard error.

Secrets never reach a log as long as they are :class:`~edge_agent.options.Secret`; what a library writes by itself
(an address with a password in it, an authorization header) is taken out here.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from datetime import UTC, datetime
from typing import Any

from edge_agent.cli.output import harmless

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_SECRETS = (
    (re.compile(r"(?i)(\b[a-z][a-z0-9+.-]*://[^\s:/@]*):[^\s/@]+@"), r"\1:***@"),
    (re.compile(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9+/=._~-]{6,}"), r"\1 ***"),
    (
        re.compile(r"(?i)\b(password|passwd|secret|token|api[_-]?key)(['\"]?\s*[=:]\s*)(['\"]?)[^\s'\",}]+"),
        r"\1\2\3***",
    ),
)
_VERBOSE_LEVELS = (logging.WARNING, logging.INFO, logging.DEBUG)


def redact(text: str) -> str:
    """``text`` without passwords in addresses, authorization headers and ``password=…`` pairs."""
    for pattern, replacement in _SECRETS:
        text = pattern.sub(replacement, text)
    return text


class JsonFormatter(logging.Formatter):
    """``time`` (RFC 3339, UTC), ``level``, ``logger``, ``message``, then whatever was passed as ``extra``."""

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC)
            .isoformat(timespec="milliseconds")
            .replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": redact(record.getMessage()),
        }
        for name, value in vars(record).items():
            if name not in _STANDARD and not name.startswith("_"):
                entry[name] = redact(value) if isinstance(value, str) else value
        if record.exc_info:
            entry["error"] = redact(self.formatException(record.exc_info))
        return json.dumps(entry, ensure_ascii=False, default=str)


class TextFormatter(logging.Formatter):
    """Time of day, level, logger and message, for people."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(name)s: %(message)s", "%H:%M:%S")

    def format(self, record: logging.LogRecord) -> str:
        """Further lines are indented: what others have written, in a note or a sensor's name, looks like no entry."""
        return harmless(redact(super().format(record))).replace("\n", "\n    ")


def configure_logging(level: str, form: str) -> None:
    """Send everything from ``level`` up to standard error as ``json`` or ``text``; replaces what was set before."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    root = logging.getLogger()
    for old in root.handlers[:]:
        if getattr(old, "of_edge_agent", False):
            root.removeHandler(old)
    handler.of_edge_agent = True  # type: ignore[attr-defined]  # tells ours from a test runner's
    root.addHandler(handler)
    root.setLevel(level.upper())


def configure_for_command(verbose: int) -> None:
    """Text on standard error; warnings only, unless ``-v`` was given."""
    configure_logging(logging.getLevelName(_VERBOSE_LEVELS[min(verbose, 2)]), "text")
