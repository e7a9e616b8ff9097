"""The OpenAPI 3.1 document, made from the table of routes so that it cannot fall behind."""

from __future__ import annotations

import re
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any

from edge_agent.api.routes import JSON, Query, Route
from edge_agent.verdict import Feedback, IncidentKind, IncidentState, Severity

_TIME = {"type": "string", "format": "date-time"}
_NUMBER_OR_NULL = {"type": ["number", "null"]}
_SERIES: dict[str, Any] = {
    "type": "object",
    "additionalProperties": {"type": "array", "items": {"type": ["number", "null"]}},
}
_TEXT_OR_NULL = {"type": ["string", "null"]}
_COMMON_STATUSES = (400, 421, 500)

_SCHEMAS: dict[str, Any] = {
    "Error": {
        "type": "object",
        "required": ["error"],
        "properties": {"error": {"type": "string", "description": "What was found, what was expected, what to do."}},
    },
    "Health": {
        "type": "object",
        "required": ["ok", "reasons"],
        "properties": {
            "ok": {"type": "boolean"},
            "reasons": {"type": "array", "items": {"type": "string"}, "description": "Why not, if not."},
        },
    },
    "Sensor": {
        "type": "object",
        "required": ["name"],
        "properties": {
            "name": {"type": "string"},
            "unit": _TEXT_OR_NULL,
            "value": _NUMBER_OR_NULL,
            "expected": _NUMBER_OR_NULL,
            "score": _NUMBER_OR_NULL,
        },
    },
    "Graph": {
        "type": "object",
        "required": ["nodes", "edges"],
        "properties": {
            "nodes": {"type": "array", "items": {"type": "object", "required": ["name"]}},
            "edges": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {
                        "sensor": {"type": "string"},
                        "neighbour": {"type": "string"},
                        "weight": _NUMBER_OR_NULL,
                        "kind": {"type": "string", "enum": ["declared", "learned"]},
                    },
                },
            },
        },
    },
    "Incident": {
        "type": "object",
        "required": ["id", "kind", "state", "severity", "opened", "summary", "sensors"],
        "properties": {
            "id": {"type": "string", "description": "Stays the same from open to closed (ULID)."},
            "kind": {"type": "string", "enum": [kind.value for kind in IncidentKind]},
            "state": {"type": "string", "enum": [state.value for state in IncidentState]},
            "severity": {"type": "string", "enum": [severity.value for severity in Severity]},
            "opened": _TIME,
            "updated": _TIME,
            "closed": {**_TIME, "type": ["string", "null"]},
            "p_value": _NUMBER_OR_NULL,
            "score": _NUMBER_OR_NULL,
            "summary": {"type": "string"},
            "first_mover": _TEXT_OR_NULL,
            "sensors": {
                "type": "array",
                "description": "Largest share first.",
                "items": {
                    "type": "object",
                    "required": ["sensor", "share", "seen", "expected", "unit", "reason"],
                    "properties": {
                        "sensor": {"type": "string"},
                        "share": {"type": "number", "description": "Part of the blame, 0 to 1."},
                        "score": _NUMBER_OR_NULL,
                        "seen": _NUMBER_OR_NULL,
                        "expected": _NUMBER_OR_NULL,
                        "scale": {**_NUMBER_OR_NULL, "description": "Usual deviation from what is expected."},
                        "unit": _TEXT_OR_NULL,
                        "reason": {"type": "string", "description": "What it does, in words."},
                        "finding": {**_TEXT_OR_NULL, "description": "The same as one word."},
                        "judged_by": {**_TEXT_OR_NULL, "description": "Member of the ensemble that expected this."},
                    },
                },
            },
            "propagation": {
                "type": "array",
                "description": "In which order sensors began to stand out.",
                "items": {
                    "type": "object",
                    "properties": {
                        "sensor": {"type": "string"},
                        "tick": {"type": "integer"},
                        "after_s": {"type": "number", "description": "Seconds after the first one."},
                    },
                },
            },
            "broken_edges": {
                "type": "array",
                "description": "Pairs of sensors that no longer fit together.",
                "items": {
                    "type": "object",
                    "properties": {
                        "sensor": {"type": "string"},
                        "neighbour": {"type": "string"},
                        "weight": {"type": "number"},
                    },
                },
            },
            "similar": {
                "type": "array",
                "description": "At most three closed incidents that looked alike, the most similar first.",
                "items": {
                    "type": "object",
                    "properties": {
                        "id": {"type": "string"},
                        "opened": _TIME,
                        "similarity": {"type": "number"},
                        "summary": {"type": "string"},
                        "feedback": _TEXT_OR_NULL,
                    },
                },
            },
            "series": {**_SERIES, "description": "What the worst sensors read."},
            "expected_series": {**_SERIES, "description": "What was expected of them at the same times."},
            "series_first": {**_TIME, "type": ["string", "null"], "description": "Time of the first value."},
            "series_step_s": {**_NUMBER_OR_NULL, "description": "Seconds from one value to the next."},
            "areas": {"type": "array", "items": {"type": "string"}},
            "rules": {"type": "array", "items": {"type": "string"}, "description": "The user's rules that hold."},
            "patterns": {
                "type": "array",
                "description": "Known attacks and faults that it looks like, the likeliest first.",
                "items": {
                    "type": "object",
                    "properties": {
                        "pattern": {"type": "string"},
                        "title": {"type": "string"},
                        "techniques": {
                            "type": "array",
                            "items": {"type": "string"},
                            "description": "Ids of MITRE ATT&CK for ICS.",
                        },
                        "confidence": {"type": "number", "minimum": 0, "maximum": 1},
                        "stages": {"type": "array", "items": {"type": "string"}},
                    },
                },
            },
            "acknowledged": {
                "type": ["object", "null"],
                "required": ["by", "time", "note"],
                "properties": {
                    "by": {"type": "string", "description": "Who has seen it."},
                    "time": _TIME,
                    "note": {"type": "string"},
                },
            },
            "suppressed": {**_TEXT_OR_NULL, "description": "Why nobody is to be disturbed, if so."},
            "flapping": {"type": "boolean", "description": "It opens and closes so often that only this is told."},
            "reopened": {"type": "integer", "description": "How often it opened again after it had closed."},
            "feedback": {"$ref": "#/components/schemas/Feedback"},
        },
    },
    "Order": {
        "type": "object",
        "required": ["id", "sensors", "areas", "created", "until", "by", "note"],
        "properties": {
            "id": {"type": "string"},
            "sensors": {"type": "array", "items": {"type": "string"}},
            "areas": {"type": "array", "items": {"type": "string"}},
            "created": _TIME,
            "until": _TIME,
            "by": {"type": "string", "description": "Who gave it."},
            "note": {"type": "string"},
            "matches": {"type": "integer", "description": "Known sensors that it concerned when it was given."},
        },
    },
    "AuditEntry": {
        "type": "object",
        "required": ["time", "by", "action"],
        "properties": {
            "time": _TIME,
            "by": {"type": "string"},
            "action": {"type": "string", "enum": ["acknowledge", "suppress", "lift", "feedback"]},
        },
    },
    "Ota": {
        "type": "object",
        "required": ["phase", "ring", "outcome", "problem", "in_force", "denied"],
        "properties": {
            "phase": {"type": "string", "examples": ["idle", "trial"]},
            "ring": {"type": "string"},
            "release": {"type": ["object", "null"], "description": "What is being worked on."},
            "in_force": {
                "type": "object",
                "description": "What runs: sha256 of the model's bundle and of the overlay.",
            },
            "before": {"type": ["object", "null"], "description": "What a rollback brings back."},
            "comparison": {
                "type": ["object", "null"],
                "description": "The candidate in shadow beside the model in use, or how it was.",
            },
            "outcome": {"type": ["object", "null"], "description": "How the last release ended here."},
            "problem": {**_TEXT_OR_NULL, "description": "Why no release can be installed now."},
            "denied": {
                "type": "array",
                "items": {"type": "object"},
                "description": "What is not tried again, and why.",
            },
            "image": {**_TEXT_OR_NULL, "description": "Container image that the newest ring file wants now."},
            "floors": {"type": "object", "description": "By ring: the newest counter seen. Nothing below is taken."},
        },
    },
    "Feedback": {
        "type": "object",
        "required": ["incident", "verdict", "note", "by", "time"],
        "properties": {
            "incident": {"type": "string"},
            "verdict": {"type": "string", "enum": [verdict.value for verdict in Feedback]},
            "note": {"type": "string"},
            "by": {"type": "string", "description": "Who said it."},
            "time": _TIME,
        },
    },
}


def openapi_document(routes: Iterable[Route], version: str) -> dict[str, Any]:
    """The whole document for these routes; ``version`` is the agent's."""
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "edge-agent",
            "version": version,
            "description": "Local API of one gateway. Reading needs no token; whatever changes something does.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {
            "schemas": _SCHEMAS,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(route: Route) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": route.handler.__name__,
        "summary": route.summary,
        "parameters": [*map(_path_parameter, re.findall(r"{(\w+)}", route.path)), *map(_query, route.query)],
        "responses": _responses(route),
    }
    if route.bodies:
        operation["requestBody"] = {"required": True, "content": {kind: {"schema": s} for kind, s in route.bodies}}
    if route.scope is not None:
        # OpenAPI 3.1: roles that are needed may be named for any kind of scheme.
        operation["security"] = [{"token": [route.scope.value]}]
    return operation


def _path_parameter(name: str) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}


def _query(query: Query) -> dict[str, Any]:
    return {"name": query.name, "in": "query", "description": query.description, "schema": query.schema}


def _responses(route: Route) -> dict[str, Any]:
    protected = (401, 403, 415, 504) if route.changes else ()
    found = {"200": {"description": "OK", "content": {route.answer_type: {"schema": route.answer}}}}
    for status in sorted({*_COMMON_STATUSES, *route.statuses, *protected}):
        # A health check that fails is an answer, not an error.
        schema = route.answer if route.answer.get("$ref", "").endswith("/Health") and status == 503 else _ERROR
        found[str(status)] = {"description": HTTPStatus(status).phrase, "content": {JSON: {"schema": schema}}}
    return found


_ERROR = {"$ref": "#/components/schemas/Error"}
