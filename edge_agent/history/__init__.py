"""What the agent remembers across restarts: incidents and events (SQLite), and small blobs of learned state."""

from edge_agent.history.history import History, HistoryOptions
from edge_agent.history.state_file import StateFile

__all__ = ["History", "HistoryOptions", "StateFile"]
