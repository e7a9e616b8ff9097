"""Trust in a process that lives for one order: it costs nothing at rest, and its end is not the agent's."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import os
import signal
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from edge_agent.errors import OtaError
from edge_agent.ota.one_shot import end
from edge_agent.ota.ports import Checked
from edge_agent.ota.ring import Target
from edge_agent.ota.trust.settings import Settings

_LONGEST_LINE = 256 << 10
_START_S = 20.0
_SLOW_WINDOW_S = 60.0
_TAIL_BYTES = 2_000
_ENVIRONMENT = ("PATH", "LANG", "LC_ALL", "TZ", "PYTHONPATH", "PYTHONHOME", "SSL_CERT_FILE", "SSL_CERT_DIR")
"""All that the process is told of ours: the rest may hold tokens and passwords, or send it to a proxy."""
_log = logging.getLogger("edge_agent.ota.trust")


class ChildTrust:
    """Implements :class:`~edge_agent.ota.ports.Trust` by ``python -m edge_agent.ota.trust``, one order at a time.

    ``progress`` is called on the event loop with the bytes that are here and the bytes there will be, at most about
    once a second. ``peak_rss_bytes``: most memory that the last order took, 0 before the first has been answered.
    """

    def __init__(self, settings: Settings, progress: Callable[[int, int], None] | None = None) -> None:
        self._settings = settings
        self._progress = progress or (lambda here, whole: None)
        self._one_at_a_time = asyncio.Lock()
        self.peak_rss_bytes = 0

    async def check(self, origin: str, ring: str, now_s: float) -> Checked:
        """As of :class:`~edge_agent.ota.ports.Trust`."""
        order = {"do": "check", "origin": origin, "ring": ring, "now_s": now_s}
        answer = await self._carry_out(order, self._settings.timeout_s + _START_S)
        checked = answer["checked"]
        ring_file = base64.b64decode(checked["ring_file"])
        return Checked(ring_file, checked["signed_s"], checked["expires_s"], checked["version"])

    async def fetch(self, origin: str, target: Target, now_s: float, into: Path) -> None:
        """As of :class:`~edge_agent.ota.ports.Trust`."""
        order = {
            "do": "fetch",
            "origin": origin,
            "path": target.path,
            "sha256": target.sha256,
            "bytes": target.bytes,
            "now_s": now_s,
            "into": str(into.absolute()),
        }
        # It gives up by itself when it is slow. This is for a process that cannot any more.
        longest_s = target.bytes / self._settings.slowest + 2 * _SLOW_WINDOW_S
        await self._carry_out(order, self._settings.timeout_s + _START_S + longest_s)

    async def _carry_out(self, order: Mapping[str, Any], timeout_s: float) -> dict[str, Any]:
        async with self._one_at_a_time:
            process = await self._start()
            try:
                async with asyncio.timeout(timeout_s):
                    return await self._converse(process, order)
            except TimeoutError as error:
                raise OtaError("timeout", f"{order['do']}: no answer within {timeout_s:g} s, tried again") from error
            finally:
                await end(process)

    async def _start(self) -> asyncio.subprocess.Process:
        environment = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
        pipe = asyncio.subprocess.PIPE
        try:
            # -P: the working folder is no place to import from.
            return await asyncio.create_subprocess_exec(
                sys.executable, "-P", "-B", "-m", "edge_agent.ota.trust",
                stdin=pipe, stdout=pipe, stderr=pipe, env=environment, limit=_LONGEST_LINE, start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            raise OtaError("internal", f"no process to look for updates could be started: {error.strerror}") from error

    async def _converse(self, process: asyncio.subprocess.Process, order: Mapping[str, Any]) -> dict[str, Any]:
        """Hand the order over, and read lines until one is the answer."""
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        # By a pipe: arguments and environment of a process can be seen by others. It stays open: closed, it ends all.
        full = {**order, "settings": self._settings.to_json(), "attached": True}
        with suppress(ConnectionError):  # it has ended already; reading says how
            process.stdin.write(json.dumps(full).encode() + b"\n")
            await process.stdin.drain()
        complaints = asyncio.create_task(_tail(process.stderr), name="updates: complaints of trust")
        try:
            while (line := await _line(process.stdout)) is not None:
                if "note" in line:
                    _log.warning("%s", line["note"])
                elif "here" in line:
                    self._progress(line["here"], line["whole"])
                else:
                    return self._answer(line)
            code = await process.wait()
            raise OtaError("internal", f"{order['do']}: the process for it {_ending(code)}{await complaints}")
        finally:
            complaints.cancel()
            await asyncio.wait([complaints])

    def _answer(self, line: dict[str, Any]) -> dict[str, Any]:
        self.peak_rss_bytes = line["cost"]["rss_kb"] * 1024
        if "error" in line:
            raise OtaError(line["error"]["reason"], line["error"]["message"])
        return line


async def _line(stdout: asyncio.StreamReader) -> dict[str, Any] | None:
    """The next line, None at the end or when what comes is no line of ours."""
    try:
        found = json.loads(await stdout.readline())
    except ValueError:  # no JSON, nothing at all, or longer than the limit
        return None
    return found if isinstance(found, dict) else None


async def _tail(stderr: asyncio.StreamReader) -> str:
    """The last line that it complained with, for people. All is read, so that it never waits for us."""
    tail = b""
    while chunk := await stderr.read(_TAIL_BYTES):
        tail = (tail + chunk)[-_TAIL_BYTES:]
    lines = tail.decode(errors="replace").strip().splitlines()
    return f": {lines[-1][:300]}" if lines else ""


def _ending(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code} before it had answered"
    with suppress(ValueError):
        return f"was ended by {signal.Signals(-code).name} before it had answered"
    return f"was ended by signal {-code} before it had answered"
