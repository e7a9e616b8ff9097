"""The published JSON Schema (draft 2020-12) of the configuration file, for completion and checks in editors."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from edge_agent.config.schema import ADAPTER_SECTIONS, ENTRY_OPTIONS, SECTION_NAMES, SECTION_SUMMARIES, SECTIONS
from edge_agent.options import Options
from edge_agent.registry import Group, adapters

IDENTIFIER = "https://edge-graph-agent.invalid/config.schema.json"


def json_schema(adapter_names: Collection[str] | None = None) -> dict[str, Any]:
    """The schema, with one variant for each installed adapter (or those named), told apart by ``type``."""
    definitions: dict[str, Any] = {}
    properties: dict[str, Any] = {}
    for name in SECTION_NAMES:
        properties[name] = _section(name, definitions, adapter_names) | {"description": SECTION_SUMMARIES[name]}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": IDENTIFIER,
        "title": "Configuration of edge-agent",
        "type": "object",
        "additionalProperties": False,
        "required": ["sources"],
        "properties": properties,
        "$defs": definitions,
    }


def _section(name: str, definitions: dict[str, Any], adapter_names: Collection[str] | None) -> dict[str, Any]:
    if name in SECTIONS:
        return _define(name, SECTIONS[name], definitions)
    if name in ENTRY_OPTIONS:
        return {
            "type": "object",
            "additionalProperties": _define(name.removesuffix("s"), ENTRY_OPTIONS[name], definitions),
        }
    group = ADAPTER_SECTIONS[name]
    variants = [
        _variant(group, adapter.name, adapter.options, definitions)
        for adapter in adapters(group)[0]
        if adapter_names is None or adapter.name in adapter_names
    ]
    entry: dict[str, Any] | bool = {"oneOf": variants} if variants else False
    return {"type": "object", "additionalProperties": entry, "minProperties": int(group is Group.SOURCES)}


def _variant(group: Group, name: str, options: type[Options], definitions: dict[str, Any]) -> dict[str, Any]:
    reference = _define(f"{group.noun}.{name}", options, definitions)
    definitions[f"{group.noun}.{name}"]["properties"]["type"] = {"const": name}
    return reference


def _define(name: str, options: type[Options], definitions: dict[str, Any]) -> dict[str, Any]:
    schema = options.model_json_schema(ref_template=f"#/$defs/{name}/$defs/{{model}}")
    definitions[name] = _with_references(schema)
    return {"$ref": f"#/$defs/{name}"}


_REFERENCE = {"type": "string", "pattern": "\\$\\{(env|file|credential):[^}]+\\}"}


def _with_references(schema: Any) -> Any:
    """Let ``${env:PORT}`` stand wherever a number, a boolean or one of some words is expected."""
    if isinstance(schema, list):
        return [_with_references(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    schema = {key: _with_references(value) for key, value in schema.items()}
    if schema.get("type") not in ("integer", "number", "boolean") and "enum" not in schema:
        return schema
    about = {key: schema.pop(key) for key in ("title", "description", "default") if key in schema}
    return {"anyOf": [schema, _REFERENCE], **about}
