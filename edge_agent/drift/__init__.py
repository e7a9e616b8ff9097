"""Whether the plant, or its model, has changed for good: slow looks over blocks of ticks. Pure; never an alarm."""

from edge_agent.drift.findings import DriftFinding, DriftKind, SensorShift
from edge_agent.drift.monitor import DriftMonitor
from edge_agent.drift.options import DriftOptions

__all__ = ["DriftFinding", "DriftKind", "DriftMonitor", "DriftOptions", "SensorShift"]
