"""The published JSON Schema says the same as the loader."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from edge_agent.config.document import read_document
from edge_agent.config.json_schema import json_schema
from edge_agent.config.options_text import options_text, yaml_text
from edge_agent.config.problems import describe, option_path
from edge_agent.config.sample import sample_config
from edge_agent.config.schema import SECTION_NAMES
from edge_agent.registry import ADAPTER_GROUPS, names

CASES = Path(__file__).parent / "cases"
MODBUS = {"type": "modbus", "host": "a", "devices": [{"registers": [{"name": "x", "address": 0}]}]}


@pytest.fixture(scope="module")
def validator() -> Any:
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def test_schema_knows_every_section(validator: Any) -> None:
    assert tuple(validator.schema["properties"]) == SECTION_NAMES


def test_schema_has_a_variant_for_every_adapter(validator: Any) -> None:
    variants = {name for name in validator.schema["$defs"] if "." in name}
    assert variants == {f"{group.noun}.{name}" for group in ADAPTER_GROUPS for name in names(group)}


def test_schema_takes_the_sample(validator: Any) -> None:
    value = read_document(sample_config(("mqtt", "coap"), ("mqtt", "webhook", "file"))).value
    validator.validate({name: section for name, section in value.items() if section is not None})


@pytest.mark.parametrize(
    "change",
    [
        {"modle": {}},
        {"tick": {"xyzzy": 1}},
        {"tick": {"period": 5}},
        {"graph": {"window": 5000}},
        {"agent": {"log": {"level": "loud"}}},
        {"sources": {}},
        {"sources": {"x": MODBUS | {"type": "modbuss"}}},
        {"sources": {"x": MODBUS | {"port": 70000}}},
        {"sources": {"x": MODBUS | {"hots": "a"}}},
        {"sources": {"x": {"type": "modbus", "host": "a"}}},
        {"sensors": {"LIT101": 5}},
    ],
    ids=str,
)
def test_schema_refuses_what_the_loader_refuses(validator: Any, change: dict[str, Any]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        validator.validate({"sources": {"x": MODBUS}} | change)


def test_schema_takes_a_small_configuration(validator: Any) -> None:
    validator.validate(
        yaml.safe_load("decision: {false_alarms: 1 per week}\nsensors: {LIT*: {min: 0}}") | {"sources": {"x": MODBUS}}
    )


def test_schema_takes_references_for_values_of_any_type(validator: Any) -> None:
    reference = "${env:SOMETHING}"
    press = MODBUS | {"port": reference, "transport": reference, "timeout": reference}
    validator.validate({"sources": {"x": press}, "graph": {"learn": reference, "window": reference}})
    with pytest.raises(jsonschema.ValidationError):
        validator.validate({"sources": {"x": press}, "graph": {"window": "${vault:x}"}})


@pytest.mark.parametrize(
    ("value", "example", "text"),
    [
        (5.0, "250ms", "5s"),
        (0.25, "250ms", "250ms"),
        (0.0, "250ms", "0s"),
        (90.0, "250ms", "90s"),
        (10_000_000, "10MB", "10MB"),
        (65_536, "10MB", "64KiB"),
        (256_000_000, "10MB", "256MB"),
        (64 * 2**20, "10MB", "64MiB"),
        (1, "10MB", "1B"),
        (1 / 604_800, "1 per week", "1 per week"),
        (2 / 86_400, "1 per week", "2 per day"),
        (1 / 2_629_800, "1 per week", "1 per month"),
    ],
)
def test_defaults_are_shown_as_one_would_write_them(value: float, example: str, text: str) -> None:
    assert yaml_text(value, {"examples": [example]}) == text


@pytest.mark.parametrize(
    ("schema", "text"),
    [
        ({"type": "integer", "minimum": 1, "maximum": 9}, "a whole number from 1 to 9"),
        ({"type": "number", "minimum": 0.5, "maximum": 9.0}, "a number from 0.5 to 9"),
        ({"type": "number", "exclusiveMinimum": 0}, "a number above 0"),
        ({"type": "integer", "maximum": 9}, "a whole number of at most 9"),
        ({"enum": ["a", "b"]}, "one of a, b"),
        ({"const": "a"}, "'a'"),
        ({"anyOf": [{"type": "boolean"}, {"type": "null"}]}, "true or false"),
        ({"anyOf": [{"type": "integer"}, {"type": "string"}]}, "a whole number or text"),
        ({"type": "array", "items": {"type": "string"}}, "a list, each item text"),
        ({"type": "string", "format": "path"}, "a path"),
    ],
)
def test_expectations_are_words(schema: dict[str, Any], text: str) -> None:
    assert describe(schema, {}) == text


def test_option_path_shows_lists_and_mappings() -> None:
    assert option_path(("sources", "press", "topics", 0, "name")) == "sources.press.topics[0].name"


def test_nested_options_have_their_path() -> None:
    from edge_agent.registry import source_adapter

    found = {text.name for text in options_text(source_adapter("modbus").options)}
    assert {"host", "devices", "devices[].unit", "devices[].registers[].name"} <= found
