"""The table of end points: what is served, by which function, and what the OpenAPI document says of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from edge_agent.api import updates
from edge_agent.api.handlers import MOST_NAME, MOST_NOTE, MOST_PATTERNS, Handlers
from edge_agent.api.options import Scope
from edge_agent.verdict import EventKind, Feedback

Schema = dict[str, Any]
Handler = Callable[[Handlers, web.Request], Awaitable[web.StreamResponse]]
JSON = "application/json"
BINARY = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class Query:
    """One optional query parameter."""

    name: str
    description: str
    schema: Schema


@dataclass(frozen=True, slots=True)
class Route:
    """One end point.

    ``path`` has parameters in braces; ``bodies``: schema by type. ``scope``: what a token has to open, for what changes
    something. ``exclusive``: never beside another change. ``burst``: most calls at once, of which one comes back every
    :data:`~edge_agent.api.guard.REFILL_S`.
    """

    method: str
    path: str
    handler: Handler
    summary: str
    answer: Schema
    answer_type: str = JSON
    query: tuple[Query, ...] = ()
    bodies: tuple[tuple[str, Schema], ...] = ()
    statuses: tuple[int, ...] = ()
    scope: Scope | None = None
    exclusive: bool = True
    burst: int | None = None
    streams: bool = False

    @property
    def changes(self) -> bool:
        """Whether it needs a token."""
        return self.scope is not None


def _named(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _list_of(key: str, name: str) -> Schema:
    return {"type": "object", "required": [key], "properties": {key: {"type": "array", "items": _named(name)}}}


_ANY: Schema = {"type": "object"}
_TEXT: Schema = {"type": "string"}
_EMPTY: Schema = {"type": "object", "maxProperties": 0}
_PATH: Schema = {
    "type": "object",
    "required": ["path"],
    "additionalProperties": False,
    "properties": {"path": {"type": "string", "description": "Absolute path of a bundle on the gateway."}},
}
_FOLDER: Schema = {
    "type": "object",
    "required": ["path"],
    "additionalProperties": False,
    "properties": {"path": {"type": "string", "description": "Absolute path of a repository on the gateway."}},
}
_NOTE: Schema = {"type": "string", "maxLength": MOST_NOTE}
_BY: Schema = {"type": "string", "maxLength": MOST_NAME, "description": "Name of who acts, for the audit log."}
_FEEDBACK: Schema = {
    "type": "object",
    "required": ["verdict"],
    "additionalProperties": False,
    "properties": {
        "verdict": {"type": "string", "enum": [verdict.value for verdict in Feedback]},
        "note": _NOTE,
        "by": _BY,
    },
}
_ACKNOWLEDGEMENT: Schema = {
    "type": "object",
    "additionalProperties": False,
    "properties": {"note": _NOTE, "by": _BY},
}
_PATTERNS: Schema = {
    "type": "array",
    "items": {"type": "string", "minLength": 1, "maxLength": MOST_NAME},
    "maxItems": MOST_PATTERNS,
    "description": "Shell-style patterns.",
}
_ORDER: Schema = {
    "type": "object",
    "required": ["for"],
    "additionalProperties": False,
    "anyOf": [{"required": ["sensors"]}, {"required": ["areas"]}],
    "properties": {
        "sensors": _PATTERNS,
        "areas": _PATTERNS,
        "for": {"type": "string", "examples": ["2h"], "description": "How long, at most 31d."},
        "note": _NOTE,
        "by": _BY,
    },
}
_LIFT: Schema = {"type": "object", "additionalProperties": False, "properties": {"by": _BY}}
_LIMIT = Query("limit", "Most entries to return.", {"type": "integer", "minimum": 1, "maximum": 1000, "default": 100})
_INCIDENT_QUERY = (
    Query("limit", "Most incidents to return.", {"type": "integer", "minimum": 1, "maximum": 1000, "default": 100}),
    Query("state", "Only incidents in this state.", {"type": "string", "enum": ["open", "closed"]}),
    Query("since", "Only incidents updated at or after this time.", {"type": "string", "format": "date-time"}),
)
_KINDS = Query(
    "kinds",
    f"Kinds of event, separated by commas: {', '.join(EventKind)}. Default: all.",
    {"type": "string", "examples": [EventKind.INCIDENT.value]},
)

ROUTES: tuple[Route, ...] = (
    Route("GET", "/", Handlers.page, "Status page for people.", _TEXT, "text/html"),
    Route(
        "GET",
        "/livez",
        Handlers.livez,
        "Whether the process should be left running.",
        _named("Health"),
        statuses=(503,),
    ),
    Route("GET", "/readyz", Handlers.readyz, "Whether the agent does its work.", _named("Health"), statuses=(503,)),
    Route(
        "GET",
        "/metrics",
        Handlers.metrics,
        "Metrics in Prometheus' text format, or OpenMetrics when asked for.",
        _TEXT,
        "text/plain",
        statuses=(404,),
    ),
    Route("GET", "/api/v1/status", Handlers.status, "State of the whole agent.", _ANY),
    Route("GET", "/api/v1/sensors", Handlers.sensors, "All sensors.", _list_of("sensors", "Sensor")),
    Route("GET", "/api/v1/sensors/{name}", Handlers.sensor, "One sensor.", _named("Sensor"), statuses=(404,)),
    Route("GET", "/api/v1/graph", Handlers.graph, "Sensors and the edges between them.", _named("Graph")),
    Route(
        "GET",
        "/api/v1/incidents",
        Handlers.incidents,
        "Incidents, newest first.",
        _list_of("incidents", "Incident"),
        query=_INCIDENT_QUERY,
    ),
    Route("GET", "/api/v1/incidents/{id}", Handlers.incident, "One incident.", _named("Incident"), statuses=(404,)),
    Route(
        "POST",
        "/api/v1/incidents/{id}/feedback",
        Handlers.judge_incident,
        "Say whether an incident was a true or a false alarm. Said again it changes nothing.",
        _named("Feedback"),
        bodies=((JSON, _FEEDBACK),),
        statuses=(404, 507),
        scope=Scope.INCIDENTS,
    ),
    Route(
        "POST",
        "/api/v1/incidents/{id}/acknowledge",
        Handlers.acknowledge_incident,
        "Note that somebody has seen an open incident. Said again it changes nothing.",
        _named("Incident"),
        bodies=((JSON, _ACKNOWLEDGEMENT),),
        statuses=(404, 409, 507),
        scope=Scope.INCIDENTS,
    ),
    Route("GET", "/api/v1/orders", Handlers.orders, "Suppression orders in force.", _list_of("orders", "Order")),
    Route(
        "POST",
        "/api/v1/orders",
        Handlers.suppress,
        "Have incidents of some sensors or areas disturb nobody for a while; they are told as suppressed.",
        _named("Order"),
        bodies=((JSON, _ORDER),),
        statuses=(409, 507),
        scope=Scope.INCIDENTS,
    ),
    Route(
        "POST",
        "/api/v1/orders/{id}/lift",
        Handlers.lift_order,
        "End an order before its time.",
        _named("Order"),
        bodies=((JSON, _LIFT),),
        statuses=(404, 507),
        scope=Scope.INCIDENTS,
    ),
    Route(
        "GET",
        "/api/v1/audit",
        Handlers.audit,
        "What operators did, and when requests began to be refused, newest first.",
        _list_of("entries", "AuditEntry"),
        query=(_LIMIT,),
        statuses=(507,),
    ),
    Route("GET", "/api/v1/model", Handlers.model, "The model in use and the one before it.", _ANY),
    Route(
        "POST",
        "/api/v1/model",
        Handlers.swap_model,
        "Put a model bundle into use, from a path on the gateway or uploaded as a tar.",
        _ANY,
        bodies=((JSON, _PATH), (BINARY, {"type": "string", "format": "binary"})),
        statuses=(409, 413, 422, 507),
        scope=Scope.MODEL,
    ),
    Route(
        "POST",
        "/api/v1/model/rollback",
        Handlers.rollback_model,
        "Bring back the model before this one.",
        _ANY,
        bodies=((JSON, _EMPTY),),
        statuses=(409, 422),
        scope=Scope.MODEL,
    ),
    Route(
        "POST",
        "/api/v1/reload",
        Handlers.reload,
        "Read the configuration again and apply what changed.",
        _ANY,
        bodies=((JSON, _EMPTY),),
        statuses=(409, 422),
        scope=Scope.CONFIG,
    ),
    Route(
        "GET",
        "/api/v1/ota",
        updates.ota,
        "Updates over the air: where the release that is worked on stands, how the last one ended, what is refused.",
        _named("Ota"),
        statuses=(404,),
    ),
    Route(
        "POST",
        "/api/v1/ota/check",
        updates.ota_check,
        "Look for updates soon. Asked for often, it is done once.",
        _named("Ota"),
        bodies=((JSON, _EMPTY),),
        statuses=(404, 429),
        scope=Scope.OTA_CHECK,
        exclusive=False,
        burst=5,
    ),
    Route(
        "POST",
        "/api/v1/ota/activate",
        updates.ota_activate,
        "Begin to use the release that is staged, now.",
        _named("Ota"),
        bodies=((JSON, _EMPTY),),
        statuses=(404, 409, 422, 507),
        scope=Scope.OTA_ACTIVATE,
        exclusive=False,
    ),
    Route(
        "POST",
        "/api/v1/ota/rollback",
        updates.ota_rollback,
        "Take back the release that is on trial, or else the one that was committed last.",
        _named("Ota"),
        bodies=((JSON, _EMPTY),),
        statuses=(404, 409, 422, 507),
        scope=Scope.OTA_ROLLBACK,
        exclusive=False,
    ),
    Route(
        "POST",
        "/api/v1/ota/sideload",
        updates.ota_sideload,
        "Look for updates in a repository on the gateway (a USB stick). It is trusted as any other is.",
        _named("Ota"),
        bodies=((JSON, _FOLDER),),
        statuses=(404, 409, 422, 507),
        scope=Scope.OTA_SIDELOAD,
        exclusive=False,
    ),
    Route(
        "GET",
        "/api/v1/events",
        Handlers.events,
        "Live events, as they happen. An event `missed` says how many a slow client did not get.",
        _TEXT,
        "text/event-stream",
        query=(_KINDS,),
        statuses=(503,),
        streams=True,
    ),
    Route("GET", "/api/v1/openapi.json", Handlers.openapi, "This description.", _ANY),
)
