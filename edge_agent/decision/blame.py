"""By what the sensors of an incident are ranked. Pure.

All members together find best that something is wrong, and not where: a sensor that departs from what others read makes
those odd, too. What departs from its own past names the cause more often (docs/evaluation.md has the numbers). So a
sensor is ranked by how surprised its own history is, and by all members with less weight, which decides where a sensor
repeats its own past. Both are limited, so that one tick does not speak for a whole incident.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge_agent.verdict import SENSOR_MEMBERS, Scores

_LARGEST = 100.0
_ALL = 0.3
_OWN = SENSOR_MEMBERS.index("own history")


def blame(scores: Scores) -> NDArray[np.float64]:
    """Blame (N) of one tick, to be summed over the ticks of an incident; 0 where a sensor has no valid score."""
    together = np.minimum(np.where(scores.valid, scores.score, 0.0), _LARGEST).astype(np.float64)
    if scores.member_scores is None:
        return together
    own = np.minimum(np.fmax(scores.member_scores[_OWN], 0.0), _LARGEST)  # 0 where it is no number
    return np.where(scores.valid, own + _ALL * together, 0.0)
