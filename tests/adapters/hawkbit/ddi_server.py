"""A DDI server after hawkBit's documentation (https://eclipse.dev/hawkbit/apis/ddi_api), for one controller."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

PATH = "/DEFAULT/controller/v1/{controller}"


@dataclass
class DdiServer:
    """What it offers can be changed at any time; what it was told is kept. ``broken``: sent instead of an answer."""

    sleep: str = "00:00:10"
    deployment: tuple[str, str] | None = None
    cancel: str | None = None
    wants_attributes: bool = False
    broken: bytes | None = None
    status: int = 200
    elsewhere: str | None = None
    polls: int = 0
    feedback: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    attributes: list[dict[str, Any]] = field(default_factory=list)
    tokens: set[str] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)
    url: str = ""

    def said(self, action: str) -> list[tuple[str, str]]:
        """Execution and finished of each feedback on ``action`` (``deploymentBase/7``)."""
        found = [body["status"] for where, body in self.feedback if where == action]
        return [(status["execution"], status["result"]["finished"]) for status in found]

    async def poll(self, request: web.Request) -> web.Response:
        self.polls += 1
        links: dict[str, Any] = {}
        base = f"{self.elsewhere or self.url}{request.path}"
        if self.cancel is not None:
            links["cancelAction"] = {"href": f"{base}/cancelAction/{self.cancel}"}
        elif self.deployment is not None:
            links["deploymentBase"] = {"href": f"{base}/deploymentBase/{self.deployment[0]}?c=-2129030598"}
        if self.wants_attributes:
            links["configData"] = {"href": f"{base}/configData"}
        return self._answer(request, {"config": {"polling": {"sleep": self.sleep}}, "_links": links})

    async def deployment_base(self, request: web.Request) -> web.Response:
        assert self.deployment is not None
        artifact = {"filename": "evil.tar", "_links": {"download-http": {"href": f"{self.url}/evil.tar"}}, "size": 9}
        chunk = {"part": "os", "name": "edge-agent", "version": self.deployment[1], "artifacts": [artifact]}
        deployment = {"download": "forced", "update": "forced", "chunks": [chunk]}
        return self._answer(request, {"id": self.deployment[0], "deployment": deployment})

    async def cancel_action(self, request: web.Request) -> web.Response:
        number = request.match_info["number"]
        return self._answer(request, {"id": number, "cancelAction": {"stopId": number}})

    async def take_feedback(self, request: web.Request) -> web.Response:
        body = await request.json()
        action = request.path.split("/controller/v1/")[1].split("/", 1)[1].removesuffix("/feedback")
        self.feedback.append((action, body))
        if body["status"]["execution"] == "closed":
            if action.startswith("cancelAction"):
                self.cancel = self.deployment = None
            else:
                self.deployment = None
        return self._answer(request, {})

    async def take_attributes(self, request: web.Request) -> web.Response:
        self.attributes.append(await request.json())
        self.wants_attributes = False
        return self._answer(request, {})

    def _answer(self, request: web.Request, body: dict[str, Any]) -> web.Response:
        self.asked.append(request.path)
        self.tokens.add(request.headers.get("Authorization", ""))
        if self.broken is not None:
            return web.Response(body=self.broken)
        return web.json_response(body, status=self.status)


@asynccontextmanager
async def ddi_server() -> AsyncIterator[DdiServer]:
    """On a free port of the loopback."""
    server = DdiServer()
    application = web.Application()
    application.router.add_get(PATH, server.poll)
    application.router.add_get(PATH + "/deploymentBase/{number}", server.deployment_base)
    application.router.add_get(PATH + "/cancelAction/{number}", server.cancel_action)
    application.router.add_post(PATH + "/deploymentBase/{number}/feedback", server.take_feedback)
    application.router.add_post(PATH + "/cancelAction/{number}/feedback", server.take_feedback)
    application.router.add_put(PATH + "/configData", server.take_attributes)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    server.url = f"http://{host}:{port}"
    try:
        yield server
    finally:
        await runner.cleanup()


async def until(holds: Any, timeout_s: float = 10.0) -> None:
    """Wait until ``holds()``."""
    async with asyncio.timeout(timeout_s):
        while not holds():
            await asyncio.sleep(0.01)
