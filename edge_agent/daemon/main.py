"""The process around the daemon: event loop, signals, exit code."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from edge_agent.clock import SystemClock
from edge_agent.config import AgentConfig, load_config, load_in_use
from edge_agent.config.layers import overlay_path
from edge_agent.daemon.daemon import Daemon
from edge_agent.daemon.sole_use import sole_use
from edge_agent.errors import EdgeAgentError

if TYPE_CHECKING:
    from edge_agent.ota.boot import Booted

_SWITCH_S = 0.0005
_log = logging.getLogger(__name__)


def run_daemon(path: Path) -> int:
    """Run the daemon configured at ``path`` until it is told to stop; returns the exit code.

    :raises ConfigError: the configuration has mistakes, or another agent has its data folder; nothing was started.
    """
    import uvloop

    config = load_config(path)

    async def main(config: AgentConfig, booted: Booted | None) -> int:
        daemon = Daemon(config, booted=booted)
        handle_signals(daemon)
        return await daemon.run()

    # A tick that wants Python's lock back from a thread, as while a model is read, waits so long; 5 ms is usual.
    sys.setswitchinterval(_SWITCH_S)
    with sole_use(config.agent.data_dir), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        booted = _boot_updates(config)
        if overlay_path(config.agent.data_dir).exists():
            config = load_in_use(path)
            if booted is not None and config.layers.left_out is not None:
                booted.problems.append(config.layers.left_out)  # its publisher is to know
        return runner.run(main(config, booted))


def _boot_updates(config: AgentConfig) -> Booted | None:
    """Count this start and take back what keeps crashing, before anything that came over the air is looked at."""
    if config.ota.root is None:
        return None
    from edge_agent.ota.boot import boot

    return boot(config.agent.data_dir, SystemClock())


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
