"""The daemon: life cycle of all parts, models, learned state, reload, signals."""

from edge_agent.daemon.daemon import Daemon
from edge_agent.daemon.main import handle_signals, run_daemon

__all__ = ["Daemon", "handle_signals", "run_daemon"]
