"""What the drift detectors have to say."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Statistic(StrEnum):
    """What is watched of each sensor, one number a block.

    ``level``: mean value. ``spread``: standard deviation within the block. ``residual``: mean score of the detector.
    """

    LEVEL = "level"
    SPREAD = "spread"
    RESIDUAL = "residual"


class DriftKind(StrEnum):
    """Name of the status event."""

    PLANT_CHANGED = "plant_changed"
    SENSOR_DRIFT = "sensor_drift"
    MODEL_STALE = "model_stale"


@dataclass(frozen=True, slots=True)
class SensorShift:
    """One sensor's change. ``before`` and ``now`` are in the sensor's unit (level, spread) or scores (residual).

    ``deviations``: the change in usual deviations of the statistic from block to block.
    """

    sensor: str
    statistic: Statistic
    before: float
    now: float
    deviations: float

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "sensor": self.sensor,
            "statistic": self.statistic.value,
            "before": self.before,
            "now": self.now,
            "deviations": round(self.deviations, 2),
        }


@dataclass(frozen=True, slots=True)
class DriftFinding:
    """One status event: ``shifts`` hold the largest changes first, ``count`` how many sensors changed in all.

    ``incident``: the incident under which it began, None without one.
    """

    kind: DriftKind
    message: str
    count: int
    shifts: tuple[SensorShift, ...]
    incident: str | None = None

    def details(self) -> dict[str, Any]:
        """What the event says beside its message."""
        return {
            "count": self.count,
            "incident": self.incident,
            "sensors": [shift.to_dict() for shift in self.shifts],
        }
