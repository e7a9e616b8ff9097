"""Processes that live for one order, each the leader of a session of its own (``start_new_session``)."""

from __future__ import annotations

import asyncio
import os
import signal
from asyncio.subprocess import Process
from contextlib import suppress


async def end(process: Process) -> None:
    """End the process and all it may have started, whatever happened; even while we are being cancelled."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    if process.stdin is not None:
        process.stdin.close()
    await asyncio.shield(process.wait())
