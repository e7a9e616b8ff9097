"""Says what pydantic found in words of the user: option path, value found, value expected, nearest known name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from edge_agent.config.document import Path
from edge_agent.nearest import nearest
from edge_agent.options import Options, format_duration

MAX_SHOWN = 80
_MISSING = object()
_HIDDEN = "***"
MAPPING = "a mapping of options"
Schema = Mapping[str, Any]


def option_path(path: Path) -> str:
    """``sources.press.topics[0].name``"""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text.removeprefix(".")


def kind_of(value: Any) -> str:
    """What ``value`` is in the words of YAML, for messages."""
    names = {dict: "a mapping", list: "a list", str: "text", bool: "true or false", type(None): "nothing"}
    return names.get(type(value), "a number")


def found_in(
    error: ValidationError, options: type[Options], value: Any, secret: set[Path]
) -> Iterator[tuple[Path, str]]:
    """Path below ``value`` and message of every mistake; ``secret`` paths are never shown."""
    whole = _schema(options)
    by_path: dict[Path, list[str]] = {}
    for detail in error.errors(include_url=False):
        path = _path_in(value, detail["loc"], detail["type"] in ("missing", "extra_forbidden"))
        if _long_enough(detail, _value_at(value, path)):
            continue
        message = _message(detail, path, whole, value, hidden=path in secret)
        messages = by_path.setdefault(path, [])
        if message not in messages:
            messages.append(message)
    for path, messages in by_path.items():
        yield path, _joined(messages)


@cache
def _schema(options: type[Options]) -> Schema:
    return options.model_json_schema()  # milliseconds, which thousands of mistakes would make minutes


def _long_enough(detail: ErrorDetails, written: Any) -> bool:
    """Pydantic counts only the items without a mistake; those with one are told by themselves."""
    too_short = detail["type"] == "too_short" and isinstance(written, list)
    return too_short and len(written) >= detail["ctx"]["min_length"]


def describe(schema: Schema, whole: Schema) -> str:
    """What values ``schema`` takes: ``a whole number from 1 to 65535``."""
    schema = resolved(schema, whole)
    if "const" in schema:
        return repr(schema["const"])
    if "enum" in schema:
        return "one of " + ", ".join(str(value) for value in schema["enum"])
    for union in ("anyOf", "oneOf"):
        if union in schema:
            parts = [describe(part, whole) for part in schema[union] if part.get("type") != "null"]
            return " or ".join(dict.fromkeys(parts))
    if _is_duration(schema):
        return "a duration with its unit, such as 250ms, 5s or 1h"
    return _describe_type(schema, whole)


def _describe_type(schema: Schema, whole: Schema) -> str:
    match schema.get("type"):
        case "integer":
            return "a whole number" + _bounds(schema)
        case "number":
            return "a number" + _bounds(schema)
        case "boolean":
            return "true or false"
        case "string" if schema.get("format") in ("path", "file-path", "directory-path"):
            return "a path"
        case "string":
            examples = schema.get("examples")
            return "text" + (f" such as {examples[0]!r}" if examples else "")
        case "array":
            items = schema.get("items") or {}
            return f"a list, each item {describe(items, whole)}" if items else "a list"
        case "object":
            return MAPPING
    return "another value"


def _bounds(schema: Schema) -> str:
    low, high = schema.get("minimum"), schema.get("maximum")
    above, below = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
    if low is not None and high is not None:
        return f" from {low:g} to {high:g}" if isinstance(low, float) else f" from {low} to {high}"
    limits = (("of at least", low), ("of at most", high), ("above", above), ("below", below))
    return "".join(f" {word} {limit}" for word, limit in limits if limit is not None)


def _message(detail: ErrorDetails, path: Path, whole: Schema, value: Any, *, hidden: bool) -> str:
    schema = schema_at(whole, path)
    if detail["type"] == "extra_forbidden":
        known = _known_names(schema_at(whole, path[:-1]), whole)
        return f"is not an option here{nearest(str(path[-1]), known) or _known(known)}"
    expected = describe(schema, whole) if schema is not None else detail["msg"].removeprefix("Input should be ")
    if expected == MAPPING and (names := _known_names(schema, whole)):
        expected += f" such as `{names[0]}:`"
    if detail["type"] == "missing":
        return f"is missing, expected {expected}"
    if detail["type"] in ("value_error", "assertion_error"):
        return str(detail.get("ctx", {}).get("error", detail["msg"]))
    hidden = hidden or (schema is not None and schema.get("format") == "password")
    return f"got {_HIDDEN if hidden else _shown(value, path, detail)}, expected {_narrowed(detail, schema, expected)}"


def _narrowed(detail: ErrorDetails, schema: Schema | None, expected: str) -> str:
    """The expectation, with the limit that was broken where the schema does not already say it."""
    limits = detail.get("ctx", {})
    if schema is not None and _is_duration(schema):
        for key, word in (("ge", "at least"), ("gt", "more than"), ("le", "at most"), ("lt", "less than")):
            if key in limits:
                return f"{word} {format_duration(float(limits[key]))}"
    for key, word in (("min_length", "at least"), ("max_length", "at most")):
        if key in limits:
            what = "character" if detail["type"].startswith("string") else "item"
            return f"{word} {limits[key]} {what}{'' if limits[key] == 1 else 's'}"
    if "pattern" in limits:
        return f"text that matches {limits['pattern']}"
    if expected.startswith("text") and isinstance(detail["input"], bool | int | float):
        return f"{expected}: put it in quotes"
    return detail["msg"].removeprefix("Input should be ") if expected == "another value" else expected


def _shown(value: Any, path: Path, detail: ErrorDetails) -> str:
    written = _value_at(value, path)
    if written is None:
        return "nothing"
    text = repr(detail["input"] if written is _MISSING else written)
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}…"


def _joined(messages: list[str]) -> str:
    """One message of several about one value, as a union gives them: what was found once, expectations joined."""
    prefixes = {message.partition(", expected ")[0] for message in messages}
    if len(messages) > 1 and len(prefixes) == 1:
        expected = dict.fromkeys(message.partition(", expected ")[2] for message in messages)
        return f"{prefixes.pop()}, expected {' or '.join(expected)}"
    return "; ".join(messages)


def _path_in(value: Any, location: tuple[str | int, ...], last_is_new: bool) -> Path:
    """The location without what pydantic puts in for branches of a union, which the file does not have."""
    path: list[str | int] = []
    for index, part in enumerate(location):
        inside = _value_at(value, (part,))
        if inside is not _MISSING:
            path.append(part)
            value = inside
        elif last_is_new and index == len(location) - 1:
            path.append(part)
    return tuple(path)


def _value_at(value: Any, path: Path) -> Any:
    for part in path:
        in_list = isinstance(value, list) and isinstance(part, int) and part < len(value)
        if not in_list and not (isinstance(value, dict) and part in value):
            return _MISSING
        value = value[part]
    return value


def schema_at(whole: Schema, path: Path) -> Schema | None:
    """The schema of the option at ``path``, through references, lists, mappings and unions; None if there is none."""
    schema: Schema | None = resolved(whole, whole)
    for part in path:
        schema = next(
            (found for branch in _branches(schema, whole) if (found := _step(branch, part)) is not None), None
        )
        if schema is None:
            return None
        schema = resolved(schema, whole)
    return schema


def _step(schema: Schema, part: str | int) -> Schema | None:
    if isinstance(part, int):
        prefix = schema.get("prefixItems") or []
        found = prefix[part] if part < len(prefix) else schema.get("items")
    else:
        found = schema.get("properties", {}).get(part, schema.get("additionalProperties"))
    return found if isinstance(found, dict) else None


def _branches(schema: Schema | None, whole: Schema) -> Iterator[Schema]:
    if schema is None:
        return
    schema = resolved(schema, whole)
    yield schema
    for branch in (*schema.get("anyOf", ()), *schema.get("oneOf", ())):
        yield from _branches(branch, whole)


def resolved(schema: Schema, whole: Schema) -> Schema:
    """Follow ``$ref``; what stands beside it (description, default) stays."""
    while "$ref" in schema:
        target = whole["$defs"][schema["$ref"].rpartition("/")[2]]
        schema = {**target, **{key: value for key, value in schema.items() if key != "$ref"}}
    return schema


def _known_names(schema: Schema | None, whole: Schema) -> list[str]:
    return [name for branch in _branches(schema, whole) for name in branch.get("properties", {})]


def _known(names: list[str]) -> str:
    return f"; known: {', '.join(names)}" if names else ""


def _is_duration(schema: Schema) -> bool:
    return "250ms" in schema.get("examples", ())
