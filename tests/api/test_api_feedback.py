"""Feedback on incidents: over the API, the client and the command."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import aiohttp
import pytest
from click.testing import CliRunner
from fake_agent import FakeAgent, incident
from served_api import TOKEN, Serve, url

from edge_agent.cli.app import cli

JSON = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
PATH = f"/api/v1/incidents/{incident(1)['id']}/feedback"


async def post(http: aiohttp.ClientSession, address: str, body: Any) -> tuple[int, dict[str, Any]]:
    async with http.post(address, data=json.dumps(body), headers=JSON) as answer:
        return answer.status, await answer.json()


@pytest.mark.parametrize("verdict", ["true_alarm", "false_alarm"])
async def test_feedback_reaches_the_agent_with_note_and_actor(
    serve: Serve, http: aiohttp.ClientSession, agent: FakeAgent, verdict: str
) -> None:
    status, body = await post(http, url(await serve(), PATH), {"verdict": verdict, "note": "pump test"})
    assert (status, body["verdict"], body["note"]) == (200, verdict, "pump test")
    assert agent.calls == [("judge", incident(1)["id"], verdict, "pump test", "api client 127.0.0.1")]


async def test_without_the_token_nothing_is_kept(serve: Serve, http: aiohttp.ClientSession, agent: FakeAgent) -> None:
    address = url(await serve(), PATH)
    async with http.post(address, json={"verdict": "true_alarm"}) as answer:
        assert answer.status == 401
    assert not agent.calls


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, 'expected {"verdict": "true_alarm"} or {"verdict": "false_alarm"}'),
        ({"verdict": "maybe"}, 'expected {"verdict"'),
        ({"verdict": ["true_alarm"]}, 'expected {"verdict"'),
        ({"verdict": "true_alarm", "more": 1}, 'expected {"verdict"'),
        ({"verdict": "true_alarm", "note": 7}, "note: expected text of at most 1000 characters"),
        ({"verdict": "true_alarm", "note": "x" * 1001}, "note: expected text of at most 1000 characters"),
        ([], "body: got list, expected a JSON object"),
    ],
)
async def test_a_body_that_says_nothing_clear_is_refused(
    serve: Serve, http: aiohttp.ClientSession, agent: FakeAgent, body: Any, message: str
) -> None:
    status, answer = await post(http, url(await serve(), PATH), body)
    assert status == 400
    assert message in answer["error"]
    assert not agent.calls


async def test_an_unknown_incident_is_said_to_be_unknown(serve: Serve, http: aiohttp.ClientSession) -> None:
    status, answer = await post(http, url(await serve(), PATH.replace("01J", "01K")), {"verdict": "true_alarm"})
    assert status == 404
    assert "no incident has the id '01K" in answer["error"]


@pytest.mark.parametrize(("word", "verdict"), [("true_alarm", "true_alarm"), ("false_alarm", "false_alarm")])
async def test_the_command_says_what_was_kept(
    serve: Serve, agent: FakeAgent, monkeypatch: pytest.MonkeyPatch, word: str, verdict: str
) -> None:
    monkeypatch.setenv("EDGE_AGENT_TOKEN", TOKEN)
    server = await serve()
    arguments = ["incidents", "feedback", incident(1)["id"], word, "--note", "n", "--url", f"http://{server.address}"]
    result = await asyncio.to_thread(CliRunner().invoke, cli, arguments)
    assert result.exit_code == 0, result.output
    assert f"{incident(1)['id']}: {verdict.replace('_', ' ')}, said" in result.output
    result = await asyncio.to_thread(CliRunner().invoke, cli, [*arguments, "--json"])
    assert json.loads(result.output)["verdict"] == verdict
    assert [call[2] for call in agent.calls] == [verdict, verdict]


async def test_the_command_fails_for_an_unknown_incident(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGE_AGENT_TOKEN", TOKEN)
    server = await serve()
    arguments = ["incidents", "feedback", "nope", "true_alarm", "--url", f"http://{server.address}"]
    result = await asyncio.to_thread(CliRunner().invoke, cli, arguments)
    assert result.exit_code == 4
    assert "no incident has the id 'nope'" in result.output
