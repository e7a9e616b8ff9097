"""Payload bytes to fields, form by form."""

from __future__ import annotations

import math
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from edge_agent.payload import Field, PayloadError, PayloadOptions, build_decoder

NOON = 1_763_600_000_123_000_000


def decode(payload: bytes, captures: dict[str, str] | None = None, **options: object) -> list[Field]:
    decoder = build_decoder(PayloadOptions.model_validate(options))
    fields = decoder.decode(payload, captures or {})
    assert decoder.bind(captures or {})(payload) == fields or any(math.isnan(field.value) for field in fields)
    return fields


def named(fields: list[Field]) -> dict[str, float]:
    return {field.name: field.value for field in fields}


def reason(payload: bytes, captures: dict[str, str] | None = None, **options: object) -> str:
    with pytest.raises(PayloadError) as caught:
        build_decoder(PayloadOptions.model_validate(options)).decode(payload, captures or {"d": "x"})
    return caught.value.reason


@pytest.mark.parametrize(
    ("payload", "value"),
    [(b"21.5", 21.5), (b" -3\n", -3.0), (b"1e308", 1e308), (b"inf", math.inf), (b"+7", 7.0), (b"ON", 1.0)],
)
def test_a_plain_number_is_one_reading(payload: bytes, value: float) -> None:
    expected = [Field("x", value, None, None)]
    assert decode(payload, {"d": "x"}, format="number", values={"ON": 1}) == expected
    assert decode(payload, {"d": "x"}, values={"ON": 1}) == expected


def test_nan_passes_because_the_intake_judges() -> None:
    assert math.isnan(decode(b"nan", {"d": "x"})[0].value)
    assert math.isnan(decode(b'{"v": null}', {"d": "x"}, value="$.v")[0].value)


@pytest.mark.parametrize("payload", [b"", b"1_000", b"21,5", b"abc", b"0x10", b"OFF"])
def test_text_that_is_no_number_is_refused(payload: bytes) -> None:
    assert reason(payload) == "not_a_number"


@pytest.mark.parametrize(
    ("payload", "value"), [(b"true", 1.0), (b"false", 0.0), (b'"ON"', 1.0), (b" 4", 4.0), (b'{"v":2}', 2.0)]
)
def test_auto_tells_json_from_numbers(payload: bytes, value: float) -> None:
    assert list(named(decode(payload, values={"ON": 1}, name="s")).values()) == [value]


def test_single_value_with_source_time() -> None:
    fields = decode(
        b'{"v": 3.2, "t": 1763600000.123}',
        {"area": "press", "sensor": "p1"},
        format="json",
        value="$.v",
        time="$.t",
        name="{area}.{sensor}",
    )
    assert fields == [Field("press.p1", 3.2, NOON, None)]


def test_absent_timestamp_means_arrival_time() -> None:
    assert decode(b'{"v": 1}', {"d": "x"}, value="$.v", time="$.t") == [Field("x", 1.0)]


@pytest.mark.parametrize(
    ("form", "written"),
    [
        ("auto", "1763600000.123"),
        ("auto", "1763600000123"),
        ("auto", "1763600000123000"),
        ("auto", "1763600000123000000"),
        ("auto", '"1763600000123"'),
        ("auto", '"2025-11-20T00:53:20.123Z"'),
        ("auto", '"2025-11-20T02:53:20.123000000+02:00"'),
        ("auto", '"2025-11-20 00:53:20.123"'),
        ("s", "1763600000.123"),
        ("ms", "1763600000123"),
        ("ms", "1763600000123.0"),
        ("us", "1763600000123000"),
        ("ns", "1763600000123000000"),
        ("iso8601", '"20251120T005320.123Z"'),
        ("%d.%m.%Y %H:%M:%S.%f", '"20.11.2025 00:53:20.123"'),
        ("%d.%m.%Y %H:%M:%S.%f %z", '"20.11.2025 01:53:20.123 +0100"'),
    ],
)
def test_every_usual_form_of_time(form: str, written: str) -> None:
    payload = f'{{"v": 1, "t": {written}}}'.encode()
    assert decode(payload, {"d": "x"}, value="$.v", time="$.t", time_format=form)[0].time_ns == NOON


def test_time_without_offset_is_in_the_configured_zone() -> None:
    payload = b'{"v": 1, "t": "2025-11-20T01:53:20.123"}'
    fields = decode(payload, {"d": "x"}, value="$.v", time="$.t", time_zone="Europe/Berlin")
    assert fields[0].time_ns == NOON


@pytest.mark.parametrize(
    "written", ['"yesterday"', "true", "{}", "[1]", "1e300", "99999999999999999999", '"9999-99-99"']
)
@pytest.mark.parametrize("form", ["auto", "s", "ns", "iso8601", "%Y"])
def test_a_timestamp_that_is_none_is_refused(written: str, form: str) -> None:
    payload = f'{{"v": 1, "t": {written}}}'.encode()
    assert reason(payload, value="$.v", time="$.t", time_format=form) == "time"


READINGS = (
    b'{"dev": "d7", "readings": [{"n": "temp", "v": 21.5, "u": "C"}, {"n": "hum", "v": 40, "u": "%"}], "t": 1763600000}'
)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"value": "$.readings[0].v", "name": "a"}, {"a": 21.5}),
        ({"value": "$.readings[-1].v", "name": "a"}, {"a": 40.0}),
        ({"value": "$['readings'][0][\"v\"]", "name": "a"}, {"a": 21.5}),
        ({"value": "$.readings[*].v", "name": "r{key}"}, {"r0": 21.5, "r1": 40.0}),
        ({"value": "$.readings[*].v.max()", "name": "a"}, {"a": 40.0}),
        ({"value": "$.readings[*].v.min()", "name": "a"}, {"a": 21.5}),
        ({"fields": {"t": "$.readings[0].v", "h": "$.readings[1].v", "no": "$.no"}}, {"t": 21.5, "h": 40.0}),
        ({"name": "{path}"}, {"readings.0.v": 21.5, "readings.1.v": 40.0, "t": 1763600000.0}),
        ({"name": "{path}", "time": "$.t"}, {"readings.0.v": 21.5, "readings.1.v": 40.0}),
        ({"value": "$.readings"}, {"0.v": 21.5, "1.v": 40.0}),
        (
            {"value": "$.readings", "name": "{key}{path}", "fields": {"t": "$.t"}},
            {"v0.v": 21.5, "v1.v": 40.0, "tt": 1763600000.0},
        ),
        ({"each": "$.readings", "key": "@.n", "value": "@.v"}, {"temp": 21.5, "hum": 40.0}),
        (
            {"each": "$.readings", "key": "@.n", "value": "@.v", "labels": {"dev": "$.dev"}, "name": "{dev}.{key}"},
            {"d7.temp": 21.5, "d7.hum": 40.0},
        ),
    ],
)
def test_json_selection(options: dict[str, object], expected: dict[str, float]) -> None:
    assert named(decode(READINGS, **options)) == expected


def test_units_and_times_come_with_each_element() -> None:
    options = {"each": "$.readings", "key": "@.n", "value": "@.v", "unit": "@.u", "time": "$.t"}
    assert decode(READINGS, **options) == [
        Field("temp", 21.5, 1763600000 * 10**9, "C"),
        Field("hum", 40.0, 1763600000 * 10**9, "%"),
    ]


def test_a_series_of_one_sensor_keeps_its_times() -> None:
    payload = b'[{"t": 1763600000, "v": 1}, {"t": 1763600001, "v": 2}]'
    fields = decode(payload, {"d": "x"}, each="$", value="@.v", time="@.t", name="{d}")
    assert [(field.name, field.value) for field in fields] == [("x", 1.0), ("x", 2.0)]
    assert fields[1].time_ns - fields[0].time_ns == 10**9


def test_whole_object_gives_every_number_and_leaves_text_out() -> None:
    payload = b'{"temp": 21, "on": true, "state": "OFF", "model": "x7", "none": null, "deep": {"a": [1, 2]}}'
    assert named(decode(payload, {"device": "k"}, name="{device}.{path}", values={"OFF": 0})) == {
        "k.temp": 21.0,
        "k.on": 1.0,
        "k.state": 0.0,
        "k.deep.a.0": 1.0,
        "k.deep.a.1": 2.0,
    }


@pytest.mark.parametrize(
    ("payload", "options", "expected"),
    [
        (b'{"v": "3.5"}', {"value": "$.v"}, "not_a_number"),
        (b'{"w": 1}', {"value": "$.v"}, "missing"),
        (b"{}", {}, "missing"),
        (b'{"v": 1', {"value": "$.v"}, "malformed"),
        (b'{"v": NaN}', {"format": "json", "value": "$.v"}, "malformed"),
        (b"[" * 100_000, {}, "malformed"),
        (b"[" * 500 + b"1" + b"]" * 500, {}, "too_deep"),
        (b"[" * 900 + b"]" * 900, {"value": "$.v"}, "missing"),
        (b"[" + b"1," * 20 + b"1]", {"max_values": 20}, "too_many"),
        (b"[" + b"1," * 20 + b"1]", {"max_values": 20, "value": "$[*]"}, "too_many"),
        (b"[" + b"1," * 20 + b"1]", {"max_values": 20, "each": "$", "value": "@"}, "too_many"),
        (b"[" + b"null," * 300 + b"1]", {"max_values": 20}, "too_many"),
        (b"1" * 1001, {"max_bytes": "1kB"}, "too_large"),
        (b'{"a": 1, "b": 2}', {"name": "same"}, "name"),
        (b'{"v": 1}', {"value": "$.v", "name": "{nobody}"}, "name"),
        (b'{"v": 1}', {"value": "$.v", "name": "{a}", "labels": {"a": "$.a"}}, "name"),
        (b'[{"v": 1}]', {"each": "$.list", "value": "@.v"}, "missing"),
        (b"\xff\xfe", {}, "malformed"),
    ],
)
def test_what_cannot_be_understood_has_a_reason(payload: bytes, options: dict[str, object], expected: str) -> None:
    assert reason(payload, **options) == expected


def test_numbers_as_text_only_by_option() -> None:
    assert decode(b'{"v": "3.5"}', {"d": "x"}, value="$.v", numbers_as_text=True) == [Field("x", 3.5)]


def test_message_says_what_to_do_about_text() -> None:
    with pytest.raises(PayloadError, match=r"JSON \$\.v: got '3\.5', expected a number; for text, see the options"):
        decode(b'{"v": "3.5"}', {"d": "x"}, value="$.v")


def test_csv_with_named_columns() -> None:
    fields = decode(
        b"1763600000,21.5,,x\r\n1763600001,22.5,41,x\r\n",
        {"d": "k"},
        format="csv",
        columns=["t", "temp", "hum", ""],
        time="t",
    )
    assert [(field.name, field.value) for field in fields] == [("k.temp", 21.5), ("k.temp", 22.5), ("k.hum", 41.0)]
    assert fields[0].time_ns == 1763600000 * 10**9


def test_csv_with_a_header_in_long_form() -> None:
    payload = "\ufeffname;unit;value;site\ntemp;°C;21.5;a\nrun;;ON;a\n".encode()
    options = {"key": "name", "unit": "unit", "value": "value", "labels": {"s": "site"}, "name": "{s}.{key}"}
    fields = decode(payload, format="csv", header=True, delimiter=";", values={"ON": 1}, **options)
    assert fields == [Field("a.temp", 21.5, None, "°C"), Field("a.run", 1.0, None, None)]


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (b"1,2,3", "malformed"),
        (b'"1,2', "malformed"),
        (b"a,1", "not_a_number"),
        (b",", "missing"),
        (b"\xff,1", "malformed"),
    ],
)
def test_bad_csv_is_refused(payload: bytes, expected: str) -> None:
    assert reason(payload, format="csv", columns=["a", "b"]) == expected


def test_raw_layout() -> None:
    payload = struct.pack("<IhH?2sf", 1763600000, -5, 7, True, b"zz", 0.5)
    options = {"struct": "<IhH?2sf", "columns": ["t", "a", "b", "on", "", "f"], "time": "t"}
    fields = decode(payload, {"d": "k"}, format="raw", **options)
    assert named(fields) == {"k.a": -5.0, "k.b": 7.0, "k.on": 1.0, "k.f": 0.5}
    assert {field.time_ns for field in fields} == {1763600000 * 10**9}


def test_raw_of_another_length_is_refused() -> None:
    assert reason(b"123", format="raw", struct="<h", columns=["a"]) == "size"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"value": "temp"}, r"value: got 'temp', expected a selector starting with \$"),
        ({"value": "$..v"}, r"not understood from '\.\.v' on"),
        ({"value": "$.a[1:2]"}, r"not understood from '\[1:2\]' on"),
        ({"value": "@.v"}, "@ needs the option `each`"),
        ({"time": "$.a[*]"}, "expected a selector of one value"),
        ({"name": "{a"}, "expected a name with placeholders"),
        ({"name": ""}, "expected a name with placeholders"),
        ({"labels": {"key": "$.a"}}, "'key' has a meaning of its own"),
        ({"time_format": "rfc"}, "expected one of auto, s, ms, us, ns, iso8601"),
        ({"time_format": "%Q"}, "expected a strptime pattern"),
        ({"time_zone": "Mars/Olympus"}, "expected an IANA time zone"),
        ({"values": {True: 1}}, "unquoted on, off"),
        ({"format": "csv"}, "CSV needs either `columns` or `header: true`"),
        ({"format": "csv", "columns": ["a", "a"]}, "expected different names"),
        ({"format": "csv", "columns": ["a"], "time": "t"}, "time: got 't', expected one of the columns a"),
        ({"format": "raw"}, "format raw needs a layout"),
        ({"format": "raw", "struct": "<hq!", "columns": ["a"]}, "expected a layout such as <hHf"),
        ({"format": "raw", "struct": "<hh", "columns": ["a"]}, "got 1 names, but struct has 2 values"),
        ({"format": "raw", "struct": "<4s", "columns": ["a"]}, "'a' is bytes"),
        ({"format": "number", "value": "$.v"}, "value: has no meaning for format number"),
        ({"struct": "<h"}, "struct: has no meaning for format auto"),
        ({"max_bytes": 5}, "expected a size with its unit"),
    ],
)
def test_wrong_options_are_refused_with_advice(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        PayloadOptions.model_validate(options)


ANY_OPTIONS = [
    PayloadOptions(),
    PayloadOptions(format="number", values={"ON": 1}),
    PayloadOptions(format="json", value="$.v", time="$.t"),
    PayloadOptions(format="json", value="$[*]", time="$[0]", unit="$.u", numbers_as_text=True),
    PayloadOptions(format="json", each="$", key="@.n", labels={"a": "@.a"}, name="{a}.{path}", time="@.t"),
    PayloadOptions(format="csv", columns=("a", "b"), time="a"),
    PayloadOptions(format="csv", header=True),
    PayloadOptions(format="raw", struct="<dHd", columns=("t", "a", "b"), time="t"),
    PayloadOptions(format="raw", struct="<e", columns=("a",)),
]
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from("vtnau") | st.text(max_size=3), inner),
    max_leaves=12,
)


@given(payload=st.binary(max_size=200) | st.text(max_size=50).map(str.encode) | st.binary(min_size=18, max_size=18))
def test_any_bytes_give_fields_or_payload_error(payload: bytes) -> None:
    check_all_readers(payload)


@given(document=JSON_VALUES)
def test_any_document_gives_fields_or_payload_error(document: object) -> None:
    import json

    check_all_readers(json.dumps(document).encode())


def check_all_readers(payload: bytes) -> None:
    for options in ANY_OPTIONS:
        try:
            fields = build_decoder(options).decode(payload, {"d": "x"})
        except PayloadError:
            continue
        assert fields
        assert all(type(field.value) is float and field.name for field in fields)
        assert all(field.time_ns is None or abs(field.time_ns) < 2**63 for field in fields)
