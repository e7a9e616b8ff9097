"""The status page in a real browser."""

from pathlib import Path

import aiohttp
import pytest
from fake_agent import FakeAgent
from headless_browser import Browser
from served_api import Serve, url

from edge_agent.api.page import CONTENT_SECURITY_POLICY, HTML
from edge_agent.verdict import Event, EventKind


def test_page_fetches_nothing_from_elsewhere() -> None:
    assert b"http://" not in HTML
    assert b"https://" not in HTML
    assert b"innerHTML" not in HTML


def test_policy_allows_the_two_blocks_and_no_other() -> None:
    assert CONTENT_SECURITY_POLICY.count("'sha256-") == 2
    assert "unsafe" not in CONTENT_SECURITY_POLICY


async def test_page_has_its_own_policy(serve: Serve, http: aiohttp.ClientSession) -> None:
    async with http.get(url(await serve(), "/")) as answer:
        assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
        assert answer.headers["Content-Security-Policy"] == CONTENT_SECURITY_POLICY
        assert await answer.read() == HTML


@pytest.mark.counterpart
async def test_browser_shows_the_state_follows_it_and_runs_no_foreign_script(
    serve: Serve, http: aiohttp.ClientSession, agent: FakeAgent, tmp_path: Path
) -> None:
    server = await serve()
    async with Browser(http, tmp_path) as browser:
        await browser.open(url(server, "/"))
        page = await browser.wait_for('class="pill good">ready</span>')
        assert "tank level no longer follows its inflow" in page
        assert '<td class="number">0.91 m</td><td class="number">0.42 m</td><td>reads 0.91 m</td>' in page
        assert "plant/tank 1/level → &lt;b&gt;flow&lt;/b&gt; after 3 s" in page
        assert "<td>false alarm</td><td>tank level rises</td>" in page
        assert page.count("<polyline") == 3  # what was seen has a gap
        assert "0.4 to 0.91</span>" in page
        assert ", 10:42:04 to 10:42:07 UTC" in page
        assert "<h3>sources</h3>" in page
        assert "<td>disconnected: refused</td>" in page
        assert "&lt;/td&gt;&lt;script&gt;document.title='owned'&lt;/script&gt;" in page
        assert "<title>edge-agent</title>" in page
        assert "Release pump-2026.11.20-3 of ring stable, shadow: it scores beside the model in use" in page
        assert '<td>alarms</td><td class="number">0</td><td class="number">1</td>' in page
        assert "pump-2026.11.12-1, rolled back at 2026-11-12 10:45:00 UTC: the model failed at 3 of 60 ticks" in page
        agent.ready = (False, ["source plc: gone"])
        server.publish(Event("e1", EventKind.INCIDENT, 1, {}))
        assert "source plc: gone" in await browser.wait_for('class="pill bad">not ready</span>', deadline_s=4)
        await server.stop()
        await browser.wait_for('class="pill bad">no answer</span>')
        complaints = [text for text in browser.console if "ERR_CONNECTION_REFUSED" not in text and "503" not in text]
        assert complaints == []
