"""Events that a sink has not acknowledged: in memory first, on the disk while the sink is down."""

from edge_agent.outbox.leftovers import folder_of, tidy
from edge_agent.outbox.outbox import Outbox, Waiting

__all__ = ["Outbox", "Waiting", "folder_of", "tidy"]
