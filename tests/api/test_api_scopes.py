"""Which token opens what: every route that changes something, with none, a wrong, a narrow and the right token."""

from typing import Any

import aiohttp
import pytest
from fake_agent import FakeAgent
from pydantic import ValidationError
from served_api import Serve, url

from edge_agent.api.bursts import Bursts, Onset
from edge_agent.api.options import ApiOptions, Scope
from edge_agent.api.routes import ROUTES, Route
from edge_agent.api.tokens import Keyring
from edge_agent.options import Secret

CHANGING = [route for route in ROUTES if route.scope is not None]
BODIES = {
    "/api/v1/incidents/{id}/feedback": b'{"verdict": "false_alarm"}',
    "/api/v1/orders": b'{"sensors": ["p"], "for": "1h"}',
    "/api/v1/model": b'{"path": "/b"}',
    "/api/v1/ota/sideload": b'{"path": "/media/usb"}',
}


def token_of(scope: Scope) -> str:
    return f"a-token-that-only-opens-{scope.replace(':', '-')}"


def tokens(*scopes: Scope) -> dict[str, Any]:
    return {scope.replace(":", "-"): {"token": token_of(scope), "scopes": [scope.value]} for scope in scopes}


async def asked(
    http: aiohttp.ClientSession, address: str, route: Route, token: str | None
) -> tuple[int, dict[str, Any], dict[str, str]]:
    headers = {"Content-Type": "application/json"} | ({} if token is None else {"Authorization": f"Bearer {token}"})
    body = BODIES.get(route.path, b"{}")
    async with http.post(address, data=body, headers=headers) as answer:
        return answer.status, await answer.json(), dict(answer.headers)


@pytest.mark.parametrize("route", CHANGING, ids=lambda route: route.path)
async def test_each_route_opens_to_its_own_scope_only(
    serve: Serve, http: aiohttp.ClientSession, agent: FakeAgent, route: Route
) -> None:
    assert route.scope is not None
    server = await serve(token=None, tokens=tokens(*Scope))
    address = url(server, route.path.replace("{id}", "01J00000000000000000000001"))
    for wrong in (None, "", "not-a-token-of-anybody", token_of(route.scope) + "x"):
        status, _, headers = await asked(http, address, route, wrong)
        assert (status, headers["WWW-Authenticate"]) == (401, 'Bearer realm="edge-agent"')
    for other in Scope:
        if other is route.scope:
            continue
        status, body, headers = await asked(http, address, route, token_of(other))
        assert status == 403
        assert f'error="insufficient_scope", scope="{route.scope}"' in headers["WWW-Authenticate"]
        assert body["error"] == (
            f"token {other.replace(':', '-')} does not open {route.scope}, expected one that does (option api.tokens)"
        )
    assert agent.calls == []
    status, body, _ = await asked(http, address, route, token_of(route.scope))
    assert status in (200, 404, 409), body  # what the agent itself says
    if agent.calls:
        assert agent.calls[-1][-1].endswith(f"with token {route.scope.replace(':', '-')}")


@pytest.mark.parametrize("route", CHANGING, ids=lambda route: route.path)
async def test_the_token_of_all_opens_all(serve: Serve, http: aiohttp.ClientSession, route: Route) -> None:
    address = url(await serve(tokens=tokens(Scope.MODEL)), route.path.replace("{id}", "01J"))
    status, _, _ = await asked(http, address, route, "a-token-of-sixteen-or-more")
    assert status in (200, 404, 409)


def test_every_route_that_is_no_question_has_a_scope() -> None:
    assert all((route.method == "GET") == (route.scope is None) for route in ROUTES)
    assert {route.scope for route in CHANGING} == set(Scope)


async def test_wrong_scopes_are_logged_once_a_minute_without_the_token(
    serve: Serve, http: aiohttp.ClientSession, caplog: pytest.LogCaptureFixture
) -> None:
    address = url(await serve(token=None, tokens=tokens(Scope.MODEL)), "/api/v1/reload")
    route = next(route for route in ROUTES if route.path == "/api/v1/reload")
    for _ in range(5):
        await asked(http, address, route, token_of(Scope.MODEL))
    assert caplog.text.count("refused: token model does not open config") == 1
    assert token_of(Scope.MODEL) not in caplog.text


async def test_each_kind_of_refusal_is_audited_once_a_burst(
    serve: Serve, http: aiohttp.ClientSession, agent: FakeAgent
) -> None:
    server = await serve(token=None, tokens=tokens(Scope.OTA_CHECK))
    reload, check = (
        next(one for one in ROUTES if one.path == path) for path in ("/api/v1/reload", "/api/v1/ota/check")
    )
    right = token_of(Scope.OTA_CHECK)
    for _ in range(9):
        await asked(http, url(server, reload.path), reload, "not-a-token-of-anybody")
        await asked(http, url(server, reload.path), reload, right)
        await asked(http, url(server, check.path), check, right)
    assert [(request, why) for request, why, _ in agent.refused] == [
        ("POST /api/v1/reload", "wrong or no token"),
        ("POST /api/v1/reload", "token ota-check does not open config"),
        ("POST /api/v1/ota/check", "more than 5 at once"),
    ]
    assert [by.endswith("with token ota-check") for _, _, by in agent.refused] == [False, True, True]
    assert "not-a-token-of-anybody" not in str(agent.refused)


def test_a_burst_ends_when_it_was_quiet() -> None:
    onset = Onset(quiet_s=10.0)
    assert [onset.begins(now_s) for now_s in (5.0, 14.0, 23.0, 33.0, 34.0)] == [True, False, False, True, False]


async def test_a_flood_of_looks_is_answered_later_with_when_to_come_again(
    serve: Serve, http: aiohttp.ClientSession, agent: FakeAgent
) -> None:
    address = url(await serve(tokens=tokens(Scope.OTA_CHECK)), "/api/v1/ota/check")
    route = next(route for route in ROUTES if route.path == "/api/v1/ota/check")
    for _ in range(50):  # forged ones take nothing from those who may
        assert (await asked(http, address, route, "not-a-token-of-anybody"))[0] == 401
    answers = [await asked(http, address, route, token_of(Scope.OTA_CHECK)) for _ in range(30)]
    statuses = [status for status, _, _ in answers]
    assert statuses[:5] == [200] * 5
    assert set(statuses[6:]) == {429}
    assert answers[-1][2]["Retry-After"] in ("1", "2")
    assert "try again in" in answers[-1][1]["error"]
    assert len(agent.calls) == statuses.count(200)


async def test_looking_for_updates_does_not_wait_for_another_change(
    serve: Serve, http: aiohttp.ClientSession, agent: FakeAgent
) -> None:
    import asyncio

    server = await serve()
    agent.release.clear()
    swap = next(route for route in ROUTES if route.path == "/api/v1/model" and route.method == "POST")
    check = next(route for route in ROUTES if route.path == "/api/v1/ota/check")
    token = "a-token-of-sixteen-or-more"
    swapping = asyncio.create_task(asked(http, url(server, swap.path), swap, token))
    while not agent.calls:
        await asyncio.sleep(0)
    assert (await asked(http, url(server, check.path), check, token))[0] == 200
    agent.release.set()
    assert (await swapping)[0] == 200


def test_bursts_come_back_one_by_one() -> None:
    bursts = Bursts(2, refill_s=2.0)
    assert [bursts.take(0.0) for _ in range(4)] == [0, 0, 2, 2]
    assert bursts.take(1.5) == 1
    assert bursts.take(2.0) == 0
    assert bursts.take(2.0) == 2
    assert [bursts.take(1000.0) for _ in range(3)] == [0, 0, 2]


@pytest.mark.parametrize(
    ("tokens", "said"),
    [
        ({"ci": {"token": "short", "scopes": ["model"]}}, "expected at least 16 printable ASCII characters"),
        ({"ci": {"token": "x" * 16, "scopes": []}}, "at least 1 item"),
        ({"ci": {"token": "x" * 16, "scopes": ["ota"]}}, "Input should be 'incidents'"),
        ({"a b": {"token": "x" * 16, "scopes": ["model"]}}, "got the name 'a b'"),
        ({"ci": {"token": "y" * 16, "scopes": ["model"]}}, "tokens.ci.token: is the same as token"),
        (
            {"a": {"token": "x" * 16, "scopes": ["model"]}, "b": {"token": "x" * 16, "scopes": ["config"]}},
            "tokens.b.token: is the same as tokens.a.token",
        ),
    ],
)
def test_tokens_that_mean_something_else_than_they_say_are_refused(tokens: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said) as caught:
        ApiOptions.model_validate({"token": "y" * 16, "tokens": tokens})
    assert "yyyy" not in caught.value.errors()[0]["msg"]


def test_a_keyring_without_keys_opens_nothing() -> None:
    ring = Keyring.of(ApiOptions(), None)
    assert not ring
    assert ring.find(b"") is None
    assert (
        Keyring.of(ApiOptions(), Secret("the-one-in-the-data-folder")).find(b"the-one-in-the-data-folder") is not None
    )
