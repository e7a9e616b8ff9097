"""A headless chromium, driven over the DevTools protocol."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import TracebackType
from typing import Any

import aiohttp


class Browser:
    """One tab. ``console`` collects what the page and the browser complain of (CSP violations too)."""

    def __init__(self, http: aiohttp.ClientSession, folder: Path) -> None:
        self._http = http
        self._folder = folder
        self._calls = 0
        self.console: list[str] = []

    async def __aenter__(self) -> Browser:
        self._process = await asyncio.create_subprocess_exec(
            "chromium",
            *("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--remote-debugging-port=0"),
            *(f"--user-data-dir={self._folder}", "about:blank"),
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            self._socket = await self._connect()
        except BaseException:
            await self._kill()
            raise
        for domain in ("Log", "Runtime", "Page"):
            await self._call(f"{domain}.enable")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._socket.close()
        await self._kill()

    async def open(self, address: str) -> None:
        await self._call("Page.navigate", url=address)

    async def wait_for(self, text: str, deadline_s: float = 20.0) -> str:
        """The page's HTML once ``text`` is in it."""
        async with asyncio.timeout(deadline_s):
            while True:
                result = await self._call("Runtime.evaluate", expression="document.documentElement.outerHTML")
                page = str(result["result"].get("value", ""))
                if text in page:
                    return page
                await asyncio.sleep(0.05)

    async def _connect(self) -> aiohttp.ClientWebSocketResponse:
        port_file = self._folder / "DevToolsActivePort"
        async with asyncio.timeout(30):
            while not (port_file.exists() and port_file.read_text().count("\n")):
                await asyncio.sleep(0.02)
            base = f"http://127.0.0.1:{port_file.read_text().split()[0]}"
            while True:
                async with self._http.get(f"{base}/json/list") as answer:
                    tabs = [tab for tab in await answer.json() if tab["type"] == "page"]
                if tabs:
                    return await self._http.ws_connect(tabs[0]["webSocketDebuggerUrl"], max_msg_size=0)
                await asyncio.sleep(0.02)

    async def _call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._calls += 1
        await self._socket.send_json({"id": self._calls, "method": method, "params": parameters})
        while True:
            message = await self._socket.receive_json(timeout=10)
            if message.get("id") == self._calls:
                result: dict[str, Any] = message["result"]
                return result
            self._note(message)

    def _note(self, message: dict[str, Any]) -> None:
        if message.get("method") == "Log.entryAdded":
            self.console.append(message["params"]["entry"]["text"])
        elif message.get("method") == "Runtime.exceptionThrown":
            self.console.append(message["params"]["exceptionDetails"]["text"])

    async def _kill(self) -> None:
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()
