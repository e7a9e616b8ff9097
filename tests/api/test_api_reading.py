"""What anybody on this machine may read."""

import aiohttp
import pytest
from fake_agent import HOSTILE_NAME, FakeAgent, incident
from served_api import Serve, url
from yarl import URL


@pytest.mark.parametrize("path", ["/livez", "/readyz"])
async def test_health_says_ok(serve: Serve, http: aiohttp.ClientSession, path: str) -> None:
    async with http.get(url(await serve(), path)) as answer:
        assert answer.status == 200
        assert await answer.json() == {"ok": True, "reasons": []}


async def test_not_ready_says_why(serve: Serve, http: aiohttp.ClientSession, agent: FakeAgent) -> None:
    agent.ready = (False, ["source plc: disconnected"])
    async with http.get(url(await serve(), "/readyz")) as answer:
        assert answer.status == 503
        assert await answer.json() == {"ok": False, "reasons": ["source plc: disconnected"]}


async def test_not_live_says_why(serve: Serve, http: aiohttp.ClientSession, agent: FakeAgent) -> None:
    agent.alive = (False, ["no tick for 30 s"])
    async with http.get(url(await serve(), "/livez")) as answer:
        assert answer.status == 503
        assert (await answer.json())["reasons"] == ["no tick for 30 s"]


async def test_status_with_numpy_numbers_and_nan_is_json(serve: Serve, http: aiohttp.ClientSession) -> None:
    async with http.get(url(await serve(), "/api/v1/status")) as answer:
        body = await answer.json()
    assert body["tick"] == 42
    assert body["p_value"] is None


async def test_lists_are_wrapped_in_an_object(serve: Serve, http: aiohttp.ClientSession) -> None:
    server = await serve()
    async with http.get(url(server, "/api/v1/sensors")) as answer:
        assert len((await answer.json())["sensors"]) == 7
    async with http.get(url(server, "/api/v1/incidents")) as answer:
        assert [found["id"] for found in (await answer.json())["incidents"]] == [incident(1)["id"], incident(2)["id"]]
    async with http.get(url(server, "/api/v1/graph")) as answer:
        assert set(await answer.json()) == {"nodes", "edges"}
    async with http.get(url(server, "/api/v1/model")) as answer:
        assert (await answer.json())["name"] == "universal"


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("plant%2Ftank%201%2Flevel", "plant/tank 1/level"),
        ("plant/P1", "plant/P1"),
        ("%3C%2Ftd%3E%3Cscript%3Edocument.title=%27owned%27%3C%2Fscript%3E", HOSTILE_NAME),
    ],
)
async def test_sensor_names_may_hold_slashes_and_anything_else(
    serve: Serve, http: aiohttp.ClientSession, written: str, name: str
) -> None:
    async with http.get(URL(url(await serve(), f"/api/v1/sensors/{written}"), encoded=True)) as answer:
        assert (await answer.json())["name"] == name


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/api/v1/sensors/nobody", "no sensor is named 'nobody'; /api/v1/sensors lists all"),
        ("/api/v1/incidents/nothing", "no incident has the id 'nothing'; /api/v1/incidents lists all"),
        ("/api/v2", "nothing is at '/api/v2'; /api/v1/openapi.json lists what there is"),
    ],
)
async def test_what_is_not_there_is_said(serve: Serve, http: aiohttp.ClientSession, path: str, message: str) -> None:
    async with http.get(url(await serve(), path)) as answer:
        assert answer.status == 404
        assert await answer.json() == {"error": message}


async def test_incident_is_found_by_id(serve: Serve, http: aiohttp.ClientSession) -> None:
    async with http.get(url(await serve(), f"/api/v1/incidents/{incident(1)['id']}")) as answer:
        assert await answer.json() == incident(1)


async def test_incident_filters_reach_the_agent(serve: Serve, http: aiohttp.ClientSession, agent: FakeAgent) -> None:
    path = "/api/v1/incidents?limit=1&state=closed&since=2026-11-20T11:42:07.125%2B01:00"
    async with http.get(URL(url(await serve(), path), encoded=True)) as answer:
        assert answer.status == 200
    assert agent.calls == [("incidents", "1", "closed", "1795171327125000000")]


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("limit=0", "limit: got '0', expected 1 to 1000"),
        ("limit=1001", "limit: got '1001', expected 1 to 1000"),
        ("limit=%C2%B2", "limit: got '²', expected 1 to 1000"),
        ("limit=-1", "limit: got '-1', expected 1 to 1000"),
        ("state=updated", "state: got 'updated', expected open or closed"),
        ("since=yesterday", "since: got 'yesterday', expected a time with its zone"),
        ("since=2026-11-20T10:42:07", "since: got '2026-11-20T10:42:07', expected a time with its zone"),
        ("limt=3", "unknown parameter 'limt', expected: limit, state, since"),
        ("limit=1&limit=2", "parameter 'limit': given more than once"),
    ],
)
async def test_wrong_parameter_is_refused(
    serve: Serve, http: aiohttp.ClientSession, agent: FakeAgent, query: str, message: str
) -> None:
    async with http.get(URL(url(await serve(), f"/api/v1/incidents?{query}"), encoded=True)) as answer:
        assert answer.status == 400
        assert (await answer.json())["error"].startswith(message)
    assert not agent.calls


async def test_metrics_are_served_in_the_format_asked_for(serve: Serve, http: aiohttp.ClientSession) -> None:
    server = await serve()
    async with http.get(url(server, "/metrics")) as answer:
        assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    async with http.get(url(server, "/metrics"), headers={"Accept": "application/openmetrics-text"}) as answer:
        assert answer.headers["Content-Type"].startswith("application/openmetrics-text")
        assert 'edge_agent_api_requests_total{method="GET",status="200"} 1.0' in await answer.text()


async def test_metrics_can_be_switched_off(serve: Serve, http: aiohttp.ClientSession) -> None:
    async with http.get(url(await serve(metrics=False), "/metrics")) as answer:
        assert answer.status == 404
        assert await answer.json() == {"error": "metrics are switched off (option api.metrics)"}


@pytest.mark.parametrize("path", ["/", "/livez", "/metrics", "/nowhere", "/api/v1/status"])
async def test_every_answer_has_the_security_headers(serve: Serve, http: aiohttp.ClientSession, path: str) -> None:
    async with http.get(url(await serve(), path)) as answer:
        headers = answer.headers
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Cache-Control"] == "no-store"
    assert headers["Server"] == "edge-agent"
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert "unsafe" not in headers["Content-Security-Policy"]
    assert not [name for name in headers if name.startswith("Access-Control")]


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1", "192.168.7.9:80", "[::1]:8470", "gw.plant"])
async def test_own_names_and_addresses_are_answered(serve: Serve, http: aiohttp.ClientSession, host: str) -> None:
    async with http.get(url(await serve(hosts=["gw.plant"]), "/livez"), headers={"Host": host}) as answer:
        assert answer.status == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8470", "localhost.evil.example", "127.0.0.1.nip.io", ""]
)
async def test_foreign_name_is_refused_against_rebinding(serve: Serve, http: aiohttp.ClientSession, host: str) -> None:
    async with http.get(url(await serve(), "/api/v1/status"), headers={"Host": host}) as answer:
        assert answer.status == 421
        assert (
            "expected localhost, an IP address or a name listed in option api.hosts" in (await answer.json())["error"]
        )


async def test_defect_in_one_answer_is_said_logged_and_survived(
    serve: Serve, http: aiohttp.ClientSession, agent: FakeAgent, caplog: pytest.LogCaptureFixture
) -> None:
    server = await serve()
    agent.broken = True
    async with http.get(url(server, "/api/v1/status")) as answer:
        assert answer.status == 500
        assert await answer.json() == {"error": "internal error; the agent's log has the details"}
    assert "ZeroDivisionError" in caplog.text
    async with http.get(url(server, "/livez")) as answer:
        assert answer.status == 200


async def test_wrong_method_names_the_right_one(serve: Serve, http: aiohttp.ClientSession) -> None:
    async with http.delete(url(await serve(), "/api/v1/model")) as answer:
        assert answer.status == 405
        assert answer.headers["Allow"] == "GET,POST"
        assert await answer.json() == {"error": "'DELETE' is not possible here, expected GET or POST"}
