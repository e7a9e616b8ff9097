"""Open Cybersecurity Schema Framework 1.5.0 (schema.ocsf.io). Pure.

An incident is a Detection Finding (class 2004) with the profile ``host``, its sensors are the resources; a status event
is a Base Event (class 0). What the schema has no place for is in ``unmapped``.
"""

from __future__ import annotations

from typing import Any, Final

from edge_adapters.syslog.facts import Facts
from edge_agent.verdict import IncidentKind, IncidentState, Severity

OCSF_VERSION: Final = "1.5.0"
_FINDINGS, _DETECTION_FINDING, _BASE_EVENT = 2, 2004, 0
_ACTIVITIES: Final = {
    IncidentState.OPEN: (1, "Create"),
    IncidentState.UPDATED: (2, "Update"),
    IncidentState.CLOSED: (3, "Close"),
}
_OTHER: Final = (99, "Other")
_SEVERITIES: Final = {
    Severity.LOW: (2, "Low"),
    Severity.MEDIUM: (3, "Medium"),
    Severity.HIGH: (4, "High"),
    Severity.CRITICAL: (5, "Critical"),
}
_UNKNOWN_SEVERITY: Final = (0, "Unknown")
_RULE, _STATISTICAL, _LEARNING = (1, "Rule"), (3, "Statistical"), (4, "Learning (ML/DL)")
_ANALYTICS: Final = {
    IncidentKind.PROCESS.value: _LEARNING,
    IncidentKind.DATA_QUALITY.value: _STATISTICAL,
    IncidentKind.RULE.value: _RULE,
}
_IOT_DEVICE: Final = (7, "IOT")
_RESOURCE_UID: Final = (10, "Resource UID")


def ocsf(known: Facts, version: str, *, brief: bool = False) -> dict[str, Any]:
    """One OCSF event of ``version`` of the agent; ``brief`` leaves resources and everything unmapped out."""
    if known.severity is None and known.state is None and not known.incident:
        return _status(known, version)
    finding = _finding(known, version)
    return finding if brief else {**finding, **_details(known)}


def _finding(known: Facts, version: str) -> dict[str, Any]:
    activity_id, activity = _OTHER if known.state is None else _ACTIVITIES[known.state]
    severity_id, severity = _UNKNOWN_SEVERITY if known.severity is None else _SEVERITIES[known.severity]
    status_id, status = _review(known)
    times = {"start_time": known.opened_ms, "end_time": known.closed_ms}
    return {
        "activity_id": activity_id,
        "activity_name": activity,
        "category_uid": _FINDINGS,
        "category_name": "Findings",
        "class_uid": _DETECTION_FINDING,
        "class_name": "Detection Finding",
        "type_uid": _DETECTION_FINDING * 100 + activity_id,
        "type_name": f"Detection Finding: {activity}",
        "time": known.time_ms,
        **{name: value for name, value in times.items() if value is not None},
        "severity_id": severity_id,
        "severity": severity,
        "status_id": status_id,
        "status": status,
        "is_alert": not known.over and not known.suppressed,
        "message": known.summary or known.subject,
        "finding_info": _finding_info(known),
        **_origin(known, version),
    }


def _finding_info(known: Facts) -> dict[str, Any]:
    kind = known.incident_kind
    type_id, type_name = _ANALYTICS.get(kind, _OTHER)
    times = {
        "created_time": known.opened_ms,
        "first_seen_time": known.opened_ms,
        "last_seen_time": known.updated_ms,
        "modified_time": known.updated_ms,
    }
    info: dict[str, Any] = {
        "uid": known.incident,
        "title": known.summary or known.subject,
        "analytic": {
            "type_id": type_id,
            "type": type_name,
            "uid": f"edge-agent:{kind}",
            "name": ", ".join(known.rules) or f"edge-agent {kind}".strip(),
        },
        **{name: value for name, value in times.items() if value is not None},
    }
    if kind:
        info["types"] = [kind]
    if known.techniques:
        info["attacks"] = [_attack(technique) for technique in known.techniques]
    return info


def _attack(technique: str) -> dict[str, Any]:
    # The incident names techniques by id; their names differ between releases of ATT&CK.
    url = f"https://attack.mitre.org/techniques/{technique.replace('.', '/')}/"
    return {"technique": {"uid": technique, "name": technique, "src_url": url}}


def _details(known: Facts) -> dict[str, Any]:
    resources = [
        {
            "uid": str(part["sensor"]),
            "name": str(part["sensor"]),
            "type": "sensor",
            "data": {name: part[name] for name in _EVIDENCE if part.get(name) is not None},
        }
        for part in known.sensors
    ]
    type_id, type_name = _RESOURCE_UID
    observables = [
        {"name": f"resources[{place}].uid", "type_id": type_id, "type": type_name, "value": resource["uid"]}
        for place, resource in enumerate(resources)
    ]
    unmapped = {
        "p_value": known.p_value,
        "score": known.score,
        "first_mover": known.first_mover,
        "areas": list(known.areas),
        "rules": list(known.rules),
        "patterns": [{name: match.get(name) for name in _PATTERN} for match in known.patterns],
        "suppressed": known.suppressed,
        "acknowledged_by": known.acknowledged_by,
        "replayed": known.replayed,
    }
    parts = {
        "resources": resources,
        "observables": observables,
        "unmapped": {name: value for name, value in unmapped.items() if value not in (None, "", [], False)},
    }
    return {name: value for name, value in parts.items() if value}


_EVIDENCE: Final = ("share", "score", "seen", "expected", "unit", "reason")
_PATTERN: Final = ("pattern", "title", "confidence", "stages")


def _review(known: Facts) -> tuple[int, str]:
    if known.over:
        return 4, "Resolved"
    if known.suppressed:
        return 3, "Suppressed"
    return (2, "In Progress") if known.acknowledged_by else (1, "New")


def _origin(known: Facts, version: str) -> dict[str, Any]:
    type_id, type_name = _IOT_DEVICE
    name = known.agent or "unknown"
    return {
        "device": {"type_id": type_id, "type": type_name, "hostname": name, "name": name, "uid": name},
        "metadata": {
            "version": OCSF_VERSION,
            "profiles": ["host"],
            "uid": known.event_id,
            "correlation_uid": known.incident or known.event_id,
            "product": {"name": "edge-agent", "vendor_name": "edge-graph-agent", "version": version},
        },
    }


def _status(known: Facts, version: str) -> dict[str, Any]:
    activity_id, _ = _OTHER
    return {
        "activity_id": activity_id,
        "activity_name": known.subject,
        "category_uid": 0,
        "category_name": "Uncategorized",
        "class_uid": _BASE_EVENT,
        "class_name": "Base Event",
        "type_uid": _BASE_EVENT * 100 + activity_id,
        "type_name": f"Base Event: {known.subject}",
        "time": known.time_ms,
        "severity_id": 1,
        "severity": "Informational",
        "message": known.summary or known.subject,
        **_origin(known, version),
    }
