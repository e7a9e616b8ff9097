"""What is carried from tick to tick, and what the manifest tells of each sensor: layouts only."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from edge_models.network import HIDDEN

NEIGHBOURS = 8
OWN_LAGS = 5
FEATURES = OWN_LAGS + NEIGHBOURS + 1
EXPERTS = 2
VIEWS = EXPERTS + 1

MEMORY = (
    "heard", "learned", "changes", "anchor", "mean", "variance", "suspicion", "typical", "score",
    "rough_forecast", "rough_relation", "usual_forecast", "usual_relation", "usual_evidence",
)  # fmt: skip
"""Scalars carried per sensor. The last five are variances: of the experts' residuals in the sensor's deviations, of the
same residuals in units of that spread (measured later, when levels have settled), and of the network's view."""

STATES: dict[str, tuple[int, ...]] = {
    "memory": (len(MEMORY),),
    "lags": (OWN_LAGS,),
    "slot": (NEIGHBOURS,),
    "weight": (EXPERTS, FEATURES),
    "inverse": (EXPERTS, FEATURES, FEATURES),
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
    spreads: slice = slice(3, 8)
    identity: int = 8
    peers: slice = slice(9, 9 + NEIGHBOURS)
    weights: slice = slice(9 + NEIGHBOURS, 9 + NEIGHBOURS + EXPERTS * FEATURES)


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
    rough_forecast: Tensor
    rough_relation: Tensor
    usual_forecast: Tensor
    usual_relation: Tensor
    usual_evidence: Tensor
