"""Options as documentation: name, what it takes, default and description, read from the option classes.

The reference pages, ``adapters show`` and the sample file are rendered from this.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, get_args

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from edge_agent.config.problems import Schema, describe, resolved
from edge_agent.options import Options, Secret, format_duration

_PLAIN_WORD = re.compile(r"(?!(?:true|false|null)$)[A-Za-z/][A-Za-z0-9_./-]*")
_RATE_UNITS = {"minute": 60.0, "hour": 3600.0, "day": 86400.0, "week": 604800.0, "month": 2629800.0}
_SIZE_UNITS = {"GiB": 2**30, "MiB": 2**20, "KiB": 2**10, "GB": 10**9, "MB": 10**6, "kB": 10**3}


@dataclass(frozen=True, slots=True)
class OptionText:
    """One option. ``name`` is its path below the section (``topics[].name``); ``default`` is None when required."""

    name: str
    takes: str
    default: str | None
    description: str


def options_text(options: type[Options], *, leave_out: type[Options] | None = None) -> list[OptionText]:
    """Every option of ``options`` and of the option classes inside it, in order; without those of ``leave_out``."""
    skipped = set(leave_out.model_fields) if leave_out is not None else set()
    schema = options.model_json_schema()
    return [
        text
        for name, field in options.model_fields.items()
        if name not in skipped
        for text in _texts(field.alias or name, field, resolved(schema, schema), schema, ())
    ]


def yaml_text(value: Any, schema: Schema) -> str:
    """``value`` as one would write it in the file: durations, sizes and rates with their unit."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        examples = schema.get("examples", ())
        if "250ms" in examples:
            return format_duration(value) if value else "0s"
        if "1 per week" in examples:
            return _rate_text(value)
        if "10MB" in examples:
            return _size_text(int(value))
    plain = _plain(value)
    if isinstance(plain, str) and _PLAIN_WORD.fullmatch(plain):
        return plain
    return json.dumps(plain, ensure_ascii=False)


def _texts(
    name: str, field: FieldInfo, parent: Schema, whole: Schema, inside: tuple[type[Options], ...]
) -> Iterator[OptionText]:
    key = name.rpartition(".")[2]
    schema = _without_null(resolved(parent.get("properties", {}).get(key, {}), whole), whole)
    yield OptionText(name, describe(schema, whole), _default(field, schema), (field.description or "").strip())
    for suffix, options in _nested(field.annotation):
        if options in inside:
            continue
        below = _schema_of(options, whole)
        for inner, inner_field in options.model_fields.items():
            path = f"{name}{suffix}.{inner_field.alias or inner}"
            yield from _texts(path, inner_field, below, whole, (*inside, options))


def _schema_of(options: type[Options], whole: Schema) -> Schema:
    found = whole.get("$defs", {}).get(options.__name__)
    return found if isinstance(found, dict) else options.model_json_schema()


def _nested(annotation: Any, suffix: str = "") -> Iterator[tuple[str, type[Options]]]:
    """Option classes inside an annotation, with how they are reached: ``[]`` for lists, ``.<name>`` for mappings."""
    if isinstance(annotation, type) and issubclass(annotation, Options):
        yield suffix, annotation
        return
    origin = getattr(annotation, "__origin__", None)
    if origin in (tuple, list, set, frozenset):
        suffix += "[]"
    elif origin in (dict, Mapping):
        suffix += ".<name>"
    seen: set[type[Options]] = set()
    for argument in get_args(annotation):
        for found in _nested(argument, suffix):
            if found[1] not in seen:
                seen.add(found[1])
                yield found


def _without_null(schema: Schema, whole: Schema) -> Schema:
    """The one branch of ``X | None``; what stands beside it stays."""
    branches = [branch for branch in schema.get("anyOf", ()) if branch.get("type") != "null"]
    if len(branches) != 1:
        return schema
    rest = {key: value for key, value in schema.items() if key != "anyOf"}
    return {**resolved(branches[0], whole), **rest}


def _default(field: FieldInfo, schema: Schema) -> str | None:
    if field.is_required():
        return None
    if field.default is PydanticUndefined or field.default is None or isinstance(field.default, Options):
        return ""
    return yaml_text(field.default, schema)


def _plain(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Secret):
        return "***"
    if isinstance(value, Options):
        return {name: _plain(getattr(value, name)) for name in sorted(value.model_fields_set)}
    if isinstance(value, tuple | list | set | frozenset):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value


def _rate_text(per_second: float) -> str:
    for unit, seconds in _RATE_UNITS.items():
        count = per_second * seconds
        if count >= 0.999:
            return f"{round(count, 3):g} per {unit}"
    return f"{per_second * _RATE_UNITS['month']:g} per month"


def _size_text(size: int) -> str:
    whole = [(size // factor, unit) for unit, factor in _SIZE_UNITS.items() if size >= factor and size % factor == 0]
    count, unit = min(whole, default=(size, "B"))  # 256MB and not 250000KiB, which it is as well
    return f"{count}{unit}"
