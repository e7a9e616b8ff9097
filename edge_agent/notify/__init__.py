"""Who is told what and when: routing to sinks, escalation of what nobody acknowledges, digests."""

from edge_agent.notify.choice import HeldBack, held_back, severity_rank
from edge_agent.notify.moment import Moment
from edge_agent.notify.router import Dispatch, Router

__all__ = ["Dispatch", "HeldBack", "Moment", "Router", "held_back", "severity_rank"]
