"""The OpenAPI document: valid by the official schema, and nothing but the truth about the routes."""

import json
import re
from pathlib import Path
from typing import Any

import aiohttp
import jsonschema
import pytest
from served_api import Serve, url

from edge_agent.api.openapi import openapi_document
from edge_agent.api.routes import ROUTES, Route
from edge_agent.decision.orders import Order
from edge_agent.templates.samples import sample_events
from edge_agent.verdict import EventKind

# The schema of the OpenAPI Initiative, https://spec.openapis.org/oas/3.1/schema/2022-10-07 (Apache-2.0).
SCHEMA = json.loads((Path(__file__).parent / "openapi-3.1-schema.json").read_text())


@pytest.fixture
def document() -> dict[str, Any]:
    return openapi_document(ROUTES, "1.2.3")


def test_document_is_valid_openapi(document: dict[str, Any]) -> None:
    jsonschema.Draft202012Validator(SCHEMA).validate(document)


def test_the_validation_would_notice(document: dict[str, Any]) -> None:
    document["paths"]["/livez"]["get"]["parameters"] = [{"name": "x", "in": "nowhere"}]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(SCHEMA).validate(document)


def test_every_schema_in_it_is_a_valid_schema(document: dict[str, Any]) -> None:
    for schema in document["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    names = set(re.findall(r'"#/components/schemas/(\w+)"', json.dumps(document)))
    assert names <= set(document["components"]["schemas"])


def test_who_acted_is_said_by_one_word_and_documented(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    incident = next(event for event in sample_events({EventKind.INCIDENT}) if event.body["acknowledged"])
    order = Order("O1", ("P*",), (), 0, 1, "kim", "test").to_dict()
    for told, schema in (
        (incident.body["acknowledged"], schemas["Incident"]["properties"]["acknowledged"]),
        (order, schemas["Order"]),
    ):
        assert set(schema["required"]) == set(told) <= set(schema["properties"])
        assert told["by"] in ("anna", "kim")
    assert all("by" in schemas[name]["required"] for name in ("AuditEntry", "Feedback"))
    assert "actor" not in json.dumps(document)


def test_operation_ids_are_unique(document: dict[str, Any]) -> None:
    found = [operation["operationId"] for path in document["paths"].values() for operation in path.values()]
    assert len(found) == len(set(found)) == len(ROUTES)


async def test_served_routes_are_exactly_the_documented_ones(serve: Serve, http: aiohttp.ClientSession) -> None:
    server = await serve()
    async with http.get(url(server, "/api/v1/openapi.json")) as answer:
        served = await answer.json()
    documented = {(method.upper(), path) for path, item in served["paths"].items() for method in item}
    assert server._runner is not None
    routed = {
        (route.method, route.resource.canonical)
        for route in server._runner.app.router.routes()
        if route.resource is not None
    }
    assert documented == routed


async def test_only_what_changes_something_asks_for_the_token(document: dict[str, Any]) -> None:
    for route in ROUTES:
        operation = document["paths"][route.path][route.method.lower()]
        assert ("security" in operation) == (route.method != "GET") == route.changes


def answers() -> list[Route]:
    return [route for route in ROUTES if route.method == "GET" and not route.streams and "{" not in route.path]


@pytest.mark.parametrize("route", answers(), ids=lambda route: route.path)
async def test_real_answers_fit_their_schema(
    serve: Serve, http: aiohttp.ClientSession, route: Route, document: dict[str, Any]
) -> None:
    async with http.get(url(await serve(), route.path)) as answer:
        assert answer.status == 200
        assert answer.content_type == route.answer_type
        body = await (answer.json() if route.answer_type == "application/json" else answer.text())
    jsonschema.Draft202012Validator({**route.answer, "components": document["components"]}).validate(body)
