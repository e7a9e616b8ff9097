"""The InfluxDB sink: lines by hand, requests, and what becomes of points that are refused."""

from __future__ import annotations

import asyncio
import base64
from importlib import resources
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from influx_rig import NOW_NS, S, free_port, incident, opened, parsed, readings, scores, scripted, status
from pydantic import ValidationError

from edge_adapters.influxdb import SINK
from edge_adapters.influxdb.lines import Lines, field_value, tag
from edge_agent.errors import AdapterError, RetryableAdapterError
from edge_agent.verdict import Event, EventKind


def made(event: Event, **tags: str) -> list[str]:
    return list(Lines("edge_", tags).lines(event))


def test_lines_by_hand() -> None:
    assert made(readings()) == [
        f"edge_reading,agent=gw,sensor=LIT301,unit=mm value=812.5 {NOW_NS}",
        f"edge_reading,agent=gw,sensor=P101 value=1.0 {NOW_NS}",
    ]
    assert made(scores(), site="north 1") == [
        f"edge_plant,agent=gw,site=north\\ 1 score=0.25,p_value=0.5,alarm=false {NOW_NS}",
        f"edge_score,agent=gw,site=north\\ 1,sensor=LIT301 value=1.5 {NOW_NS}",
    ]
    assert made(incident()) == [
        "edge_incident,agent=gw,id=01K,kind=process,severity=high,state=open "
        'event="i",summary="level \\"LIT301\\" = 7 °C\\\\off now",score=7.0,p_value=1e-06,sensors="LIT301",'
        'sensor_count=1i,first_mover="LIT301",areas="stage 3",techniques="T0856",'
        f'opened="2027-01-15T07:59:00.000Z" {NOW_NS}'
    ]
    digest = Event("d", EventKind.DIGEST, NOW_NS, {"what": "digest", "message": "two"})
    assert made(digest) == [f'edge_status,what=digest event="d",message="two" {NOW_NS}']
    assert made(status()) == [f'edge_status,agent=gw,what=clock_jump event="t",message="it jumped" {NOW_NS}']


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("a b,c=d", "a\\ b\\,c\\=d"),
        ("Halle/7 Süd", "Halle/7\\ Süd"),
        ("line\nend", "line\\ end"),
        ("path\\", "path"),
        ("a\\b", "a\\b"),
        (" \n ", ""),
    ],
)
def test_tags_are_escaped(value: str, expected: str) -> None:
    assert tag(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1.0, "1.0"),
        (-1e-300, "-1e-300"),
        (3, "3i"),
        (2**63, None),
        (True, "true"),
        (float("nan"), None),
        (float("-inf"), None),
        (None, None),
        ("", None),
        ('say "a\\b"\n', '"say \\"a\\\\b\\" "'),
    ],
)
def test_field_values(value: Any, expected: str | None) -> None:
    assert field_value(value) == expected


def test_what_cannot_be_stored_makes_no_point() -> None:
    lines = made(readings(a=float("nan"), b=None, c="on", d=True, e=2))
    assert [line.split()[0].rpartition("=")[2] for line in lines] == ["e"]
    assert made(Event("x", EventKind.READINGS, NOW_NS, {})) == []
    assert made(Event("x", EventKind.SCORES, NOW_NS, {"sensors": None})) == []


@given(st.text(min_size=1, max_size=30), st.text(max_size=30))
def test_no_name_breaks_a_line(sensor: str, unit: str) -> None:
    event = Event("x", EventKind.READINGS, NOW_NS, {"sensors": {sensor: 1.5}, "units": {sensor: unit}})
    for line in made(event):
        assert "\n" not in line
        assert line.endswith(f" value=1.5 {NOW_NS}")


async def test_one_request_for_all_events_of_a_delivery() -> None:
    async with scripted() as server, opened(server.url, bucket="b", org="o", token="t0k") as desk:
        await desk.sink.deliver([readings(), scores(), incident()])
        await desk.sink.deliver([])
    [request] = server.requests
    assert request.path == "/api/v2/write"
    assert dict(request.query) == {"bucket": "b", "org": "o", "precision": "ns"}
    assert request.headers["Authorization"] == "Token t0k"
    assert request.headers["Content-Encoding"] == "gzip"
    assert len(server.bodies[0]) == 5


async def test_the_api_of_version_1() -> None:
    options = {"database": "plant", "retention_policy": "week", "username": "eva", "password": "pä", "gzip": False}
    async with scripted() as server, opened(server.url, **options) as desk:
        await desk.sink.deliver([status()])
    [request] = server.requests
    assert request.path == "/write"
    assert dict(request.query) == {"db": "plant", "rp": "week", "precision": "ns"}
    assert request.headers["Authorization"] == "Basic " + base64.b64encode("eva:pä".encode()).decode()
    assert "Content-Encoding" not in request.headers


async def test_many_points_go_in_batches() -> None:
    many = readings(**{f"s{n}": float(n) for n in range(25)})
    async with scripted() as server, opened(server.url, batch=10) as desk:
        await desk.sink.deliver([many])
    assert [len(body) for body in server.bodies] == [10, 10, 5]


async def test_points_dropped_by_a_partial_write_are_counted_and_not_sent_again() -> None:
    async with scripted() as server, opened(server.url) as desk:
        said = '{"error":"partial write: field type conflict: input field \\"value\\" … dropped=2"}'
        server.answers.append((400, said, {}))
        await desk.sink.deliver([readings()])
        assert desk.refused == 2
    assert len(server.requests) == 1


async def test_a_point_that_is_refused_takes_no_others_with_it() -> None:
    many = readings(**{f"s{n:02}": float(n) for n in range(20)})
    async with scripted() as server, opened(server.url) as desk:
        server.bad = "sensor=s13"
        await desk.sink.deliver([many])
        assert desk.refused == 1
    stored = {line for body in server.bodies if not any("s13" in line for line in body) for line in body}
    assert len(stored) == 19
    assert len(server.requests) <= 2 * 5 + 1


async def test_what_is_too_large_for_the_server_goes_in_halves() -> None:
    many = readings(**{f"s{n:02}": float(n) for n in range(20)})
    async with scripted() as server, opened(server.url) as desk:
        server.most_lines = 6
        await desk.sink.deliver([many])
        assert desk.refused == 0
    assert sum(len(body) for body in server.bodies if len(body) <= 6) == 20


@pytest.mark.parametrize("code", [401, 403, 404, 500, 502, 302])
async def test_other_answers_are_tried_again(code: int) -> None:
    async with scripted() as server, opened(server.url, token="s3cret", bucket="b") as desk:
        server.answers.append((code, "no such bucket", {}))
        with pytest.raises(RetryableAdapterError, match=rf"bucket 'b': HTTP {code}: 'no such bucket'") as raised:
            await desk.sink.deliver([readings()])
    assert "s3cret" not in str(raised.value)


@pytest.mark.parametrize(("code", "after", "waited_s"), [(429, "30", 30), (503, "7", 7), (503, "99999", 300)])
async def test_the_server_says_how_long_to_wait(code: int, after: str, waited_s: int) -> None:
    async with scripted() as server, opened(server.url) as desk:
        server.answers.append((code, "busy", {"Retry-After": after}))
        delivery = asyncio.create_task(desk.sink.deliver([readings()]))
        while not desk.context.state.startswith("disconnected"):
            await asyncio.sleep(0.001)
        desk.clock.advance(waited_s * S - 1)
        _, pending = await asyncio.wait([delivery], timeout=0.05)
        assert pending
        desk.clock.advance(1)
        with pytest.raises(RetryableAdapterError, match=f"HTTP {code}"):
            await delivery
    assert len(server.requests) == 1


async def test_a_date_to_retry_after_is_left_to_the_back_off() -> None:
    async with scripted() as server, opened(server.url) as desk:
        server.answers.append((503, "", {"Retry-After": "Fri, 15 Jan 2027 08:00:00 GMT"}))
        with pytest.raises(RetryableAdapterError, match="HTTP 503"):
            await desk.sink.deliver([readings()])


async def test_nobody_listens() -> None:
    async with opened(f"http://127.0.0.1:{free_port()}") as desk:
        with pytest.raises(RetryableAdapterError, match="database 'plant': Client"):
            await desk.sink.deliver([readings()])


async def test_unusable_tls_files_are_told() -> None:
    with pytest.raises(AdapterError, match=r"tls\.ca_file: cannot use '/nowhere\.pem'"):
        async with opened("https://127.0.0.1:1", tls={"ca_file": "/nowhere.pem"}):
            pass


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"url": "db:8086"}, "expected a URL such as http://db.example.com:8086"),
        ({"url": "http://eva:pw@db"}, "user and password do not belong in the URL"),
        ({"bucket": "b", "database": "d"}, "expected either `bucket`"),
        ({"bucket": "b", "username": "u"}, "username: has no meaning with `bucket`"),
        ({"database": "d", "token": "t"}, "token: has no meaning with `database`"),
        ({"password": "p"}, "password: needs `username` too"),
        ({"tags": {"sensor": "x"}}, "sensor: set by the sink itself"),
        ({"tags": {"site": " "}}, "tags and their values must not be empty"),
        ({"prefix": "a b"}, "String should match pattern"),
    ],
)
def test_options_that_cannot_be_are_refused(options: dict[str, Any], expected: str) -> None:
    with pytest.raises(ValidationError) as raised:
        parsed(**options)
    assert expected in str(raised.value)


def test_neither_bucket_nor_database_is_refused() -> None:
    with pytest.raises(ValidationError, match="expected either `bucket`"):
        SINK.options.model_validate({"type": "influxdb", "url": "http://db"})


def test_the_sample_is_accepted() -> None:
    sample = yaml.safe_load((resources.files("edge_adapters.influxdb") / "sample.yaml").read_text())
    SINK.options.model_validate(sample["sinks"]["series"])
