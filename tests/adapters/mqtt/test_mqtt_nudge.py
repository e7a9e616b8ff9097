"""Topics and payloads of updates: what is taken, and what is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from edge_adapters.mqtt import UPLINK
from edge_adapters.mqtt.nudge import nudge_json, nudge_topic, parse_nudge, status_filter, status_topic
from edge_agent.contract import Hint
from edge_agent.errors import AdapterError, PayloadError


@pytest.mark.parametrize(
    ("payload", "hint"),
    [
        (b"{}", Hint()),
        (b'{"counter": 7}', Hint(7)),
        (b'{"counter": null, "spread_s": 1.5}', Hint(None, 1.5)),
        (b'{"counter": 0, "spread_s": 0}', Hint(0)),
        (b'{"counter": 9007199254740991, "spread_s": 20}', Hint(2**53 - 1, 20.0)),
        (b'{"spread_s": 1e300}', Hint(None, 3600.0)),
    ],
)
def test_nudge_is_read(payload: bytes, hint: Hint) -> None:
    assert parse_nudge(payload) == hint


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"now",
        b"[]",
        b"7",
        b"null",
        b'"x"',
        b"\xff\xfe\x00",
        b"{" * 1000,
        b'{"a":' * 200,
        b'{"counter": -1}',
        b'{"counter": 9007199254740992}',
        b'{"counter": 1e3}',
        b'{"counter": true}',
        b'{"counter": "7"}',
        b'{"counter": [7]}',
        b'{"spread_s": -1}',
        b'{"spread_s": NaN}',
        b'{"spread_s": Infinity}',
        b'{"spread_s": null}',
        b'{"spread_s": false}',
        b'{"spread_s": 1e999}',
        b'{"counter": 7, "run": "rm -rf /"}',
        b'{"counter": 7} {"counter": 8}',
    ],
    ids=lambda payload: repr(payload[:30]),
)
def test_hostile_nudge_is_refused(payload: bytes) -> None:
    with pytest.raises(PayloadError, match="expected") as caught:
        parse_nudge(payload)
    assert caught.value.reason == "malformed"
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("payload", [None, b'{"counter": 7}' + b" " * 1024])
def test_long_nudge_is_refused(payload: bytes | None) -> None:
    with pytest.raises(PayloadError, match="more than 1024 bytes") as caught:
        parse_nudge(payload)
    assert caught.value.reason == "too_long"


@given(st.binary(max_size=64) | st.text(max_size=64).map(str.encode))
def test_any_bytes_are_a_hint_or_refused(payload: bytes) -> None:
    try:
        hint = parse_nudge(payload)
    except PayloadError:
        return
    assert 0 <= hint.spread_s <= 3600
    assert hint.counter is None or hint.counter >= 0


@given(st.none() | st.integers(0, 2**53 - 1), st.floats(0, 3600))
def test_publisher_and_gateway_understand_each_other(counter: int | None, spread_s: float) -> None:
    assert parse_nudge(nudge_json(Hint(counter, spread_s))) == Hint(counter, spread_s)


def test_topics() -> None:
    assert nudge_topic("edge-agent", "plant-4", "canary") == "edge-agent/v1/plant-4/canary/nudge"
    assert status_topic("site/a", "plant-4", "gw.7") == "site/a/v1/plant-4/gw.7/ota/status"
    assert status_filter("edge-agent", "plant-4") == "edge-agent/v1/plant-4/+/ota/status"


@pytest.mark.parametrize("name", ["", "+", "#", "a/b", "../x", "$SYS", "a b", "a\0", "é", "x" * 65, ".hidden", "a\n"])
def test_names_cannot_leave_their_level(name: str) -> None:
    for topic in (nudge_topic, status_topic):
        with pytest.raises(AdapterError, match="got the name"):
            topic("edge-agent", "plant-4", name)
        with pytest.raises(AdapterError, match="got the name"):
            topic("edge-agent", name, "x")
    with pytest.raises(AdapterError, match="got the name"):
        status_filter("edge-agent", name)


@pytest.mark.parametrize("prefix", ["", "/", "a/", "/a", "a//b", "+", "a/#", "$SYS", "a b", "a\n", "x" * 129])
def test_prefix_is_plain_levels(prefix: str) -> None:
    with pytest.raises(ValidationError, match="prefix"):
        UPLINK.options.model_validate({"type": "mqtt", "prefix": prefix})


def test_kept_session_has_a_name_that_no_other_gateway_has() -> None:
    options = UPLINK.options.model_validate({"type": "mqtt"})
    assert options.of_gateway("a-b", "c").client_id == "edge-agent:a-b:c"
    assert options.of_gateway("a", "b-c").client_id == "edge-agent:a:b-c"
    given = UPLINK.options.model_validate({"type": "mqtt", "client_id": "mine"})
    assert given.of_gateway("a", "b").client_id == "mine"
    fleeting = UPLINK.options.model_validate({"type": "mqtt", "session_expiry": 0})
    assert fleeting.of_gateway("a", "b").client_id is None
