"""SenML by the examples of RFC 8428, its limits, and any bytes at all."""

from __future__ import annotations

import math
from typing import Any

import cbor2
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_adapters.coap import senml
from edge_agent.errors import PayloadError
from edge_agent.payload import Field

NOW_NS = 1_700_000_000 * 10**9
S = 10**9


def read(records: Any) -> list[Field]:
    pack = senml.decode_json(orjson.dumps(records), NOW_NS)
    assert pack.skipped == 0
    return pack.fields


def test_single_data_point() -> None:  # section 5.1.1
    assert read([{"n": "urn:dev:ow:10e2073a01080063", "u": "Cel", "v": 23.1}]) == [
        Field("urn:dev:ow:10e2073a01080063", 23.1, None, "Cel")
    ]


def test_several_data_points_share_the_base_name() -> None:  # section 5.1.2
    assert read(
        [
            {"bn": "urn:dev:ow:10e2073a01080063:", "n": "voltage", "u": "V", "v": 120.1},
            {"n": "current", "u": "A", "v": 1.2},
        ]
    ) == [
        Field("urn:dev:ow:10e2073a01080063:voltage", 120.1, None, "V"),
        Field("urn:dev:ow:10e2073a01080063:current", 1.2, None, "A"),
    ]


def test_base_time_and_base_unit_hold_for_later_records() -> None:  # section 5.1.2, second example
    fields = read(
        [
            {"bn": "urn:dev:ow:10e2073a0108006:", "bt": 1.276020076001e09, "bu": "A", "bver": 5, "n": "voltage",
             "u": "V", "v": 120.1},
            {"n": "current", "t": -5, "v": 1.2},
            {"n": "current", "t": -4, "v": 1.3},
            {"n": "current", "v": 1.7},
        ]
    )  # fmt: skip
    assert [field.unit for field in fields] == ["V", "A", "A", "A"]
    assert [field.value for field in fields] == [120.1, 1.2, 1.3, 1.7]
    newest = fields[0].time_ns
    assert newest is not None
    assert abs(newest - 1276020076_001000000) < 1000
    assert [field.time_ns for field in fields] == [newest, newest - 5 * S, newest - 4 * S, newest]


def test_base_value_is_added() -> None:  # section 5.1.3 in spirit: bv
    assert [f.value for f in read([{"bn": "a", "bv": 20, "v": 1.5}, {"v": -0.5}])] == [21.5, 19.5]


def test_multiple_measurements_name_only_in_the_base() -> None:  # section 5.1.3
    fields = read(
        [
            {"bn": "urn:dev:ow:10e2073a01080063", "bt": 1.320067464e09, "bu": "%RH", "v": 20},
            {"u": "lon", "v": 24.30621},
            {"t": 60, "v": 20.3},
        ]
    )
    assert {field.name for field in fields} == {"urn:dev:ow:10e2073a01080063"}
    assert fields[2] == Field("urn:dev:ow:10e2073a01080063", 20.3, 1320067524 * S, "%RH")


def test_texts_data_and_sums_are_skipped_and_counted_and_booleans_become_numbers() -> None:  # section 5.1.5
    pack = senml.decode_json(
        orjson.dumps(
            [
                {"bn": "urn:dev:ow:10e2073a01080063:", "n": "temp", "u": "Cel", "v": 23.1},
                {"n": "label", "vs": "Machine Room"},
                {"n": "open", "vb": False},
                {"n": "shut", "vb": True},
                {"n": "nfc-reader", "vd": "aGkgCg"},
                {"n": "energy", "u": "J", "s": 4.0},
            ]
        ),
        NOW_NS,
    )
    assert [field.value for field in pack.fields] == [23.1, 0.0, 1.0]
    assert pack.skipped == 3


def test_cbor_example_of_section_6() -> None:
    payload = bytes.fromhex(
        "87a721781b75726e3a6465763a6f773a3130653230373361303130383030363a"
        "22fb41d303a15b00106223614120050067766f6c7461676501615602fb405e06"
        "6666666666a3006763757272656e74062402fb3ff3333333333333a300676375"
        "7272656e74062302fb3ff4cccccccccccda3006763757272656e74062202fb3f"
        "f6666666666666a3006763757272656e74062102f93e00a3006763757272656e"
        "74062002fb3ff999999999999aa3006763757272656e74060002fb3ffb333333"
        "333333"
    )
    pack = senml.decode_cbor(payload, NOW_NS)
    assert [(f.name, f.value, f.unit) for f in pack.fields][:2] == [
        ("urn:dev:ow:10e2073a0108006:voltage", 120.1, "V"),
        ("urn:dev:ow:10e2073a0108006:current", 1.2, "A"),
    ]
    assert [f.value for f in pack.fields] == [120.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.7]
    times = [f.time_ns for f in pack.fields]
    assert all(isinstance(time, int) for time in times)
    assert times[1] == times[6] - 5 * S  # type: ignore[operator]


def test_time_below_2_to_28_is_relative_to_now() -> None:  # section 4.5.3
    ages = read([{"n": "a", "t": -10, "v": 1}, {"n": "a", "t": 2**28 - 1, "v": 1}, {"n": "a", "t": 2**28, "v": 1}])
    assert [f.time_ns for f in ages] == [NOW_NS - 10 * S, NOW_NS + (2**28 - 1) * S, 2**28 * S]


@pytest.mark.parametrize("millis", range(0, 1_000, 50))
def test_a_time_in_seconds_is_the_moment_the_device_meant(millis: int) -> None:
    field, later = read([{"bt": NOW_NS // S + millis / 1000, "n": "a", "v": 1}, {"n": "b", "t": 0.001, "v": 1}])
    assert field.time_ns == NOW_NS // S * S + millis * 1_000_000
    assert later.time_ns == field.time_ns + 1_000_000


@pytest.mark.parametrize("records", [[{"n": "a", "v": 1}], [{"bt": 5, "n": "a", "t": -5, "v": 1}]])
def test_time_zero_or_absent_means_now_and_is_left_to_the_agent(records: Any) -> None:
    assert read(records)[0].time_ns is None


def test_decimal_fractions_of_cbor_are_exact() -> None:  # section 6: tag 4
    payload = cbor2.dumps([{0: "a", 2: cbor2.CBORTag(4, [-2, 2150]), -3: cbor2.CBORTag(4, [-3, 1700000000123])}])
    assert senml.decode_cbor(payload, NOW_NS).fields == [Field("a", 21.5, 1700000000_123000000, None)]


def test_not_a_number_passes_for_the_intake_to_flag() -> None:
    assert math.isnan(senml.decode_cbor(cbor2.dumps([{0: "a", 2: math.nan}]), NOW_NS).fields[0].value)


@pytest.mark.parametrize(
    ("records", "reason", "message"),
    [
        ({"n": "a", "v": 1}, "senml", "SenML: got dict, expected an array of records"),
        ([5], "senml", "SenML: got a record of type int, expected a map"),
        ([{"n": "a", "v": "1"}], "senml", "SenML: v is '1', expected a number"),
        ([{"n": "a", "v": True}], "senml", "SenML: v is True, expected a number"),
        ([{"n": "a", "vb": 1}], "senml", "SenML: vb of 'a' is of type int, expected true or false"),
        ([{"n": 7, "v": 1}], "senml", "SenML: n is of type int, expected text"),
        ([{"n": "a", "v": 1, "vb": True}], "senml", "SenML: record 'a' has v and vb, expected one value"),
        ([{"v": 1}], "senml_name", "SenML: name '' is empty, too long or has characters not allowed"),
        ([{"n": "-a", "v": 1}], "senml_name", "SenML: name '-a' is empty, too long or has characters not allowed"),
        ([{"n": "a b", "v": 1}], "senml_name", "SenML: name 'a b' is empty, too long or has characters not allowed"),
        ([{"bver": 11, "n": "a", "v": 1}], "senml_version", "SenML: got version 11, expected 10 or less"),
        ([{"n": "a", "v": 1, "new_": 2}], "senml", "SenML: field 'new_' must be understood and is not known here"),
        ([{"n": "a", "v": 1, "t": 1e300}], "senml_time", "SenML: time 1e+300 is out of range"),
    ],
)
def test_bad_pack_is_refused_as_a_whole(records: Any, reason: str, message: str) -> None:
    for payload, decode in ((orjson.dumps(records), senml.decode_json), (cbor2.dumps(records), senml.decode_cbor)):
        with pytest.raises(PayloadError) as caught:
            decode(payload, NOW_NS)
        assert (caught.value.reason, str(caught.value)) == (reason, message)


def test_unknown_optional_fields_are_ignored() -> None:  # section 4.4
    assert read([{"n": "a", "v": 1, "note": "x", "ut": 5}])[0].value == 1.0


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\x81" * 100_000,  # nested 100,000 deep
        b"\x9b\xff\xff\xff\xff\xff\xff\xff\xff",  # announces 2**64 - 1 records
        b"\x81\xa1\x00\x7b\x7f\xff\xff\xff\xff\xff\xff\xff",  # a name of 2**63 bytes
        b"\x81\xa2\x00\x61a\x02\xc2\x59\x10\x00" + b"\xff" * 4096,  # a number of 4096 bytes
        b"\x81\xa3\x00\x61a\x02\x01\x06\xc4\x82\x1b\x00\x00\x00\x00\x3b\x9a\xca\x00\x01",  # time 1e1000000000
        b"\xd8\x1c\x81\xd8\x1d\x00",  # a list that contains itself
    ],
)
def test_hostile_cbor_is_refused(payload: bytes) -> None:
    with pytest.raises(PayloadError):
        senml.decode_cbor(payload, NOW_NS)


def accepts_or_refuses(decode: Any, payload: bytes) -> None:
    try:
        pack = decode(payload, NOW_NS)
    except PayloadError:
        return
    for field in pack.fields:
        assert type(field.value) is float
        assert field.time_ns is None or type(field.time_ns) is int
        assert field.name


SCALARS = (
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=8) | st.binary(max_size=8)
)
LABELS = st.integers(-7, 9) | st.sampled_from(
    ["n", "v", "vb", "vs", "bn", "bt", "bv", "bu", "t", "u", "s", "bver", "x_"]
)
RECORDS = st.lists(st.dictionaries(LABELS, SCALARS, max_size=6) | SCALARS, max_size=5)


@given(st.binary(max_size=200))
@settings(max_examples=300, deadline=None)
def test_any_bytes_give_fields_or_a_payload_error(payload: bytes) -> None:
    accepts_or_refuses(senml.decode_json, payload)
    accepts_or_refuses(senml.decode_cbor, payload)


@given(RECORDS)
@settings(max_examples=300, deadline=None)
def test_any_cbor_records_give_fields_or_a_payload_error(records: Any) -> None:
    accepts_or_refuses(senml.decode_cbor, cbor2.dumps(records))


JSON_SCALARS = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.text()
JSON = st.recursive(
    JSON_SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["n", "v", "bn", "bt", "t", "vb"]), inner, max_size=4)
    ),
)


@given(JSON)
@settings(max_examples=300, deadline=None)
def test_any_json_gives_fields_or_a_payload_error(document: Any) -> None:
    accepts_or_refuses(senml.decode_json, orjson.dumps(document))
