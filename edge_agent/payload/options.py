"""Options of payload decoding; shared by every adapter that carries free-form payloads."""

from __future__ import annotations

import re
import struct
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any
from zoneinfo import ZoneInfo

from pydantic import Field, field_validator, model_validator

from edge_agent.options import ByteSize, Options
from edge_agent.payload.names import KEY, PATH, NameTemplate
from edge_agent.payload.selector import Selector
from edge_agent.payload.timestamps import TimeForm


class PayloadFormat(StrEnum):
    """How a payload is written."""

    AUTO = "auto"
    NUMBER = "number"
    JSON = "json"
    CSV = "csv"
    RAW = "raw"


class PayloadOptions(Options):
    """How to get named values out of a payload."""

    format: PayloadFormat = Field(
        default=PayloadFormat.AUTO,
        description="`number` (plain text such as `21.5`), `json`, `csv`, `raw` (fixed binary layout), or `auto`: "
        "JSON when it looks like it, else a plain number.",
    )
    name: str | None = Field(
        default=None,
        description="Sensor name, with placeholders: what the topic or path captured, entries of `labels`, `{path}` "
        "(dotted path of the value in the payload) and `{key}` (its last part). "
        "Default: all captures and the path, joined by dots.",
        examples=["{area}.{sensor}", "{device}.{path}"],
    )
    value: str | None = Field(
        default=None,
        description="Where the value is: a selector for JSON (`$.data.temp`, `$.values[0]`, `$.readings[*].v`), a "
        "column for CSV and raw. An object or array stands for every number in it. "
        "Default: the whole payload, or what `fields` names.",
        examples=["$.v", "$.data.temp"],
    )
    fields: dict[str, str] = Field(
        default={},
        description="Several values by name: `{temperature: $.data.temp}`. The name fills `{path}` and `{key}`. "
        "Values that are absent are left out; when all are, the payload is rejected.",
    )
    each: str | None = Field(
        default=None,
        description="JSON array or object whose elements each hold one or more readings, e.g. `$.readings`. "
        "`value`, `fields`, `key`, `time`, `unit` and `labels` then start at the element when written with `@`: `@.v`.",
        examples=["$.readings"],
    )
    key: str | None = Field(
        default=None,
        description="Where the reading's own name is (selector or column); it fills `{path}` and `{key}`.",
        examples=["@.n"],
    )
    labels: dict[str, str] = Field(
        default={},
        description="More placeholders for `name`, taken from the payload: `{device: $.deviceInfo.devEui}`.",
    )
    time: str | None = Field(
        default=None,
        description="Where the source timestamp is (selector or column). Default, and where it is absent or null: "
        "the time of arrival.",
        examples=["$.t"],
    )
    time_format: str = Field(
        default=TimeForm.AUTO,
        description="`auto` (ISO 8601, or a number since 1970 whose unit is told by its size), `s`, `ms`, `us`, "
        "`ns`, `iso8601`, or a strptime pattern such as `%d.%m.%Y %H:%M:%S`.",
    )
    time_zone: str = Field(
        default="UTC", description="IANA time zone of times written without an offset, e.g. `Europe/Berlin`."
    )
    unit: str | None = Field(default=None, description="Where the unit is (selector or column), e.g. `$.unit`.")
    values: dict[str, float] = Field(
        default={},
        description='Numbers for text values: `{"ON": 1, "OFF": 0}`. Quote the words: unquoted, YAML reads ON as true. '
        "JSON true and false are always 1 and 0.",
    )
    numbers_as_text: bool = Field(
        default=False, description='Take JSON numbers that are written as text (`"21.5"`). Otherwise rejected.'
    )
    columns: tuple[str, ...] = Field(
        default=(),
        description="Names of CSV columns or raw binary values in their order; an empty name leaves a value out.",
    )
    header: bool = Field(default=False, description="CSV: the first line of each payload names the columns.")
    delimiter: str = Field(default=",", min_length=1, max_length=1, description="CSV: what separates the columns.")
    struct: str | None = Field(
        default=None,
        description="Raw: layout of the binary payload in the notation of Python's `struct`, e.g. `<hHf` "
        "(little-endian 16-bit signed, 16-bit unsigned, 32-bit float).",
        examples=["<hHf", ">I2h"],
    )
    max_bytes: ByteSize = Field(default=1_000_000, ge=1, description="Longest payload; longer ones are rejected.")
    max_depth: int = Field(default=32, ge=1, le=200, description="Deepest JSON nesting searched for values.")
    max_values: int = Field(default=10_000, ge=1, le=1_000_000, description="Most values taken from one payload.")

    @field_validator("values", mode="before")
    @classmethod
    def _words_are_text(cls, values: Any) -> Any:
        if isinstance(values, dict) and any(isinstance(word, bool) for word in values):
            raise ValueError('an unquoted on, off, yes, no, true or false is not text in YAML; write "ON": 1')
        return values

    @field_validator("name")
    @classmethod
    def _name_is_a_template(cls, name: str | None) -> str | None:
        NameTemplate(name)
        return name

    @field_validator("time_format")
    @classmethod
    def _time_format_is_known(cls, form: str) -> str:
        if "%" not in form and form not in list(TimeForm):
            known = ", ".join(TimeForm)
            raise ValueError(f"got {form!r}, expected one of {known}, or a strptime pattern with % in it")
        if "%" in form:
            _try_pattern(form)
        return form

    @field_validator("time_zone")
    @classmethod
    def _zone_exists(cls, zone: str) -> str:
        if zone == "UTC":  # needs no tzdata, which small images leave out
            return zone
        try:
            ZoneInfo(zone)
        except (KeyError, ValueError, OSError) as error:
            raise ValueError(
                f"got {zone!r}, expected an IANA time zone such as Europe/Berlin (and tzdata installed)"
            ) from error
        return zone

    @field_validator("struct")
    @classmethod
    def _struct_is_a_layout(cls, layout: str | None) -> str | None:
        try:
            if layout is not None and struct.calcsize(layout) == 0:
                raise ValueError(f"got {layout!r}, expected at least one value")
        except struct.error as error:
            raise ValueError(f"got {layout!r}: {error}; expected a layout such as <hHf") from error
        return layout

    @model_validator(mode="after")
    def _fits_together(self) -> PayloadOptions:
        if reserved := {KEY, PATH} & self.labels.keys():
            raise ValueError(f"labels: {reserved.pop()!r} has a meaning of its own, choose another name")
        _CHECKS[self.format](self)
        return self


def _try_pattern(form: str) -> None:
    example = datetime(2026, 11, 20, 10, 42, 7, tzinfo=UTC)
    try:
        datetime.strptime(example.strftime(form), form)  # noqa: DTZ007  only whether it can be read back
    except (ValueError, re.error) as error:
        raise ValueError(f"got {form!r}: {error}; expected a strptime pattern such as %d.%m.%Y %H:%M:%S") from error


_PLACES = ("value", "key", "time", "unit")


def _places(options: PayloadOptions) -> dict[str, str]:
    """Every option that says where something is, by its path in the options."""
    single = {place: getattr(options, place) for place in _PLACES if getattr(options, place) is not None}
    fields = {f"fields.{name}": where for name, where in options.fields.items()}
    return single | fields | {f"labels.{name}": where for name, where in options.labels.items()}


def _check_unused(options: PayloadOptions, *names: str) -> None:
    for name in names:
        if getattr(options, name) != type(options).model_fields[name].default:
            raise ValueError(f"{name}: has no meaning for format {options.format}")


def _check_selectors(options: PayloadOptions) -> None:
    _check_unused(options, "columns", "header", "delimiter", "struct")
    places = _places(options) | ({"each": options.each} if options.each is not None else {})
    for place, text in places.items():
        try:
            selector = Selector(text)
        except ValueError as error:
            raise ValueError(f"{place}: {error}") from error
        if selector.relative and (options.each is None or place == "each"):
            raise ValueError(f"{place}: got {text!r}, but @ needs the option `each`; expected $...")
        if place.split(".")[0] in ("each", "key", "time", "unit", "labels") and not selector.plain:
            raise ValueError(f"{place}: got {text!r}, expected a selector of one value, without * or a function")


def _check_columns(options: PayloadOptions) -> None:
    names = [name for name in options.columns if name]
    if len(set(names)) != len(names):
        raise ValueError("columns: expected different names")
    for place, column in _places(options).items():
        if names and column not in names:
            raise ValueError(f"{place}: got {column!r}, expected one of the columns {', '.join(names)}")


def _check_csv(options: PayloadOptions) -> None:
    _check_unused(options, "each", "struct")
    if options.header == bool(options.columns):
        raise ValueError("columns: CSV needs either `columns` or `header: true`")
    _check_columns(options)


def _check_raw(options: PayloadOptions) -> None:
    _check_unused(options, "each", "header", "delimiter", "numbers_as_text", "key", "unit", "labels")
    if options.struct is None:
        raise ValueError("struct: format raw needs a layout such as <hHf")
    blank = struct.unpack(options.struct, bytes(struct.calcsize(options.struct)))
    if len(options.columns) != len(blank):
        raise ValueError(f"columns: got {len(options.columns)} names, but struct has {len(blank)} values")
    for name, value in zip(options.columns, blank, strict=True):
        if name and isinstance(value, bytes):
            raise ValueError(f"columns: {name!r} is bytes, not a number; leave it out with an empty name")
    _check_columns(options)


def _check_number(options: PayloadOptions) -> None:
    _check_unused(options, "value", "fields", "each", "key", "labels", "time", "unit")
    _check_unused(options, "columns", "header", "delimiter", "struct", "numbers_as_text")


_CHECKS = {
    PayloadFormat.AUTO: _check_selectors,
    PayloadFormat.JSON: _check_selectors,
    PayloadFormat.CSV: _check_csv,
    PayloadFormat.RAW: _check_raw,
    PayloadFormat.NUMBER: _check_number,
}
