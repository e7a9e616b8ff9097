from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import uvloop
from fake_agent import FakeAgent
from served_api import TOKEN, Serve

from edge_agent.api.options import ApiOptions
from edge_agent.api.server import ApiServer
from edge_agent.export.prometheus import PrometheusRenderer
from edge_agent.options import Secret

_ON_BOTH_LOOPS = {"test_api_hostile", "test_api_listening", "test_api_events"}


@pytest.hookimpl(optionalhook=True)
def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Function
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The agent runs on uvloop, whose transports differ in details: what is close to the socket is tested on both."""
    uv = {"uvloop": uvloop.new_event_loop}
    return {"asyncio": asyncio.new_event_loop, **(uv if item.module.__name__ in _ON_BOTH_LOOPS else {})}


@pytest.fixture
async def agent() -> FakeAgent:
    return FakeAgent()


@pytest.fixture
async def serve(agent: FakeAgent, tmp_path: Path) -> AsyncIterator[Serve]:
    """Starts servers for the agent, on a free port unless ``listen`` is given; all are stopped at the end."""
    async with AsyncExitStack() as stack:

        async def start(local_token: Secret | None = None, **options: Any) -> ApiServer:
            given = {"listen": "127.0.0.1:0", "token": TOKEN, **options}
            server = ApiServer(
                ApiOptions.model_validate(given),
                agent,
                render_metrics=PrometheusRenderer(agent.metrics).render,
                upload_dir=tmp_path / "uploads",
                local_token=local_token,
            )
            await server.start()
            stack.push_async_callback(server.stop)
            return server

        yield start


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as session:
        yield session
    await asyncio.sleep(0)
