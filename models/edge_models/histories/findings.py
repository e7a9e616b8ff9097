"""What is wrong with a history, in sentences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from edge_agent.errors import DataFileError

_NAMED = 5


class Severity(Enum):
    """An error stops training; a warning is told and training goes on."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing found: ``kind`` is a short fixed word, ``sensors`` those it is about."""

    severity: Severity
    kind: str
    where: str
    found: str
    expected: str
    advice: str
    sensors: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The whole as one sentence."""
        about = f", {listed(self.sensors)}" if self.sensors else ""
        return f"{self.where}{about}: {self.found}, expected {self.expected}; {self.advice}"


@dataclass(frozen=True, slots=True)
class Report:
    """All findings about one history, or about two and what lies between them."""

    findings: tuple[Finding, ...]

    @property
    def errors(self) -> tuple[Finding, ...]:
        return tuple(one for one in self.findings if one.severity is Severity.ERROR)

    @property
    def warnings(self) -> tuple[Finding, ...]:
        return tuple(one for one in self.findings if one.severity is Severity.WARNING)

    def refuse_errors(self) -> None:
        """:raises DataFileError: with a line for each error, if there are any."""
        if self.errors:
            raise DataFileError("\n".join(one.text for one in self.errors))

    def to_dict(self) -> dict[str, Any]:
        """For JSON output."""
        return {
            "errors": len(self.errors),
            "warnings": len(self.warnings),
            "findings": [
                {
                    "severity": one.severity.value,
                    "kind": one.kind,
                    "where": one.where,
                    "found": one.found,
                    "expected": one.expected,
                    "advice": one.advice,
                    "sensors": list(one.sensors),
                    "text": one.text,
                }
                for one in self.findings
            ],
        }


def error(kind: str, where: str, found: str, expected: str, advice: str, sensors: Sequence[str] = ()) -> Finding:
    """A finding that stops training."""
    return Finding(Severity.ERROR, kind, where, found, expected, advice, tuple(sensors))


def warning(kind: str, where: str, found: str, expected: str, advice: str, sensors: Sequence[str] = ()) -> Finding:
    """A finding that is told."""
    return Finding(Severity.WARNING, kind, where, found, expected, advice, tuple(sensors))


def listed(names: Sequence[str]) -> str:
    """``sensor a``, or ``7 sensors (a, b, c, d, e and 2 more)``."""
    if len(names) == 1:
        return f"sensor {names[0]!r}"
    more = len(names) - _NAMED
    return f"{len(names)} sensors ({', '.join(names[:_NAMED])}{f' and {more} more' if more > 0 else ''})"
