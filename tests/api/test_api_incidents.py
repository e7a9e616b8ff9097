"""What operators do with incidents: over the API, the client and the commands."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import aiohttp
import pytest
from click.testing import CliRunner, Result
from fake_agent import ORDER, FakeAgent, incident
from served_api import TOKEN, Serve, url

from edge_agent.cli.app import cli

JSON = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
ID = incident(1)["id"]
ACKNOWLEDGE = f"/api/v1/incidents/{ID}/acknowledge"
LIFT = f"/api/v1/orders/{ORDER['id']}/lift"
ORDERS = "/api/v1/orders"


async def post(http: aiohttp.ClientSession, address: str, body: Any) -> tuple[int, dict[str, Any]]:
    async with http.post(address, data=json.dumps(body), headers=JSON) as answer:
        return answer.status, await answer.json()


@pytest.mark.parametrize(
    ("path", "body", "call"),
    [
        (ACKNOWLEDGE, {}, ("acknowledge", ID, "", "api client 127.0.0.1")),
        (ACKNOWLEDGE, {"note": "seen", "by": "kim"}, ("acknowledge", ID, "seen", "kim (api client 127.0.0.1)")),
        (ORDERS, {"sensors": ["P*"], "for": "2h"}, ("suppress", "P*", "7200", "", "api client 127.0.0.1")),
        (
            ORDERS,
            {"areas": ["boiler"], "for": "31d", "note": "test", "by": "kim"},
            ("suppress", "boiler", "2678400", "test", "kim (api client 127.0.0.1)"),
        ),
        (LIFT, {"by": "kim"}, ("lift", ORDER["id"], "kim (api client 127.0.0.1)")),
        (
            f"/api/v1/incidents/{ID}/feedback",
            {"verdict": "true_alarm", "by": "kim"},
            ("judge", ID, "true_alarm", "", "kim (api client 127.0.0.1)"),
        ),
    ],
)
async def test_actions_reach_the_agent_with_who_and_why(
    serve: Serve, http: aiohttp.ClientSession, agent: FakeAgent, path: str, body: Any, call: tuple[str, ...]
) -> None:
    status, _ = await post(http, url(await serve(), path), body)
    assert status == 200
    assert agent.calls == [call]


@pytest.mark.parametrize("path", [ACKNOWLEDGE, ORDERS, LIFT])
async def test_without_the_token_nothing_is_done(
    serve: Serve, http: aiohttp.ClientSession, agent: FakeAgent, path: str
) -> None:
    async with http.post(url(await serve(), path), json={"sensors": ["*"], "for": "1h"}) as answer:
        assert answer.status == 401
    assert not agent.calls


@pytest.mark.parametrize(
    ("path", "body", "message"),
    [
        (ACKNOWLEDGE, {"text": "x"}, "got key 'text', expected some of note, by"),
        (ACKNOWLEDGE, {"note": 7}, "note: expected text of at most 1000 characters"),
        (ACKNOWLEDGE, {"by": "a\nb"}, "by: expected a name of at most 100 characters on one line"),
        (ACKNOWLEDGE, {"by": "x" * 101}, "by: expected a name"),
        (ACKNOWLEDGE, {"by": " "}, "by: expected a name"),
        (ORDERS, {}, "expected sensors or areas, as in"),
        (ORDERS, {"sensors": [], "for": "2h"}, "expected sensors or areas, as in"),
        (ORDERS, {"sensors": "P*", "for": "2h"}, "sensors: expected at most 100 shell-style patterns"),
        (ORDERS, {"sensors": [""], "for": "2h"}, "sensors: expected at most 100 shell-style patterns"),
        (ORDERS, {"areas": ["x"] * 101, "for": "2h"}, "areas: expected at most 100 shell-style patterns"),
        (ORDERS, {"sensors": ["P*"]}, "for: got None, expected a duration with its unit"),
        (ORDERS, {"sensors": ["P*"], "for": "2"}, "for: got '2', expected a duration with its unit"),
        (ORDERS, {"sensors": ["P*"], "for": "0s"}, "for: got '0s', expected more than 0s and at most 31d"),
        (ORDERS, {"sensors": ["P*"], "for": "32d"}, "for: got '32d', expected more than 0s and at most 31d"),
        (LIFT, {"why": "x"}, "got key 'why', expected some of by"),
    ],
)
async def test_a_body_with_a_mistake_is_refused(
    serve: Serve, http: aiohttp.ClientSession, agent: FakeAgent, path: str, body: Any, message: str
) -> None:
    status, answer = await post(http, url(await serve(), path), body)
    assert status == 400
    assert message in answer["error"]
    assert not agent.calls


@pytest.mark.parametrize(
    ("path", "status", "message"),
    [
        ("/api/v1/incidents/nope/acknowledge", 404, "no incident has the id 'nope'; /api/v1/incidents lists all"),
        (f"/api/v1/incidents/{incident(2)['id']}/acknowledge", 409, "is closed"),
        ("/api/v1/orders/nope/lift", 404, "no order has the id 'nope'; /api/v1/orders lists all"),
    ],
)
async def test_what_is_not_there_is_said_so(
    serve: Serve, http: aiohttp.ClientSession, path: str, status: int, message: str
) -> None:
    found, answer = await post(http, url(await serve(), path), {})
    assert (found, message in answer["error"]) == (status, True)


async def test_orders_and_audit_can_be_read_without_token(serve: Serve, http: aiohttp.ClientSession) -> None:
    server = await serve()
    async with http.get(url(server, ORDERS)) as answer:
        assert await answer.json() == {"orders": [ORDER]}
    async with http.get(url(server, "/api/v1/audit?limit=5")) as answer:
        assert [entry["action"] for entry in (await answer.json())["entries"]] == ["suppress"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["list"], "reopened 2 times"),
        (["list", "--state", "open"], ID),
        (["show", ID], "  80%  plant/tank 1/level: reads 0.91 m"),
        (["acknowledge", ID, "--note", "seen"], f"{ID}: acknowledged 2026-11-20T10:45:00Z by kim"),
        (["suppress", "--sensors", "pump.*", "--for", "2h"], "in force until 2026-11-20T12:45:00.000Z, concerns 3 sen"),
        (["suppress", "--areas", "x", "--for", "2h"], "no sensor that is known now matches"),
        (["orders"], "pump.*, area boiler  kim  pump test"),
        (["lift", ORDER["id"]], f"{ORDER['id']}: lifted"),
        (["audit"], "suppress  kim  sensors pump.*"),
    ],
)
async def test_the_commands_say_what_was_done(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, arguments: list[str], expected: str
) -> None:
    result = await run(serve, monkeypatch, arguments)
    assert result.exit_code == 0, result.output
    assert expected in result.output


@pytest.mark.parametrize(
    "arguments",
    [["list"], ["show", ID], ["acknowledge", ID], ["suppress", "--areas", "x", "--for", "1h"], ["orders"], ["audit"]],
)
async def test_the_commands_speak_json(serve: Serve, monkeypatch: pytest.MonkeyPatch, arguments: list[str]) -> None:
    result = await run(serve, monkeypatch, [*arguments, "--json"])
    assert json.loads(result.stdout)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["suppress", "--for", "2h"], 2, "say which sensors or areas"),
        (["lift", "nope"], 4, "no order has the id 'nope'"),
        (["acknowledge", incident(2)["id"]], 4, "is closed"),
        (["show", "nope"], 4, "no incident has the id 'nope'"),
    ],
)
async def test_the_commands_fail_with_one_sentence(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, arguments: list[str], code: int, message: str
) -> None:
    result = await run(serve, monkeypatch, arguments)
    assert (result.exit_code, message in result.output) == (code, True)


async def run(serve: Serve, monkeypatch: pytest.MonkeyPatch, arguments: list[str]) -> Result:
    monkeypatch.setenv("EDGE_AGENT_TOKEN", TOKEN)
    monkeypatch.setenv("LOGNAME", "kim")
    server = await serve()
    command = ["incidents", *arguments, "--url", f"http://{server.address}"]
    return await asyncio.to_thread(CliRunner().invoke, cli, command)
