"""What is carried from tick to tick, and what the manifest tells of each sensor: layouts only."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from edge_models.network import HIDDEN

NEIGHBOURS = 8
OWN_LAGS = 5
FEATURES = OWN_LAGS + NEIGHBOURS + 1
VIEWS = 2

MEMORY = (
    "heard", "learned", "changes", "anchor", "mean", "variance", "suspicion", "typical", "score",
    "linear_forecast", "linear_relation", "final_forecast", "final_relation",
)  # fmt: skip
"""Scalars carried per sensor. The last four are variances: of the linear residuals in the sensor's deviations, and of
the corrected ones in units of the linear ones."""

STATES: dict[str, tuple[int, ...]] = {
    "memory": (len(MEMORY),),
    "lags": (OWN_LAGS,),
    "slot": (NEIGHBOURS,),
    "weight": (VIEWS, FEATURES),
    "inverse": (VIEWS, FEATURES, FEATURES),
    "h": (HIDDEN,),
    "c": (HIDDEN,),
}
"""Shape of each carried state after its first axis (sensors); all start as 0."""


class Context(NamedTuple):
    """Where each per-sensor constant sits in a row of ``context``; all 0 for a sensor nobody trained on.

    A known sensor brings its level, deviation, spreads and expert weights from training. ``identity`` numbers the
    sensors of a site from 1 and ``peers`` are the identities its neighbour weights were learned for, so the weights
    follow the neighbours whatever order the gateway lists them in.
    """

    known: int = 0
    level: int = 1
    deviation: int = 2
    spreads: slice = slice(3, 7)
    identity: int = 7
    peers: slice = slice(8, 8 + NEIGHBOURS)
    weights: slice = slice(8 + NEIGHBOURS, 8 + NEIGHBOURS + VIEWS * FEATURES)


CONTEXT = Context()
CONTEXT_WIDTH = CONTEXT.weights.stop


class State(NamedTuple):
    """The carried state, in the order of :data:`STATES`."""

    memory: Tensor
    lags: Tensor
    slot: Tensor
    weight: Tensor
    inverse: Tensor
    h: Tensor
    c: Tensor

    @classmethod
    def start(cls, sensors: int) -> State:
        """The state before the first tick."""
        return cls(*(torch.zeros((sensors, *shape)) for shape in STATES.values()))


class Memory(NamedTuple):
    """The scalars of :data:`MEMORY` as columns [N, 1]."""

    heard: Tensor
    learned: Tensor
    changes: Tensor
    anchor: Tensor
    mean: Tensor
    variance: Tensor
    suspicion: Tensor
    typical: Tensor
    score: Tensor
    linear_forecast: Tensor
    linear_relation: Tensor
    final_forecast: Tensor
    final_relation: Tensor
