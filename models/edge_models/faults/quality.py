"""How well one detector sees synthetic faults in a plant's own normal readings: quality without a single label."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_models.faults.habits import Values
from edge_models.faults.injection import Injected, inject
from edge_models.faults.kinds import KINDS
from edge_models.streaming import plant_score

LEAST_TICKS = 120
_MOST_TICKS = 2_000
_USUAL_TICKS = 1_200
Score = Callable[[Values], NDArray[np.float32]]
"""``values`` [T, N] to scores per sensor [T, N]. Every call starts from the same state, that after normal readings."""


@dataclass(frozen=True, slots=True)
class Detection:
    """One kind. ``auroc``: of the plant's score against the injected ticks, None where no fault could be put in.

    ``named``: share of faults whose sensor (one of them) has the largest mean score of all sensors while it lasts.
    """

    kind: str
    faults: int
    auroc: float | None
    named: float | None


def detection(
    score: Score, normal: Values, clean: Values, seed: int, kinds: Sequence[str] = KINDS
) -> tuple[Detection, ...]:
    """What ``score`` makes of each kind, put into the last 2,000 ticks of ``clean`` [T, N].

    ``normal`` [M, N]: what spreads are measured on and replays are taken from. Empty for fewer than 120 ticks; on
    fewer than 1,200, faults and gaps are shorter than usual in proportion.
    """
    clean = clean[-_MOST_TICKS:]
    if len(clean) < LEAST_TICKS:
        return ()
    share = min(1.0, len(clean) / _USUAL_TICKS)
    length, gap = _scaled(24, 60, share), _scaled(150, 300, share)
    found = []
    for kind in kinds:
        generator = np.random.default_rng([seed, KINDS.index(kind)])
        made = inject(clean, kind, generator, normal=normal, length=length, gap=gap)
        found.append(_judged(kind, made, score) if made.faults else Detection(kind, 0, None, None))
    return tuple(found)


def _scaled(low: int, high: int, share: float) -> tuple[int, int]:
    return max(1, int(low * share)), max(2, int(high * share))


def _judged(kind: str, made: Injected, score: Score) -> Detection:
    from sklearn.metrics import roc_auc_score

    scores = score(made.values)
    named = [int(scores[fault.start : fault.stop].mean(0).argmax()) in fault.sensors for fault in made.faults]
    auroc = float(roc_auc_score(made.label, plant_score(scores)))
    return Detection(kind, len(named), auroc, float(np.mean(named)))
