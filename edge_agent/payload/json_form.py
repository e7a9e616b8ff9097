"""JSON payloads to fields."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import orjson

from edge_agent.errors import PayloadError
from edge_agent.payload.excerpt import excerpt
from edge_agent.payload.field import Field
from edge_agent.payload.names import Namer, Path
from edge_agent.payload.numbers import json_number, not_a_number
from edge_agent.payload.options import PayloadOptions
from edge_agent.payload.selector import MISSING, Selector, children
from edge_agent.payload.timestamps import time_parser

Reader = Callable[[bytes, Namer], list[Field]]


def json_reader(options: PayloadOptions) -> Reader:
    """Bytes to fields; the usual single-value message takes a way of its own."""
    document_reader = _DocumentReader(options)
    value = _selector(options.value)
    time = _selector(options.time)
    if value is None or not value.plain or options.fields or options.each or options.labels or options.key:
        return lambda payload, namer: document_reader.read(parse_json(payload), namer)
    if options.unit:
        return lambda payload, namer: document_reader.read(parse_json(payload), namer)
    return _single_value_reader(document_reader, value, time, options)


def parse_json(payload: bytes) -> Any:
    """The document. :raises PayloadError: reason ``malformed``, also for NaN and nesting beyond the parser's limit."""
    try:
        return orjson.loads(payload)
    except orjson.JSONDecodeError as error:
        raise PayloadError("malformed", f"JSON: {error}, in {payload[:60]!r}") from error


def _single_value_reader(
    general: _DocumentReader, value: Selector, time: Selector | None, options: PayloadOptions
) -> Reader:
    get_value, get_time = value.get, time.get if time else None
    convert = json_number(options.values, numbers_as_text=options.numbers_as_text)
    parse_time = time_parser(options.time_format, options.time_zone)

    def read(payload: bytes, namer: Namer) -> list[Field]:
        document = parse_json(payload)
        found = get_value(document)
        number = found if type(found) is float else convert(found)
        if number is None:
            return general.read(document, namer)
        time_ns = None
        if get_time is not None:
            stamp = get_time(document)
            time_ns = None if stamp is MISSING else parse_time(stamp)
        return [Field(namer(()), number, time_ns)]

    return read


def _selector(text: str | None) -> Selector | None:
    return None if text is None else Selector(text)


class _DocumentReader:
    """The general way: arrays of readings, several fields, whole objects."""

    def __init__(self, options: PayloadOptions) -> None:
        self._each = _selector(options.each)
        self._key = _selector(options.key)
        self._time = _selector(options.time)
        self._unit = _selector(options.unit)
        self._labels = {name: Selector(text) for name, text in options.labels.items()}
        self._places: list[tuple[Path, Selector]] = [((name,), Selector(text)) for name, text in options.fields.items()]
        if options.value is not None or not options.fields:
            root = "$" if options.each is None else "@"
            self._places.insert(0, ((), Selector(options.value or root)))
        self._metadata = {
            selector.path
            for selector in (self._key, self._time, self._unit, *self._labels.values())
            if selector is not None and selector.path
        }
        self._convert = json_number(options.values, numbers_as_text=options.numbers_as_text)
        self._parse_time = time_parser(options.time_format, options.time_zone)
        self._max_depth = options.max_depth
        self._max_values = options.max_values

    def read(self, document: Any, namer: Namer) -> list[Field]:
        fields: list[Field] = []
        for element_path, element in self._elements(document):
            self._read_element(document, element_path, element, namer, fields)
        if not fields:
            wanted = ", ".join(selector.text for _, selector in self._places)
            raise PayloadError("missing", f"JSON: no number at {wanted} in {excerpt(document)}")
        if len(fields) > 1:
            _check_distinct(fields)
        return fields

    def _elements(self, document: Any) -> Iterator[tuple[Path, Any]]:
        if self._each is None:
            yield (), document
            return
        container = self._each.get(document)
        if type(container) not in (list, dict):
            raise PayloadError("missing", f"JSON: no array at {self._each.text} in {excerpt(document)}")
        for key, element in children(container):
            yield (key,), element

    def _read_element(self, document: Any, element_path: Path, element: Any, namer: Namer, fields: list[Field]) -> None:
        def at(selector: Selector | None) -> Any:
            if selector is None:
                return MISSING
            return selector.get(element if selector.relative else document)

        stamp, unit = at(self._time), at(self._unit)
        time_ns = None if stamp is MISSING else self._parse_time(stamp)
        unit = unit if type(unit) is str else None
        if self._labels:
            namer = namer.extended({name: _label(name, at(where)) for name, where in self._labels.items()})
        prefix = element_path if self._key is None else (_label("key", at(self._key)),)
        for name, selector in self._places:
            for path, value in selector.find(element if selector.relative else document):
                for tail, number in self._numbers(value, selector):
                    fields.append(Field(namer((*prefix, *name, *path, *tail)), number, time_ns, unit))
                    if len(fields) > self._max_values:
                        raise self._too_many()

    def _numbers(self, value: Any, selector: Selector) -> list[tuple[Path, float]]:
        if type(value) in (dict, list):
            return self._leaves(value, selector.path or ())
        number = self._convert(value)
        if number is None:
            raise not_a_number(f"JSON {selector.text}", value)
        return [((), number)]

    def _leaves(self, top: Any, base: Path) -> list[tuple[Path, float]]:
        """Every number below ``top``. Text and nulls in it are not readings, and neither are timestamp and names."""
        found: list[tuple[Path, float]] = []
        pending: list[tuple[Path, Any]] = [((), top)]
        while pending:
            path, node = pending.pop()
            if len(path) > self._max_depth:
                raise PayloadError("too_deep", f"JSON: nested deeper than {self._max_depth} levels (`max_depth`)")
            if type(node) in (dict, list):
                if len(pending) + len(node) > 10 * self._max_values:
                    raise self._too_many()
                pending.extend(((*path, key), child) for key, child in children(node))
            elif node is not None and (*base, *path) not in self._metadata:
                number = self._convert(node)
                if number is not None:
                    found.append((path, number))
        found.reverse()
        return found

    def _too_many(self) -> PayloadError:
        return PayloadError("too_many", f"JSON: more than {self._max_values} values (`max_values`)")


def _label(name: str, value: Any) -> str:
    if type(value) is str and value:
        return value
    if type(value) is int:
        return str(value)
    got = "nothing" if value is MISSING else excerpt(value)
    raise PayloadError("name", f"JSON {name}: got {got}, expected the text that names the sensor")


def _check_distinct(fields: list[Field]) -> None:
    """Two values of one sensor at one time cannot both be true: the name lacks a placeholder."""
    seen: set[tuple[str, int | None]] = set()
    for field in fields:
        identity = (field.name, field.time_ns)
        if identity in seen:
            raise PayloadError("name", f"several values are named {field.name!r}: put {{path}} into the option `name`")
        seen.add(identity)
