"""One order to trust, carried out in a process of its own: a JSON object on standard input, lines of JSON as answer.

Order: ``{"do": "check", "settings": …, "origin": …, "ring": …, "now_s": …}`` or ``{"do": "fetch", …, "path": …,
"sha256": …, "bytes": …, "into": …}``; with ``"attached": true`` the process ends when its input is closed, so that it
does not outlive whoever gave the order. Answer: lines ``{"here": bytes, "whole": bytes}`` and ``{"note": sentence}``,
then one of ``{"checked": {…}}``, ``{"fetched": {}}``, ``{"error": {"reason": …, "message": …}}``, with its ``cost``.
"""

from __future__ import annotations

import base64
import json
import logging
import os
import re
import resource
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from edge_agent.errors import OtaError
from edge_agent.ota.trust.settings import Settings

MEMORY_BYTES = 512 << 20
_CPU_S = 600
_OPEN_FILES = 64
_METADATA_BYTES = 8 << 20
_PROGRESS_EVERY_S = 1.0
_MAX_ORDER_BYTES = 65_536
_FIELDS = {
    "check": {"settings", "origin", "ring", "now_s"},
    "fetch": {"settings", "origin", "path", "sha256", "bytes", "now_s", "into"},
}
_NEEDED = frozenset({"tuf", "securesystemslib", "urllib3"})


def main() -> None:
    """Read the order, carry it out, answer."""
    began = time.monotonic()
    logging.basicConfig(level=logging.WARNING, handlers=[_Notes()])
    try:
        order, settings = _read_order()
        _limit(max(_METADATA_BYTES, int(order.get("bytes", 0))))
        if order.get("attached"):
            threading.Thread(target=_end_with_input, daemon=True).start()
        answer = _carry_out(order, settings)
    except OtaError as error:
        answer = {"error": {"reason": error.reason, "message": str(error)}}
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _NEEDED:
            raise
        missing = f"updates need the package `{error.name}`: pip install 'edge-graph-agent[ota]'"
        answer = {"error": {"reason": "internal", "message": missing}}
    _say({**answer, "cost": {"rss_kb": _peak_rss_kb(), "seconds": round(time.monotonic() - began, 3)}})


def _read_order() -> tuple[dict[str, Any], Settings]:
    """The order and its settings. :raises OtaError: there is none; it is not quoted, it may hold a password."""
    try:
        order = json.loads(sys.stdin.buffer.readline(_MAX_ORDER_BYTES))
        missing = _FIELDS[order["do"]] - set(order)
        settings = Settings.from_json(order["settings"])
    except (ValueError, KeyError, TypeError) as error:
        kinds = " or ".join(f"do={do!r} with {', '.join(sorted(fields))}" for do, fields in _FIELDS.items())
        raise OtaError("internal", f"order: got something else, expected one line of JSON: {kinds}") from error
    if missing:
        raise OtaError("internal", f"order: {', '.join(sorted(missing))}: missing")
    return order, settings


def _carry_out(order: dict[str, Any], settings: Settings) -> dict[str, Any]:
    from edge_agent.ota.trust.download import Wanted
    from edge_agent.ota.trust.transport import Patience
    from edge_agent.ota.trust.work import check, fetch

    patience = Patience(settings.timeout_s)
    if order["do"] == "check":
        vouched = check(settings, order["origin"], order["ring"], order["now_s"], patience)
        ring_file = base64.b64encode(vouched.ring_file).decode()
        proof = {"signed_s": vouched.signed_s, "expires_s": vouched.expires_s, "version": vouched.version}
        return {"checked": {"ring_file": ring_file, **proof}}
    wanted = Wanted(order["path"], order["sha256"], order["bytes"])
    fetch(settings, order["origin"], wanted, order["now_s"], Path(order["into"]), patience, _Meter().say)
    return {"fetched": {}}


def _limit(largest_file: int) -> None:
    """What this process may use at most, whatever it is sent."""
    for kind, most in (
        (resource.RLIMIT_AS, MEMORY_BYTES),
        (resource.RLIMIT_CPU, _CPU_S),
        (resource.RLIMIT_FSIZE, largest_file),
        (resource.RLIMIT_NOFILE, _OPEN_FILES),
        (resource.RLIMIT_CORE, 0),
    ):
        _, hard = resource.getrlimit(kind)
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (most, most))
    with suppress(OSError):  # where memory is short, the kernel takes this process before the agent (proc(5))
        Path("/proc/self/oom_score_adj").write_text("1000")


def _peak_rss_kb() -> int:
    """Of this program. What getrusage(2) calls maxrss counts whoever started it, too: it is kept over execve(2)."""
    match = re.search(r"VmHWM:\s+([0-9]+) kB", Path("/proc/self/status").read_text())
    return int(match[1]) if match else 0


def _end_with_input() -> None:
    while sys.stdin.buffer.read(1):
        pass
    os._exit(3)


class _Meter:
    """Says how far a download is, not more often than makes sense."""

    def __init__(self) -> None:
        self._last = 0.0

    def say(self, here: int, whole: int) -> None:
        now = time.monotonic()
        if here == whole or now - self._last >= _PROGRESS_EVERY_S:
            self._last = now
            _say({"here": here, "whole": whole})


class _Notes(logging.Handler):
    """What would be logged is told to whoever gave the order, who logs it."""

    def emit(self, record: logging.LogRecord) -> None:
        _say({"note": record.getMessage()[:1_000]})


def _say(line: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
