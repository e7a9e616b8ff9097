"""Case folders: messages in, batches or rejections out, as ``expected.jsonl`` says (``null``: silently left out)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from edge_adapters.mqtt import SOURCE
from edge_adapters.mqtt.routing import Router
from edge_adapters.mqtt.wire import Message
from edge_agent.sample import Batch
from edge_agent.verdict import rfc3339

CASES = Path(__file__).parent / "cases"


def build_router(case: Path, rejections: list[str]) -> Router:
    config = {"type": "mqtt"} | yaml.safe_load((case / "config.yaml").read_text())
    options = SOURCE.options.model_validate(config)
    return Router(options.subscriptions, lambda reason, message: rejections.append(reason))


def lines(path: Path) -> list[Any]:
    return [orjson.loads(line) for line in path.read_text().splitlines()]


def message(line: dict[str, Any]) -> Message:
    if "hex" in line:
        payload = bytes.fromhex(line["hex"])
    else:
        payload = line["text"].encode() if "text" in line else orjson.dumps(line["payload"])
    return Message(line["topic"].encode(), payload, 1, 1, False, len(payload))


def told(batch: Batch | None, rejections: list[str]) -> Any:
    if batch is None:
        return {"rejected": rejections[0]} if rejections else None
    times = batch.source_time_ns
    if isinstance(times, list):
        texts = [rfc3339(time) for time in times]
        return {"series": [list(row) for row in zip(batch.sensors, batch.values, texts, strict=True)]}
    assert times is None or isinstance(times, int)
    readings = dict(zip(batch.sensors, batch.values, strict=True))
    return {"readings": readings, "time": None if times is None else rfc3339(times)}


@pytest.mark.parametrize("case", sorted(CASES.iterdir()), ids=lambda case: case.name)
def test_case(case: Path) -> None:
    rejections: list[str] = []
    router = build_router(case, rejections)
    for sent, expected in zip(lines(case / "messages.jsonl"), lines(case / "expected.jsonl"), strict=True):
        rejections.clear()
        assert told(router.read(message(sent), 0), rejections) == expected


def test_readings_keep_the_order_of_the_message() -> None:
    router = build_router(CASES / "chirpstack", [])
    batch = router.read(message(lines(CASES / "chirpstack" / "messages.jsonl")[0]), 5)
    assert batch is not None
    assert batch.sensors[:3] == ("freezer-3.temperature", "freezer-3.humidity", "freezer-3.battery")
    assert batch.arrival_ns == 5


def test_same_layout_is_the_same_tuple() -> None:
    router = build_router(CASES / "forms_side_by_side", [])
    first, second = (router.read(message({"topic": "raw/k2", "hex": text}), 0) for text in ("f6ff0302", "00000000"))
    assert first is not None
    assert second is not None
    assert first.sensors is second.sensors


def test_topic_that_is_not_utf8_is_refused() -> None:
    rejections: list[str] = []
    assert build_router(CASES / "tts", rejections).read(Message(b"\xff", b"1", 0, 0, False, 1), 0) is None
    assert rejections == ["topic"]


@given(topic=st.binary(max_size=20) | st.sampled_from([b"csv/a", b"raw/a", b"readings/a"]), payload=st.binary())
def test_any_message_gives_a_batch_or_a_rejection(topic: bytes, payload: bytes) -> None:
    rejections: list[str] = []
    router = build_router(CASES / "forms_side_by_side", rejections)
    batch = router.read(Message(topic, payload, 0, 0, False, len(payload)), 0)
    assert batch is None or (len(batch) > 0 and not rejections)
