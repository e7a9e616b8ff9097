from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from edge_adapters.mqtt import SINK, SOURCE
from edge_adapters.mqtt.topics import TopicPattern

FOLDER = Path(sys.modules[SOURCE.options.__module__].__file__ or "").parent


@pytest.mark.parametrize(
    ("pattern", "subscription", "topic", "captures"),
    [
        ("plant/{area}/{sensor}", "plant/+/+", "plant/a/b", {"area": "a", "sensor": "b"}),
        ("plant/{area}/{sensor}", "plant/+/+", "plant/a", None),
        ("plant/{area}/{sensor}", "plant/+/+", "plant/a/b/c", None),
        ("plant/{area}/{sensor}", "plant/+/+", "plants/a/b", None),
        ("plant/{area}", "plant/+", "plant/", {"area": ""}),
        ("z/{device...}", "z/#", "z/kitchen/lamp", {"device": "kitchen.lamp"}),
        ("z/{device...}", "z/#", "z", {"device": ""}),
        ("+/{x}/#", "+/+/#", "a/b/c/d", {"x": "b"}),
        ("#", "#", "a/b", {}),
        ("#", "#", "$SYS/broker/uptime", None),
        ("$SYS/{what...}", "$SYS/#", "$SYS/a/b", {"what": "a.b"}),
        ("/lead/{x}", "/lead/+", "/lead/1", {"x": "1"}),
    ],
)
def test_topic_patterns(pattern: str, subscription: str, topic: str, captures: dict[str, str] | None) -> None:
    compiled = TopicPattern(pattern)
    assert compiled.filter == subscription
    assert compiled.match(topic) == captures


def source(**options: Any) -> Any:
    return SOURCE.options.model_validate({"type": "mqtt", "subscriptions": [{"topic": "a/{b}"}]} | options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"subscriptions": []}, "at least 1 item"),
        ({"subscriptions": [{}]}, "expected a topic such as plant/{area}/{sensor}, or a `preset`"),
        ({"subscriptions": [{"topic": "a/b{c}"}]}, "mixes text with a wildcard"),
        ({"subscriptions": [{"topic": "a/b+"}]}, "mixes text with a wildcard"),
        ({"subscriptions": [{"topic": "a/#/b"}]}, "only as the last level"),
        ({"subscriptions": [{"topic": "{a}/{a}"}]}, "every capture name once"),
        ({"subscriptions": [{"topic": "a/{b}", "name": "{c}"}]}, r"nothing fills {c}; this topic .* give {b}, {path}"),
        ({"subscriptions": [{"topic": "a", "name": "x", "payload": {"name": "y"}}]}, "given twice"),
        ({"subscriptions": [{"topic": "a", "qos": 3}]}, "less than or equal to 2"),
        ({"subscriptions": [{"preset": "tts", "payload": {"format": "csv", "header": True}}]}, "has its own"),
        ({"password": "x"}, "needs `username` too"),
        ({"session_expiry": "1h"}, "needs a `client_id`"),
        ({"tls": {"key_file": "/x"}}, "needs `cert_file` too"),
        ({"port": 70000}, "less than or equal to 65535"),
        ({"version": "4"}, "'3.1.1' or '5'"),
        ({"share": "a/b"}, "String should match pattern"),
        ({"brokr": 1}, "Extra inputs are not permitted"),
    ],
)
def test_wrong_source_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        source(**options)


@pytest.mark.parametrize(
    ("topic", "message"),
    [
        ("a/{what}", "unknown placeholder {what}"),
        ("a/+", "without wildcards"),
        ("", "without wildcards"),
        ("a}", "without"),
    ],
)
@pytest.mark.parametrize("option", ["topic", "replay_topic"])
def test_wrong_sink_topics_are_refused(option: str, topic: str, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        SINK.options.model_validate({"type": "mqtt", option: topic})


def test_port_follows_from_tls() -> None:
    assert source().effective_port == 1883
    assert source(tls={}).effective_port == 8883
    assert source(port=5).effective_port == 5


def test_password_is_not_shown() -> None:
    assert "hunter2" not in repr(source(username="u", password="hunter2"))


def test_sample_is_valid() -> None:
    sample = yaml.safe_load((FOLDER / "sample.yaml").read_text())
    for options in sample["sources"].values():
        SOURCE.options.model_validate(options)
    for options in sample["sinks"].values():
        SINK.options.model_validate(options)


def test_readme_shows_the_sample_as_it_is() -> None:
    assert (FOLDER / "sample.yaml").read_text().strip() in (FOLDER / "README.md").read_text()


def test_options_load_without_the_client_library() -> None:
    code = "import sys, edge_adapters.mqtt as m; m.SOURCE.options; assert 'paho' not in str(list(sys.modules))"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
