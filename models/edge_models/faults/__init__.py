"""Synthetic faults for plants without labels: each kind changes normal readings in one known way.

::

    normal ──► Habits (spread, range, relations) ─┐
    values ──► places, sensors, severities ───────┴─► KINDS[kind] ──► Injected(values, label, faults)

What was injected where is known, so that detectors can be compared without a single labelled event. It says how well a
detector sees these faults, not how well it sees those of the plant.
"""

from edge_models.faults.injection import Fault, Injected, inject
from edge_models.faults.kinds import KINDS, RELATION_ONLY, SEVERITIES
from edge_models.faults.quality import Detection, detection

__all__ = ["KINDS", "RELATION_ONLY", "SEVERITIES", "Detection", "Fault", "Injected", "detection", "inject"]
