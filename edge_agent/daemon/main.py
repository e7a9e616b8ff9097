"""The process around the daemon: event loop, signals, exit code."""

from __future__ import annotations

import asyncio
import logging
import signal
from pathlib import Path

from edge_agent.config import load_in_use
from edge_agent.daemon.daemon import Daemon
from edge_agent.daemon.sole_use import sole_use
from edge_agent.errors import EdgeAgentError

_log = logging.getLogger(__name__)


def run_daemon(path: Path) -> int:
    """Run the daemon configured at ``path`` until it is told to stop; returns the exit code.

    :raises ConfigError: the configuration has mistakes, or another agent has its data folder; nothing was started.
    """
    import uvloop

    config = load_in_use(path)

    async def main() -> int:
        daemon = Daemon(config)
        handle_signals(daemon)
        return await daemon.run()

    with sole_use(config.agent.data_dir), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main())


def handle_signals(daemon: Daemon) -> None:
    """SIGTERM and SIGINT stop in order, a second one at once; SIGHUP reads the configuration again."""
    loop = asyncio.get_running_loop()
    for stop in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(stop, daemon.stop)
    reloads: set[asyncio.Task[None]] = set()

    def begin_reload() -> None:
        task = loop.create_task(_reload(daemon), name="reload")
        reloads.add(task)
        task.add_done_callback(reloads.discard)

    loop.add_signal_handler(signal.SIGHUP, begin_reload)


async def _reload(daemon: Daemon) -> None:
    try:
        await daemon.control.reload("SIGHUP")
    except EdgeAgentError as error:
        _log.error("%s", error)
