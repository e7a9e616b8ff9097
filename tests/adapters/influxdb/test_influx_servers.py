"""The InfluxDB sink against Debian's InfluxDB 1 and VictoriaMetrics."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from influx_rig import NOW_NS, S, database, free_port, get, incident, opened, post, readings, scores, status

from edge_agent.errors import RetryableAdapterError

pytestmark = [pytest.mark.counterpart, pytest.mark.timeout(60)]


@pytest.fixture
async def influxd(tmp_path: Path) -> AsyncIterator[str]:
    port, backup = free_port(), free_port()
    config = tmp_path / "influxdb.conf"
    config.write_text(
        f'bind-address = "127.0.0.1:{backup}"\nreporting-disabled = true\n[meta]\ndir = "{tmp_path}/meta"\n'
        f'[data]\ndir = "{tmp_path}/data"\nwal-dir = "{tmp_path}/wal"\nquery-log-enabled = false\n'
        f'[http]\nbind-address = "127.0.0.1:{port}"\nlog-enabled = false\n'
        "[monitor]\nstore-enabled = false\n"
    )
    async with database("influxd", ["-config", str(config)], port, tmp_path) as url:
        await post(f"{url}/query", q="CREATE DATABASE plant")
        yield url


@pytest.fixture
async def victoria_metrics(tmp_path: Path) -> AsyncIterator[str]:
    port = free_port()
    arguments = [f"-httpListenAddr=127.0.0.1:{port}", f"-storageDataPath={tmp_path}/vm", "-retentionPeriod=100y"]
    async with database("victoria-metrics", arguments, port, tmp_path) as url:
        yield url


async def rows(url: str, query: str) -> list[dict[str, Any]]:
    answer = json.loads(await get(f"{url}/query", db="plant", q=query, epoch="ns"))
    [result] = answer["results"]
    return [
        {**series.get("tags", {}), **dict(zip(series["columns"], values, strict=True))}
        for series in result.get("series", [])
        for values in series["values"]
    ]


async def test_influxdb_stores_every_event_once(influxd: str) -> None:
    async with opened(influxd) as desk:
        for _ in range(2):  # as after an acknowledgement that was lost
            await desk.sink.deliver([readings(), scores(), incident(), status()])
        assert desk.refused == 0
    found = await rows(influxd, "SELECT value, unit FROM edge_reading GROUP BY sensor")
    assert found == [
        {"sensor": "LIT301", "time": NOW_NS, "value": 812.5, "unit": "mm"},
        {"sensor": "P101", "time": NOW_NS, "value": 1, "unit": None},
    ]
    [plant] = await rows(influxd, "SELECT score, p_value, alarm FROM edge_plant")
    assert plant == {"time": NOW_NS, "score": 0.25, "p_value": 0.5, "alarm": False}
    [one] = await rows(influxd, "SELECT summary, severity, sensor_count FROM edge_incident GROUP BY id")
    assert one == {
        "id": "01K",
        "time": NOW_NS,
        "summary": 'level "LIT301" = 7 °C\\off now',
        "severity": "high",
        "sensor_count": 1,
    }
    assert len(await rows(influxd, "SELECT message FROM edge_status")) == 1


async def test_influxdb_refuses_some_points_and_takes_the_others(influxd: str) -> None:
    """Somebody has stored texts under our name before."""
    other = f'edge_reading,sensor=P101 value="on" {NOW_NS}'
    assert await post(f"{influxd}/write", other, db="plant") == ""
    async with opened(influxd) as desk:
        await desk.sink.deliver([readings(), scores()])
        assert desk.refused == 2  # both readings; the conflict is about the field
    assert len(await rows(influxd, "SELECT value FROM edge_score")) == 1


@pytest.mark.parametrize("name", ['a,b = "c"', "Süd/°C", "back\\slash", "trailing\\", "new\nline", "#hash", "=", "'"])
async def test_influxdb_reads_strange_names(influxd: str, name: str) -> None:
    async with opened(influxd) as desk:
        await desk.sink.deliver([readings(**{name: 1.5})])
        assert desk.refused == 0
    [row] = await rows(influxd, "SELECT value FROM edge_reading GROUP BY sensor")
    assert row["sensor"] == name.replace("\n", " ").rstrip("\\")


async def test_a_database_that_is_not_there_is_waited_for(influxd: str) -> None:
    async with opened(influxd, database="later") as desk:
        with pytest.raises(RetryableAdapterError, match=r"database 'later': HTTP 404: .*database not found"):
            await desk.sink.deliver([readings()])
        await post(f"{influxd}/query", q="CREATE DATABASE later")
        await desk.sink.deliver([readings()])


@pytest.mark.parametrize("api", [{"bucket": "plant", "org": "o", "token": "t"}, {"database": "plant"}])
async def test_victoria_metrics_stores_points_of_both_apis(victoria_metrics: str, api: dict[str, str]) -> None:
    lately_ns = time.time_ns() - 60 * S  # what is in the future it drops
    async with opened(victoria_metrics, **api, tags={"site": "north"}) as desk:
        await desk.sink.deliver([readings(time_ns=lately_ns + n * S, LIT301=float(n)) for n in range(50)])
    await get(f"{victoria_metrics}/internal/force_flush")
    text = await get(f"{victoria_metrics}/api/v1/export", **{"match[]": "edge_reading_value"})
    [series] = [json.loads(line) for line in text.splitlines()]
    assert series["metric"].items() >= {"sensor": "LIT301", "agent": "gw", "site": "north", "unit": "mm"}.items()
    assert series["values"] == list(range(50))
