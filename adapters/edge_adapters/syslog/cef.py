"""ArcSight Common Event Format, version 0 ("Implementing ArcSight Common Event Format", version 26). Pure.

``CEF:0|vendor|product|version|event class|name|severity|extension``: in the seven fields of the header backslash and
pipe are escaped, in values of the extension backslash and the equals sign; line ends are written ``\\n`` in the
extension and cannot stand in the header at all.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from edge_adapters.syslog.facts import Facts
from edge_agent.verdict import IncidentState, Severity

VENDOR: Final = "edge-graph-agent"
PRODUCT: Final = "edge-agent"

_SEVERITIES: Final = {Severity.LOW: 3, Severity.MEDIUM: 5, Severity.HIGH: 8, Severity.CRITICAL: 10}
_STATUS_SEVERITY: Final = 1
_OUTCOMES: Final = {IncidentState.OPEN: "Open", IncidentState.UPDATED: "Updated", IncidentState.CLOSED: "Closed"}
_CONTROLS: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_LONGEST_NAME: Final = 512


def cef(known: Facts, version: str, *, brief: bool = False) -> str:
    """One CEF record of ``version`` of the agent; ``brief`` keeps only what says which incident it is."""
    severity = _STATUS_SEVERITY if known.severity is None else _SEVERITIES[known.severity]
    name = (known.summary or known.subject)[:_LONGEST_NAME]
    event_class = f"incident:{known.incident_kind}" if known.incident_kind else f"{known.kind.value}:{known.subject}"
    header = ["CEF:0", *map(_header, (VENDOR, PRODUCT, version, event_class, name)), str(severity)]
    pairs = _brief(known) if brief else _full(known)
    return "|".join(header) + "|" + " ".join(f"{key}={_extension(value)}" for key, value in pairs if value)


def _brief(known: Facts) -> Iterator[tuple[str, str]]:
    yield "rt", str(known.time_ms)
    yield "externalId", known.incident or known.event_id
    yield "dvchost", known.agent[:100]
    yield "cat", known.incident_kind or known.kind.value
    yield "act", "" if known.state is None else _OUTCOMES[known.state]


def _full(known: Facts) -> Iterator[tuple[str, str]]:
    yield from _brief(known)
    yield "start", "" if known.opened_ms is None else str(known.opened_ms)
    yield "end", "" if known.closed_ms is None else str(known.closed_ms)
    yield "msg", known.summary[:1023]
    yield "reason", known.suppressed[:1023]
    custom_texts = (
        ("sensors", ", ".join(known.sensor_names)),
        ("firstMover", known.first_mover),
        ("attackTechniques", ", ".join(known.techniques)),
        ("areas", ", ".join(known.areas)),
        ("rules", ", ".join(known.rules)),
        ("eventId", known.event_id),
    )
    for number, (label, value) in enumerate(custom_texts, 1):
        yield f"cs{number}", value[:4000]
        yield f"cs{number}Label", label if value else ""
    for number, (label, figure) in enumerate((("pValue", known.p_value), ("score", known.score)), 1):
        yield f"cfp{number}", "" if figure is None else f"{figure:.6g}"
        yield f"cfp{number}Label", "" if figure is None else label
    flexible = (("acknowledgedBy", known.acknowledged_by), ("delivery", "replayed" if known.replayed else ""))
    for number, (label, value) in enumerate(flexible, 1):
        yield f"flexString{number}", value[:1023]
        yield f"flexString{number}Label", label if value else ""


def _header(value: str) -> str:
    flat = " ".join(_CONTROLS.sub(" ", value).split())
    return flat.replace("\\", "\\\\").replace("|", "\\|")


def _extension(value: str) -> str:
    escaped = _CONTROLS.sub(" ", value).replace("\\", "\\\\").replace("=", "\\=")
    return escaped.replace("\r\n", "\\n").replace("\n", "\\n").replace("\r", "\\r").strip()
