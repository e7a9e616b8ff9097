"""How far off the model usually is, measured on readings that nothing was fitted on."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from edge_models.hybrid import HybridStep, Tick
from edge_models.site.plant import Plant
from edge_models.site.running import ticks
from edge_models.site.sample import SKIPPED_TICKS, Values
from edge_models.state import CONTEXT, EXPERTS, State

_WINSOR = 5.0
_LEAST_HELD_OUT = 8
_QUANTILE = 0.8
_NORMAL_SQUARE = 1.642
"""80 % quantile of the chi-squared distribution with one degree of freedom."""
_LEAST_SHARE = 0.1


@torch.no_grad()
def with_spreads(
    step: HybridStep, parts: Sequence[Values], plant: Plant, context: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Context with spreads from held-out parts: of the experts' residuals first, then, in these, of all views."""
    context = context.copy()
    begin = CONTEXT.spreads.start
    for first, last, pick in ((begin, begin + EXPERTS, _residual), (begin + EXPERTS, CONTEXT.spreads.stop, _view)):
        left, fresh = _measured(step, parts, plant, context, pick)
        enough = (context[:, CONTEXT.known] > 0.5) & (fresh.sum(0)[:, 0] >= _LEAST_HELD_OUT)
        context[enough, first:last] = robust_rms(left, fresh)[enough]
    return context


def _residual(tick: Tick) -> NDArray[np.float32]:
    return np.asarray(tick.residual.numpy(), np.float32)


def _view(tick: Tick) -> NDArray[np.float32]:
    return np.asarray(tick.view.numpy(), np.float32)


def _measured(
    step: HybridStep,
    parts: Sequence[Values],
    plant: Plant,
    context: NDArray[np.float32],
    pick: Callable[[Tick], NDArray[np.float32]],
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """What is left [T, N, V] at all ticks of all parts but their first ones, and where it counts [T, N, 1]."""
    sensors = len(plant.sensors)
    left, fresh = [], []
    start = State.start(sensors * len(parts))
    for count, (tick, _) in enumerate(ticks(step, parts, plant.neighbour, context, start)):
        if count >= SKIPPED_TICKS:
            left.append(pick(tick).reshape(len(parts), sensors, -1))
            fresh.append(tick.fresh.numpy().reshape(len(parts), sensors, 1) > 0.5)
    return np.concatenate(left), np.concatenate(fresh)


def robust_rms(values: NDArray[np.float32], counts: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Root mean square over time [T, N, V] -> [N, V] with what is beyond five robust spreads pulled in to there.

    The robust spread is that of a normal distribution with the same 80 % quantile of squares, which faults in up to a
    tenth of a history hardly move; but at least a share of the plain one, for sensors that rarely move.
    """
    square = np.where(counts, values.astype(np.float64) ** 2, np.nan)
    share = np.maximum(counts.sum(0), 1)
    heard = counts[..., 0].sum(0) > 0
    usual = np.zeros(square.shape[1:])
    usual[heard] = np.nanquantile(square[:, heard], _QUANTILE, axis=0) / _NORMAL_SQUARE
    square = np.nan_to_num(square)
    usual = np.maximum(usual, _LEAST_SHARE * square.sum(0) / share)
    return np.asarray(np.sqrt(np.minimum(square, _WINSOR**2 * usual).sum(0) / share), np.float32)
